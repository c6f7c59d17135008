"""The audit chain: what an event's hash is, and how a chain is proved.

Each org has one chain. An event's hash covers the event and the hash before it; the head, the last event's number and
hash, is signed by the vault (Ed25519, RFC 8032). Whoever has the events, the head and the vault's public key can prove,
without the vault and its database, that no event was changed, moved, left out or added.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Protocol, Self

GENESIS: Final = bytes(32)
"""The hash before the first event."""

VAULT_CHAIN: Final = "_vault"
"""The chain of what happened to the vault as a whole; no org can have that id."""

_EVENT: Final = "tenantvault/audit-event/1"
_HEAD: Final = "tenantvault/audit-head/1"
_EIGHT: Final = (8).to_bytes(4)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened: who, on whose behalf, what, to which provider and version, how it ended.

    `occurred_at` has microseconds. `version` and `generation` are 0 where there is none. No field can hold a value of a
    credential.
    """

    event_id: str
    org_id: str
    occurred_at: datetime
    peer: str
    on_behalf_of: str
    action: str
    provider: str
    version: int
    outcome: str
    request_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Link:
    """An event in its place: `sequence` counts an org's events from 1 without a gap."""

    event: Event
    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The signed end of a chain. `public_key` is the 32 bytes that the signature says it is checked with."""

    org_id: str
    sequence: int
    hash: bytes
    signature: bytes
    public_key: bytes

    def signed(self) -> bytes:
        """What the signature is over."""
        return head_message(self.org_id, self.sequence, self.hash)


class Broken(Exception):
    """A chain is not as it was written. `sequence` is the first event that is not; the text says what is wrong."""

    def __init__(self, sequence: int, problem: str) -> None:
        super().__init__(problem)
        self.sequence = sequence


class CheckSignature(Protocol):
    """Checks an Ed25519 signature."""

    def __call__(self, public_key: bytes, signature: bytes, message: bytes, /) -> bool:
        """Whether the signature is the key's own."""


