"""What happens to a connection after it was made: verify, disconnect, reconnect."""

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from services.provider.integration import Integration, Report
from services.provider.provider import Accepted, Provider, Refused
from tenantvault.credentials import ActiveCredential, Credential
from tenantvault.credentials import Provider as Name
from tenantvault.errors import InvalidRequest, ProviderUnreachable

_log = logging.getLogger(__name__)


class Vault(Protocol):
    """What is needed of the vault. Each method raises a `TenantVaultError`."""

    async def credential(self, org_id: str, provider: Name) -> ActiveCredential[Credential]:
        """The active version; CredentialNotFound when there is none."""

    async def record_verification(
        self, org_id: str, provider: Name, *, version: int, error: str, on_behalf_of: str
    ) -> Integration:
        """Record the provider's definite answer about a version; an empty `error` is a yes."""

    async def disconnect(self, org_id: str, provider: Name, *, on_behalf_of: str) -> Integration:
        """Make the credential unreadable and keep it."""

    async def reconnect(self, org_id: str, provider: Name, *, on_behalf_of: str) -> Integration:
        """Make a disconnected credential readable again."""


class Lifecycle:
    """The verbs."""

    def __init__(self, vault: Vault, providers: Sequence[Provider[Any]]) -> None:
        self._vault = vault
        self._providers = {provider.name: provider for provider in providers}

    async def verify(self, org_id: str, name: Name, *, on_behalf_of: str = "") -> Report:
        """Ask the provider about the active credential and record what it says.

        Raises:
            CredentialNotFound: there is none.
            ProviderUnreachable: the provider did not answer; nothing was recorded.
            VersionConflict: another version became active meanwhile.
        """
        provider = self._provider(name)
        active = await self._vault.credential(org_id, name)
        verdict = await provider.test(active.credential)
        error = verdict.sentence if isinstance(verdict, Refused) else ""
        warnings = verdict.warnings if isinstance(verdict, Accepted) else ()
        integration = await self._vault.record_verification(
            org_id, name, version=active.version, error=error, on_behalf_of=on_behalf_of
        )
        return Report(integration, warnings)

    async def disconnect(self, org_id: str, name: Name, *, on_behalf_of: str = "") -> Report:
        """Make the credential unreadable at once. What was made at the provider stays, for a reconnect."""
        self._provider(name)
        return Report(await self._vault.disconnect(org_id, name, on_behalf_of=on_behalf_of))

    async def reconnect(self, org_id: str, name: Name, *, on_behalf_of: str = "") -> Report:
        """Make a disconnected credential readable again and verify it; a provider that is down does not prevent it.

        Raises:
            CredentialNotFound: there is none.
        """
        self._provider(name)
        integration = await self._vault.reconnect(org_id, name, on_behalf_of=on_behalf_of)
        try:
            return await self.verify(org_id, name, on_behalf_of=on_behalf_of)
        except ProviderUnreachable as error:
            _log.info("reconnected without an answer of the provider", extra={"reason": error.reason})
            return Report(integration, ("Connected again, but the provider did not answer: verify it later.",))

    def _provider(self, name: Name) -> Provider[Any]:
        try:
            return self._providers[name]
        except KeyError:
            raise InvalidRequest(fields={"provider": "This provider cannot be connected yet."}) from None
