"""The verbs of the vault, and the ports they need."""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from services.vault.credential import (
    Integration,
    Mapping,
    OrgKey,
    Origin,
    Plaintext,
    RecordName,
    Resource,
    StoredCredential,
)
from tenantvault.errors import CredentialNotFound, CredentialUnreadable, ResourceNotFound, VersionConflict

_log = logging.getLogger(__name__)


class Record(Protocol):
    """A record whose key is at hand."""

    def open(self) -> bytes:
        """The plaintext; raises what the envelope calls unreadable."""


class Envelope(Protocol):
    """What seals and opens records."""

    async def new_key(self, org_id: str) -> OrgKey:
        """A new key for an org."""

    async def seal(self, key: OrgKey, name: RecordName, payload: bytes) -> bytes:
        """Seal a payload."""

    async def unlock(self, key: OrgKey, name: RecordName, sealed: bytes) -> Record:
        """Make a record ready to open."""

    async def vouch(self, key: OrgKey, provider: str, resource: Resource) -> bytes:
        """The proof that a resource is the org's."""

    async def vouched(self, key: OrgKey, provider: str, resource: Resource, mac: bytes) -> bool:
        """Whether a proof holds."""


class Store(Protocol):
    """Where it is kept. Every mutation writes its audit event in the same transaction.

    Errors are those of `tenantvault.errors`; VaultUnavailable when the store cannot be reached. Nothing here knows a
    plaintext or decides anything that takes one.
    """

    async def org_key(self, org_id: str) -> OrgKey | None:
        """The org's current key."""

    async def add_org_key(self, key: OrgKey) -> OrgKey:
        """Keep the org's first key; returns the one that is kept when another came first."""

    async def read(self, org_id: str, provider: str) -> StoredCredential | None:
        """The active version; None when there is none, or it is disconnected."""

    async def read_newest(self, org_id: str, provider: str) -> StoredCredential | None:
        """The newest version, active or not; None when there is none, or it is disconnected."""

    async def resolve(self, kind: str, resource_id: str) -> tuple[Mapping, OrgKey] | None:
        """The mapping of a resource, with the key that vouches for it."""

    async def resolve_credential(
        self, kind: str, resource_id: str, provider: str
    ) -> tuple[Mapping, OrgKey, StoredCredential | None] | None:
        """The mapping of a resource and its org's active credential, in one round trip."""

    async def integrations(self, org_id: str) -> Sequence[Integration]:
        """What may be shown of the org's integrations."""

    async def put(self, name: RecordName, sealed: bytes, hint: str, origin: Origin) -> None:
        """Add a version; VersionConflict unless it follows the newest by one."""

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
        """Make a version active and replace the integration's mappings.

        Raises:
            VersionConflict: it is not the newest version.
            ResourceConflict: a resource cannot be registered.
            LeaseHeld: a lease owner is given who does not hold the lease.
        """

    async def record_verification(
        self, org_id: str, provider: str, version: int, error: str, origin: Origin
    ) -> Integration:
        """Keep the provider's answer; VersionConflict unless the version is active, CredentialNotFound if none is."""

    async def set_active(self, org_id: str, provider: str, active: bool, origin: Origin) -> Integration:  # noqa: FBT001 - the column it sets
        """Make a connected credential readable or unreadable; CredentialNotFound when none was ever active.

        What was put and not activated before a disconnect can never be activated after it.
        """

    async def acquire_lease(self, org_id: str, provider: str, owner: str, seconds: float) -> None:
        """Take or prolong a lease; LeaseHeld, with the time that is left, when another owner has it."""

    async def release_lease(self, org_id: str, provider: str, owner: str) -> None:
        """Give a lease back, if the owner has it."""


class Cache(Protocol):
    """What remembers readable credentials."""

    async def get(self, key: tuple[str, str], load: Callable[[], Awaitable["Readable | None"]]) -> "Readable | None":
        """The value, remembered or loaded."""

    def forget(self, org_id: str) -> None:
        """Drop an org's values."""


@dataclass(frozen=True, slots=True)
class Readable:
    """A stored credential whose record is ready to open."""

    stored: StoredCredential
    record: Record


