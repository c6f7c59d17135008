"""Work and the states of consents in memory: the plain statement of what those on PostgreSQL must do."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.vault.audit import event_of
from services.vault.credential import Origin
from services.vault.work import (
    MOST_OAUTH_STATES,
    REPORTED,
    TESTED_LATELY,
    DueWork,
    Finish,
    OAuthState,
    Piece,
    ScheduledWork,
    Task,
)
from tenantvault.audit import Event
from tenantvault.errors import LeaseHeld, OAuthStateInvalid


@dataclass(slots=True)
class _Row:
    """A task of an integration."""

    due_at: datetime
    by_hand: bool = False
    owner: str = ""
    leased_until: datetime | None = None
    attempts: int = 0
    progress: str = ""
    finished_at: datetime | None = None

    def is_leased(self, now: datetime) -> bool:
        return self.leased_until is not None and self.leased_until > now


@dataclass(frozen=True, slots=True)
class Readable:
    """An integration that can be read: its active version, and when that was confirmed."""

    version: int
    last_verified_at: datetime | None


class MemoryWork:
    """The port of work in a dictionary.

    Args:
        readable: the integration of an org and a provider; None when it cannot be read.
        add: puts events into the audit.
    """

    def __init__(
        self,
        *,
        readable: Callable[[str, str], Readable | None],
        add: Callable[[Sequence[Event]], Awaitable[None]],
        now: Callable[[], datetime],
    ) -> None:
        self._readable = readable
        self._add = add
        self._now = now
        self._rows: dict[Piece, _Row] = {}

    async def claim(self, owner: str, lease: timedelta, *, at_most: int) -> Sequence[DueWork]:
        """Take work that is due, over all orgs."""
        now = self._now()
        due = [
            (row.due_at, piece, row)
            for piece, row in self._rows.items()
            if not row.by_hand
            and row.due_at <= now
            and not row.is_leased(now)
            and self._readable(piece.org_id, piece.provider)
        ]
        taken = []
        for due_at, piece, row in sorted(due, key=lambda each: each[0])[:at_most]:
            row.owner, row.leased_until, row.attempts = owner, now + lease, row.attempts + 1
            taken.append(DueWork(piece=piece, attempts=row.attempts, progress=row.progress, due_at=due_at))
        return taken

    async def keep_progress(self, piece: Piece, owner: str, progress: str) -> None:
        """Note how far a piece has come."""
        self._held(piece, owner).progress = progress

    async def finish(self, piece: Piece, owner: str, finish: Finish) -> None:
        """Give a piece back."""
        row, now = self._held(piece, owner), self._now()
        self._rows[piece] = _Row(
            due_at=now + finish.due_in,
            by_hand=finish.by_hand,
            attempts=row.attempts if finish.failed else 0,
            progress=finish.progress,
            finished_at=now,
        )

    async def report_failure(self, org_id: str, provider: str, version: int, origin: Origin) -> bool:
        """Make a test due, with its event."""
        row, readable = self._rows.get(Piece(org_id, provider, Task.VERIFY)), self._readable(org_id, provider)
        if row is None or readable is None or readable.version != version or row.by_hand:
            return False
        now = self._now()
        tested = [moment for moment in (readable.last_verified_at, row.finished_at) if moment is not None]
        if row.due_at <= now or row.is_leased(now) or any(moment > now - TESTED_LATELY for moment in tested):
            return False
        row.due_at = now
        await self._add(
            [event_of(origin, org_id=org_id, action=REPORTED, provider=provider, version=version, now=self._now)]
        )
        return True

    def replace(self, org_id: str, provider: str, schedule: Sequence[ScheduledWork]) -> None:
        """Put other tasks in the place of an integration's.

        One that somebody has stays theirs. One that has come some way stays that far, and is due no later than it was.
        """
        now = self._now()
        before = {task: self._rows.pop(Piece(org_id, provider, task), None) for task in Task}
        for work in schedule:
            row = _Row(due_at=now + work.due_in, by_hand=work.by_hand)
            kept = before[work.task]
            if kept is not None:
                row.finished_at, row.progress = kept.finished_at, kept.progress
            if kept is not None and kept.progress:
                row.due_at = min(kept.due_at, row.due_at)
            if kept is not None and kept.is_leased(now):
                row.owner, row.leased_until, row.attempts = kept.owner, kept.leased_until, kept.attempts
            self._rows[Piece(org_id, provider, work.task)] = row

    def rotation(self, org_id: str, provider: str) -> tuple[datetime | None, bool]:
        """When an integration's credential is to be replaced, if it is, and whether that happens by itself."""
        row = self._rows.get(Piece(org_id, provider, Task.ROTATE))
        return (row.due_at, not row.by_hand) if row else (None, False)

    def forget(self, org_id: str) -> None:
        """Delete an org's tasks."""
        self._rows = {piece: row for piece, row in self._rows.items() if piece.org_id != org_id}

    def _held(self, piece: Piece, owner: str) -> _Row:
        row = self._rows.get(piece)
        if row is None or row.owner != owner or not row.is_leased(self._now()):
            raise LeaseHeld
        return row


class MemoryOAuthStates:
    """The port of consents under way in a dictionary. `make_org` makes an org that is not there yet."""

    def __init__(self, *, make_org: Callable[[str], object], now: Callable[[], datetime]) -> None:
        self._make_org = make_org
        self._now = now
        # In the order in which they were kept.
        self._kept: dict[tuple[str, bytes], tuple[OAuthState, datetime]] = {}

    async def keep_oauth_state(self, state: OAuthState, lasts: timedelta) -> None:
        """Keep a state, and let go of those that are over and of the oldest where there are too many."""
        self._make_org(state.org_id)
        now, place = self._now(), (state.org_id, state.state_hash)
        self._kept.pop(place, None)
        own = [(key, until) for key, (of, until) in self._kept.items() if of.org_id == state.org_id]
        alive = [key for key, until in own if until > now]
        for key in {key for key, _ in own} - set(alive[-(MOST_OAUTH_STATES - 1) :]):
            del self._kept[key]
        self._kept[place] = (state, now + lasts)

    async def use_oauth_state(self, state: OAuthState) -> None:
        """Use a state up."""
        kept, until = self._kept.pop((state.org_id, state.state_hash), (None, self._now()))
        if (
            kept is None
            or until <= self._now()
            or kept.provider != state.provider
            or not hmac.compare_digest(kept.binding, state.binding)
        ):
            raise OAuthStateInvalid

    def forget(self, org_id: str) -> None:
        """Delete an org's states."""
        self._kept = {key: kept for key, kept in self._kept.items() if key[0] != org_id}
