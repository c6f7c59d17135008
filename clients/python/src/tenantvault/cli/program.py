"""The command `tenantvault`: its groups, and how it ends."""

import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from tenantvault.cli.audit import audit
from tenantvault.cli.completion import completion
from tenantvault.cli.doctor import doctor
from tenantvault.cli.get import get
from tenantvault.cli.keys import keys
from tenantvault.cli.org import org
from tenantvault.cli.output import Declined, Status, printable
from tenantvault.cli.resolve import resolve
from tenantvault.cli.status import status
from tenantvault.cli.verify import verify
from tenantvault.cli.versions import versions
from tenantvault.cli.watch import watch
from tenantvault.errors import InternalError, TenantVaultError

_NAME: Final = "tenantvault"
_ENDS: Final = (".", "?", "?)")
_STATUSES: Final = """\
\b
Exit status:
  0    it was done, or the answer is yes
  1    the answer is no: a chain is broken, a check failed, you declined
  2    the command line, or a file that it names, cannot be used
  3    the vault refused
  4    the vault cannot be reached or cannot answer now: try again
  130  Ctrl-C
  141  whoever read the output, e.g. head, had enough of it
"""


class Program(click.Group):
    """A group whose every end is an exit status, with a sentence on standard error where something is wrong."""

    def main(  # type: ignore[override]  # it never returns
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run the command and end the process, or raise SystemExit in its place."""
        given = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in given
        try:
            status = super().main(given, prog_name or _NAME, standalone_mode=False, **extra)
        except click.Abort as stopped:
            sys.exit(_stopped(stopped, as_json=as_json))
        except click.ClickException as error:
            sys.exit(_refused_here(error, as_json=as_json))
        except TenantVaultError as error:
            sys.exit(_refused_there(error, as_json=as_json))
        except OSError as error:
            # Files that were named have sentences of their own.
            sys.exit(_told(f"Cannot write the output: {error.strerror}.", "USAGE", Status.USAGE, as_json=as_json))
        except Exception as error:  # noqa: BLE001 - a traceback is for who mends this program, not for who uses it
            what = f"This program failed ({type(error).__name__}), which is a mistake in it: report it."
            sys.exit(_refused_there(InternalError(what), as_json=as_json))
        sys.exit(status or Status.OK)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command of the group."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Whoever read the output, e.g. `head`, has enough of it. Nothing more goes there, not even at the end.
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            raise click.exceptions.Exit(Status.READER_GONE) from None
        except KeyboardInterrupt:
            # Left to click, it is told with an empty line, also to programs.
            raise click.Abort from None


@click.group(_NAME, cls=Program, epilog=_STATUSES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=_NAME)
def program() -> None:
    """Operate a TenantVault: see how it is, prove the audit, rotate keys, freeze and shred orgs, roll back versions.

    With a service's certificate, see what that service sees: get, resolve, watch.

    Options stand behind the command, e.g. tenantvault keys status --json.
    """


audit.add_command(verify)
for _command in (status, doctor, audit, keys, org, versions, get, resolve, watch, completion):
    program.add_command(_command)


def run() -> NoReturn:
    """Run the command on the process's own arguments."""
    if "GRPC_VERBOSITY" not in os.environ:
        _silence_libraries()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What this terminal has no character for is shown as an escape.
            stream.reconfigure(errors="backslashreplace")
    program.main()


def _silence_libraries() -> None:
    # gRPC writes to the descriptor 2 by itself, e.g. of a connection that broke. What is said here goes to a copy of
    # that, and gRPC's goes nowhere.
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding)
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)


def _stopped(stopped: click.Abort, *, as_json: bool) -> int:
    if not as_json:
        # What a terminal shows of the Ctrl-C has a line for itself.
        click.echo(err=True)
    return _told(" ".join(("Stopped by you.", *stopped.args)), "INTERRUPTED", Status.INTERRUPTED, as_json=as_json)


def _refused_here(error: click.ClickException, *, as_json: bool) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return Status.USAGE
    if isinstance(error, Declined):
        return _told(error.format_message(), "DECLINED", Status.NO, as_json=as_json)
    sentence = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        sentence = f"{sentence}{'' if sentence.endswith(_ENDS) else '.'} See '{error.ctx.command_path} --help'."
    return _told(sentence, "USAGE", Status.USAGE, as_json=as_json)


def _refused_there(error: TenantVaultError, *, as_json: bool) -> int:
    status = Status.UNREACHABLE if error.retryable else Status.REFUSED
    if as_json:
        more = {"fields": dict(error.fields), "retryable": error.retryable, "retry_after": error.retry_after}
        return _told(error.message, error.reason, status, as_json=True, **more)
    fields = "".join(f" {name}: {what}" for name, what in error.fields.items())
    return _told(f"{error.message}{fields}", error.reason, status, as_json=False)


def _told(sentence: str, reason: str, status: Status, *, as_json: bool, **more: Any) -> int:
    if as_json:
        click.echo(json.dumps({"error": {"reason": reason, "message": sentence, **more}}), err=True)
    else:
        click.echo(f"{_NAME}: {printable(sentence)} ({reason})", err=True)
    return status
