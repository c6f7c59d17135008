"""An integration as the vault shows it: no plaintext."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tenantvault.credentials import Provider, Resource


class State(StrEnum):
    """The state of an integration; `tenantvault/v1/credential.proto` says what each means."""

    EMPTY = "empty"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    REFUSED = "refused"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """An org's integration with a provider. Versions count from 1; 0 is none."""

    provider: Provider
    state: State = State.EMPTY
    version: int = 0
    latest_version: int = 0
    hint: str = ""
    resources: tuple[Resource, ...] = ()
    last_verified_at: datetime | None = None
    verification_error: str = ""
    connected_at: datetime | None = None
    warnings: tuple[str, ...] = ()
    account: str = ""
    verification_reason: str = ""
    rotation_due_at: datetime | None = None
    rotates_by_itself: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an integration, with what the customer should know although it worked.

    `unreleased` is what a disconnect could not take back at the provider.
    """

    integration: Integration
    warnings: tuple[str, ...] = ()
    unreleased: tuple[str, ...] = ()
