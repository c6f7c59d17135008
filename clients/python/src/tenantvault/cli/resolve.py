"""`tenantvault resolve`: whose a resource is."""

from typing import Final

import click

from tenantvault._reads import resolve_org_read
from tenantvault.cli.arguments import completing, kind
from tenantvault.cli.connection import Access, access_options, for_services
from tenantvault.cli.output import BadInput, Output, output_option, table
from tenantvault.credentials import ResourceKind
from tenantvault.errors import InvalidRequest

_HEADER: Final = ("ORG", "ROLE", "GENERATION")
_STALE: Final = "The vault's database could not be asked: this is what was current before."


@click.command(short_help="Find the org that a resource belongs to.")
@click.argument("wanted", metavar="KIND", callback=kind, shell_complete=completing(ResourceKind))
@click.argument("resource", metavar="ID")
@access_options
@output_option
def resolve(access: Access, output: Output, *, wanted: ResourceKind, resource: str) -> None:
    """Find the org that the resource ID of a KIND belongs to, and its role there.

    KIND is vapi_assistant, phone_number or twilio_account. It takes the certificate of a service that may ask.
    """
    try:
        read = resolve_org_read(wanted, resource)
    except InvalidRequest as error:
        raise BadInput(error.message) from None
    with access.open() as vault, for_services("ResolveOrg"):
        found = read.answer(vault.call(vault.directory.ResolveOrg, read.request))
    data = {
        "kind": wanted.value,
        "resource_id": resource,
        "org_id": found.org_id,
        "role": found.role,
        "generation": found.generation,
        "served_stale": found.served_stale,
    }
    rows = [(found.org_id, found.role, found.generation)]
    output.show(data, [*table(_HEADER, rows), *([_STALE] if found.served_stale else [])])
