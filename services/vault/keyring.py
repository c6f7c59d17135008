"""Master keys (KEKs): a list of them, of which the first wraps and all unwrap.

One line for each key: its id, a colon, and where the key is.

    2026-11:q83v...                                 32 random bytes in base64 (`openssl rand -base64 32`)
    kms-1:aws-kms:arn:aws:kms:eu-central-1:...      a key of AWS KMS, by its ARN

Each kind of key is a module of its own with one class; SCHEMES names them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol, Self

from services.vault.aws_kms import AwsKmsKey
from services.vault.credential import OrgKey
from services.vault.local_key import LocalKey
from services.vault.seal import Unreadable

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class MasterKey(Protocol):
    """One master key."""

    @property
    def key_id(self) -> str:
        """The operator's name for it."""

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that tell it from another key and do not give it away."""

    async def wrap(self, key: bytes, *, org_id: str, org_key_id: str) -> bytes:
        """Wrap an org's key, bound to the org and the key's id. VaultUnavailable when that cannot be done now."""

    async def unwrap(self, wrapped: bytes, *, org_id: str, org_key_id: str) -> bytes:
        """The org's key in the open.

        Raises:
            Unreadable: it is not what was wrapped under this key for this org and id.
            VaultUnavailable: the key cannot be asked now.
        """


SCHEMES: Final[Mapping[str, Callable[[str, str], MasterKey]]] = MappingProxyType({"aws-kms": AwsKmsKey.open})
"""By the word behind a key's id: what makes the key out of its id and its place. Without a word it is a LocalKey."""


class Keyring:
    """Wraps and unwraps org keys. It shows its keys' ids and fingerprints, never a key."""

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        if not keys:
            raise ValueError("a keyring needs a master key; without one nothing can be stored")
        self._keys: dict[str, MasterKey] = {}
        # By number, not by id: whoever forgets the id has put the key in its place.
        for number, key in enumerate(keys, start=1):
            if not _ID.fullmatch(key.key_id):
                raise ValueError(
                    f"master key {number} has no id: give 1 to 63 letters, digits, dots, dashes and underscores before"
                    " a colon"
                )
            if key.key_id in self._keys:
                raise ValueError(f"master key {number} has an id that is there already")
            self._keys[key.key_id] = key
        self._first = keys[0]

    @classmethod
    def parse(cls, text: str) -> Self:
        """A keyring from its text form; lines or commas part the keys, empty ones are passed over.

        Raises:
            ValueError: the text is no keyring; the sentence names the line, never its content.
        """
        entries = [entry.strip() for entry in re.split(r"[\n,]", text)]
        return cls([_parsed(number, entry) for number, entry in enumerate(filter(None, entries), start=1)])

    @property
    def wrapping(self) -> str:
        """The id of the key that wraps."""
        return self._first.key_id

    @property
    def fingerprints(self) -> Mapping[str, bytes]:
        """For each key's id the bytes that tell the key from another; the first key is the one that wraps."""
        return {key_id: key.fingerprint for key_id, key in self._keys.items()}

    async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
        """Wrap an org's key under the first master key, bound to the org and the key's id."""
        return OrgKey(org_id, key_id, self._first.key_id, await self._first.wrap(key, org_id=org_id, org_key_id=key_id))

    async def unwrap(self, key: OrgKey) -> bytes:
        """The org's key in the open. Unreadable when its master key is not here, or it was moved or damaged."""
        master = self._keys.get(key.master_key_id)
        if master is None:
            raise Unreadable
        return await master.unwrap(key.wrapped, org_id=key.org_id, org_key_id=key.key_id)

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._keys)})"


def _parsed(number: int, entry: str) -> MasterKey:
    key_id, _, place = entry.partition(":")
    scheme, colon, location = place.partition(":")
    try:
        if colon and scheme in SCHEMES:
            return SCHEMES[scheme](key_id, location)
        return LocalKey.parse(key_id, place)
    except ValueError as error:
        raise ValueError(f"master key {number}: {error}") from None
