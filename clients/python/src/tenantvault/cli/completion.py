"""`tenantvault completion`: what a shell needs to complete commands."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from tenantvault.cli.output import BadInput, Output, output_option

_VARIABLE: Final = "_TENANTVAULT_COMPLETE"
_WHERE: Final = """\
\b
In ~/.bashrc:                   eval "$(tenantvault completion bash)"
In ~/.zshrc:                    eval "$(tenantvault completion zsh)"
In ~/.config/fish/config.fish:  tenantvault completion fish | source
"""


@click.command(epilog=_WHERE, short_help="Print the script with which a shell completes commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@output_option
@click.pass_context
def completion(context: click.Context, output: Output, *, shell: str) -> None:
    """Print the script with which SHELL completes commands, options and providers."""
    program = context.find_root()
    found = get_completion_class(shell)
    if found is None:
        raise BadInput(f"This version of click knows nothing of {shell}.")
    script = found(program.command, {}, program.info_name or "", _VARIABLE).source()
    output.show({"shell": shell, "script": script}, [script])
