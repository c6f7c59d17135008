"""Committed authenticated encryption of one record.

    sealed = scheme (1 byte) | salt (32) | commitment (32) | AES-256-GCM ciphertext and tag (16)

HKDF-SHA256 (RFC 5869) makes 64 bytes out of the key and a random salt: an AES-256 key for this record alone and a
commitment to it. A key that is used once needs no random nonce (NIST SP 800-38D, section 8.2.1), and no count of
messages bounds the key it is derived from. The commitment is checked before the ciphertext, because AES-GCM alone lets
one ciphertext open under two keys (Albertini et al., "How to Abuse and Fix Authenticated Encryption Without Key
Commitment", USENIX Security 2022).

The associated data is a sequence of parts, each behind its length, so that no two sequences encode alike.
"""

import hmac
import os
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SCHEME: Final = 1
KEY_BYTES: Final = 32
SALT_BYTES: Final = 32

_COMMITMENT_BYTES: Final = 32
_TAG_BYTES: Final = 16
_BODY: Final = 1 + SALT_BYTES + _COMMITMENT_BYTES
_INFO: Final = b"tenantvault/seal/1"
_NONCE: Final = bytes(12)


class Unreadable(Exception):
    """A record does not open. It does not say why: to whom that matters, the record's name is in the log."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose key is at hand and whose commitment holds: opening it costs about a microsecond."""

    _aead: AESGCM = field(repr=False)
    _ciphertext: bytes = field(repr=False)
    _associated: bytes

    def open(self) -> bytes:
        """The plaintext. Unreadable when the ciphertext or its associated data is not what was sealed."""
        try:
            return self._aead.decrypt(_NONCE, self._ciphertext, self._associated)
        except InvalidTag:
            raise Unreadable from None


def seal(key: bytes, plaintext: bytes, associated: bytes, *, salt: bytes | None = None) -> bytes:
    """Seal a plaintext under a key of 32 bytes. A salt is given by tests only: 32 bytes, never used twice."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    record_key, commitment = _derive(key, salt)
    return bytes([SCHEME]) + salt + commitment + AESGCM(record_key).encrypt(_NONCE, plaintext, associated)


def unlock(key: bytes, sealed: bytes, associated: bytes) -> Record:
    """Make a sealed record ready to open.

    Raises:
        Unreadable: an unknown scheme, too short, or sealed under another key.
    """
    if len(sealed) < _BODY + _TAG_BYTES or sealed[0] != SCHEME:
        raise Unreadable
    record_key, commitment = _derive(key, sealed[1 : 1 + SALT_BYTES])
    if not hmac.compare_digest(commitment, sealed[1 + SALT_BYTES : _BODY]):
        raise Unreadable
    return Record(AESGCM(record_key), sealed[_BODY:], associated)


def associated_data(*parts: str | int | bytes) -> bytes:
    """The parts, each behind its length in 4 bytes; numbers as 8 bytes, big-endian.

    The first part should be a constant that says what is encoded, so that parts of two kinds never meet.
    """
    encoded = [_encoded(part) for part in parts]
    return b"".join(len(part).to_bytes(4) + part for part in encoded)


def _encoded(part: str | int | bytes) -> bytes:
    if isinstance(part, int):
        return part.to_bytes(8)
    return part.encode() if isinstance(part, str) else part


def _derive(key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    if len(key) != KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    material = HKDF(algorithm=SHA256(), length=KEY_BYTES + _COMMITMENT_BYTES, salt=salt, info=_INFO).derive(key)
    return material[:KEY_BYTES], material[KEY_BYTES:]
