"""Arguments that several commands have, and what they must be."""

import getpass
import re
from collections.abc import Callable, Iterable
from typing import Final

import click

from tenantvault.audit import VAULT_CHAIN
from tenantvault.credentials import Provider, ResourceKind
from tenantvault.messages import PROVIDER_NUMBER
from tenantvault.v1.credential_pb2 import Provider as ProviderMessage
from tenantvault.v1.store_service_pb2 import Origin

LARGEST: Final = 2**63 - 1
"""The largest number that the contract can carry."""

MAX_NAME_BYTES: Final = 256
"""How long the vault lets the name be on whose behalf something is done."""

_ORG_ID: Final = re.compile("[a-z0-9][a-z0-9_-]{0,62}")
_KEY_BYTES: Final = 32

Command = Callable[..., None]


def org_id(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Check an org's id; BadParameter when it is none."""
    if value is not None and not _ORG_ID.fullmatch(value):
        raise click.BadParameter(
            "give an org's id: lower-case letters, digits, - and _, at most 63, a letter or digit first.",
            context,
            parameter,
        )
    return value


def chain_id(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Check an org's id, or the name of the vault's own chain; BadParameter when it is neither."""
    return value if value == VAULT_CHAIN else org_id(context, parameter, value)


def provider(context: click.Context, parameter: click.Parameter, value: str | None) -> Provider | None:
    """The provider of a name, in any case; BadParameter when it is none."""
    if value is None:
        return None
    by_name = {each.value.lower(): each for each in Provider}
    if value.lower() not in by_name:
        raise click.BadParameter(f"give one of {', '.join(Provider)}.", context, parameter)
    return by_name[value.lower()]


def kind(context: click.Context, parameter: click.Parameter, value: str) -> ResourceKind:
    """The kind of resource of a name, in any case; BadParameter when it is none."""
    if value.lower() not in set(ResourceKind):
        raise click.BadParameter(f"give one of {', '.join(ResourceKind)}.", context, parameter)
    return ResourceKind(value.lower())


def completing(names: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell offers for an argument that is one of these names."""

    def offered(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
        return [name for name in names if name.lower().startswith(begun.lower())]

    return offered


def provider_number(wanted: Provider | None) -> "ProviderMessage.ValueType":
    """A provider's number in the contract; the unspecified one for none."""
    return PROVIDER_NUMBER[wanted] if wanted else ProviderMessage.PROVIDER_UNSPECIFIED


def public_key(context: click.Context, parameter: click.Parameter, value: str | None) -> bytes | None:
    """A public key in hexadecimal; BadParameter when it is none."""
    if value is None:
        return None
    try:
        key = bytes.fromhex(value)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise click.BadParameter("give the key's 32 bytes as 64 hexadecimal digits.", context, parameter)
    return key


def org_argument(command: Command) -> Command:
    """Gives a command the argument ORG."""
    return click.argument("org", callback=org_id)(command)


def provider_argument(command: Command) -> Command:
    """Gives a command the argument PROVIDER, as `wanted`."""
    return click.argument("wanted", metavar="PROVIDER", callback=provider, shell_complete=completing(Provider))(command)


def version_argument(command: Command) -> Command:
    """Gives a command the argument VERSION."""
    return click.argument("version", type=click.IntRange(1, LARGEST))(command)


def origin_option(command: Command) -> Command:
    """Gives a command the option --on-behalf-of, as the message `origin`."""

    def origin(context: click.Context, parameter: click.Parameter, value: str | None) -> Origin:
        name = own_name() if value is None else value
        if not fits_the_audit(name):
            raise click.BadParameter(
                f"give who does this, at most {MAX_NAME_BYTES} bytes that can be printed.", context, parameter
            )
        return Origin(on_behalf_of=name)

    option: Callable[[Command], Command] = click.option(
        "--on-behalf-of",
        "origin",
        metavar="NAME",
        callback=origin,
        help="Who does this, for the audit.  [default: your user name]",
    )
    return option(command)


def fits_the_audit(name: str) -> bool:
    """Whether the vault takes that as the name of who does something."""
    return 0 < len(name.encode(errors="surrogateescape")) <= MAX_NAME_BYTES and name.isprintable()


def own_name() -> str:
    """The user name of whoever runs this; empty where there is none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
