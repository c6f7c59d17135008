"""The envelope: a master key wraps an org's key, the org's key seals that org's records and vouches for its mappings.

The associated data of a record is org, provider, version, key id and the payload's schema: a row that is moved between
orgs, providers or versions does not open.
"""

import hmac
import os
import uuid
from typing import Final, Protocol

from cachetools import LRUCache
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.vault.credential import OrgKey, RecordName, Resource
from services.vault.seal import KEY_BYTES, Record, associated_data, seal, unlock

SCHEMA: Final = "tenantvault.v1.Credential"
"""What a sealed payload is: the serialised message of that name."""

_MAC_INFO: Final = b"tenantvault/mapping-mac/1"


class MasterKeys(Protocol):
    """Where org keys are wrapped: a keyring here, a key management service elsewhere."""

    async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
        """Wrap an org's key."""

    async def unwrap(self, key: OrgKey) -> bytes:
        """The org's key in the open; Unreadable when that cannot be."""


class Envelope:
    """Seals and unlocks records. `cached_keys` bounds the unwrapped org keys in memory (32 bytes each)."""

    def __init__(self, master_keys: MasterKeys, *, cached_keys: int = 10_000) -> None:
        self._master_keys = master_keys
        # The whole wrapped key is the cache's key: a changed row is another key.
        self._keys: LRUCache[OrgKey, bytes] = LRUCache(cached_keys)

    async def new_key(self, org_id: str) -> OrgKey:
        """A new random key for an org, wrapped."""
        return await self._master_keys.wrap(org_id, uuid.uuid4().hex, os.urandom(KEY_BYTES))

    async def seal(self, key: OrgKey, name: RecordName, payload: bytes) -> bytes:
        """Seal a payload as the record of that name."""
        return seal(await self._unwrapped(key), payload, _associated(name))

    async def unlock(self, key: OrgKey, name: RecordName, sealed: bytes) -> Record:
        """Make a record ready to open. Unreadable when it is not the record of that name under that key."""
        return unlock(await self._unwrapped(key), sealed, _associated(name))

    async def vouch(self, key: OrgKey, provider: str, resource: Resource) -> bytes:
        """The MAC (32 bytes) by which the org's key says that a resource is the org's."""
        mac_key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_MAC_INFO).derive(await self._unwrapped(key))
        said = associated_data(
            "tenantvault/mapping", key.org_id, key.key_id, provider, resource.kind, resource.resource_id, resource.role
        )
        return hmac.digest(mac_key, said, "sha256")

    async def vouched(self, key: OrgKey, provider: str, resource: Resource, mac: bytes) -> bool:
        """Whether the MAC is the org's key's own, in constant time."""
        return hmac.compare_digest(await self.vouch(key, provider, resource), mac)

    async def _unwrapped(self, key: OrgKey) -> bytes:
        if (unwrapped := self._keys.get(key)) is None:
            unwrapped = self._keys[key] = await self._master_keys.unwrap(key)
        return unwrapped


def _associated(name: RecordName) -> bytes:
    return associated_data("tenantvault/record", name.org_id, name.provider, name.version, name.key_id, SCHEMA)
