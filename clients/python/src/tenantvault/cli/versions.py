"""`tenantvault versions`: the versions of a credential, and the way back to an older one."""

from typing import Any, Final

import click

from tenantvault.cli.arguments import (
    LARGEST,
    org_argument,
    origin_option,
    provider_argument,
    provider_number,
    version_argument,
)
from tenantvault.cli.connection import Access, access_options
from tenantvault.cli.output import Declined, Output, iso, output_option, readable, table, time_in
from tenantvault.credentials import Provider
from tenantvault.v1.status_service_pb2 import ListVersionsRequest, Version, VersionState
from tenantvault.v1.store_service_pb2 import DestroyVersionRequest, Origin, RollBackCredentialRequest

_HEADER: Final = ("VERSION", "STATE", "HINT", "PUT", "READABLE UNTIL", "DESTROYED")


@click.group()
def versions() -> None:
    """List, roll back and destroy versions."""


@versions.command("list")
@org_argument
@provider_argument
@access_options
@output_option
def list_versions(access: Access, output: Output, *, org: str, wanted: Provider) -> None:
    """List the versions of the credential of ORG for PROVIDER, newest first."""
    with access.open() as vault:
        request = ListVersionsRequest(org_id=org, provider=provider_number(wanted))
        found = vault.call(vault.status.ListVersions, request).versions
    output.show({"versions": [_fields(version) for version in found]}, table(_HEADER, map(_row, found)))


@versions.command("rollback")
@org_argument
@provider_argument
@version_argument
@click.option(
    "--expected",
    type=click.IntRange(1, LARGEST),
    required=True,
    help="The version that you take for the active one. When it is another by now, nothing is done.",
)
@origin_option
@access_options
@output_option
def rollback(
    access: Access, output: Output, *, org: str, wanted: Provider, version: int, expected: int, origin: Origin
) -> None:
    """Make VERSION the active one again. What it replaces is not readable any more."""
    request = RollBackCredentialRequest(
        org_id=org, provider=provider_number(wanted), version=version, expected_version=expected, origin=origin
    )
    with access.open() as vault:
        active = vault.call(vault.store.RollBackCredential, request).integration.version
    output.show(
        {"org_id": org, "provider": wanted.value, "active_version": active},
        [f"Version {active} is the active one of {org} for {wanted} now."],
    )


@versions.command("destroy")
@org_argument
@provider_argument
@version_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@origin_option
@access_options
@output_option
def destroy(
    access: Access, output: Output, *, org: str, wanted: Provider, version: int, yes: bool, origin: Origin
) -> None:
    """Destroy the ciphertext of VERSION, which must not be the active one, for ever."""
    question = f"Destroy version {version} of {org} for {wanted}? There is no way back."
    if not yes and not output.confirm(question, instead="--yes"):
        raise Declined("Nothing was destroyed.")
    request = DestroyVersionRequest(org_id=org, provider=provider_number(wanted), version=version, origin=origin)
    with access.open() as vault:
        vault.call(vault.store.DestroyVersion, request)
    output.show(
        {"org_id": org, "provider": wanted.value, "destroyed_version": version},
        [f"Version {version} of {org} for {wanted} is destroyed."],
    )


def _fields(version: Version) -> dict[str, Any]:
    return {
        "version": version.version,
        "state": _state(version),
        "hint": version.hint,
        "created_at": iso(time_in(version, "created_at")),
        "destroyed_at": iso(time_in(version, "destroyed_at")),
        "readable_until": iso(time_in(version, "readable_until")),
    }


def _row(version: Version) -> tuple[object, ...]:
    return (
        version.version,
        _state(version),
        version.hint,
        readable(time_in(version, "created_at")),
        readable(time_in(version, "readable_until")),
        readable(time_in(version, "destroyed_at")),
    )


def _state(version: Version) -> str:
    # A newer vault may know more states.
    if version.state not in VersionState.values():
        return f"unknown ({version.state})"
    return VersionState.Name(version.state).removeprefix("VERSION_STATE_").lower()
