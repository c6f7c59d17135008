"""The nouns of the vault. A plaintext is in `Plaintext` only; everything else may be shown."""

from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

LOOKED_THROUGH: Final = 100_000
"""How many of an org's events, the newest, are looked through for reads."""


class State(StrEnum):
    """The state of an org's integration with one provider."""

    EMPTY = "empty"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    REFUSED = "refused"
    DISCONNECTED = "disconnected"


class OrgState(StrEnum):
    """Whether an org may be read."""

    ACTIVE = "active"
    FROZEN = "frozen"
    SHREDDED = "shredded"


class VersionState(StrEnum):
    """What a version is at the moment."""

    STORED = "stored"
    ACTIVE = "active"
    PREVIOUS = "previous"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class OrgKey:
    """An org's key (DEK), wrapped under a master key (KEK)."""

    org_id: str
    key_id: str
    master_key_id: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class RecordName:
    """What a sealed record is: of which org and provider, which version, under which of the org's keys."""

    org_id: str
    provider: str
    version: int
    key_id: str


@dataclass(frozen=True, slots=True)
class Record:
    """A sealed version, with the wrapped key that opens it."""

    name: RecordName
    sealed: bytes
    key: OrgKey


@dataclass(frozen=True, slots=True)
class Resource:
    """Something at a provider that belongs to one org."""

    kind: str
    resource_id: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A row of the directory: a resource, its org, and the proof (a MAC under the org's key) that this is so."""

    org_id: str
    provider: str
    resource: Resource
    mac: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Which version of a provider's credential is current: what the org's key vouches for.

    `version` is 0 while none was ever active. `registered` is the generation at which the resources were registered,
    and `resources` how many there are. `previous_until` is when the overlap of the version before ends.
    """

    provider: str
    version: int = 0
    latest_version: int = 0
    is_active: bool = False
    previous_version: int = 0
    previous_until: datetime | None = None
    registered: int = 0
    resources: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Org:
    """An org as a change finds it, or leaves it: its state, its generation and its pointers by provider."""

    org_id: str
    state: OrgState = OrgState.ACTIVE
    generation: int = 0
    pointers: Table[str, Pointer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What the store has of an org and a provider, with all that it takes to check and to open it.

    `key` is the org's current key, which made the MACs. `record` is None when there is nothing to be read.
    """

    org_id: str
    org_state: OrgState
    generation: int
    pointer: Pointer
    mac: bytes
    key: OrgKey | None
    mappings: Sequence[Mapping] = ()
    record: Record | None = None
    previous: Record | None = None
    last_verified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the store has of a resource: its row of the directory, its integration's pointer, a credential asked for."""

    mapping: Mapping
    integration: Stored
    credential: Stored | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True, eq=False)
class Label:
    """What is told beside a credential in the open.

    It is one object for as long as the credential is remembered, and equal to no other: what was made of it once need
    not be made again.
    """

    name: RecordName
    resources: Sequence[Resource] = ()
    last_verified_at: datetime | None = None
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Plaintext:
    """A credential in the open: `payload` is the contract's serialised message. It masks itself in repr."""

    label: Label
    payload: bytes = field(repr=False)
    served_stale: bool = False
    previous: "Previous | None" = None


@dataclass(frozen=True, slots=True)
class Previous:
    """The version before, in the open, and until when it may be read."""

    version: int
    payload: bytes = field(repr=False)
    readable_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a provider said of a credential. Only people look at it.

    `error` is the sentence of a refusal and `reason` its name, both empty when the provider said yes. `account` is what
    the provider calls the account; None: what is known stays.
    """

    error: str = ""
    reason: str = ""
    warnings: Sequence[str] = ()
    account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """What may be shown of an integration. Versions are 0 where there is none."""

    provider: str
    state: State
    version: int = 0
    latest_version: int = 0
    hint: str = ""
    resources: Sequence[Resource] = ()
    last_verified_at: datetime | None = None
    verification_error: str = ""
    verification_reason: str = ""
    warnings: Sequence[str] = ()
    account: str = ""
    connected_at: datetime | None = None
    rotation_due_at: datetime | None = None
    rotates_by_itself: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What may be shown of a version."""

    version: int
    hint: str
    created_at: datetime
    was_active: bool = False
    destroyed_at: datetime | None = None
    state: VersionState = VersionState.STORED
    readable_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes a call: the calling service, the person it acts for, the request."""

    peer: str
    on_behalf_of: str = ""
    request_id: str = ""


class Read(StrEnum):
    """What hands out a credential, as its event says."""

    GET = "credential.get"
    GET_NEWEST = "credential.get_newest"
    RESOLVE = "credential.resolve"


@dataclass(frozen=True, slots=True)
class ReadCount:
    """How often a service was given an org's credential for a provider, and when it was last."""

    peer: str
    provider: str
    reads: int
    last_read_at: datetime


@dataclass(frozen=True, slots=True)
class Reads:
    """The reads of an org since a moment, those who read most first."""

    counts: Sequence[ReadCount]
    since: datetime


def state_of(*, version: int | None, is_active: bool, latest_version: int, verification_error: str) -> State:
    """The state that the facts amount to."""
    if not version:
        return State.CONNECTING if latest_version else State.EMPTY
    if not is_active:
        return State.DISCONNECTED
    return State.REFUSED if verification_error else State.CONNECTED


def version_state(version: Version, pointer: Pointer, now: datetime) -> VersionState:
    """What a version is, as the pointer has it."""
    if version.destroyed_at is not None:
        return VersionState.DESTROYED
    if version.version == pointer.version:
        return VersionState.ACTIVE
    if version.version == pointer.previous_version and pointer.previous_until and now < pointer.previous_until:
        return VersionState.PREVIOUS
    return VersionState.STORED
