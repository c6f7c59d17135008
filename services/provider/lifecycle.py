"""What happens to a connection after it was made: verify, disconnect, reconnect."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from services.provider.connect import Connect
from services.provider.integration import Integration, Report, State
from services.provider.lease import Leases
from services.provider.provider import Accepted, Provider, Refused
from tenantvault.credentials import ActiveCredential, Credential, Resource
from tenantvault.credentials import Provider as Name
from tenantvault.errors import (
    CredentialNotFound,
    CredentialUnreadable,
    InvalidRequest,
    LeaseHeld,
    ProviderRefused,
    ProviderUnreachable,
    Unavailable,
)

RELEASE_SECONDS: Final = 25.0
"""How long a disconnect tries to take back at the provider what was made there."""

PATIENCE: Final = 5.0
"""Seconds that a disconnect waits for other work on the same integration before it leaves things at the provider."""

UNFINISHED_PATIENCE: Final = 20.0
"""The same for a setup that has not ended: the one who was cut off holds the lease for a while."""

_NOT_IN_TIME: Final = "The provider did not answer in time: look there for what was made for this connection."
_BUSY: Final = "Other work on this connection was under way, so nothing was taken back at the provider: look there."
_BEFORE: Final = "It was disconnected before: if that was cut off, look at the provider for what is left there."
_UNMADE: Final = "Connected again, but not yet set up at the provider: reconnect once more."
_UNREAD: Final = "The stored credential cannot be opened, so nothing was taken back at the provider: look there."
_log = logging.getLogger(__name__)


class Vault(Protocol):
    """What is needed of the vault. Each method raises a `TenantVaultError`."""

    async def credential(self, org_id: str, provider: Name) -> ActiveCredential[Credential]:
        """The active version; CredentialNotFound when there is none."""

    async def newest_credential(self, org_id: str, provider: Name) -> Credential | None:
        """The newest version, active or not; None when there is none that can be read."""

    async def integration(self, org_id: str, provider: Name) -> Integration:
        """The integration as it is now."""

    async def record_verification(
        self,
        org_id: str,
        provider: Name,
        *,
        version: int,
        refusal: Refused | None,
        warnings: tuple[str, ...],
        account: str,
        on_behalf_of: str,
    ) -> Integration:
        """Record the provider's definite answer about a version; no refusal is a yes."""

    async def disconnect(self, org_id: str, provider: Name, *, on_behalf_of: str) -> Integration:
        """Make the credential unreadable and keep it."""

    async def reconnect(
        self, org_id: str, provider: Name, *, warnings: tuple[str, ...], on_behalf_of: str
    ) -> Integration:
        """Make a disconnected credential readable again, with what is to be known until the provider has answered."""


class Lifecycle:
    """The verbs."""

    def __init__(self, vault: Vault, providers: Sequence[Provider[Any]], leases: Leases, connect: Connect) -> None:
        self._vault = vault
        self._providers = {provider.name: provider for provider in providers}
        self._leases = leases
        self._connect = connect

    async def verify(self, org_id: str, name: Name, *, on_behalf_of: str = "") -> Report:
        """Ask the provider about the active credential and what was made with it, and record what it says.

        Raises:
            CredentialNotFound: there is none.
            ProviderUnreachable: the provider did not answer; nothing was recorded.
            ProviderRefused: it refused what it was asked, and not the credential; nothing was recorded.
            VersionConflict: another version became active meanwhile.
        """
        provider = self._provider(name)
        active = await self._vault.credential(org_id, name)
        verdict = await provider.test(active.credential)
        if isinstance(verdict, Accepted):
            drift = await provider.inspect(org_id, active.credential, known=active.resources)
            verdict = replace(verdict, warnings=verdict.warnings + drift)
        return await self._record(org_id, name, active.version, verdict, on_behalf_of)

    async def disconnect(self, org_id: str, name: Name, *, on_behalf_of: str = "") -> Report:
        """Make the credential unreadable at once, then take back at the provider what was made there.

        That is done under the lease and only while it stays disconnected: whoever connects again meanwhile keeps what
        they made. What could not be taken back is reported; the disconnect stands all the same. A setup that has not
        ended is given up in the same way.
        """
        provider = self._provider(name)
        credential: Credential | None = None
        known: tuple[Resource, ...] = ()
        patience = PATIENCE
        unreleased: tuple[str, ...] = (_BEFORE,)  # or never connected: the vault says which
        try:
            active = await self._vault.credential(org_id, name)
            credential, known = active.credential, active.resources
        except CredentialNotFound:
            credential = await self._vault.newest_credential(org_id, name)
            patience = UNFINISHED_PATIENCE
        except CredentialUnreadable:
            unreleased = (_UNREAD,)
        integration = await self._vault.disconnect(org_id, name, on_behalf_of=on_behalf_of)
        if credential is not None:
            unreleased = await self._release(provider, org_id, credential, known, patience)
        if unreleased:
            _log.warning(
                "not everything was released", extra={"org": org_id, "provider": name.value, "left": len(unreleased)}
            )
        return Report(integration, unreleased=unreleased)

    async def _release(
        self,
        provider: Provider[Any],
        org_id: str,
        credential: Credential,
        known: tuple[Resource, ...],
        patience: float,
    ) -> tuple[str, ...]:
        try:
            async with (
                asyncio.timeout(RELEASE_SECONDS),
                self._leases.hold(org_id, provider.name, patience=patience),
            ):
                now = await self._vault.integration(org_id, provider.name)
                if now.state is not State.DISCONNECTED:
                    return ()
                return await provider.release(org_id, credential, known=known)
        except TimeoutError:
            return (_NOT_IN_TIME,)
        except (LeaseHeld, Unavailable):
            return (_BUSY,)

    async def reconnect(self, org_id: str, name: Name, *, on_behalf_of: str = "", patience: float = 60.0) -> Report:
        """Make a disconnected credential readable again, test it, and make again what the disconnect took back.

        A provider that is down does not prevent it, and a credential that it refuses by now is shown as refused. Until
        what was taken back is made again, a warning says so.

        Raises:
            CredentialNotFound: there is none.
            LeaseHeld: others work on the same integration.
        """
        self._provider(name)
        integration = await self._vault.reconnect(org_id, name, warnings=(_UNMADE,), on_behalf_of=on_behalf_of)
        active = await self._vault.credential(org_id, name)
        try:
            return await self._connect(org_id, active.credential, on_behalf_of=on_behalf_of, patience=patience)
        except ProviderRefused as error:
            refusal = Refused(type(error), error.message, next(iter(error.fields), ""))
            return await self._record(org_id, name, active.version, refusal, on_behalf_of)
        except ProviderUnreachable as error:
            _log.info("reconnected without an answer of the provider", extra={"reason": error.reason})
            return Report(integration, (_UNMADE,))

    async def _record(
        self, org_id: str, name: Name, version: int, verdict: Accepted | Refused, on_behalf_of: str
    ) -> Report:
        refusal = verdict if isinstance(verdict, Refused) else None
        if refusal and not refusal.is_about_the_credential:
            raise refusal.error()
        accepted = verdict if isinstance(verdict, Accepted) else Accepted()
        integration = await self._vault.record_verification(
            org_id,
            name,
            version=version,
            refusal=refusal,
            warnings=accepted.warnings,
            account=accepted.account,
            on_behalf_of=on_behalf_of,
        )
        return Report(integration, accepted.warnings)

    def _provider(self, name: Name) -> Provider[Any]:
        try:
            return self._providers[name]
        except KeyError:
            raise InvalidRequest(fields={"provider": "This provider cannot be connected yet."}) from None
