"""Keeping an access token alive: one refresh at a time for an org, over all processes.

Whoever wants a token that lasts looks first, takes the lease, looks again, and only then asks the provider. The new
token is written into the active version under the same lease, so that neither an older refresh nor one of a connection
that was replaced meanwhile can undo a newer one. Killed anywhere, it leaves the refresh token as it was. A provider
that gives no answer is asked once too: those who waited are told the same, and so is who comes in the next moment.
"""

import copy
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from services.provider.integration import Integration
from services.provider.lease import Leases
from services.provider.provider import Checkpoint, Consent, Provider, Refused, pass_by
from tenantvault.credentials import ActiveCredential, Credential
from tenantvault.credentials import Provider as Name
from tenantvault.errors import InvalidRequest, ProviderUnreachable, ReauthRequired

SHORTEST_PAUSE: Final = 2.0
LONGEST_PAUSE: Final = 300.0
"""Seconds for which a provider that gave no answer is not asked again for the same version, whatever it asks for."""

MOST_FAILURES: Final = 1000
"""So many are remembered, the newest."""

_Key = tuple[str, Name, int]


class Vault(Protocol):
    """What a refresh needs of the vault. Each method raises a `TenantVaultError`."""

    async def credential(self, org_id: str, provider: Name) -> ActiveCredential[Credential]:
        """The active version; CredentialNotFound when there is none."""

    async def integration(self, org_id: str, provider: Name) -> Integration:
        """The integration as it is now."""

    async def refresh(
        self, org_id: str, credential: Credential, *, version: int, lease_owner: str, on_behalf_of: str
    ) -> None:
        """Write a new access token into the active version; VersionConflict when another one is active."""

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
        """Record the provider's definite answer about a version."""


class Refresh:
    """Refreshes. `checkpoint` is awaited after each step: `leased`, `refreshed` and `written`."""

    def __init__(
        self,
        vault: Vault,
        providers: Sequence[Provider[Any]],
        leases: Leases,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        checkpoint: Checkpoint = pass_by,
    ) -> None:
        self._vault = vault
        self._providers = {provider.name: provider for provider in providers}
        self._leases = leases
        self._now = now
        self._checkpoint = checkpoint
        self._failures: dict[_Key, tuple[ProviderUnreachable, datetime]] = {}

    async def __call__(
        self,
        org_id: str,
        name: Name,
        *,
        min_life: float,
        insist: bool = False,
        on_behalf_of: str = "",
        patience: float = 60.0,
    ) -> datetime:
        """Make sure that the stored access token lasts `min_life` seconds; returns when it ends.

        A consent that is known to be over is not asked for again, unless the caller insists.

        Raises:
            InvalidRequest: the provider has no access tokens.
            CredentialNotFound: nothing is connected.
            ReauthRequired: the consent is over; that is recorded.
            ProviderUnreachable: there was no definite answer; nothing was recorded.
            LeaseHeld: others work on the same integration.
        """
        consent = self._consent(name)
        active = await self._vault.credential(org_id, name)
        if self._lasts(consent, active, min_life):
            return consent.expires_at(active.credential)
        self._demand_no_failure((org_id, name, active.version))
        async with self._leases.hold(org_id, name, patience=patience) as owner:
            await self._checkpoint("leased")
            active = await self._vault.credential(org_id, name)
            if self._lasts(consent, active, min_life):
                return consent.expires_at(active.credential)
            key = (org_id, name, active.version)
            self._demand_no_failure(key)
            if not insist:
                known = await self._vault.integration(org_id, name)
                if known.verification_reason == ReauthRequired.reason and known.version == active.version:
                    raise ReauthRequired(known.verification_error)
            try:
                renewed = await consent.refresh(active.credential)
            except ProviderUnreachable as error:
                self._remember(key, error)
                raise
            if isinstance(renewed, Refused):
                await self._vault.record_verification(
                    org_id,
                    name,
                    version=active.version,
                    refusal=renewed,
                    warnings=(),
                    account="",
                    on_behalf_of=on_behalf_of,
                )
                raise renewed.error()
            await self._checkpoint("refreshed")
            await self._vault.refresh(
                org_id, renewed, version=active.version, lease_owner=owner, on_behalf_of=on_behalf_of
            )
            await self._checkpoint("written")
        return consent.expires_at(renewed)

    def _demand_no_failure(self, key: _Key) -> None:
        error, until = self._failures.get(key, (None, self._now()))
        if error is None or until <= self._now():
            return
        again = copy.copy(error)
        again.retry_after = (until - self._now()).total_seconds()
        raise again

    def _remember(self, key: _Key, error: ProviderUnreachable) -> None:
        pause = min(max(error.retry_after or 0.0, SHORTEST_PAUSE), LONGEST_PAUSE)
        # The newest last. A copy, since the traceback of the error itself keeps the credential in memory.
        self._failures.pop(key, None)
        self._failures[key] = (copy.copy(error), self._now() + timedelta(seconds=pause))
        while len(self._failures) > MOST_FAILURES:
            del self._failures[next(iter(self._failures))]

    def _lasts(self, consent: Consent[Any], active: ActiveCredential[Credential], min_life: float) -> bool:
        return (consent.expires_at(active.credential) - self._now()).total_seconds() >= min_life

    def _consent(self, name: Name) -> Consent[Any]:
        provider = self._providers.get(name)
        if provider is None or provider.consent is None:
            raise InvalidRequest(fields={"provider": "This provider has no access tokens."})
        return provider.consent
