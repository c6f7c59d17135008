"""The durable file in which reads are noted before their plaintext leaves, and what brings them into the audit.

An event is a line; it is written with one `write(2)` before `write` returns, so that a killed process leaves it behind,
and on the disk within `sync_seconds`, so that a host that loses its power loses no more than that. Lines are sent to
the audit in batches and the file is removed when all of it is there. A process that starts takes over the files that
dead ones left in the same folder, this one's own from before included: an event that was sent already is recognised by
its id.

No audit, no plaintext: when a line cannot be written, when writing or syncing takes longer than `bound_seconds`, or
when `max_bytes` wait for a database that is away, `write` raises and nothing leaves.
"""

import asyncio
import json
import logging
import os
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from services.rpc.process import in_background
from services.vault.credential import Origin
from services.vault.segment import Segment, read_event
from tenantvault.audit import Event
from tenantvault.errors import AuditUnavailable, TenantVaultError

BOUND_SECONDS: Final = 5.0
SYNC_SECONDS: Final = 0.1
FLUSH_SECONDS: Final = 0.2
BUSY_FLUSH_SECONDS: Final = 1.0
MAX_BYTES: Final = 256 * 1024 * 1024
SEGMENT_BYTES: Final = 8 * 1024 * 1024

_BATCH_BYTES: Final = 512 * 1024
_BUSY_EVENTS: Final = 100
_EVENTS_A_TURN: Final = 50
_SUFFIX: Final = ".spool"
_PAUSE: Final = 5.0
_text: Final = json.encoder.encode_basestring_ascii
_log = logging.getLogger(__name__)


class Audit(Protocol):
    """Where the events are brought."""

    async def add(self, events: Sequence[Event]) -> None:
        """Keep events; one that is there already stays as it is."""


@dataclass(slots=True)
class Counts:
    """How the spool did since the process began: events written, brought into the audit, refused, replayed."""

    written: int = 0
    flushed: int = 0
    refused: int = 0
    replayed: int = 0


