"""`tenantvault get`: a credential, as a service is given it."""

import dataclasses
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import click

from tenantvault._reads import get_read
from tenantvault.cli.arguments import MAX_NAME_BYTES, fits_the_audit, org_argument, own_name, provider_argument
from tenantvault.cli.connection import Access, access_options, for_services
from tenantvault.cli.output import BadInput, Declined, Output, iso, output_option, readable, table
from tenantvault.credentials import ActiveCredential, Credential, Provider
from tenantvault.secret import Secret

_HEADER: Final = ("FIELD", "VALUE")
_MASKED: Final = "What is secret shows its end at most. To see all of it: --reveal --reason TEXT."
_STALE: Final = "The vault's database could not be asked: this is what was current before."


@click.command(short_help="Show a credential, its secrets masked or revealed.")
@org_argument
@provider_argument
@click.option("--reveal", is_flag=True, help="Print the secrets too. It asks first, and needs a --reason.")
@click.option("--reason", metavar="TEXT", help="Why they are revealed, for the audit, which the org's people can read.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@access_options
@output_option
def get(
    access: Access, output: Output, *, org: str, wanted: Provider, reveal: bool, reason: str | None, yes: bool
) -> None:
    """Show the credential of ORG for PROVIDER as a service is given it, now and not from memory.

    It takes the certificate of a service that may read it. The audit names your user and this machine, and the reason
    of a --reveal.
    """
    if reveal != (reason is not None):
        raise BadInput("Give --reveal together with --reason, which goes to the audit, or neither.")
    reader = _reader(reason)
    question = f"The audit will say '{reader}'. Print the secrets of {org} for {wanted} here?"
    if reveal and not yes and not output.confirm(question, instead="--yes"):
        raise Declined("Nothing was read.")
    read = get_read(org, wanted, include_previous=False, max_staleness=None)
    read.request.on_behalf_of = reader
    with access.open() as vault, for_services("GetCredential"):
        active = read.answer(vault.call(vault.access.GetCredential, read.request))
    fields = _shown(active.credential, reveal=reveal)
    output.show(_data(active, fields, reveal=reveal), _described(active, fields, reveal=reveal))


def _reader(reason: str | None) -> str:
    """Who reads, and why, in the words of the audit."""
    name = own_name()
    if not name:
        raise BadInput("Your user name is not known here, and the audit wants it: set LOGNAME.")
    who = f"{name}@{socket.gethostname()}"
    if reason is None:
        reader = who
    elif reason.strip():
        reader = f"{who}: {reason.strip()}"
    else:
        raise BadInput("Give a --reason that says something.")
    if not fits_the_audit(reader):
        left = MAX_NAME_BYTES - len(f"{who}: ".encode(errors="surrogateescape"))
        raise BadInput(f"Give a --reason of at most {left} bytes that can be printed.")
    return reader


def _shown(value: Any, *, reveal: bool) -> Any:
    """A credential, or a part of one, as JSON can have it."""
    match value:
        case Secret() if value:
            return value.reveal() if reveal else value.hint()
        case Secret():
            return ""
        case datetime():
            return iso(value)
        case tuple():
            return [_shown(each, reveal=reveal) for each in value]
        case _ if dataclasses.is_dataclass(value):
            return {
                field.name: _shown(getattr(value, field.name), reveal=reveal) for field in dataclasses.fields(value)
            }
        case _:
            return value


def _data(active: ActiveCredential[Credential], fields: Any, *, reveal: bool) -> dict[str, Any]:
    return {
        "org_id": active.org_id,
        "provider": active.provider.value,
        "version": active.version,
        "revealed": reveal,
        "credential": fields,
        "resources": _shown(active.resources, reveal=False),
        "last_verified_at": iso(active.last_verified_at),
        "generation": active.generation,
        "served_stale": active.served_stale,
    }


def _described(active: ActiveCredential[Credential], fields: Any, *, reveal: bool) -> list[str]:
    rows = [
        ("version", active.version),
        *_leaves("", fields),
        *((f"resources.{resource.role or resource.kind}", resource.resource_id) for resource in active.resources),
        ("last_verified_at", readable(active.last_verified_at)),
    ]
    notes = [*([_STALE] if active.served_stale else []), *([] if reveal else [_MASKED])]
    return [*table(_HEADER, rows), *(["", *notes] if notes else [])]


def _leaves(name: str, value: Any) -> Iterator[tuple[str, object]]:
    """A row for each value, named by the way to it, e.g. `saved_webhooks.1.number_sid`."""
    match value:
        case dict():
            below = value.items()
        case list():
            below = dict(enumerate(value, start=1)).items()
        case _:
            yield name, value
            return
    for key, each in below:
        yield from _leaves(f"{name}.{key}" if name else str(key), each)
