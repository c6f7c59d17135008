"""What leaves the vault: credentials in the open and the orgs of resources. Each plaintext is in the audit first."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

from cachetools import LRUCache

from services.rpc.tasks import end
from services.vault.credential import (
    Label,
    Mapping,
    OrgKey,
    OrgState,
    Origin,
    Plaintext,
    Pointer,
    Previous,
    Read,
    Record,
    Resolved,
    Resource,
    Stored,
)
from tenantvault.errors import (
    CredentialNotFound,
    CredentialUnreadable,
    OrgFrozen,
    OrgShredded,
    ResourceNotFound,
    TenantVaultError,
    VaultUnavailable,
)

_REMEMBERED_GENERATIONS: Final = 100_000
_ORGS_AT_ONCE: Final = 32
# What the key services of a batch may take together: for so long others wait who came to it for one of its orgs.
_CHECK_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


class OpenRecord(Protocol):
    """A record whose key is at hand."""

    def open(self) -> bytes:
        """The plaintext; raises what the envelope calls unreadable."""


class Envelope(Protocol):
    """What opens records and tells whether rows are as they were written."""

    async def unlock(self, record: Record) -> OpenRecord:
        """Make a record ready to open. This and the others: VaultUnavailable when the org's key cannot be had now."""

    async def trusts(self, stored: Stored) -> bool:
        """Whether a pointer and the resources beside it are the org's own of now."""

    async def trusts_mapping(self, key: OrgKey, mapping: Mapping, pointer: Pointer) -> bool:
        """Whether a row of the directory is."""


class Store(Protocol):
    """Where it is read from, each call in one round trip. VaultUnavailable when it cannot be reached."""

    async def read(self, keys: Sequence[tuple[str, str]], *, newest: bool = False) -> Sequence[Stored | None]:
        """What there is of each org and provider, with the active record, or with the newest that may be taken up."""

    async def resolve(self, keys: Sequence[tuple[str, str]], provider: str | None) -> Sequence[Resolved | None]:
        """What there is of each resource (kind and id), with the org's credential for a provider where one is named."""


ValueT = TypeVar("ValueT")
ValueT_co = TypeVar("ValueT_co", covariant=True)


class Cache(Protocol[ValueT]):
    """What remembers values by key; `services.vault.cache` says how."""

    @property
    def asked(self) -> int:
        """A number for `keep`, to be taken before a read begins."""

    def keep(self, key: tuple[str, str], value: ValueT, asked: int) -> None:
        """Remember a value, unless it changed since then."""

    async def get(
        self, key: tuple[str, str], load: "Load[ValueT]", max_staleness: float | None = None
    ) -> tuple[ValueT, bool]:
        """The value, remembered or loaded, and whether it may be stale."""

    async def get_many(
        self, keys: Sequence[tuple[str, str]], load: "LoadMany[ValueT]", max_staleness: float | None = None
    ) -> list[tuple[ValueT, bool]]:
        """The values, in the order of the keys."""


class Load(Protocol[ValueT_co]):
    """Reads one value."""

    async def __call__(self) -> ValueT_co:
        """The value."""


class LoadMany(Protocol[ValueT_co]):
    """Reads values."""

    async def __call__(self, keys: Sequence[tuple[str, str]], /) -> Sequence[ValueT_co]:
        """The values, in the order of the keys."""


class ReadLog(Protocol):
    """The audit of what is read."""

    def write(self, origin: Origin, action: str, reads: Sequence[tuple[str, str, int]], *, outcome: str = "ok") -> None:
        """Keep events, one for each org, provider and version; AuditUnavailable unless they are kept for good."""


@dataclass(frozen=True, slots=True)
class Readable:
    """A stored credential whose records are ready to open."""

    org_id: str
    pointer: Pointer
    label: Label
    record: OpenRecord
    previous: OpenRecord | None
    generation: int
    absent: bool = False
    away: bool = False


@dataclass(frozen=True, slots=True)
class Owned:
    """A resource whose row is the org's own."""

    org_id: str
    mapping: Mapping
    generation: int
    absent: bool = False
    away: bool = False


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a resource is, by its row of the directory, as of a generation of the org."""

    org_id: str
    resource: Resource
    generation: int
    stale: bool


@dataclass(frozen=True, slots=True)
class Nothing:
    """That there is nothing to read, and what to tell who asks."""

    org_id: str
    error: type[TenantVaultError]
    generation: int = 0
    absent: bool = True

    @property
    def away(self) -> bool:
        """Whether that is only because the org's key cannot be had now."""
        return self.error is VaultUnavailable