class Spool:
    """The spool of one process in a folder, which other vaults of the same host may share.

    Raises:
        OSError: the folder cannot be made or written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bound_seconds: float = BOUND_SECONDS,
        max_bytes: int = MAX_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        timer: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        write: Callable[[int, bytes], int] = os.write,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self._folder = folder
        self._bound = bound_seconds
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._timer = timer
        self._now = now
        self._write = write
        self._sync = sync
        self._waiting: deque[Segment] = deque()
        # In the order of their names the files of a process are in the order in which it wrote them.
        self._name = f"{int(now() * 1000):014x}-{uuid.uuid4().hex}"
        self._segments = 0
        self._damaged = False
        self._passed_over: set[Path] = set()
        self._unsynced_since: float | None = None
        self._syncing_since: float | None = None
        self._broken = ""
        self.counts = Counts()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._current = self._new_segment()

    def write(self, origin: Origin, action: str, reads: Sequence[tuple[str, str, int]], *, outcome: str = "ok") -> None:
        """Note reads (org, provider, version), all with one write.

        Raises:
            AuditUnavailable: they are not noted, so what was read must not leave.
        """
        if not reads:
            return
        at = self._now()
        who = f"{_text(origin.peer)},{_text(origin.on_behalf_of)},{_text(action)}"
        rest = f"{_text(outcome)},{_text(origin.request_id)}"
        lines = "".join(
            # JSON, put together here: `json.dumps` takes three times as long, and this is on the way of every read.
            f'["{os.urandom(16).hex()}",{_text(org_id)},{at!r},{who},{_text(provider)},{version:d},{rest}]\n'
            for org_id, provider, version in reads
        ).encode()
        began = self._timer()
        if trouble := self._trouble(began, len(lines)):
            self._refuse(trouble)
        if trouble := self._append(lines) or self._too_long(began):
            self._refuse(trouble)
        self._broken = ""
        self.counts.written += len(reads)

    @property
    def trouble(self) -> str:
        """What keeps plaintext from leaving now; empty when nothing does.

        After a refusal it is tried here: nobody reads, and so nothing is written, while the process does not serve.
        """
        return self._trouble(self._timer(), 0) or (self._attempt() if self._broken else "")

    @property
    def waiting_bytes(self) -> int:
        """How much waits to be brought into the audit."""
        return sum(segment.written - segment.flushed for segment in (*self._waiting, self._current))

    async def keep_syncing(self, every: float = SYNC_SECONDS) -> None:
        """Bring what was written to the disk, for ever."""
        while True:
            await asyncio.sleep(every)
            if self._unsynced_since is None:
                continue
            self._syncing_since, self._unsynced_since = self._unsynced_since, None
            try:
                await self._sync_what_waits()
            except Exception as error:  # noqa: BLE001 - whatever it is, e.g. no thread is left, it is tried again
                self._unsynced_since = self._syncing_since
                _log.error("the audit spool cannot be synced", extra={"cause": _cause(error)})
            finally:
                self._syncing_since = None

    async def keep_flushing(
        self, audit: Audit, every: float = FLUSH_SECONDS, while_busy: float = BUSY_FLUSH_SECONDS
    ) -> None:
        """Bring what was written into the audit, for ever; a database that is away is waited for.

        While there is much, more is brought at a time: each org's share of it costs a signature and a row's lock.
        """
        told = ""
        while True:
            before = self.counts.flushed
            try:
                await self.flush(audit)
                told = ""
            except TenantVaultError as error:
                if error.reason != told:
                    _log.warning("the audit spool waits for the database", extra={"reason": error.reason})
                told = error.reason
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing is lost, and it is tried again
                _log.error("the audit does not take events", exc_info=error)
                await asyncio.sleep(_PAUSE)
            await asyncio.sleep(every if self.counts.flushed - before < _BUSY_EVENTS else while_busy)

    async def flush(self, audit: Audit) -> None:
        """Bring all that is there now into the audit, what dead processes left first.

        Raises:
            VaultUnavailable: that cannot be done now; the rest stays.
        """
        self._take_over()
        while self._waiting:
            segment = self._waiting[0]
            await self._flush_segment(segment, audit)
            self._waiting.popleft()
            segment.drop()
        await self._flush_segment(self._current, audit)

    @asynccontextmanager
    async def flushed_into(self, audit: Audit, *, patience: float = 5.0) -> AsyncIterator[None]:
        """Sync and flush while the body runs; at the end, bring over what is left, within `patience` seconds."""
        try:
            async with in_background(self.keep_syncing(), self.keep_flushing(audit, FLUSH_SECONDS)):
                yield
        finally:
            try:
                async with asyncio.timeout(patience):
                    await self.flush(audit)
            except Exception as error:  # noqa: BLE001 - whatever it is, nothing is lost
                _log.warning(
                    "what is left in the audit spool waits for the next start", extra={"cause": type(error).__name__}
                )
            self.close()

    def close(self) -> None:
        """Let go of the files; what is not in the audit yet is left for the next process."""
        for segment in (*self._waiting, self._current):
            if segment.flushed == segment.written:
                segment.drop()
            else:
                os.close(segment.handle)

    async def _sync_what_waits(self) -> None:
        # Handles of their own: a file may be done with, and closed, while the disk is still at it. Whoever takes one
        # out closes it: what could get no thread is run all the same when there is one again.
        handles: deque[int] = deque()
        try:
            for segment in (*self._waiting, self._current):
                handles.append(os.dup(segment.handle))
            await asyncio.to_thread(self._sync_all, handles)
        except Exception:
            with suppress(IndexError):
                while True:
                    os.close(handles.popleft())
            raise

    def _sync_all(self, handles: deque[int]) -> None:
        while handles:
            handle = handles.popleft()
            try:
                self._sync(handle)
            finally:
                os.close(handle)

    def _trouble(self, now: float, wanted: int) -> str:
        # What a sync is at is older than what has come since.
        since = self._unsynced_since if self._syncing_since is None else self._syncing_since
        if since is not None and now - since > self._bound:
            return "the disk does not take it in time"
        if self.waiting_bytes + wanted > self._max_bytes:
            return "too much waits for the database"
        return ""

    def _attempt(self) -> str:
        """Write an empty line, which is no event; what is wrong when that does not go well."""
        began = self._timer()
        self._broken = self._append(b"\n") or self._too_long(began)
        return self._broken

    def _append(self, lines: bytes) -> str:
        """Put lines behind what is there, all of them or nothing; what is wrong when that cannot be."""
        try:
            if self._damaged or self._current.written >= self._segment_bytes:
                self._turn()
            written = self._write(self._current.handle, lines)
        except OSError as error:
            self._cut_off()
            return f"it cannot be written: {error.strerror}"
        if written < len(lines):
            self._cut_off()
            return "it cannot be written: no space is left"
        self._current.written += written
        if self._unsynced_since is None:
            self._unsynced_since = self._timer()
        return ""

    def _cut_off(self) -> None:
        """Take back a part of a line: its rest would be taken for the beginning of the next."""
        try:
            os.ftruncate(self._current.handle, self._current.written)
        except OSError:
            # Then nothing may come behind it.
            self._damaged = True

    def _too_long(self, began: float) -> str:
        return "a write took too long" if self._timer() - began > self._bound else ""

    def _refuse(self, trouble: str) -> None:
        self.counts.refused += 1
        if trouble != self._broken:
            _log.error("the audit spool refuses: no plaintext leaves", extra={"cause": trouble})
        self._broken = trouble
        raise AuditUnavailable

    def _turn(self) -> None:
        """Begin a new file."""
        full, self._current, self._damaged = self._current, self._new_segment(), False
        self._waiting.append(full)

    def _new_segment(self) -> Segment:
        self._segments += 1
        return Segment.begin(self._folder / f"{self._name}-{self._segments:08x}{_SUFFIX}")

    def _take_over(self) -> None:
        """Take over the files that nobody holds any more."""
        ours = {segment.path for segment in (*self._waiting, self._current)}
        # The oldest last, and so in front of the others.
        for path in sorted(self._folder.glob(f"*{_SUFFIX}"), reverse=True):
            if path in ours:
                continue
            try:
                segment = Segment.take_over(path)
            except OSError as error:
                self._pass_over(path, error)
                continue
            if segment is not None:
                _log.info("taking over an audit spool that another process left", extra={"file": path.name})
                self._waiting.appendleft(segment)

    def _pass_over(self, path: Path, error: OSError) -> None:
        """Leave a file where it is that cannot be opened: what can be brought over must not wait for it."""
        if path not in self._passed_over:
            self._passed_over.add(path)
            _log.error(
                "an audit spool that another process left cannot be opened",
                extra={"file": path.name, "cause": str(error.strerror)},
            )

    async def _flush_segment(self, segment: Segment, audit: Audit) -> None:
        # What comes meanwhile waits for the next time: to run after it would bring over little at a time, without end.
        until = segment.written
        while segment.flushed < until:
            lines = segment.lines(min(_BATCH_BYTES, until - segment.flushed))
            if not lines:
                # A line that a killed process did not finish: its plaintext never left.
                segment.flushed = until
                return
            events: list[Event] = []
            for number, line in enumerate(lines):
                if event := read_event(line):
                    events.append(event)
                if number % _EVENTS_A_TURN == 0:
                    # Whoever is waiting for an answer comes first.
                    await asyncio.sleep(0)
            if events:
                await audit.add(events)
            segment.flushed += sum(map(len, lines))
            self.counts.flushed += len(events)
            if segment.replayed:
                self.counts.replayed += len(events)


def _cause(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) else type(error).__name__
