"""The store in memory: for tests, and the plain statement of what the store on PostgreSQL must do."""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.vault.audit import SEARCHED, Chain, End, Page, event_of
from services.vault.credential import (
    LOOKED_THROUGH,
    Facts,
    Integration,
    Mapping,
    Org,
    OrgKey,
    OrgState,
    Origin,
    Pointer,
    Read,
    ReadCount,
    Reads,
    Record,
    RecordName,
    Resolved,
    Stored,
    Version,
    state_of,
    version_state,
)
from services.vault.keeper import Change, Decide, Held
from services.vault.memory_work import MemoryOAuthStates, MemoryWork, Readable
from services.vault.org import Changed
from tenantvault.audit import Event, Head, Link
from tenantvault.errors import CredentialNotFound, LeaseHeld, ResourceConflict


@dataclass(slots=True)
class _Facts:
    """What only people look at."""

    connected_at: datetime | None = None
    last_verified_at: datetime | None = None
    said: Facts = field(default_factory=Facts)


@dataclass(slots=True)
class _Row:
    """An org with all that is its own."""

    org: Org
    # A row that a change has begun with is there when the change is.
    is_there: bool = False
    current_key: str = ""
    keys: dict[str, OrgKey] = field(default_factory=dict)
    macs: dict[str, bytes] = field(default_factory=dict)
    facts: dict[str, _Facts] = field(default_factory=lambda: defaultdict(_Facts))
    versions: dict[tuple[str, int], Version] = field(default_factory=dict)
    records: dict[tuple[str, int], tuple[RecordName, bytes]] = field(default_factory=dict)
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class MemoryStore:
    """The vault's store ports in dictionaries, with those of work and of consents under way beside them."""

    def __init__(
        self,
        *,
        chain: Chain | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain = chain or Chain.from_seed(os.urandom(32))
        self._now = now
        self._timer = timer
        self._orgs: dict[str, _Row] = {}
        self._mappings: dict[tuple[str, str], Mapping] = {}
        self.links: dict[str, list[Link]] = defaultdict(list)
        self.heads: dict[str, Head] = {}
        self.work = MemoryWork(readable=self._readable, add=self.add, now=now)
        self.oauth_states = MemoryOAuthStates(make_org=self._make, now=now)

    async def read(self, keys: Sequence[tuple[str, str]], *, newest: bool = False) -> Sequence[Stored | None]:
        """What there is of each org and provider."""
        return [self._stored(org_id, provider, newest=newest) for org_id, provider in keys]

    async def resolve(self, keys: Sequence[tuple[str, str]], provider: str | None) -> Sequence[Resolved | None]:
        """What there is of each resource."""
        return [self._resolved(self._mappings.get(key), provider) for key in keys]

    async def integrations(self, org_id: str) -> Sequence[Integration]:
        """What may be shown, in the order of the providers' names."""
        row = self._orgs.get(org_id)
        return [self._integration(row, provider) for provider in sorted(row.org.pointers)] if row else []

    async def versions(self, org_id: str, provider: str) -> Sequence[Version]:
        """What may be shown of the versions, newest first."""
        row = self._orgs.get(org_id)
        if row is None:
            return []
        pointer = row.org.pointers.get(provider, Pointer(provider=provider))
        found = [version for (of, _), version in sorted(row.versions.items(), reverse=True) if of == provider]
        states = [version_state(version, pointer, self._now()) for version in found]
        return [
            replace(version, state=state, readable_until=pointer.previous_until if state == "previous" else None)
            for version, state in zip(found, states, strict=True)
        ]

    async def change(
        self,
        org_id: str,
        decide: Decide,
        origin: Origin,
        *,
        provider: str = "",
        version: int = 0,
        create: bool = False,
        lease_owner: str = "",
    ) -> int | None:
        """Hold the org, decide, and write the change with its audit event."""
        row = self._orgs.setdefault(org_id, _Row(Org(org_id=org_id)))
        async with row.lock:
            if not create and not row.is_there:
                raise CredentialNotFound
            if lease_owner and not self._holds(row, provider, lease_owner):
                raise LeaseHeld
            pointers = [self._pointer(row, name) for name in row.org.pointers]
            about = row.versions.get((provider, version))
            change = await decide(
                Held(org=row.org, key=row.keys.get(row.current_key), pointers=pointers, version=about)
            )
            if change is not None:
                self._write(row, change)
            row.is_there = True
            if change is None:
                return None
            changed = change.changed
            event = event_of(
                origin,
                org_id=org_id,
                action=changed.action,
                provider=changed.provider,
                version=changed.version,
                outcome=changed.outcome,
                generation=changed.org.generation,
                now=self._now,
            )
            await self.add([event])
            return changed.org.generation

    async def generations(self, orgs: Sequence[str]) -> dict[str, int]:
        """The generation of each org that is known."""
        rows = {org_id: row for org_id in orgs if (row := self._orgs.get(org_id)) and row.is_there}
        return {org_id: row.org.generation for org_id, row in rows.items()}

    async def acquire_lease(self, org_id: str, provider: str, owner: str, seconds: float) -> None:
        """Take or prolong a lease."""
        leases = self._make(org_id).leases
        holder, until = leases.get(provider, (owner, 0.0))
        if holder != owner and until > self._timer():
            raise LeaseHeld(retry_after=until - self._timer())
        leases[provider] = (owner, self._timer() + seconds)

    async def release_lease(self, org_id: str, provider: str, owner: str) -> None:
        """Give a lease back, if the owner has it."""
        row = self._orgs.get(org_id)
        if row and row.leases.get(provider, ("", 0.0))[0] == owner:
            del row.leases[provider]

    async def add(self, events: Sequence[Event]) -> None:
        """Put events behind their chains; one that is there stays as it is."""
        for event in events:
            links = self.links[event.org_id]
            if any(link.event.event_id == event.event_id for link in links):
                continue
            end = End(links[-1].sequence, links[-1].hash) if links else End()
            more, self.heads[event.org_id] = self._chain.extend(event.org_id, end, [event])
            links.extend(more)

    async def events(
        self,
        org_id: str,
        *,
        before: int = 0,
        limit: int = 100,
        provider: str = "",
        action: str = "",
        peer: str = "",
        failed: bool = False,
        at_most: int = SEARCHED,
    ) -> Page:
        """Events of an org, newest first, among so many."""
        older = [link for link in reversed(self.links[org_id]) if not before or link.sequence < before]
        found: list[Link] = []
        last: Link | None = None
        for last in older[:at_most]:
            event = last.event
            if (
                provider in ("", event.provider)
                and action in ("", event.action)
                and peer in ("", event.peer)
                and not (failed and event.outcome == "ok")
            ):
                found.append(last)
            if len(found) == limit:
                break
        return Page(found, last if last and last.sequence > 1 else None)

    async def reads(self, org_id: str, since: datetime, *, at_most: int = LOOKED_THROUGH) -> Reads:
        """How often each service was given the org's credentials, among the newest events."""
        looked_at = self.links[org_id][-at_most:]
        if looked_at and looked_at[0].sequence > 1:
            since = max(since, looked_at[0].event.occurred_at)
        reads: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        for event in (link.event for link in looked_at):
            if event.action in set(Read) and event.outcome == "ok" and event.occurred_at >= since:
                reads[event.peer, event.provider].append(event.occurred_at)
        counts = [ReadCount(*who, len(moments), max(moments)) for who, moments in reads.items()]
        return Reads(sorted(counts, key=lambda count: (-count.reads, count.peer, count.provider)), since)

    async def chain_of(self, org_id: str) -> AsyncIterator[Link | Head]:
        """An org's chain and its head."""
        for link in list(self.links[org_id]):
            yield link
        if org_id in self.heads:
            yield self.heads[org_id]

    async def generation(self, org_id: str) -> tuple[int, int]:
        """An org's generation as its row says, and as its last change in the audit says."""
        row = self._orgs.get(org_id)
        told = max((link.event.generation for link in self.links[org_id]), default=0)
        return (row.org.generation if row else 0, told)

    async def orgs_with_old_keys(self, *, after: str, at_most: int) -> Sequence[str]:
        """The next orgs whose rotation has not ended."""
        return [org for org, row in sorted(self._orgs.items()) if org > after and len(row.keys) > 1][:at_most]

    async def records_under_old_keys(self, org_id: str, *, at_most: int) -> tuple[OrgKey | None, Sequence[Record]]:
        """An org's current key, and records that are not sealed under it."""
        row = self._orgs.get(org_id, _Row(Org(org_id=org_id)))
        old = [
            Record(name, sealed, row.keys[name.key_id])
            for name, sealed in row.records.values()
            if name.key_id != row.current_key and name.key_id in row.keys
        ]
        return row.keys.get(row.current_key), old[:at_most]

    async def replace_record(self, old: Record, new: Record) -> bool:
        """Put a record that is sealed anew in the place of the old one."""
        row, place = self._orgs[old.name.org_id], (old.name.provider, old.name.version)
        async with row.lock:
            found = row.records.get(place)
            # What a version holds may be replaced under the same name.
            if found != (old.name, old.sealed) or new.name.key_id not in row.keys:
                return False
            row.records[place] = (new.name, new.sealed)
            return True

    async def destroy_old_keys(self, org_id: str) -> int:
        """Destroy an org's keys that seal nothing any more; returns how many old ones are left."""
        row = self._orgs.get(org_id, _Row(Org(org_id=org_id)))
        async with row.lock:
            used = {name.key_id for name, _ in row.records.values()} | {row.current_key}
            row.keys = {key_id: key for key_id, key in row.keys.items() if key_id in used}
            return len(row.keys.keys() - {row.current_key})

    def _write(self, row: _Row, change: Change) -> None:
        changed, org_id = change.changed, change.changed.org.org_id
        # First what may be refused.
        self._register(org_id, change)
        moved = changed.provider and (
            changed.org.pointers[changed.provider].version
            != row.org.pointers.get(changed.provider, Pointer(provider=changed.provider)).version
        )
        row.org, row.macs = changed.org, dict(change.macs)
        place = (changed.provider, changed.version)
        if change.key is not None:
            row.keys[change.key.key_id] = change.key
            row.current_key = change.key.key_id
        self._keep_record(row, place, change)
        if moved:
            row.versions[place] = replace(row.versions[place], was_active=True)
        if change.destroys_version:
            self._destroy(row, place)
        if change.destroys_keys:
            row.keys, row.current_key = {}, ""
            for each in list(row.records):
                self._destroy(row, each)
            self.work.forget(org_id)
            self.oauth_states.forget(org_id)
        if change.schedule is not None:
            self.work.replace(org_id, changed.provider, change.schedule)
        if changed.provider:
            self._keep_facts(row.facts[changed.provider], changed)

    def _register(self, org_id: str, change: Change) -> None:
        kept = {
            key: mapping
            for key, mapping in self._mappings.items()
            if mapping.org_id != org_id or mapping.provider not in change.mappings
        }
        for mapping in (mapping for mappings in change.mappings.values() for mapping in mappings):
            key = (mapping.resource.kind, mapping.resource.resource_id)
            if key in kept:
                raise ResourceConflict
            kept[key] = mapping
        self._mappings = kept

    def _keep_record(self, row: _Row, place: tuple[str, int], change: Change) -> None:
        if change.name is None:
            return
        row.records[place] = (change.name, change.sealed)
        if not change.replaces_record:
            row.versions[place] = Version(version=place[1], hint=change.hint, created_at=self._now())

    def _keep_facts(self, facts: _Facts, changed: Changed) -> None:
        facts.connected_at = self._now() if changed.connected else facts.connected_at
        facts.last_verified_at = self._now() if changed.verified else facts.last_verified_at
        if changed.facts is not None:
            account = facts.said.account if changed.facts.account is None else changed.facts.account
            facts.said = replace(changed.facts, account=account)

    def _destroy(self, row: _Row, place: tuple[str, int]) -> None:
        row.records.pop(place, None)
        row.versions[place] = replace(row.versions[place], destroyed_at=row.versions[place].destroyed_at or self._now())

    def _pointer(self, row: _Row, provider: str) -> Stored:
        org = row.org
        mappings = [
            mapping
            for mapping in self._mappings.values()
            if (mapping.org_id, mapping.provider) == (org.org_id, provider)
        ]
        return Stored(
            org_id=org.org_id,
            org_state=org.state,
            generation=org.generation,
            pointer=org.pointers[provider],
            mac=row.macs.get(provider, b""),
            key=row.keys.get(row.current_key),
            mappings=sorted(
                mappings, key=lambda each: (each.resource.kind, each.resource.role, each.resource.resource_id)
            ),
            last_verified_at=row.facts[provider].last_verified_at,
        )

    def _stored(self, org_id: str, provider: str, *, newest: bool = False) -> Stored | None:
        row = self._orgs.get(org_id)
        if row is None or provider not in row.org.pointers:
            return None
        stored = self._pointer(row, provider)
        pointer = stored.pointer
        if newest:
            taken_up = pointer.is_active or pointer.version != pointer.latest_version
            return replace(stored, record=self._record(row, provider, pointer.latest_version) if taken_up else None)
        until = pointer.previous_until
        overlaps = pointer.is_active and until is not None and self._now() < until
        return replace(
            stored,
            record=self._record(row, provider, pointer.version) if pointer.is_active else None,
            previous=self._record(row, provider, pointer.previous_version) if overlaps else None,
        )

    @staticmethod
    def _record(row: _Row, provider: str, version: int) -> Record | None:
        name, sealed = row.records.get((provider, version), (None, b""))
        return Record(name, sealed, row.keys[name.key_id]) if name and name.key_id in row.keys else None

    def _resolved(self, mapping: Mapping | None, provider: str | None) -> Resolved | None:
        integration = self._stored(mapping.org_id, mapping.provider) if mapping else None
        if mapping is None or integration is None:
            return None
        return Resolved(mapping, integration, self._stored(mapping.org_id, provider) if provider else None)

    def _make(self, org_id: str) -> _Row:
        row = self._orgs.setdefault(org_id, _Row(Org(org_id=org_id)))
        row.is_there = True
        return row

    def _readable(self, org_id: str, provider: str) -> Readable | None:
        row = self._orgs.get(org_id)
        pointer = row.org.pointers.get(provider) if row else None
        if row is None or pointer is None or not pointer.is_active or row.org.state is not OrgState.ACTIVE:
            return None
        return Readable(pointer.version, row.facts[provider].last_verified_at)

    def _holds(self, row: _Row, provider: str, owner: str) -> bool:
        holder, until = row.leases.get(provider, ("", 0.0))
        return holder == owner and until > self._timer()

    def _integration(self, row: _Row, provider: str) -> Integration:
        pointer, facts = row.org.pointers[provider], row.facts[provider]
        rotation_due_at, rotates_by_itself = self.work.rotation(row.org.org_id, provider)
        return Integration(
            provider=provider,
            state=state_of(
                version=pointer.version,
                is_active=pointer.is_active,
                latest_version=pointer.latest_version,
                verification_error=facts.said.error,
            ),
            version=pointer.version,
            latest_version=pointer.latest_version,
            hint=row.versions[provider, pointer.version].hint if pointer.version else "",
            resources=[mapping.resource for mapping in self._pointer(row, provider).mappings],
            last_verified_at=facts.last_verified_at,
            verification_error=facts.said.error,
            verification_reason=facts.said.reason,
            warnings=tuple(facts.said.warnings),
            account=facts.said.account or "",
            connected_at=facts.connected_at,
            rotation_due_at=rotation_due_at,
            rotates_by_itself=rotates_by_itself,
        )
