"""A master key that is kept in a file or in the environment: 32 random bytes in base64."""

import base64
import hmac
from dataclasses import dataclass, field
from typing import Final, Self

from services.vault.seal import KEY_BYTES, associated_data, seal, unlock

_FINGERPRINT: Final = b"tenantvault/master-key-fingerprint/1"


@dataclass(frozen=True, slots=True)
class LocalKey:
    """Wraps and unwraps with a key that this process has. It does not show it."""

    key_id: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError("it has not 32 bytes: make one with `openssl rand -base64 32`")

    @classmethod
    def parse(cls, key_id: str, encoded: str) -> Self:
        """From base64. ValueError says what is wrong and does not show the text."""
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise ValueError("it is not of the form id:base64") from None
        return cls(key_id, key)

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that tell the key from another and do not give it away."""
        return hmac.digest(self.key, _FINGERPRINT, "sha256")[:16]

    async def wrap(self, key: bytes, *, org_id: str, org_key_id: str) -> bytes:
        """Seal an org's key, bound to the org, the key's id and this key's id."""
        return seal(self.key, key, self._associated(org_id, org_key_id))

    async def unwrap(self, wrapped: bytes, *, org_id: str, org_key_id: str) -> bytes:
        """The org's key in the open. Unreadable when it is not what was wrapped under this key for this org and id."""
        return unlock(self.key, wrapped, self._associated(org_id, org_key_id)).open()

    def _associated(self, org_id: str, org_key_id: str) -> bytes:
        return associated_data("tenantvault/org-key", org_id, org_key_id, self.key_id)