class Keeper:
    """Keeps credentials: puts, gets, resolves, connects and disconnects them.

    Args:
        unreadable: what the envelope raises for a record that does not open.
    """

    def __init__(self, *, store: Store, envelope: Envelope, cache: Cache, unreadable: type[Exception]) -> None:
        self._store = store
        self._envelope = envelope
        self._cache = cache
        self._unreadable = unreadable

    async def get(self, org_id: str, provider: str) -> Plaintext:
        """The active credential, in the open.

        Raises:
            CredentialNotFound: nothing is connected.
            CredentialUnreadable: the stored record does not open.
        """

        async def load() -> Readable | None:
            stored = await self._store.read(org_id, provider)
            return await self._readable(stored) if stored else None

        readable = await self._cache.get((org_id, provider), load)
        if readable is None:
            raise CredentialNotFound
        return self._open(readable)

    async def get_newest(self, org_id: str, provider: str) -> Plaintext:
        """The newest version in the open, active or not; errors as `get`."""
        stored = await self._store.read_newest(org_id, provider)
        if stored is None:
            raise CredentialNotFound
        return self._open(await self._readable(stored))

    async def put(
        self, org_id: str, provider: str, payload: bytes, hint: str, *, expected_version: int, origin: Origin
    ) -> int:
        """Store a payload as the version after `expected_version`; nobody can read it before it is activated.

        The newest version's own payload, put again, is that version.

        Raises:
            VersionConflict: `expected_version` is not the newest.
            CredentialUnreadable: the org's key does not unwrap.
        """
        newest = await self._store.read_newest(org_id, provider)
        if newest is not None and newest.name.version == expected_version and await self._holds(newest, payload):
            return expected_version
        key = await self._store.org_key(org_id) or await self._store.add_org_key(await self._envelope.new_key(org_id))
        name = RecordName(org_id, provider, expected_version + 1, key.key_id)
        try:
            sealed = await self._envelope.seal(key, name, payload)
        except self._unreadable:
            raise self._key_refused(key) from None
        await self._store.put(name, sealed, hint, origin)
        return name.version

    async def activate(
        self,
        org_id: str,
        provider: str,
        version: int,
        resources: Sequence[Resource],
        origin: Origin,
        *,
        lease_owner: str = "",
    ) -> Integration:
        """Make a version active, with what was provisioned for it.

        Errors as `Store.activate`, and CredentialUnreadable when the org's key does not unwrap.
        """
        key = await self._store.org_key(org_id)
        if key is None:
            raise VersionConflict
        try:
            mappings = [
                Mapping(org_id, provider, resource, key.key_id, await self._envelope.vouch(key, provider, resource))
                for resource in resources
            ]
        except self._unreadable:
            raise self._key_refused(key) from None
        change = self._store.activate(org_id, provider, version, mappings, origin, lease_owner=lease_owner)
        return await self._changed(org_id, change)

    async def record_verification(
        self, org_id: str, provider: str, version: int, error: str, origin: Origin
    ) -> Integration:
        """Keep the provider's definite answer about the active version; an empty error is a yes."""
        return await self._changed(org_id, self._store.record_verification(org_id, provider, version, error, origin))

    async def disconnect(self, org_id: str, provider: str, origin: Origin) -> Integration:
        """Make the credential unreadable and keep its ciphertext."""
        return await self._changed(org_id, self._store.set_active(org_id, provider, False, origin))

    async def reconnect(self, org_id: str, provider: str, origin: Origin) -> Integration:
        """Make a disconnected credential readable again."""
        return await self._changed(org_id, self._store.set_active(org_id, provider, True, origin))

    async def resolve(self, kind: str, resource_id: str) -> Mapping:
        """The mapping of a resource.

        Raises:
            ResourceNotFound: no org has it, or the row's proof does not hold.
        """
        found = await self._store.resolve(kind, resource_id)
        if found is None:
            raise ResourceNotFound
        mapping, key = found
        await self._demand_proof(mapping, key)
        return mapping

    async def resolve_credential(self, kind: str, resource_id: str, provider: str) -> Plaintext:
        """The active credential of the org that has a resource; ResourceNotFound for whatever is missing."""
        found = await self._store.resolve_credential(kind, resource_id, provider)
        if found is None:
            raise ResourceNotFound
        mapping, key, stored = found
        await self._demand_proof(mapping, key)
        if stored is None:
            raise ResourceNotFound
        return self._open(await self._readable(stored))

    async def _changed(self, org_id: str, change: Coroutine[Any, Any, Integration]) -> Integration:
        """Make a change, and only when it has ended forget what was read before it.

        It goes on when the caller gives up: a change that is left in the middle may still come about after the cache
        was dropped, and a read between the two would be remembered.
        """

        async def make() -> Integration:
            try:
                return await change
            finally:
                self._cache.forget(org_id)

        making = asyncio.ensure_future(make())
        # Looked at although nobody may wait for it any more: asyncio complains of an error that nobody saw.
        making.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return await asyncio.shield(making)

    async def _demand_proof(self, mapping: Mapping, key: OrgKey) -> None:
        try:
            holds = await self._envelope.vouched(key, mapping.provider, mapping.resource, mapping.mac)
        except self._unreadable:
            holds = False
        if not holds:
            _log.error(
                "a mapping's proof does not hold: its row was changed behind the vault's back",
                extra={"org": mapping.org_id, "kind": mapping.resource.kind},
            )
            raise ResourceNotFound

    async def _holds(self, stored: StoredCredential, payload: bytes) -> bool:
        try:
            return hmac.compare_digest(self._open(await self._readable(stored)).payload, payload)
        except CredentialUnreadable:
            return False

    async def _readable(self, stored: StoredCredential) -> Readable:
        try:
            return Readable(stored, await self._envelope.unlock(stored.key, stored.name, stored.sealed))
        except self._unreadable:
            raise self._refused(stored) from None

    def _open(self, readable: Readable) -> Plaintext:
        stored = readable.stored
        try:
            payload = readable.record.open()
        except self._unreadable:
            raise self._refused(stored) from None
        return Plaintext(
            name=stored.name,
            payload=payload,
            resources=stored.resources,
            last_verified_at=stored.last_verified_at,
            generation=stored.generation,
        )

    def _key_refused(self, key: OrgKey) -> CredentialUnreadable:
        _log.error(
            "an org's key does not unwrap",
            extra={"org": key.org_id, "key_id": key.key_id, "master_key_id": key.master_key_id},
        )
        return CredentialUnreadable()

    def _refused(self, stored: StoredCredential) -> CredentialUnreadable:
        name = stored.name
        _log.error(
            "a record does not open",
            extra={"org": name.org_id, "provider": name.provider, "version": name.version, "key_id": name.key_id},
        )
        return CredentialUnreadable()
