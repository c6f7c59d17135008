"""`tenantvault status`: how an org's integrations are."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import click

from tenantvault.cli.arguments import org_argument
from tenantvault.cli.connection import Access, access_options
from tenantvault.cli.output import Output, iso, output_option, printable, readable, table, time_in
from tenantvault.messages import PROVIDER_OF
from tenantvault.v1.credential_pb2 import Integration, IntegrationState
from tenantvault.v1.status_service_pb2 import ListIntegrationsRequest

_HEADER: Final = ("PROVIDER", "STATE", "HINT", "LAST VERIFIED", "ROTATION DUE", "ACCOUNT")


@click.command(short_help="Show how an org's integrations are.")
@org_argument
@access_options
@output_option
def status(access: Access, output: Output, *, org: str) -> None:
    """Show how the integrations of ORG are, without anything secret: state, last verification, rotation, warnings."""
    with access.open() as vault:
        found = vault.call(vault.status.ListIntegrations, ListIntegrationsRequest(org_id=org)).integrations
    output.show({"org_id": org, "integrations": [_fields(each) for each in found]}, _described(org, found))


def _fields(integration: Integration) -> dict[str, Any]:
    return {
        "provider": _provider(integration),
        "state": _state(integration),
        "version": integration.version,
        "hint": integration.hint,
        "account": integration.account,
        "connected_at": iso(time_in(integration, "connected_at")),
        "last_verified_at": iso(time_in(integration, "last_verified_at")),
        "verification_reason": integration.verification_reason,
        "verification_error": integration.verification_error,
        "rotation_due_at": iso(time_in(integration, "rotation_due_at")),
        "rotates_by_itself": integration.rotates_by_itself,
        "warnings": list(integration.warnings),
    }


def _described(org: str, found: Sequence[Integration]) -> Iterator[str]:
    if not found:
        yield f"{org} has never begun to connect a provider."
        return
    yield from table(_HEADER, map(_row, found))
    for each in found:
        said = [f"{each.verification_error} ({each.verification_reason})"] if each.verification_error else []
        yield from (f"{_provider(each)}: {printable(sentence)}" for sentence in (*said, *each.warnings))


def _row(integration: Integration) -> tuple[object, ...]:
    due = readable(time_in(integration, "rotation_due_at"))
    return (
        _provider(integration),
        _state(integration),
        integration.hint,
        readable(time_in(integration, "last_verified_at")),
        f"{due}, by itself" if due and integration.rotates_by_itself else due,
        integration.account,
    )


def _provider(integration: Integration) -> str:
    # A newer vault may know more providers, and more states.
    return PROVIDER_OF.get(integration.provider, f"unknown ({integration.provider})")


def _state(integration: Integration) -> str:
    if integration.state not in IntegrationState.values():
        return f"unknown ({integration.state})"
    return IntegrationState.Name(integration.state).removeprefix("INTEGRATION_STATE_").lower()
