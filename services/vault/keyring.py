"""Master keys (KEKs) that are kept in a file or in the environment.

A keyring is a list: the first key wraps, all unwrap. One line for each key, its id and 32 random bytes in base64:

    2026-11:q83v... (`openssl rand -base64 32`)
"""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self

from services.vault.credential import OrgKey
from services.vault.seal import KEY_BYTES, Unreadable, associated_data, seal, unlock

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FINGERPRINT: Final = b"tenantvault/master-key-fingerprint/1"


class Keyring:
    """Wraps and unwraps org keys. It shows its keys' ids and fingerprints, never a key."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ValueError("a keyring needs a master key; without one nothing can be stored")
        # By number, not by id: whoever forgets the id has put the key in its place.
        for number, (key_id, key) in enumerate(keys.items(), start=1):
            if not _ID.fullmatch(key_id):
                raise ValueError(
                    f"master key {number} has no id: give 1 to 63 letters, digits, dots, dashes and underscores before"
                    " a colon"
                )
            if len(key) != KEY_BYTES:
                raise ValueError(f"master key {number} has not 32 bytes: make one with `openssl rand -base64 32`")
        self._keys = MappingProxyType(dict(keys))
        self._first = next(iter(keys))

    @classmethod
    def parse(cls, text: str) -> Self:
        """A keyring from its text form; lines or commas part the keys, empty ones are passed over.

        Raises:
            ValueError: the text is no keyring; the sentence names the line, never its content.
        """
        keys: dict[str, bytes] = {}
        entries = [entry.strip() for entry in re.split(r"[\n,]", text)]
        for number, entry in enumerate(filter(None, entries), start=1):
            key_id, _, encoded = entry.partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError(f"master key {number} is not of the form id:base64") from None
            if key_id in keys:
                raise ValueError(f"master key {number} has an id that is there already")
            keys[key_id] = key
        return cls(keys)

    @property
    def fingerprints(self) -> Mapping[str, bytes]:
        """For each key's id 16 bytes that tell the key from another and do not give it away."""
        return {key_id: hmac.digest(key, _FINGERPRINT, "sha256")[:16] for key_id, key in self._keys.items()}

    async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
        """Wrap an org's key under the first master key, bound to the org and the key's id."""
        associated = _associated(org_id, key_id, self._first)
        return OrgKey(org_id, key_id, self._first, seal(self._keys[self._first], key, associated))

    async def unwrap(self, key: OrgKey) -> bytes:
        """The org's key in the open. Unreadable when its master key is not here, or it was moved or damaged."""
        master = self._keys.get(key.master_key_id)
        if master is None:
            raise Unreadable
        return unlock(master, key.wrapped, _associated(key.org_id, key.key_id, key.master_key_id)).open()

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._keys)})"


def _associated(org_id: str, key_id: str, master_key_id: str) -> bytes:
    return associated_data("tenantvault/org-key", org_id, key_id, master_key_id)