@dataclass(slots=True)
class Violations:
    """How often something was found that only a writer of the database can have done, since the process began."""

    record: int = 0
    pointer: int = 0
    mapping: int = 0
    org_key: int = 0
    rollback: int = 0


class Reader:
    """Reads credentials and resolves resources.

    Args:
        unreadable: what the envelope raises for a record or a key that does not open.
    """

    def __init__(
        self,
        *,
        store: Store,
        envelope: Envelope,
        credentials: Cache[Readable | Nothing],
        directory: Cache[Owned | Nothing],
        log: ReadLog,
        unreadable: type[Exception],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._envelope = envelope
        self._credentials = credentials
        self._directory = directory
        self._log = log
        self._unreadable = unreadable
        self._now = now
        # The newest generation of each org that its key vouched for, and the how-manieth discovery that was: a lower
        # one in a read that began later is an old state put back.
        self._generations: LRUCache[str, tuple[int, int]] = LRUCache(_REMEMBERED_GENERATIONS)
        self._discoveries = 0
        self.violations = Violations()

    async def get(
        self,
        org_id: str,
        provider: str,
        origin: Origin,
        *,
        max_staleness: float | None = None,
        include_previous: bool = False,
    ) -> Plaintext:
        """The active credential, in the open.

        Raises:
            CredentialNotFound: nothing is connected.
            OrgFrozen, OrgShredded: an operator's doing.
            CredentialUnreadable: the stored record does not open, or is not what was stored.
            AuditUnavailable: the read cannot be audited.
        """

        async def load() -> Readable | Nothing:
            began = self._discoveries
            [stored] = await self._store.read([(org_id, provider)])
            return await self._checked(org_id, stored, origin, began)

        value, stale = await self._credentials.get((org_id, provider), load, max_staleness)
        return self._handed_out(value, origin, Read.GET, stale=stale, include_previous=include_previous)

    async def get_newest(self, org_id: str, provider: str, origin: Origin) -> Plaintext:
        """The newest version in the open, active or not; errors as `get`."""
        began = self._discoveries
        [stored] = await self._store.read([(org_id, provider)], newest=True)
        value = await self._checked(org_id, stored, origin, began)
        return self._handed_out(value, origin, Read.GET_NEWEST)

    async def batch_get(
        self, keys: Sequence[tuple[str, str]], origin: Origin, *, max_staleness: float | None = None
    ) -> list[Plaintext | TenantVaultError]:
        """The active credentials of orgs and providers, or for each what `get` would raise, in the order of the keys.

        Raises:
            VaultUnavailable, AuditUnavailable: none can be had now.
        """

        async def load(wanted: Sequence[tuple[str, str]]) -> Sequence[Readable | Nothing]:
            began = self._discoveries
            stored = await self._store.read(wanted)
            orgs = [org_id for org_id, _ in wanted]
            return await _side_by_side(
                orgs, lambda place: self._checked(orgs[place], stored[place], origin, began, tell=True)
            )

        values = await self._credentials.get_many(keys, load, max_staleness)
        opened = [self._opened(value, stale=stale) for value, stale in values]
        self._log_reads(origin, Read.GET, [one for one in opened if isinstance(one, Plaintext)])
        return opened

    async def resolve(self, kind: str, resource_id: str, origin: Origin) -> Owner:
        """Whose a resource is.

        Raises:
            ResourceNotFound: no org has it, or the row is not as it was written.
            OrgFrozen: an operator's doing.
        """
        [found] = await self.batch_resolve([(kind, resource_id)], origin)
        if isinstance(found, TenantVaultError):
            raise found
        return found

    async def batch_resolve(self, keys: Sequence[tuple[str, str]], origin: Origin) -> list[Owner | TenantVaultError]:
        """Whose resources (kind and id) are, or for each what `resolve` would raise, in the order of the keys."""

        async def load(wanted: Sequence[tuple[str, str]]) -> Sequence[Owned | Nothing]:
            began = self._discoveries
            found = await self._store.resolve(wanted, None)
            orgs = [one.mapping.org_id if one else "" for one in found]
            return await _side_by_side(orgs, lambda place: self._owner(found[place], origin, began))

        values = await self._directory.get_many(keys, load)
        return [
            value.error()
            if isinstance(value, Nothing)
            else Owner(value.org_id, value.mapping.resource, value.generation, stale)
            for value, stale in values
        ]

    async def resolve_credential(
        self,
        kind: str,
        resource_id: str,
        provider: str,
        origin: Origin,
        *,
        max_staleness: float | None = None,
        include_previous: bool = False,
    ) -> Plaintext:
        """The active credential of the org that has a resource; ResourceNotFound for whatever is missing."""
        loaded: list[Readable | Nothing] = []

        async def load(wanted: Sequence[tuple[str, str]]) -> Sequence[Owned | Nothing]:
            asked, began = self._credentials.asked, self._discoveries
            [found] = await self._store.resolve(wanted, provider)
            owner = await self._owner(found, origin, began)
            if found and isinstance(owner, Owned):
                # Told, not raised: others wait for the owner only, or for another provider's credential.
                value = await self._checked(owner.org_id, found.credential, origin, began, tell=True)
                self._credentials.keep((owner.org_id, provider), value, asked)
                if not value.away:
                    loaded.append(value)
            return [owner]

        [(owner, stale)] = await self._directory.get_many([(kind, resource_id)], load, max_staleness)
        if isinstance(owner, Nothing):
            raise owner.error
        try:
            if loaded:
                # What this call has just read need not be looked up, and must not be when it may not be kept.
                return self._handed_out(loaded[0], origin, Read.RESOLVE, stale=stale, include_previous=include_previous)

            async def load_credential() -> Readable | Nothing:
                began = self._discoveries
                [stored] = await self._store.read([(owner.org_id, provider)])
                return await self._checked(owner.org_id, stored, origin, began)

            value, old = await self._credentials.get((owner.org_id, provider), load_credential, max_staleness)
            return self._handed_out(value, origin, Read.RESOLVE, stale=stale or old, include_previous=include_previous)
        except CredentialNotFound:
            raise ResourceNotFound from None

    def _handed_out(
        self,
        value: Readable | Nothing,
        origin: Origin,
        action: Read,
        *,
        stale: bool = False,
        include_previous: bool = False,
    ) -> Plaintext:
        opened = self._opened(value, stale=stale, include_previous=include_previous)
        if isinstance(opened, TenantVaultError):
            raise opened
        self._log_reads(origin, action, [opened])
        return opened

    def _opened(
        self, value: Readable | Nothing, *, stale: bool, include_previous: bool = False
    ) -> Plaintext | TenantVaultError:
        if isinstance(value, Nothing):
            return value.error()
        previous = None
        if include_previous and value.previous is not None:
            until = value.pointer.previous_until
            if until is not None and self._now() < until:
                previous = Previous(value.pointer.previous_version, value.previous.open(), until)
        return Plaintext(value.label, value.record.open(), stale, previous)

    def _log_reads(self, origin: Origin, action: Read, read: Sequence[Plaintext]) -> None:
        reads = []
        for plaintext in read:
            name = plaintext.label.name
            reads.append((name.org_id, name.provider, name.version))
            if plaintext.previous:
                reads.append((name.org_id, name.provider, plaintext.previous.version))
        self._log.write(origin, action, reads)

    async def _checked(
        self, org_id: str, stored: Stored | None, origin: Origin, began: int, *, tell: bool = False
    ) -> Readable | Nothing:
        """What was read, when it is what was stored. `tell` gives CredentialUnreadable as a value.

        VaultUnavailable is one in any case: whoever waits for another org does not wait for this one's key service.

        `began` is how many discoveries there were when the read began.
        """
        try:
            return await self._readable(org_id, stored, origin, began)
        except CredentialUnreadable:
            if not tell:
                raise
            return Nothing(org_id, CredentialUnreadable)
        except VaultUnavailable:
            return Nothing(org_id, VaultUnavailable)

    async def _readable(self, org_id: str, stored: Stored | None, origin: Origin, began: int) -> Readable | Nothing:
        if stored is None:
            return Nothing(org_id, CredentialNotFound)
        if refused := await self._refused(stored, origin, began):
            return Nothing(org_id, refused)
        if stored.record is None:
            return Nothing(org_id, CredentialNotFound)
        record = await self._unlocked(stored, stored.record, origin)
        previous = await self._unlocked(stored, stored.previous, origin) if stored.previous else None
        label = Label(
            name=stored.record.name,
            resources=tuple(mapping.resource for mapping in stored.mappings),
            last_verified_at=stored.last_verified_at,
            generation=stored.generation,
        )
        return Readable(org_id, stored.pointer, label, record, previous, stored.generation)

    async def _refused(self, stored: Stored, origin: Origin, began: int) -> type[TenantVaultError] | None:
        """Why nothing may be read of an org. CredentialUnreadable: its rows are not as they were written."""
        if stored.org_state is OrgState.SHREDDED:
            return OrgShredded
        try:
            trusted = await self._envelope.trusts(stored)
        except self._unreadable:
            raise self._violation(stored, "org_key", "an org's key does not unwrap", origin) from None
        if not trusted:
            raise self._violation(
                stored, "pointer", "an integration's proof does not hold: its rows were changed by SQL", origin
            )
        newest, discovery = self._generations.get(stored.org_id, (0, 0))
        # What was found out since the read began may have come about since then.
        if stored.generation < newest and discovery <= began:
            raise self._violation(
                stored, "rollback", "an org went back in time: its rows are older than what was read before", origin
            )
        if stored.generation > newest:
            self._discoveries += 1
            self._generations[stored.org_id] = (stored.generation, self._discoveries)
        return OrgFrozen if stored.org_state is OrgState.FROZEN else None

    async def _unlocked(self, stored: Stored, record: Record, origin: Origin) -> OpenRecord:
        try:
            unlocked = await self._envelope.unlock(record)
            # Once here, so that nothing is remembered that does not open.
            unlocked.open()
        except self._unreadable:
            name = record.name
            raise self._violation(
                stored, "record", "a record does not open", origin, version=name.version, key_id=name.key_id
            ) from None
        return unlocked

    async def _owner(self, found: Resolved | None, origin: Origin, began: int) -> Owned | Nothing:
        if found is None:
            return Nothing("", ResourceNotFound)
        mapping, stored = found.mapping, found.integration
        try:
            if refused := await self._refused(stored, origin, began):
                return Nothing(mapping.org_id, refused)
            if stored.key is None or not await self._envelope.trusts_mapping(stored.key, mapping, stored.pointer):
                self._violation(
                    stored, "mapping", "a mapping's proof does not hold: its row was changed by SQL", origin
                )
                return Nothing(mapping.org_id, ResourceNotFound)
        except CredentialUnreadable:
            return Nothing(mapping.org_id, ResourceNotFound)
        except VaultUnavailable:
            return Nothing(mapping.org_id, VaultUnavailable)
        return Owned(mapping.org_id, mapping, stored.generation)

    def _violation(self, stored: Stored, kind: str, event: str, origin: Origin, **more: object) -> CredentialUnreadable:
        """Count, log and audit that something is not as it was written."""
        setattr(self.violations, kind, getattr(self.violations, kind) + 1)
        provider = stored.pointer.provider
        _log.error(event, extra={"org": stored.org_id, "provider": provider, "kind": kind, **more})
        version = stored.pointer.version
        self._log.write(origin, "integrity.violation", [(stored.org_id, provider, version)], outcome=kind)
        return CredentialUnreadable()


async def _side_by_side(
    orgs: Sequence[str], check: Callable[[int], Awaitable[ValueT | Nothing]]
) -> list[ValueT | Nothing]:
    """What comes of a check of each place, one org's one after the other; VaultUnavailable where it is too slow."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, org_id in enumerate(orgs):
        places[org_id].append(place)
    left = iter(places.values())
    values: list[ValueT | Nothing] = [Nothing(org_id, VaultUnavailable) for org_id in orgs]

    async def work() -> None:
        for some in left:
            for place in some:
                values[place] = await check(place)

    tasks = [asyncio.create_task(work()) for _ in range(min(_ORGS_AT_ONCE, len(places)))]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHECK_SECONDS):
                await asyncio.gather(*tasks)
    finally:
        await end(*tasks)
    return values
