"""The background: takes work that is due out of the vault, does it, and says when it is due again.

Any number of workers may run. A piece of work is one worker's for as long as its lease lasts; one that dies leaves its
work to the others. A provider that is down costs a few requests: after some failures in a row its work is put off, and
one piece at a time finds out whether it is back. Nothing that was not answered changes the state of an integration.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from services.provider.lifecycle import Lifecycle
from services.provider.outage import Outages
from services.provider.refresh import Refresh
from services.provider.rotate import Rotate
from services.provider.work import Done, DueWork, Task, Timetable
from tenantvault.errors import (
    CredentialNotFound,
    LeaseHeld,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    TenantVaultError,
    VersionConflict,
)

ON_BEHALF_OF: Final = "schedule"
"""On whose behalf a worker does what it does, for the audit."""

_OWNER_BYTES: Final = 16
# Of the lease, how much of it a piece of work may take: the rest is for saying what became of it.
_SHARE: Final = 0.8
_SOON: Final = 30.0
_GIVING_BACK_SECONDS: Final = 2.0
_REFRESH_LIFE: Final = 900.0
# Whatever a provider asks for, an access token must not end meanwhile.
_LONGEST_ASKED: Final = 3600.0
_log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[object]]


class Work(Protocol):
    """Where work is kept: the vault. Each method raises a `TenantVaultError`."""

    async def claim(self, *, owner: str, seconds: float, at_most: int) -> Sequence[DueWork]:
        """Take work that is due."""

    async def keep_progress(self, work: DueWork, *, owner: str, progress: str) -> None:
        """Note how far a piece has come; LeaseHeld when it is another's by now."""

    async def finish(self, work: DueWork, *, owner: str, done: Done) -> None:
        """Give a piece back; LeaseHeld when it is another's by now."""


@dataclass(slots=True)
class Counts:
    """What became of the work so far."""

    done: int = 0
    refused: int = 0
    unreachable: int = 0
    put_off: int = 0
    busy: int = 0
    failed: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker. `run` works until it is cancelled; `once` does what is due now and can be had.

    It does `concurrency` pieces at a time, has what it took for `lease_seconds`, and looks every `poll_seconds` when
    nothing is due.
    """

    work: Work
    lifecycle: Lifecycle
    refresh: Refresh
    rotate: Rotate
    timetable: Timetable
    outages: Outages
    concurrency: int
    lease_seconds: float
    poll_seconds: float
    sleep: Sleep = asyncio.sleep
    jitter: Callable[[], float] = random.random
    new_owner: Callable[[], str] = lambda: secrets.token_hex(_OWNER_BYTES)
    counts: Counts = field(default_factory=Counts)

    async def run(self) -> None:
        """Work for ever. A vault that is away is asked again at every poll."""
        while True:
            taken = 0
            try:
                taken = await self.once()
            except TenantVaultError as error:
                _log.warning("no work could be taken", extra={"reason": error.reason})
            except Exception as error:  # noqa: BLE001 - the background must not end, whatever happens
                _log.error("the worker failed", exc_info=error)
            if not taken:
                await self.sleep(self.poll_seconds * (0.5 + self.jitter()))

    async def once(self) -> int:
        """Take as much as can be done at a time, and do it; returns how much that was."""
        owner = self.new_owner()
        claimed = await self.work.claim(owner=owner, seconds=self.lease_seconds, at_most=self.concurrency)
        async with asyncio.TaskGroup() as group:
            for work in claimed:
                group.create_task(self._one(work, owner))
        return len(claimed)

    async def _one(self, work: DueWork, owner: str) -> None:
        piece = _Piece(work, owner, work.progress)
        try:
            done = await self._done(piece)
        except asyncio.CancelledError:
            # The process ends: somebody else may begin at once.
            with suppress(TenantVaultError, TimeoutError):
                async with asyncio.timeout(_GIVING_BACK_SECONDS):
                    await self.work.finish(work, owner=owner, done=Done(0.0, failed=True, progress=piece.progress))
            raise
        try:
            await self.work.finish(work, owner=owner, done=done)
        except TenantVaultError as error:
            # Its lease runs out, and somebody does it again: every task may be repeated.
            self.counts.lost += 1
            _log.warning("work was not given back", extra=piece.about(reason=error.reason))

    async def _done(self, piece: "_Piece") -> Done:
        provider = piece.work.provider
        if put_off := self.outages.wait(provider):
            self.counts.put_off += 1
            return Done(put_off, failed=True, progress=piece.progress)
        try:
            async with asyncio.timeout(self.lease_seconds * _SHARE):
                done = await self._do(piece)
        except Exception as error:  # noqa: BLE001 - whatever it was, the work goes on
            return self._after(piece, error)
        self.outages.answered(provider)
        self.counts.done += 1
        return done

    async def _do(self, piece: "_Piece") -> Done:
        work = piece.work
        match work.task:
            case Task.VERIFY:
                await self.lifecycle.verify(work.org_id, work.provider, on_behalf_of=ON_BEHALF_OF)
                return Done(self.timetable.next_verify())
            case Task.REFRESH:
                ends = await self.refresh(
                    work.org_id, work.provider, min_life=_REFRESH_LIFE, insist=True, on_behalf_of=ON_BEHALF_OF
                )
                return Done(self.timetable.next_refresh(ends))
            case Task.ROTATE:

                async def note(progress: str) -> None:
                    await self.work.keep_progress(work, owner=piece.owner, progress=progress)
                    piece.progress = progress

                return await self.rotate(
                    work.org_id,
                    work.provider,
                    progress=work.progress,
                    attempts=work.attempts,
                    note=note,
                    on_behalf_of=ON_BEHALF_OF,
                )

    def _after(self, piece: "_Piece", error: Exception) -> Done:
        """When to come back after something went wrong."""
        match error:
            case ProviderUnreachable():
                self.counts.unreachable += 1
                # To slow down is asked of one account; the provider is there.
                if not isinstance(error, RateLimited):
                    self.outages.failed(piece.work.provider)
                _log.info("the provider gave no answer", extra=piece.about(reason=error.reason))
                asked = min(error.retry_after or 0.0, _LONGEST_ASKED)
                pause = self.timetable.backoff(piece.work.attempts, at_least=asked)
            case TimeoutError() | LeaseHeld() | VersionConflict() | CredentialNotFound():
                # Others are at it, or were. What was disconnected is not taken up again before a reconnect.
                self.counts.busy += 1
                return Done(_SOON * (0.5 + self.jitter()), progress=piece.progress)
            case ProviderRefused():
                # What there was to record is recorded; people have to act.
                self.outages.answered(piece.work.provider)
                self.counts.refused += 1
                _log.info("the provider refused", extra=piece.about(reason=error.reason))
                pause = self.timetable.next_verify()
            case _:
                self.counts.failed += 1
                reason = error.reason if isinstance(error, TenantVaultError) else type(error).__name__
                _log.error("work failed", exc_info=error, extra=piece.about(reason=reason))
                pause = self.timetable.backoff(piece.work.attempts)
        return Done(pause, failed=True, progress=piece.progress)


@dataclass(slots=True)
class _Piece:
    """Work in hand. `progress` is what its row says by now."""

    work: DueWork
    owner: str
    progress: str

    def about(self, **more: str) -> dict[str, str]:
        work = self.work
        return {"org": work.org_id, "provider": work.provider.value, "task": work.task.value, **more}
