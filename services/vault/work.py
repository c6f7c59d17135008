"""The work that comes due for an integration again and again, and the states of consents that people were sent to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from services.vault.credential import Origin

TESTED_LATELY: Final = timedelta(seconds=60)
"""How long after a test a failure that is reported makes no other one due."""

MOST_OAUTH_STATES: Final = 20
"""How many consents of an org may be under way; the oldest is given up for the next."""

REPORTED: Final = "credential.report_failure"
"""The action of the event that tells of a failure that made a test due."""


class Task(StrEnum):
    """What is done for an integration again and again."""

    VERIFY = "verify"
    REFRESH = "refresh"
    ROTATE = "rotate"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledWork:
    """A task, and in how long it is due. `by_hand`: the customer has to do it, and no worker gets it."""

    task: Task
    due_in: timedelta
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of work: a task of an org's integration."""

    org_id: str
    provider: str
    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class DueWork:
    """A piece of work that somebody has now.

    `attempts` counts how often it was taken since it last went well, this time included. `progress` is how far it had
    come, in the words of whoever had it before.
    """

    piece: Piece
    attempts: int
    progress: str
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """How a piece of work is given back: in how long it is due again, whether it failed, and who does it then."""

    due_in: timedelta
    failed: bool = False
    progress: str = ""
    by_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthState:
    """The state of a consent, without the state itself: its SHA-256, and that of the session and the person."""

    org_id: str
    provider: str
    state_hash: bytes = field(repr=False)
    binding: bytes = field(repr=False)


class Work(Protocol):
    """Where work is. VaultUnavailable when it cannot be reached."""

    async def claim(self, owner: str, lease: timedelta, *, at_most: int) -> Sequence[DueWork]:
        """Take work that is due, over all orgs, the longest due first; nobody else gets it before the lease is over.

        Of integrations that are disconnected and of orgs that are not active there is none.
        """

    async def keep_progress(self, piece: Piece, owner: str, progress: str) -> None:
        """Note how far a piece has come; LeaseHeld unless the owner has it still."""

    async def finish(self, piece: Piece, owner: str, finish: Finish) -> None:
        """Give a piece back; LeaseHeld unless the owner has it still."""

    async def report_failure(self, org_id: str, provider: str, version: int, origin: Origin) -> bool:
        """Make the test of an active version due, and leave an event of that; whether it is due because of this.

        It is not when the version is not the active one, when the test is due or under way anyway, when there was one
        just now, and when there is no such org: the answers are alike.
        """


class OAuthStates(Protocol):
    """Where the states of consents are. VaultUnavailable when it cannot be reached."""

    async def keep_oauth_state(self, state: OAuthState, lasts: timedelta) -> None:
        """Keep a state."""

    async def use_oauth_state(self, state: OAuthState) -> None:
        """Use a state up; OAuthStateInvalid unless all of it is as it was kept, and in time.

        Whoever knows the state uses it up, also with a binding that is wrong.
        """
