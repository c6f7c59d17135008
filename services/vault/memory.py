"""The store in memory: for tests, and the plain statement of what the store on PostgreSQL must do."""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.vault.credential import (
    Integration,
    Mapping,
    OrgKey,
    Origin,
    RecordName,
    Resource,
    StoredCredential,
    state_of,
)
from tenantvault.errors import CredentialNotFound, LeaseHeld, ResourceConflict, VersionConflict


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An audit event."""

    event_id: uuid.UUID
    org_id: str
    generation: int
    origin: Origin
    action: str
    provider: str
    version: int
    outcome: str


@dataclass(slots=True)
class _Row:
    version: int = 0
    latest_version: int = 0
    is_active: bool = False
    connected_at: datetime | None = None
    last_verified_at: datetime | None = None
    verification_error: str = ""


@dataclass(slots=True)
class _Org:
    key: OrgKey | None = None
    generation: int = 0
    rows: dict[str, _Row] = field(default_factory=dict)
    versions: dict[tuple[str, int], tuple[RecordName, bytes, str]] = field(default_factory=dict)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)


class MemoryStore:
    """The vault's store port in dictionaries. No method awaits, so each is atomic."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._timer = timer
        self._orgs: dict[str, _Org] = {}
        self._mappings: dict[tuple[str, str], Mapping] = {}
        self.events: list[Event] = []

    async def org_key(self, org_id: str) -> OrgKey | None:
        """The org's current key."""
        return self._org(org_id).key

    async def add_org_key(self, key: OrgKey) -> OrgKey:
        """Keep the org's first key, or return the one that came first."""
        org = self._orgs.setdefault(key.org_id, _Org())
        org.key = org.key or key
        return org.key

    async def read(self, org_id: str, provider: str) -> StoredCredential | None:
        """The active version."""
        row = self._org(org_id).rows.get(provider)
        return self._stored(org_id, provider, row.version) if row and row.is_active else None

    async def read_newest(self, org_id: str, provider: str) -> StoredCredential | None:
        """The newest version."""
        row = self._org(org_id).rows.get(provider)
        if row is None or not row.latest_version or (row.version == row.latest_version and not row.is_active):
            return None
        return self._stored(org_id, provider, row.latest_version)

    async def resolve(self, kind: str, resource_id: str) -> tuple[Mapping, OrgKey] | None:
        """The mapping of a resource."""
        mapping = self._mappings.get((kind, resource_id))
        key = mapping and self._org(mapping.org_id).key
        return (mapping, key) if mapping and key else None

    async def resolve_credential(
        self, kind: str, resource_id: str, provider: str
    ) -> tuple[Mapping, OrgKey, StoredCredential | None] | None:
        """The mapping of a resource and its org's credential."""
        found = await self.resolve(kind, resource_id)
        return found and (*found, await self.read(found[0].org_id, provider))

    async def integrations(self, org_id: str) -> Sequence[Integration]:
        """What may be shown, in the order of the providers' names."""
        return [self._integration(org_id, provider) for provider in sorted(self._org(org_id).rows)]

    async def put(self, name: RecordName, sealed: bytes, hint: str, origin: Origin) -> None:
        """Add a version after the newest."""
        org = self._known(name.org_id)
        row = org.rows.get(name.provider, _Row())
        if row.latest_version != name.version - 1:
            raise VersionConflict
        org.rows[name.provider] = replace(row, latest_version=name.version)
        org.versions[name.provider, name.version] = (name, sealed, hint)
        self._record("credential.put", name.org_id, name.provider, name.version, origin)

    async def activate(
        self,
        org_id: str,
        provider: str,
        version: int,
        mappings: Sequence[Mapping],
        origin: Origin,
        *,
        lease_owner: str = "",
    ) -> Integration:
        """Make a version active and replace the mappings."""
        org = self._known(org_id)
        if lease_owner and not self._holds(org, provider, lease_owner):
            raise LeaseHeld
        row = org.rows.get(provider)
        if row is None or row.latest_version != version:
            raise VersionConflict
        kept = {
            key: mapping
            for key, mapping in self._mappings.items()
            if (mapping.org_id, mapping.provider) != (org_id, provider)
        }
        for mapping in mappings:
            key = (mapping.resource.kind, mapping.resource.resource_id)
            if key in kept:
                raise ResourceConflict
            kept[key] = mapping
        self._mappings = kept
        org.rows[provider] = replace(
            row,
            version=version,
            is_active=True,
            connected_at=row.connected_at if row.is_active and row.version == version else self._now(),
            last_verified_at=self._now(),
            verification_error="",
        )
        self._record("credential.activate", org_id, provider, version, origin)
        return self._integration(org_id, provider)

    async def record_verification(
        self, org_id: str, provider: str, version: int, error: str, origin: Origin
    ) -> Integration:
        """Keep the provider's answer about the active version."""
        row = self._row(org_id, provider)
        if row.version != version or not row.is_active:
            raise VersionConflict
        row.verification_error = error
        row.last_verified_at = row.last_verified_at if error else self._now()
        self._record("credential.verify", org_id, provider, version, origin, outcome="refused" if error else "ok")
        return self._integration(org_id, provider)

    async def set_active(self, org_id: str, provider: str, active: bool, origin: Origin) -> Integration:  # noqa: FBT001 - the column it sets
        """Disconnect or reconnect; a disconnect also passes over the number of a version that waits to be activated."""
        row = self._row(org_id, provider)
        if not row.version:
            raise CredentialNotFound
        if row.is_active != active:
            row.is_active = active
            row.latest_version += int(row.latest_version > row.version and not active)
            row.connected_at = self._now() if active else row.connected_at
            action = "credential.reconnect" if active else "credential.disconnect"
            self._record(action, org_id, provider, row.version, origin)
        return self._integration(org_id, provider)

    async def acquire_lease(self, org_id: str, provider: str, owner: str, seconds: float) -> None:
        """Take or prolong a lease."""
        leases = self._orgs.setdefault(org_id, _Org()).leases
        holder, until = leases.get(provider, (owner, 0.0))
        if holder != owner and until > self._timer():
            raise LeaseHeld(retry_after=until - self._timer())
        leases[provider] = (owner, self._timer() + seconds)

    async def release_lease(self, org_id: str, provider: str, owner: str) -> None:
        """Give a lease back, if the owner has it."""
        leases = self._org(org_id).leases
        if leases.get(provider, ("", 0.0))[0] == owner:
            del leases[provider]

    def _org(self, org_id: str) -> _Org:
        return self._orgs.get(org_id, _Org())

    def _known(self, org_id: str) -> _Org:
        if org_id not in self._orgs:
            raise CredentialNotFound
        return self._orgs[org_id]

    def _row(self, org_id: str, provider: str) -> _Row:
        row = self._org(org_id).rows.get(provider)
        if row is None:
            raise CredentialNotFound
        return row

    def _holds(self, org: _Org, provider: str, owner: str) -> bool:
        holder, until = org.leases.get(provider, ("", 0.0))
        return holder == owner and until > self._timer()

    def _stored(self, org_id: str, provider: str, version: int) -> StoredCredential | None:
        org = self._org(org_id)
        if org.key is None or (provider, version) not in org.versions:
            return None
        name, sealed, _ = org.versions[provider, version]
        return StoredCredential(
            name=name,
            sealed=sealed,
            key=org.key,
            resources=self._resources(org_id, provider),
            last_verified_at=org.rows[provider].last_verified_at,
            generation=org.generation,
        )

    def _resources(self, org_id: str, provider: str) -> tuple[Resource, ...]:
        resources = [
            mapping.resource
            for mapping in self._mappings.values()
            if (mapping.org_id, mapping.provider) == (org_id, provider)
        ]
        return tuple(sorted(resources, key=lambda resource: (resource.kind, resource.role, resource.resource_id)))

    def _integration(self, org_id: str, provider: str) -> Integration:
        org = self._org(org_id)
        row = org.rows[provider]
        return Integration(
            provider=provider,
            state=state_of(
                version=row.version,
                is_active=row.is_active,
                latest_version=row.latest_version,
                verification_error=row.verification_error,
            ),
            version=row.version,
            latest_version=row.latest_version,
            hint=org.versions[provider, row.version][2] if row.version else "",
            resources=self._resources(org_id, provider),
            last_verified_at=row.last_verified_at,
            verification_error=row.verification_error,
            connected_at=row.connected_at,
        )

    def _record(
        self, action: str, org_id: str, provider: str, version: int, origin: Origin, *, outcome: str = "ok"
    ) -> None:
        org = self._orgs[org_id]
        org.generation += 1
        self.events.append(
            Event(
                event_id=uuid.uuid4(),
                org_id=org_id,
                generation=org.generation,
                origin=origin,
                action=action,
                provider=provider,
                version=version,
                outcome=outcome,
            )
        )
