"""The envelope: a master key wraps an org's key; the org's key seals that org's records and vouches for its rows.

The associated data of a record is org, provider, version, key id and the payload's schema: a row that is moved between
orgs, providers or versions does not open. What is not sealed but must not be changed unnoticed, the pointer of an
integration and the rows of the directory, carries a MAC under the org's key.
"""

import hmac
import os
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from cachetools import LRUCache
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.vault.credential import Mapping, Org, OrgKey, OrgState, Pointer, RecordName, Resource, Stored
from services.vault.credential import Record as SealedRecord
from services.vault.seal import KEY_BYTES, Record, associated_data, seal, unlock

SCHEMA: Final = "tenantvault.v1.Credential"
"""What a sealed payload is: the serialised message of that name."""

_MAC_INFO: Final = b"tenantvault/row-mac/1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class MasterKeys(Protocol):
    """Where org keys are wrapped."""

    async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
        """Wrap an org's key."""

    async def unwrap(self, key: OrgKey) -> bytes:
        """The org's key in the open; Unreadable when that cannot be."""


@dataclass(frozen=True, slots=True)
class _Unwrapped:
    seal_key: bytes = field(repr=False)
    mac_key: bytes = field(repr=False)


class Envelope:
    """Seals and unlocks records. `cached_keys` bounds the unwrapped org keys in memory (64 bytes each)."""

    def __init__(self, master_keys: MasterKeys, *, cached_keys: int = 10_000) -> None:
        self._master_keys = master_keys
        # The whole wrapped key is the cache's key: a changed row is another key.
        self._keys: LRUCache[OrgKey, _Unwrapped] = LRUCache(cached_keys)

    async def new_key(self, org_id: str) -> OrgKey:
        """A new random key for an org, wrapped."""
        return await self._master_keys.wrap(org_id, uuid.uuid4().hex, os.urandom(KEY_BYTES))

    async def seal(self, key: OrgKey, name: RecordName, payload: bytes) -> bytes:
        """Seal a payload as the record of that name."""
        return seal((await self._unwrapped(key)).seal_key, payload, _associated(name))

    async def unlock(self, record: SealedRecord) -> Record:
        """Make a record ready to open. Unreadable when it is not the record of that name under that key."""
        return unlock((await self._unwrapped(record.key)).seal_key, record.sealed, _associated(record.name))

    async def vouch(self, key: OrgKey, org: Org, pointer: Pointer) -> bytes:
        """The MAC (32 bytes) by which the org's key says that a pointer is the org's now."""
        return await self._mac(key, _pointer_claim(key, org.org_id, org.state, org.generation, pointer))

    async def vouch_mapping(self, key: OrgKey, provider: str, resource: Resource, registered: int) -> bytes:
        """The MAC (32 bytes) by which the org's key says that a resource is the org's, since that generation."""
        return await self._mac(key, _mapping_claim(key, provider, resource, registered))

    async def trusts(self, stored: Stored) -> bool:
        """Whether the org's key vouches for a pointer and for all the resources beside it, no more and no fewer."""
        key, pointer = stored.key, stored.pointer
        if key is None:
            return False
        mac = (await self._unwrapped(key)).mac_key
        try:
            claim = _pointer_claim(key, stored.org_id, stored.org_state, stored.generation, pointer)
        except (OverflowError, TypeError):
            # A number below zero, a time without end: no vault wrote that.
            return False
        holds = hmac.compare_digest(hmac.digest(mac, claim, "sha256"), stored.mac)
        holds &= len(stored.mappings) == pointer.resources
        for mapping in stored.mappings:
            claim = _mapping_claim(key, mapping.provider, mapping.resource, pointer.registered)
            holds &= hmac.compare_digest(hmac.digest(mac, claim, "sha256"), mapping.mac)
        return holds

    async def trusts_mapping(self, key: OrgKey, mapping: Mapping, pointer: Pointer) -> bool:
        """Whether the org's key vouches for a row of the directory, as one of the integration's of now."""
        claim = _mapping_claim(key, mapping.provider, mapping.resource, pointer.registered)
        return hmac.compare_digest(await self._mac(key, claim), mapping.mac)

    def forget(self, org_id: str) -> None:
        """Drop an org's keys from memory."""
        for key in [key for key in self._keys if key.org_id == org_id]:
            self._keys.pop(key, None)

    def forget_all(self) -> None:
        """Drop all orgs' keys from memory, and those that are just being unwrapped."""
        self._keys = LRUCache(self._keys.maxsize)

    async def _mac(self, key: OrgKey, claim: bytes) -> bytes:
        return hmac.digest((await self._unwrapped(key)).mac_key, claim, "sha256")

    async def _unwrapped(self, key: OrgKey) -> _Unwrapped:
        # The ones that are there now: others may be in their place when the key has come.
        keys = self._keys
        if (unwrapped := keys.get(key)) is None:
            seal_key = await self._master_keys.unwrap(key)
            mac_key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_MAC_INFO).derive(seal_key)
            unwrapped = keys[key] = _Unwrapped(seal_key, mac_key)
        return unwrapped


def _associated(name: RecordName) -> bytes:
    return associated_data("tenantvault/record", name.org_id, name.provider, name.version, name.key_id, SCHEMA)


def _pointer_claim(key: OrgKey, org_id: str, state: OrgState, generation: int, pointer: Pointer) -> bytes:
    until = pointer.previous_until
    return associated_data(
        "tenantvault/pointer",
        org_id,
        key.key_id,
        state.value,
        generation,
        pointer.provider,
        pointer.version,
        pointer.latest_version,
        int(pointer.is_active),
        pointer.previous_version,
        (until - _EPOCH) // _MICROSECOND if until else 0,
        pointer.registered,
        pointer.resources,
    )


def _mapping_claim(key: OrgKey, provider: str, resource: Resource, registered: int) -> bytes:
    return associated_data(
        "tenantvault/mapping",
        key.org_id,
        key.key_id,
        provider,
        resource.kind,
        resource.resource_id,
        resource.role,
        registered,
    )
