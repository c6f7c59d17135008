"""What is done for an integration again and again, and when: verify, refresh, rotate.

The vault keeps the rows; here is what the times in them mean.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from services.provider.provider import Accepted, Provider
from tenantvault.credentials import Credential
from tenantvault.credentials import Provider as Name

VERIFY_SECONDS: Final = 86_400.0
ROTATION_DAYS: Final = 90.0
OVERLAP_SECONDS: Final = 43_200.0
"""How long the one that was replaced goes on working. The vault must hand it out for as long as that."""

OVERLAP_LOOK_SECONDS: Final = 300.0
"""How often is looked whether the vault still hands out the one that was replaced."""

_DAY: Final = 86_400.0
# As far away as the contract lets work be.
_NEVER: Final = 3640 * _DAY
# Of a period, by how much a moment is moved at random, so that those who connected together do not stay together.
_SPREAD: Final = 0.2
_REFRESH_AHEAD: Final = 600.0
_SOONEST_REFRESH: Final = 30.0
_FIRST_BACKOFF: Final = 60.0
_LONGEST_BACKOFF: Final = 3600.0
_MOST_DOUBLINGS: Final = 16


class Task(StrEnum):
    """What is to be done."""

    VERIFY = "verify"
    REFRESH = "refresh"
    ROTATE = "rotate"


@dataclass(frozen=True, slots=True)
class ScheduledWork:
    """A task that is due in so many seconds. One that is done `by_hand` is shown to the customer and not taken up."""

    task: Task
    due_in: float
    by_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DueWork:
    """A task that is due and that a worker has taken. `attempts` counts this time too."""

    org_id: str
    provider: Name
    task: Task
    attempts: int = 1
    progress: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What becomes of a task: when it is due again, in seconds, and how far it has come.

    `failed` keeps the count of attempts going, so that it is tried less and less often.
    """

    due_in: float
    failed: bool = False
    progress: str = ""
    by_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """When work is due. `rotation_days` by provider: none, or 0, is never."""

    verify_seconds: float = VERIFY_SECONDS
    rotation_days: Mapping[Name, float] = field(default_factory=lambda: dict.fromkeys(Name, ROTATION_DAYS))
    overlap_seconds: float = OVERLAP_SECONDS
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random

    def of(
        self, provider: Provider[Any], credential: Credential, verdict: Accepted, *, rotate_now: bool = False
    ) -> list[ScheduledWork]:
        """All the work of a connection that was just made with this credential, of which the provider said so."""
        work = [ScheduledWork(Task.VERIFY, self.next_verify())]
        if provider.consent is not None:
            return [*work, ScheduledWork(Task.REFRESH, self.next_refresh(provider.consent.expires_at(credential)))]
        if self.rotates(provider.name):
            has_way = provider.rotation is not None and provider.rotation.possible(credential)
            due_in = 0.0 if rotate_now else self.next_rotation(provider.name)
            work.append(ScheduledWork(Task.ROTATE, due_in, by_hand=not (has_way and verdict.may_rotate)))
        return work

    def rotates(self, provider: Name) -> bool:
        """Whether this deployment replaces the provider's credentials at all, or reminds of it."""
        return self.rotation_days.get(provider, 0.0) > 0

    def next_verify(self) -> float:
        """Seconds until a credential is tested again."""
        return self._about(self.verify_seconds)

    def next_refresh(self, expires_at: datetime) -> float:
        """Seconds until an access token is renewed: well before its end."""
        left = (expires_at - self.now()).total_seconds()
        return max(left - self._about(_REFRESH_AHEAD), _SOONEST_REFRESH)

    def next_rotation(self, provider: Name) -> float:
        """Seconds until a new credential should be replaced; years where that is never done."""
        return self.rotation_days.get(provider, 0.0) * _DAY or _NEVER

    def next_look(self, left: float) -> float:
        """Seconds until an overlap is looked at again that has so many left."""
        return min(left, OVERLAP_LOOK_SECONDS)

    def backoff(self, attempts: int, *, at_least: float = 0.0) -> float:
        """Seconds until something is tried again that went wrong so often: exponential, spread, an hour at most."""
        longest = min(_FIRST_BACKOFF * 2.0 ** min(attempts - 1, _MOST_DOUBLINGS), _LONGEST_BACKOFF)
        return max(at_least, longest / 2 + self.jitter() * longest / 2)

    def _about(self, seconds: float) -> float:
        return seconds * (1 + _SPREAD * (2 * self.jitter() - 1))
