"""TenantVault on one machine: `python -m deploy.local`."""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NoReturn

from deploy.local.environments import DEMO_ORGS, WEBHOOK_URL
from deploy.local.errors import LocalError

_LAST_PORT: Final = 65535
_INTERRUPTED: Final = 130  # 128 and SIGINT, as shells count
_ORG_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SETTINGS: Final = """\
environment:
  PORT=8400             the gateway's port
  PROVIDERS=sandbox     or live: the providers' real hosts
  DATABASE_URL          an administrator's URL of a PostgreSQL to use instead of the embedded one
  TENANTVAULT_VAPI_WEBHOOK_URL   where Vapi's assistants send their webhooks
  TENANTVAULT_GOOGLE_CLIENT_ID   with PROVIDERS=live: your application at Google, with TENANTVAULT_GOOGLE_CLIENT_SECRET
                                 or ..._SECRET_FILE, and TENANTVAULT_GOOGLE_REDIRECT_URL, which ends in
                                 /oauth/google-calendar
  TENANTVAULT_LOG_LEVEL=info
"""


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """The command; its exit status."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "token":
                _token(options.data, options.org, options.role)
            case "fetch":
                _fetch(options.data, options.org, options.provider, reveal=options.reveal)
            case "cli":
                _become_cli(options.data, options.arguments, environ)
            case _:
                _run(options.data, environ)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _INTERRUPTED
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except PermissionError as error:
        sys.stderr.write(f"{error.filename} cannot be used: was it made by another user? Start as that user.\n")
        return 1
    return 0


def _run(root: Path, environ: Mapping[str, str]) -> None:
    # Imported here and below, so that each command loads what it needs.
    from deploy.local.foreground import run_until_told  # noqa: PLC0415
    from deploy.local.greeting import greeting  # noqa: PLC0415
    from deploy.local.stack import Stack  # noqa: PLC0415

    providers = _providers(environ)
    stack = Stack(
        root,
        gateway_port=_port(environ),
        usual_ports=True,
        providers=providers,
        database_url=environ.get("DATABASE_URL", ""),
        environ=environ,
        announce=lambda what: print(f"  {what}", flush=True),
    )

    def ready() -> None:
        live, webhooks = providers == "live", WEBHOOK_URL in environ
        print(greeting(url=stack.gateway_url, root=root, live=live, webhooks=webhooks), flush=True)

    print("TenantVault is starting.", flush=True)
    asyncio.run(run_until_told(stack, ready=ready))


def _token(root: Path, org_id: str, role: str) -> None:
    from deploy.local.bearer import bearer_token  # noqa: PLC0415
    from deploy.local.strongbox import Strongbox  # noqa: PLC0415

    try:
        secret = Strongbox(root / "secrets").read("jwt_secret")
    except FileNotFoundError:
        raise LocalError(f"There is no stack in {root} yet: start it once with 'make run'.") from None
    print(bearer_token(secret, org_id, role=role))


def _fetch(root: Path, org_id: str, provider: str, *, reveal: bool) -> None:
    from deploy.local.fetch import fetch  # noqa: PLC0415

    print(fetch(root, org_id, provider, reveal=reveal))


def _become_cli(root: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    from deploy.local.operator_command import operator_command  # noqa: PLC0415

    # argparse keeps the -- that stands before what is not its own.
    command, environment = operator_command(root, arguments[1:] if arguments[:1] == ["--"] else arguments, environ)
    # In the place of this process, so that the terminal, Ctrl-C and the exit status are the command's own.
    os.execve(command[0], command, environment)  # noqa: S606


def _port(environ: Mapping[str, str]) -> int:
    value = environ.get("PORT", "8400")
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= _LAST_PORT):
        raise LocalError(f"PORT is {value!r}: give a number from 1 to {_LAST_PORT}.")
    return int(value)


def _providers(environ: Mapping[str, str]) -> Literal["sandbox", "live"]:
    match environ.get("PROVIDERS", "sandbox"):
        case "sandbox":
            return "sandbox"
        case "live":
            return "live"
        case other:
            raise LocalError(f"PROVIDERS is {other!r}: give sandbox or live.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local",
        description="TenantVault on this machine, for development and trying out. Without a command it runs everything"
        " until Ctrl-C.",
        epilog=_SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", type=Path, default=Path(".local"), metavar="DIR", help="where data and logs are (default: .local)"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="start everything, as without a command")
    token = commands.add_parser("token", help="print a bearer token for the local gateway")
    token.add_argument("org", type=_org_id, help=f"the org, e.g. {DEMO_ORGS[0]}")
    token.add_argument("--role", default="admin", help="the person's role (default: admin)")
    fetch = commands.add_parser(
        "fetch", help="fetch an org's credential from the running vault, as the service voice-agent would"
    )
    fetch.add_argument("org", type=_org_id, help=f"the org, e.g. {DEMO_ORGS[0]}")
    fetch.add_argument("provider", help="vapi, twilio, googleCalendar, resend or elevenlabs")
    fetch.add_argument("--reveal", action="store_true", help="print the secrets too")
    cli = commands.add_parser("cli", help="run the operator's command against the running vault: cli -- keys status")
    cli.add_argument("arguments", nargs=argparse.REMAINDER, help="what stands behind 'tenantvault', after a --")
    return parser


def _org_id(value: str) -> str:
    if not _ORG_ID.fullmatch(value):
        raise argparse.ArgumentTypeError(f"{value!r} is no org id: use lower-case letters, digits, '-' and '_'")
    return value


if __name__ == "__main__":
    sys.exit(main())
