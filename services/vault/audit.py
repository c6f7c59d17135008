"""The chains of the audit: putting events behind what is there, and signing where a chain ends.

What an event's hash covers, and how a chain is proved, is declared with the contract: `tenantvault.audit`.
"""

import hashlib
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from cachetools import LRUCache
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.vault.credential import OrgKey, Origin
from tenantvault.audit import GENESIS, VAULT_CHAIN, Event, Head, Link, event_hash, head_message

SEARCHED: Final = 20_000
"""How many of an org's events are looked through at once for those that are wanted."""

# In the place of a hash that is not to be linked to; no event has it.
_BROKEN: Final = hashlib.sha256(b"tenantvault/audit-broken/1").digest()
_REMEMBERED_ENDS: Final = 10_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """Where a chain ends so far. `signature` is the kept head's; None where there is no row that could be forged."""

    sequence: int = 0
    hash: bytes = GENESIS
    signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What was found of a chain, newest first. `last` is the last event that was looked at, if older ones are left."""

    links: Sequence[Link]
    last: Link | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """Puts events behind a chain's end. The private key signs the new one (Ed25519, RFC 8032).

    `public_key` has the 32 bytes that the signatures are checked with.
    """

    _key: Ed25519PrivateKey = field(repr=False)
    public_key: bytes = field(repr=False)
    # What was signed last: to see it again costs no signature.
    _ends: LRUCache[str, "End"] = field(default_factory=lambda: LRUCache(_REMEMBERED_ENDS), repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> "Chain":
        """With the private key of a seed of 32 bytes."""
        key = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(key, key.public_key().public_bytes_raw())

    def extend(self, org_id: str, end: End, events: Iterable[Event]) -> tuple[list[Link], Head]:
        """The events as links behind the end, and the signed head.

        An end that this key did not sign was made up by somebody else. What comes behind it is kept, and is not linked
        to it: no head that is signed from now on vouches for what was made up, and a proof breaks there for ever.
        """
        links = []
        if end.sequence and end.signature is not None and not self._signed(org_id, end):
            _log.error("a chain does not end as it was signed: it was changed by SQL", extra={"org": org_id})
            end = End(end.sequence, _BROKEN)
        for event in events:
            end = End(end.sequence + 1, event_hash(end.hash, end.sequence + 1, event))
            links.append(Link(event, end.sequence, end.hash))
        signature = self._key.sign(head_message(org_id, end.sequence, end.hash))
        self._ends[org_id] = End(end.sequence, end.hash, signature)
        return links, Head(org_id, end.sequence, end.hash, signature, self.public_key)

    def _signed(self, org_id: str, end: End) -> bool:
        if self._ends.get(org_id) == end:
            return True
        # A key has one signature for a message (RFC 8032, section 5.1.6), and to make it takes a third of a check.
        return self._key.sign(head_message(org_id, end.sequence, end.hash)) == end.signature


class SigningKeyStore(Protocol):
    """Where the signing key is kept, wrapped."""

    async def signing_key(self) -> OrgKey | None:
        """The current one."""

    async def add_signing_key(self, key: OrgKey, public_key: bytes) -> OrgKey:
        """Keep the first one; returns the one that is kept when another came first."""


class MasterKeys(Protocol):
    """What the signing key is wrapped under."""

    async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
        """Wrap a key."""

    async def unwrap(self, key: OrgKey) -> bytes:
        """The key in the open."""


class SigningKey:
    """Finds the key that signs, or makes the first one; `random` gives that many random bytes."""

    def __init__(self, store: SigningKeyStore, master_keys: MasterKeys, *, random: Callable[[int], bytes]) -> None:
        self._store = store
        self._master_keys = master_keys
        self._random = random
        self._chain: Chain | None = None

    async def chain(self) -> Chain:
        """What extends chains; asked for once, then remembered.

        Raises:
            VaultUnavailable: the database or the key service cannot be asked now.
            Unreadable: the key does not unwrap.
        """
        if self._chain is None:
            kept = await self._store.signing_key()
            if kept is None:
                seed = self._random(32)
                key = await self._master_keys.wrap(VAULT_CHAIN, uuid.uuid4().hex, seed)
                kept = await self._store.add_signing_key(key, Chain.from_seed(seed).public_key)
            self._chain = Chain.from_seed(await self._master_keys.unwrap(kept))
        return self._chain


def event_of(
    origin: Origin,
    *,
    org_id: str,
    action: str,
    provider: str = "",
    version: int = 0,
    outcome: str = "ok",
    generation: int = 0,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Event:
    """An event that happens now."""
    return Event(
        event_id=str(uuid.uuid4()),
        org_id=org_id,
        occurred_at=now(),
        peer=origin.peer,
        on_behalf_of=origin.on_behalf_of,
        action=action,
        provider=provider,
        version=version,
        outcome=outcome,
        request_id=origin.request_id,
        generation=generation,
    )
