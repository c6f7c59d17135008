"""Connecting an org with a provider: one saga, in steps that may each be repeated.

    normalise    the fields are checked; nothing left this process yet
    leased       nobody else works on this org and provider
    tested       the provider knows the credential, and it does what is needed
    stored       the vault has it as a new version, which nobody can read yet
    assistant_…  the provider has what the org needs (each provider names its own steps)
    provisioned
    registered   the vault knows what was made, and the version is readable: both at once

After that comes what changes something that others may own or use: by then it is this org's. Killed between any two
steps, it leaves nothing half done that calling again does not finish: the same value is stored once, and what was made
at the provider is found again.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

from services.provider.integration import Integration, Report, State
from services.provider.lease import Leases
from services.provider.provider import Checkpoint, Provider, Refused, Verdict, pass_by
from services.provider.work import ScheduledWork, Timetable
from tenantvault.credentials import ActiveCredential, Credential, Resource
from tenantvault.credentials import Provider as Name
from tenantvault.errors import (
    CredentialNotFound,
    CredentialUnreadable,
    InvalidRequest,
    ResourceConflict,
    VersionConflict,
)

STEPS: Final = ("leased", "tested", "stored", "provisioned", "registered")
"""The steps of every provider."""

_log = logging.getLogger(__name__)


class Vault(Protocol):
    """What a connect needs of the vault. Each method raises a `TenantVaultError`."""

    async def integration(self, org_id: str, provider: Name) -> Integration:
        """The integration as it is now; an empty one when there is none."""

    async def credential(self, org_id: str, provider: Name) -> ActiveCredential[Credential]:
        """The active version; CredentialNotFound when there is none."""

    async def newest_credential(self, org_id: str, provider: Name) -> Credential | None:
        """The newest version, active or not; None when there is none that can be read."""

    async def put(self, org_id: str, credential: Credential, *, expected_version: int, on_behalf_of: str) -> int:
        """Store a version that nobody can read yet; returns its number."""

    async def register(
        self,
        org_id: str,
        provider: Name,
        *,
        version: int,
        resources: tuple[Resource, ...],
        warnings: tuple[str, ...],
        account: str,
        schedule: Sequence[ScheduledWork] | None,
        lease_owner: str,
        on_behalf_of: str,
    ) -> Integration:
        """Record what was provisioned, make the version active and schedule its work, in one transaction."""


class Connect:
    """The saga. `checkpoint` is awaited after each step."""

    def __init__(
        self,
        vault: Vault,
        providers: Sequence[Provider[Any]],
        leases: Leases,
        timetable: Timetable,
        *,
        checkpoint: Checkpoint = pass_by,
    ) -> None:
        self._vault = vault
        self._providers = providers
        self._leases = leases
        self._timetable = timetable
        self._checkpoint = checkpoint

    async def __call__(
        self, org_id: str, credential: Credential, *, on_behalf_of: str = "", patience: float = 60.0
    ) -> Report:
        """Connect an org with the credential's provider, waiting `patience` seconds for others to finish.

        Raises:
            InvalidRequest: fields are missing or malformed.
            ProviderRefused: the provider does not accept the credential; nothing was stored.
            ProviderUnreachable: the provider did not answer; an existing connection is as it was.
            ResourceConflict: a number, account or assistant belongs to another org.
            VersionConflict: it was disconnected meanwhile, or changed.
            LeaseHeld: others work on the same integration.
        """
        provider = self._provider(credential)
        credential = provider.normalise(credential)
        async with self._leases.hold(org_id, provider.name, patience=patience) as owner:

            async def done(step: str) -> None:
                _log.info("connect", extra={"org": org_id, "provider": provider.name.value, "step": step})
                await self._checkpoint(step)

            await done("leased")
            # Before anything that takes its time: a disconnect meanwhile makes this connect end in a conflict.
            before = await self._vault.integration(org_id, provider.name)
            verdict = await provider.test(credential)
            if isinstance(verdict, Refused):
                raise verdict.error()
            await done("tested")
            credential = await provider.complete(
                org_id, credential, lambda: self._vault.newest_credential(org_id, provider.name)
            )
            version = await self._vault.put(
                org_id, credential, expected_version=before.latest_version, on_behalf_of=on_behalf_of
            )
            await done("stored")
            made = await provider.provision(org_id, credential, known=before.resources, checkpoint=done)
            await done("provisioned")
            is_live = before.state in {State.CONNECTED, State.REFUSED}
            replaced = await self._active(org_id, provider.name) if made.finish and is_live else None
            warnings = verdict.warnings + made.warnings
            register = partial(
                self._vault.register,
                org_id,
                provider.name,
                version=version,
                resources=made.resources,
                account=verdict.account,
                lease_owner=owner,
                on_behalf_of=on_behalf_of,
            )
            try:
                schedule = self._timetable.of(provider, credential, verdict)
                integration = await register(warnings=warnings, schedule=schedule)
            except (ResourceConflict, VersionConflict):
                # Nobody will ever use what was made for a connection that did not come about.
                if not is_live:
                    await provider.release(org_id, credential, known=before.resources)
                raise
            await done("registered")
            if made.finish and (left := await made.finish(replaced)):
                _log.warning(
                    "not everything was finished",
                    extra={"org": org_id, "provider": provider.name.value, "left": len(left)},
                )
                warnings += left
                integration = await register(warnings=warnings, schedule=None)
        return Report(integration, warnings)

    async def test(self, credential: Credential) -> Verdict:
        """What the provider says of a credential; nothing is stored and nothing is made.

        Raises:
            InvalidRequest: fields are missing or malformed.
            ProviderUnreachable: there was no definite answer.
        """
        provider = self._provider(credential)
        return await provider.test(provider.normalise(credential))

    async def _active(self, org_id: str, name: Name) -> Credential | None:
        with suppress(CredentialNotFound, CredentialUnreadable):
            return (await self._vault.credential(org_id, name)).credential
        return None

    def _provider(self, credential: Credential) -> Provider[Any]:
        for provider in self._providers:
            if isinstance(credential, provider.credential):
                return provider
        raise InvalidRequest(fields={"credential": "This provider cannot be connected yet."})
