"""The nouns of the vault. A plaintext is in `Plaintext` only; everything else may be shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class State(StrEnum):
    """The state of an org's integration with one provider."""

    EMPTY = "empty"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    REFUSED = "refused"
    DISCONNECTED = "disconnected"


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
    key_id: str
    mac: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCredential:
    """A credential as the store keeps it, with what it takes to open it."""

    name: RecordName
    sealed: bytes
    key: OrgKey
    resources: Sequence[Resource] = ()
    last_verified_at: datetime | None = None
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plaintext:
    """A credential in the open: `payload` is the contract's serialised message. It masks itself in repr."""

    name: RecordName
    payload: bytes = field(repr=False)
    resources: Sequence[Resource] = ()
    last_verified_at: datetime | None = None
    generation: int = 0


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
    connected_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes a change: the calling service, the person it acts for, the request."""

    peer: str
    on_behalf_of: str = ""
    request_id: str = ""


def state_of(*, version: int | None, is_active: bool, latest_version: int, verification_error: str) -> State:
    """The state that the facts amount to."""
    if not version:
        return State.CONNECTING if latest_version else State.EMPTY
    if not is_active:
        return State.DISCONNECTED
    return State.REFUSED if verification_error else State.CONNECTED