def event_hash(previous: bytes, sequence: int, event: Event) -> bytes:
    """SHA-256 over the hash before and every field, each behind its length in 4 bytes (numbers as 8, big-endian)."""
    parts = (
        _often(_EVENT),
        _behind_length(previous),
        _in_eight(sequence),
        _behind_length(event.event_id.encode()),
        _often(event.org_id),
        _in_eight((event.occurred_at - _EPOCH) // _MICROSECOND),
        _often(event.peer),
        _often(event.on_behalf_of),
        _often(event.action),
        _often(event.provider),
        _in_eight(event.version),
        _often(event.outcome),
        _behind_length(event.request_id.encode()),
        _in_eight(event.generation),
    )
    return hashlib.sha256(b"".join(parts)).digest()


def head_message(org_id: str, sequence: int, last_hash: bytes) -> bytes:
    """What the signature of a head is over: constant, org, number, hash, each behind its length."""
    return b"".join((_often(_HEAD), _often(org_id), _in_eight(sequence), _behind_length(last_hash)))


def _behind_length(part: bytes) -> bytes:
    return len(part).to_bytes(4) + part


def _in_eight(number: int) -> bytes:
    return _EIGHT + number.to_bytes(8)


@lru_cache(4096)
def _often(text: str) -> bytes:
    """A text that many events have."""
    return _behind_length(text.encode())


@dataclass(slots=True)
class Prover:
    """Proves a chain as it comes: every event in order, then the head. `count` and `last` say how far it is."""

    org_id: str
    count: int = 0
    last: bytes = GENESIS

    def add(self, link: Link) -> None:
        """Prove the next event. Broken when it is not the one that was written there."""
        number = self.count + 1
        if link.sequence != number:
            raise Broken(number, f"event {number} is missing: the next one there is {link.sequence}")
        if link.event.org_id != self.org_id:
            raise Broken(number, f"event {number} is of another org")
        if link.hash != event_hash(self.last, number, link.event):
            raise Broken(number, f"event {number} was changed: its hash does not fit what it says and what went before")
        self.count, self.last = number, link.hash

    def end(self, head: Head | None, check: CheckSignature) -> int:
        """Prove that this was all; returns how many events there are. Broken when the head does not say so."""
        count = self.count
        if head is None:
            if count:
                raise Broken(count, "the chain has events and no head")
            return 0
        if head.sequence > count:
            raise Broken(count + 1, f"event {count + 1} is missing: the head says that there are {head.sequence}")
        if head.sequence < count:
            raise Broken(head.sequence + 1, f"event {head.sequence + 1} is none of the chain's: it ends before it")
        if head.org_id != self.org_id or head.hash != self.last:
            raise Broken(count, f"event {count} is not the one that the head was signed for")
        if not check(head.public_key, head.signature, head.signed()):
            raise Broken(count, "the head is not signed by the vault's key")
        return count


def prove(links: Iterable[Link], head: Head | None, check: CheckSignature) -> int:
    """Prove a chain, its oldest event first; returns how many events it has.

    Raises:
        Broken: an event was changed, moved, left out or added, or the head is not the vault's.
    """
    prover: Prover | None = Prover(head.org_id) if head else None
    for link in links:
        prover = prover or Prover(link.event.org_id)
        prover.add(link)
    return prover.end(head, check) if prover else 0


def check_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Check an Ed25519 signature with the package `cryptography` (extra `cli`)."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only who proves chains needs the package
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def to_lines(links: Iterable[Link], head: Head | None) -> Iterator[str]:
    """An export: one JSON object a line, the events and then the head."""
    for link in links:
        event = link.event
        yield json.dumps(
            {
                "event_id": event.event_id,
                "org_id": event.org_id,
                "sequence": link.sequence,
                "occurred_at": event.occurred_at.isoformat(),
                "peer": event.peer,
                "on_behalf_of": event.on_behalf_of,
                "action": event.action,
                "provider": event.provider,
                "version": event.version,
                "outcome": event.outcome,
                "request_id": event.request_id,
                "generation": event.generation,
                "hash": link.hash.hex(),
            }
        )
    if head is not None:
        yield json.dumps(
            {
                "head": {
                    "org_id": head.org_id,
                    "sequence": head.sequence,
                    "hash": head.hash.hex(),
                    "signature": head.signature.hex(),
                    "public_key": head.public_key.hex(),
                }
            }
        )


@dataclass(frozen=True, slots=True)
class Export:
    """An export that was read."""

    links: tuple[Link, ...]
    head: Head | None

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Self:
        """Read an export. ValueError names the line that is none of an export's."""
        links: list[Link] = []
        head: Head | None = None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if head is not None:
                raise ValueError(f"line {number} is behind the head of the export")
            try:
                fields = json.loads(line)
                if "head" in fields:
                    head = _head(fields["head"])
                    head.signed()
                else:
                    link = _link(fields)
                    # What has no hash, e.g. for a time before 1970, is none of an export's either.
                    event_hash(GENESIS, link.sequence, link.event)
                    links.append(link)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                raise ValueError(f"line {number} is none of an export of the audit") from None
        return cls(tuple(links), head)


def _link(fields: Mapping[str, Any]) -> Link:
    texts = ("event_id", "org_id", "peer", "on_behalf_of", "action", "provider", "outcome", "request_id")
    if not all(isinstance(fields[name], str) for name in texts):
        raise ValueError("a field is no text")
    event = Event(
        **{name: fields[name] for name in texts},
        occurred_at=datetime.fromisoformat(fields["occurred_at"]),
        version=_number(fields["version"]),
        generation=_number(fields["generation"]),
    )
    if event.occurred_at.tzinfo is None:
        raise ValueError("a time has no zone")
    return Link(event, _number(fields["sequence"]), bytes.fromhex(fields["hash"]))


def _head(fields: Mapping[str, Any]) -> Head:
    return Head(
        str(fields["org_id"]),
        _number(fields["sequence"]),
        bytes.fromhex(fields["hash"]),
        bytes.fromhex(fields["signature"]),
        bytes.fromhex(fields["public_key"]),
    )


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError("no number")
    return value
