"""The vault's ports in memory, as the contract describes them, with faults that can be ordered."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.provider.integration import Integration, State
from tenantvault.credentials import ActiveCredential, Credential, Provider, Resource
from tenantvault.errors import CredentialNotFound, LeaseHeld, VaultUnavailable, VersionConflict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Key = tuple[str, Provider]


@dataclass
class FakeVault:
    """`faults` holds, for each method, its next failures: `before` or `after` it took effect; None lets one pass.

    `pulse` is called before and after each call takes effect; what it raises is what becomes of the call.
    """

    time: float = 0.0
    versions: dict[Key, list[Credential]] = field(default_factory=dict)
    integrations: dict[Key, Integration] = field(default_factory=dict)
    leases: dict[Key, tuple[str, float]] = field(default_factory=dict)
    faults: dict[str, deque[str | None]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    pulse: Callable[[str], None] = lambda _: None

    async def check(self) -> None:
        self.calls.append("check")

    async def integration(self, org_id: str, provider: Provider) -> Integration:
        with self._call("integration"):
            return self.integrations.get((org_id, provider), Integration(provider=provider))

    async def credential(self, org_id: str, provider: Provider) -> ActiveCredential[Credential]:
        with self._call("credential"):
            integration = self.integrations.get((org_id, provider))
            if integration is None or integration.state not in {State.CONNECTED, State.REFUSED}:
                raise CredentialNotFound
            return ActiveCredential(
                org_id=org_id,
                provider=provider,
                version=integration.version,
                credential=self.versions[org_id, provider][integration.version - 1],
                resources=integration.resources,
                last_verified_at=integration.last_verified_at,
                generation=1,
            )

    async def newest_credential(self, org_id: str, provider: Provider) -> Credential | None:
        with self._call("newest_credential"):
            versions = self.versions.get((org_id, provider))
            known = self.integrations.get((org_id, provider))
            if not versions or known is None or (known.state is State.DISCONNECTED and known.version == len(versions)):
                return None
            return versions[-1]

    async def put(self, org_id: str, credential: Credential, *, expected_version: int, on_behalf_of: str) -> int:
        provider = Provider.VAPI if hasattr(credential, "api_key") else Provider.TWILIO
        with self._call("put"):
            self.origins.append(on_behalf_of)
            versions = self.versions.setdefault((org_id, provider), [])
            if len(versions) != expected_version:
                raise VersionConflict
            if not versions or versions[-1] != credential:
                versions.append(credential)
            before = self.integrations.get((org_id, provider), Integration(provider=provider, state=State.CONNECTING))
            self.integrations[org_id, provider] = replace(before, latest_version=len(versions))
            return len(versions)

    async def register(
        self,
        org_id: str,
        provider: Provider,
        *,
        version: int,
        resources: tuple[Resource, ...],
        lease_owner: str,
        on_behalf_of: str,
    ) -> Integration:
        with self._call("register"):
            self.origins.append(on_behalf_of)
            holder, until = self.leases.get((org_id, provider), ("", 0.0))
            if holder != lease_owner or until <= self.time:
                raise LeaseHeld
            before = self.integrations[org_id, provider]
            if before.latest_version != version:
                raise VersionConflict
            self.integrations[org_id, provider] = replace(
                before,
                state=State.CONNECTED,
                version=version,
                resources=resources,
                last_verified_at=NOW,
                verification_error="",
            )
            return self.integrations[org_id, provider]

    async def record_verification(
        self, org_id: str, provider: Provider, *, version: int, error: str, on_behalf_of: str
    ) -> Integration:
        with self._call("record_verification"):
            self.origins.append(on_behalf_of)
            before = self.integrations[org_id, provider]
            if before.version != version:
                raise VersionConflict
            state = State.REFUSED if error else State.CONNECTED
            self.integrations[org_id, provider] = replace(before, state=state, verification_error=error)
            return self.integrations[org_id, provider]

    async def disconnect(self, org_id: str, provider: Provider, *, on_behalf_of: str) -> Integration:
        return self._set("disconnect", org_id, provider, State.DISCONNECTED, on_behalf_of)

    async def reconnect(self, org_id: str, provider: Provider, *, on_behalf_of: str) -> Integration:
        return self._set("reconnect", org_id, provider, State.CONNECTED, on_behalf_of)

    async def acquire_lease(self, org_id: str, provider: Provider, *, owner: str, seconds: float) -> None:
        with self._call("acquire_lease"):
            holder, until = self.leases.get((org_id, provider), (owner, 0.0))
            if holder != owner and until > self.time:
                raise LeaseHeld(retry_after=until - self.time)
            self.leases[org_id, provider] = (owner, self.time + seconds)

    async def release_lease(self, org_id: str, provider: Provider, *, owner: str) -> None:
        with self._call("release_lease"):
            if self.leases.get((org_id, provider), ("", 0.0))[0] == owner:
                del self.leases[org_id, provider]

    def _set(self, verb: str, org_id: str, provider: Provider, state: State, on_behalf_of: str) -> Integration:
        with self._call(verb):
            self.origins.append(on_behalf_of)
            before = self.integrations.get((org_id, provider))
            if before is None or not before.version:
                raise CredentialNotFound
            self.integrations[org_id, provider] = replace(before, state=state)
            return self.integrations[org_id, provider]

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        self.calls.append(method)
        ordered = self.faults.get(method)
        fault = ordered.popleft() if ordered else None
        if fault == "before":
            raise VaultUnavailable
        self.pulse("vault")
        yield
        self.pulse("vault")
        if fault == "after":
            raise VaultUnavailable


def connected(vault: FakeVault, org_id: str, provider: Provider, credential: Credential, *resources: Resource) -> None:
    """An integration as it is after a connect."""
    vault.versions[org_id, provider] = [credential]
    vault.integrations[org_id, provider] = Integration(
        provider=provider,
        state=State.CONNECTED,
        version=1,
        latest_version=1,
        hint="••••1234",
        resources=resources,
        last_verified_at=NOW,
    )
