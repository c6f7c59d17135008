import asyncio
import errno
import fcntl
import json
import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from services.vault import spool as module
from services.vault.credential import Origin
from services.vault.spool import Counts, Spool
from tenantvault.audit import Event
from tenantvault.errors import AuditUnavailable, VaultUnavailable

ORIGIN = Origin("voice-agent", "ada@example.com", "request-0001")
NOW = datetime(2026, 11, 23, 20, 36, 0, 123456, tzinfo=UTC)
BOUND = 5.0
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
BROKEN = OSError(errno.EIO, os.strerror(errno.EIO))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Disk:
    """Writes and syncs as the operating system does, or as the test says."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.writes: list[bytes] = []
        # How much of a write comes to be written, how long it takes, and what it ends with.
        self.room: int | None = None
        self.takes = 0.0
        self.fails: OSError | None = None
        self.syncs: list[int] = []
        self.sync_fails: OSError | None = None
        self.sync_gate = threading.Event()
        self.sync_gate.set()

    def write(self, handle: int, data: bytes) -> int:
        self.writes.append(data)
        self.clock.now += self.takes
        written = os.write(handle, data[: self.room])
        if self.fails is not None:
            raise self.fails
        return written

    def sync(self, handle: int) -> None:
        self.syncs.append(os.fstat(handle).st_ino)
        assert self.sync_gate.wait(30)
        if self.sync_fails is not None:
            raise self.sync_fails
        os.fdatasync(handle)

    def heal(self) -> None:
        self.room, self.takes, self.fails, self.sync_fails = None, 0.0, None, None


class Audit:
    """What has been brought over: each event once, in its order."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.batches: list[int] = []
        self.fails: Exception | None = None
        # Whether it fails although it has been done.
        self.late = False

    async def add(self, events: Sequence[Event]) -> None:
        await asyncio.sleep(0)
        if self.fails is not None and not self.late:
            raise self.fails
        self.batches.append(len(events))
        for event in events:
            self.events.setdefault(event.event_id, event)
        if self.fails is not None:
            raise self.fails

    @property
    def versions(self) -> list[int]:
        return [event.version for event in self.events.values()]


class Host:
    """A folder, and the processes that have a spool in it."""

    def __init__(self, folder: Path, clock: Clock, disk: Disk) -> None:
        self.folder = folder
        self.clock = clock
        self.disk = disk
        self.alive: list[Spool] = []

    def start(self, **settings: Any) -> Spool:
        self.alive.append(
            Spool(
                self.folder,
                **{
                    "bound_seconds": BOUND,
                    "timer": self.clock,
                    "now": NOW.timestamp,
                    "write": self.disk.write,
                    "sync": self.disk.sync,
                    **settings,
                },
            )
        )
        return self.alive[-1]

    def kill(self, spool: Spool) -> None:
        """What the kernel does for a process that was killed: its files are closed, and with them its locks."""
        self.alive.remove(spool)
        for segment in (*spool._waiting, spool._current):
            os.close(segment.handle)

    def stop(self, spool: Spool) -> None:
        self.alive.remove(spool)
        spool.close()

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    @property
    def content(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.files)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def disk(clock: Clock) -> Disk:
    return Disk(clock)


@pytest.fixture
def audit() -> Audit:
    return Audit()


@pytest.fixture
def host(tmp_path: Path, clock: Clock, disk: Disk) -> Iterator[Host]:
    host = Host(tmp_path / "var" / "spool", clock, disk)
    yield host
    for spool in list(host.alive):
        host.kill(spool)


@pytest.fixture
def spool(host: Host) -> Spool:
    return host.start()


def read(spool: Spool, *versions: int, org_id: str = "acme") -> None:
    spool.write(ORIGIN, "credential.get", [(org_id, "vapi", version) for version in versions])


def refused(spool: Spool, *versions: int) -> None:
    with pytest.raises(AuditUnavailable):
        read(spool, *versions)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


def is_synced(spool: Spool) -> bool:
    return spool._unsynced_since is None and spool._syncing_since is None


async def synced(spool: Spool) -> None:
    async with running(spool.keep_syncing(every=0)):
        await until(lambda: is_synced(spool))


@asynccontextmanager
async def running(*work: Awaitable[None]) -> AsyncIterator[None]:
    """Endless work, while the body runs; an error of its own is the test's."""
    tasks = [asyncio.ensure_future(one) for one in work]
    yield
    for task in tasks:
        assert not task.done(), "it was to go on for ever"
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# Writing


def test_many_reads_are_one_write_of_a_line_each(spool: Spool, host: Host, disk: Disk) -> None:
    spool.write(ORIGIN, "credential.get", [(f"org-{number}", "vapi", number) for number in range(1000)], outcome="ok")
    [data] = disk.writes
    lines = data.splitlines()
    assert 1000 == len(lines) == spool.counts.written == len({json.loads(line)[0] for line in lines})
    assert data == host.content
    assert len(data) == spool.waiting_bytes


def test_no_reads_are_no_write(spool: Spool, disk: Disk) -> None:
    spool.write(ORIGIN, "credential.get", [])
    assert ([], 0, Counts()) == (disk.writes, spool.waiting_bytes, spool.counts)


async def test_an_event_says_all_that_is_known_of_the_read(spool: Spool, audit: Audit) -> None:
    origin = Origin("voice-agent", 'Åda \u2028 "quoted" \\ 🦆', "request-0001")
    spool.write(origin, "integrity.violation", [("acme", "googleCalendar", 2**53)], outcome="pointer")
    await spool.flush(audit)
    [event] = audit.events.values()
    assert str(uuid.UUID(event.event_id)) == event.event_id
    assert event == Event(
        event_id=event.event_id,
        org_id="acme",
        occurred_at=NOW,
        peer="voice-agent",
        on_behalf_of=origin.on_behalf_of,
        action="integrity.violation",
        provider="googleCalendar",
        version=2**53,
        outcome="pointer",
        request_id="request-0001",
        generation=0,
    )


def test_nobody_else_may_look_into_the_spool(host: Host, spool: Spool) -> None:
    read(spool, 1)
    [file] = host.files
    assert (0o700, 0o600) == (host.folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777)


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path, host: Host) -> None:
    (tmp_path / "var").write_text("a file")
    with pytest.raises(OSError, match="var"):
        host.start()


def test_a_file_that_cannot_be_locked_stops_the_start_and_is_not_left(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_: int, __: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    handles = open_files()
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="locks"):
        host.start()
    assert [] == host.files
    assert handles == open_files()


# Flushing


async def test_what_was_written_is_brought_over_in_order_and_its_place_is_free_again(
    spool: Spool, audit: Audit
) -> None:
    read(spool, 1, 2)
    read(spool, 3)
    await spool.flush(audit)
    assert [1, 2, 3] == audit.versions
    assert 0 == spool.waiting_bytes
    assert Counts(written=3, flushed=3) == spool.counts
    read(spool, 4)
    await spool.flush(audit)
    await spool.flush(audit)
    assert [1, 2, 3, 4] == audit.versions
    assert [3, 1] == audit.batches


async def test_a_lot_is_brought_over_in_batches_of_whole_lines(
    spool: Spool, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(spool, *range(100))
    monkeypatch.setattr(module, "_BATCH_BYTES", spool.waiting_bytes // 7)
    await spool.flush(audit)
    assert list(range(100)) == audit.versions
    assert 7 <= len(audit.batches) <= 9


async def test_what_is_noted_while_others_are_brought_over_waits_for_the_next_time(spool: Spool, audit: Audit) -> None:
    add, versions = audit.add, iter(range(2, 100))

    async def add_while_somebody_reads(events: Sequence[Event]) -> None:
        read(spool, next(versions))
        await add(events)

    audit.add = add_while_somebody_reads  # type: ignore[method-assign]  # looked at on its way
    read(spool, 1)
    for brought in ([1], [1, 2], [1, 2, 3]):
        await spool.flush(audit)
        assert brought == audit.versions


async def test_a_full_file_is_followed_by_another_and_removed_when_all_of_it_is_brought_over(
    host: Host, audit: Audit
) -> None:
    spool = host.start(segment_bytes=1)
    for version in range(5):
        read(spool, version)
    assert 5 == len(host.files)
    audit.fails = VaultUnavailable()
    with pytest.raises(VaultUnavailable):
        await spool.flush(audit)
    assert 5 == len(host.files)
    audit.fails = None
    await spool.flush(audit)
    assert list(range(5)) == audit.versions
    assert [spool._current.path] == host.files
    assert 0 == spool.waiting_bytes


async def test_a_database_that_is_away_leaves_everything_where_it_is(spool: Spool, host: Host, audit: Audit) -> None:
    read(spool, 1, 2)
    content = host.content
    for late in (False, True):
        audit.fails, audit.late = VaultUnavailable(), late
        with pytest.raises(VaultUnavailable):
            await spool.flush(audit)
        assert (content, len(content), 0) == (host.content, spool.waiting_bytes, spool.counts.flushed)
    read(spool, 3)
    audit.fails = None
    await spool.flush(audit)
    assert [1, 2, 3] == audit.versions


async def test_flushing_goes_on_for_ever_and_says_once_that_it_waits(
    spool: Spool, audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0
    add = audit.add

    async def counted(events: Sequence[Event]) -> None:
        nonlocal attempts
        attempts += 1
        await add(events)

    audit.add = counted  # type: ignore[method-assign]  # looked at on its way
    audit.fails = VaultUnavailable()
    read(spool, 1)
    async with running(spool.keep_flushing(audit, every=0)):
        await until(lambda: attempts > 5)
        audit.fails = None
        await until(lambda: [1] == audit.versions)
        audit.fails = VaultUnavailable()
        read(spool, 2)
        before = attempts
        await until(lambda: attempts > before + 5)
    waits = [record for record in caplog.records if record.message == "the audit spool waits for the database"]
    assert ["VAULT_UNAVAILABLE"] * 2 == [vars(record)["reason"] for record in waits]


@pytest.mark.parametrize(("first", "every", "while_busy"), [(100, 3600, 0), (99, 0, 3600)])
async def test_the_pause_before_the_next_flush_depends_on_how_much_there_was(
    spool: Spool, audit: Audit, first: int, every: float, while_busy: float
) -> None:
    read(spool, *range(first))
    async with running(spool.keep_flushing(audit, every=every, while_busy=while_busy)):
        await until(lambda: spool.counts.flushed == first)
        read(spool, first)
        await until(lambda: spool.counts.flushed == first + 1)


async def test_whatever_the_audit_raises_flushing_goes_on(
    spool: Spool, audit: Audit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0)
    read(spool, 1)
    audit.fails = RuntimeError("a mistake")
    async with running(spool.keep_flushing(audit, every=0)):
        await until(lambda: len(caplog.records) > 2)
        audit.fails = None
        await until(lambda: [1] == audit.versions)
    assert {("ERROR", "the audit does not take events")} == {(r.levelname, r.message) for r in caplog.records}
    assert caplog.records[0].exc_info
    assert caplog.records[0].exc_info[1] is not None


# Dead processes, and live ones


async def test_what_a_killed_process_wrote_is_brought_over_by_the_next(
    host: Host, audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dead = host.start()
    read(dead, 1, 2)
    host.kill(dead)
    spool = host.start()
    read(spool, 3)
    await spool.flush(audit)
    assert [1, 2, 3] == audit.versions
    assert Counts(written=1, flushed=3, replayed=2) == spool.counts
    assert [spool._current.path] == host.files
    assert ["taking over an audit spool that another process left"] == [record.message for record in caplog.records]


async def test_what_was_brought_over_already_is_there_once(host: Host, audit: Audit) -> None:
    dead = host.start()
    read(dead, 1, 2)
    audit.fails, audit.late = VaultUnavailable(), True
    with pytest.raises(VaultUnavailable):
        await dead.flush(audit)
    host.kill(dead)
    audit.fails = None
    await host.start().flush(audit)
    assert [1, 2] == audit.versions


async def test_the_files_of_a_killed_process_are_brought_over_in_the_order_in_which_it_wrote_them(
    host: Host, audit: Audit
) -> None:
    dead = host.start(segment_bytes=1)
    for version in range(40):
        read(dead, version)
    host.kill(dead)
    spool = host.start()
    read(spool, 40)
    await spool.flush(audit)
    assert list(range(41)) == audit.versions


@pytest.mark.parametrize("cut", [1, 20, -1])
async def test_a_line_that_a_killed_process_did_not_finish_is_none(host: Host, audit: Audit, cut: int) -> None:
    dead = host.start()
    read(dead, 1)
    read(dead, 2)
    whole, unfinished = host.disk.writes
    [file] = host.files
    host.kill(dead)
    file.write_bytes(whole + unfinished[:cut])
    spool = host.start()
    await spool.flush(audit)
    assert [1] == audit.versions
    assert [spool._current.path] == host.files


@pytest.mark.parametrize(
    "line",
    [
        b"canary",
        b"[]",
        b"{}",
        b"null",
        b'"ten chars!"',
        b"\xff\xfe",
        b"[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]",
        b'["no uuid", "acme", 1, "p", "", "a", "vapi", 1, "ok", ""]',
        b'["00000000000000000000000000000000", "acme", 1e300, "p", "", "a", "vapi", 1, "ok", ""]',
        b'["00000000000000000000000000000000", "acme", "soon", "p", "", "a", "vapi", 1, "ok", ""]',
    ],
)
async def test_a_line_that_is_none_does_not_hold_up_the_others(
    host: Host, audit: Audit, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    dead = host.start()
    read(dead, 1)
    read(dead, 2)
    [file] = host.files
    host.kill(dead)
    first, second = host.disk.writes
    file.write_bytes(first + line + b"\n\n" + second)
    await host.start().flush(audit)
    assert [1, 2] == audit.versions
    assert "canary" not in caplog.text
    assert ["a line of the audit spool is none"] == [r.message for r in caplog.records if r.levelname == "ERROR"]


async def test_two_living_processes_leave_each_others_files_alone(host: Host, audit: Audit) -> None:
    one, other = host.start(segment_bytes=1), host.start(segment_bytes=1)
    for version in (1, 2):
        read(one, version)
        read(other, version * 10)
    mine, theirs = Audit(), Audit()
    await one.flush(mine)
    assert [1, 2] == mine.versions
    assert one.counts.replayed == 0
    await other.flush(theirs)
    assert [10, 20] == theirs.versions
    assert {one._current.path, other._current.path} == set(host.files)


async def test_a_file_that_its_owner_is_just_done_with_is_not_taken_over(
    host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is seen, and then it is gone: before it is opened, or before it is locked."""
    lock, open_file = fcntl.flock, os.open
    spool = host.start()
    for gone in ("before it is opened", "before it is locked"):
        owner = host.start()
        path = owner._current.path
        read(owner, 1)
        await owner.flush(Audit())

        def opening(file: Any, *rest: Any, owner: Spool = owner, path: Path = path, gone: str = gone) -> int:
            if file == path and gone == "before it is opened" and owner in host.alive:
                host.stop(owner)
            return open_file(file, *rest)

        def locking(handle: int, how: int, owner: Spool = owner, gone: str = gone) -> None:
            if gone == "before it is locked" and owner in host.alive:
                host.stop(owner)
            lock(handle, how)

        with monkeypatch.context() as patched:
            patched.setattr(os, "open", opening)
            patched.setattr(fcntl, "flock", locking)
            await spool.flush(audit)
        assert owner not in host.alive
        assert [spool._current.path] == host.files
    assert ([], 0) == (audit.batches, spool.counts.replayed)


async def test_a_new_file_is_not_there_for_others_before_it_is_locked(
    host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, lock = host.start(), fcntl.flock
    looked = []

    def look(handle: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        other._take_over()
        looked.append(len(other._waiting))
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", look)
    spool = host.start()
    assert [0] == looked
    read(spool, 1)
    await spool.flush(audit)
    assert [1] == audit.versions


async def test_a_file_that_cannot_be_opened_does_not_hold_up_the_others_and_is_told_of_once(
    host: Host, audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    spool = host.start()
    host.folder.joinpath("0.spool").mkdir()
    read(spool, 1)
    await spool.flush(audit)
    read(spool, 2)
    await spool.flush(audit)
    assert [1, 2] == audit.versions
    [record] = caplog.records
    assert "an audit spool that another process left cannot be opened" == record.message


def test_what_is_not_brought_over_is_left_by_a_process_that_ends_and_the_rest_is_not(host: Host) -> None:
    spool = host.start(segment_bytes=1)
    host.stop(spool)
    assert [] == host.files
    spool = host.start(segment_bytes=1)
    read(spool, 1)
    read(spool, 2)
    host.stop(spool)
    assert 2 == len(host.files)


async def test_at_the_end_what_is_left_is_brought_over(host: Host, audit: Audit) -> None:
    spool = host.start()
    host.alive.remove(spool)
    async with spool.flushed_into(audit):
        read(spool, 1)
    assert [1] == audit.versions
    assert [] == host.files


@pytest.mark.parametrize("error", [VaultUnavailable(), RuntimeError("a mistake"), None], ids=repr)
async def test_what_cannot_be_brought_over_at_the_end_waits_for_the_next_start(
    host: Host, audit: Audit, caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    class Hanging(Audit):
        async def add(self, events: Sequence[Event]) -> None:
            await asyncio.Event().wait()

    spool = host.start()
    host.alive.remove(spool)
    audit.fails = error
    async with spool.flushed_into(Hanging() if error is None else audit, patience=0.01):
        read(spool, 1)
    [record] = [r for r in caplog.records if r.message == "what is left in the audit spool waits for the next start"]
    assert vars(record)["cause"] == (type(error).__name__ if error else "TimeoutError")
    audit.fails = None
    await host.start().flush(audit)
    assert [1] == audit.versions


async def test_an_error_of_the_body_passes_and_nothing_is_lost(host: Host, audit: Audit) -> None:
    spool = host.start()
    host.alive.remove(spool)

    async def body() -> None:
        async with spool.flushed_into(audit):
            read(spool, 1)
            raise ValueError("the body's own")

    with pytest.raises(ValueError, match="the body's own"):
        await body()
    assert [1] == audit.versions


async def test_while_the_body_runs_it_is_synced_and_flushed(host: Host, audit: Audit, disk: Disk) -> None:
    spool = host.start()
    host.alive.remove(spool)
    async with spool.flushed_into(audit):
        read(spool, 1)
        await until(lambda: [1] == audit.versions and bool(disk.syncs))


# No audit, no plaintext


@pytest.mark.parametrize(
    ("room", "error"), [(0, FULL), (70, FULL), (None, FULL), (0, BROKEN), (70, BROKEN), (70, None)]
)
async def test_a_write_that_fails_is_refused_and_nothing_of_it_remains(
    spool: Spool, host: Host, audit: Audit, disk: Disk, room: int | None, error: OSError | None
) -> None:
    read(spool, 1)
    content = host.content
    disk.room, disk.fails = room, error
    refused(spool, 2, 3)
    assert (content, len(content)) == (host.content, spool.waiting_bytes)
    assert Counts(written=1, refused=1) == spool.counts
    disk.heal()
    read(spool, 4)
    await spool.flush(audit)
    assert [1, 4] == audit.versions


async def test_a_part_of_a_line_that_cannot_be_taken_back_spoils_nothing_that_comes_after_it(
    spool: Spool, host: Host, audit: Audit, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int, __: int) -> None:
        raise BROKEN

    read(spool, 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", broken)
        disk.room = 70
        refused(spool, 2)
        disk.heal()
        read(spool, 3)
    read(spool, 4)
    assert 2 == len(host.files)
    before = dict(audit.events)
    await spool.flush(audit)
    assert ([1, 3, 4], {}) == (audit.versions, before)
    assert [spool._current.path] == host.files


async def test_a_part_of_a_line_that_could_not_be_taken_back_is_none_after_a_kill_either(
    host: Host, audit: Audit, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int, __: int) -> None:
        raise BROKEN

    spool = host.start()
    read(spool, 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", broken)
        disk.room = 70
        refused(spool, 2)
        disk.heal()
        read(spool, 3)
    host.kill(spool)
    await host.start().flush(audit)
    assert [1, 3] == audit.versions


def test_a_file_that_cannot_be_begun_is_refused_and_the_last_one_goes_on(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = host.start(segment_bytes=1)
    read(spool, 1)

    def full(*_: Any) -> int:
        raise FULL

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        refused(spool, 2)
    assert "it cannot be written: No space left on device" == spool._broken
    read(spool, 3)
    assert [1, 3] == [json.loads(line)[7] for line in host.content.splitlines()]


async def test_a_write_that_takes_too_long_is_refused_although_it_is_written(
    spool: Spool, host: Host, audit: Audit, disk: Disk
) -> None:
    disk.takes = BOUND
    read(spool, 1)
    disk.takes = BOUND + 0.1
    refused(spool, 2)
    assert host.content.endswith(b"\n")
    disk.heal()
    await synced(spool)
    read(spool, 3)
    # One too many does no harm.
    await spool.flush(audit)
    assert [1, 2, 3] == audit.versions


async def test_when_too_much_waits_it_is_refused_until_some_of_it_is_brought_over(host: Host, audit: Audit) -> None:
    spool = host.start()
    read(spool, 1)
    size = spool.waiting_bytes
    spool._max_bytes = 2 * size
    read(spool, 2)
    refused(spool, 3)
    assert "too much waits for the database" == spool._broken
    assert 2 * size == spool.waiting_bytes == len(host.content)
    audit.fails = VaultUnavailable()
    with pytest.raises(VaultUnavailable):
        await spool.flush(audit)
    refused(spool, 3)
    audit.fails = None
    await spool.flush(audit)
    read(spool, 4)
    await spool.flush(audit)
    assert [1, 2, 4] == audit.versions


async def test_what_dead_processes_left_counts_as_waiting(host: Host, audit: Audit) -> None:
    dead = host.start()
    read(dead, *range(10))
    waiting = dead.waiting_bytes
    host.kill(dead)
    spool = host.start(max_bytes=waiting)
    audit.fails = VaultUnavailable()
    with pytest.raises(VaultUnavailable):
        await spool.flush(audit)
    assert waiting == spool.waiting_bytes
    refused(spool, 1)


def test_each_new_trouble_is_logged_once(spool: Spool, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    for disk.fails in (FULL, FULL, BROKEN, BROKEN, None, BROKEN):
        if disk.fails is None:
            read(spool, 1)
        else:
            refused(spool, 1)
    assert ["No space left on device", "Input/output error", "Input/output error"] == [
        vars(record)["cause"].removeprefix("it cannot be written: ") for record in caplog.records
    ]
    assert 5 == spool.counts.refused


# What keeps it from being ready


async def test_nothing_is_wrong_with_a_spool_that_can_be_written(spool: Spool, host: Host, audit: Audit) -> None:
    assert "" == spool.trouble
    read(spool, 1)
    await spool.flush(audit)
    assert "" == spool.trouble
    assert 1 == len(host.disk.writes)


@pytest.mark.parametrize("error", [FULL, BROKEN])
async def test_what_could_not_be_written_is_tried_again_when_somebody_asks(
    spool: Spool, audit: Audit, disk: Disk, error: OSError
) -> None:
    """Nobody reads while a process is not ready: it would never find out that it can write again."""
    read(spool, 1)
    await synced(spool)
    disk.fails = error
    refused(spool, 2)
    assert f"it cannot be written: {error.strerror}" == spool.trouble
    disk.fails, disk.room = None, 0
    assert "it cannot be written: no space is left" == spool.trouble
    disk.room, disk.takes = None, BOUND + 1
    assert "a write took too long" == spool.trouble
    disk.heal()
    await synced(spool)
    assert ("", "") == (spool.trouble, spool.trouble)
    read(spool, 3)
    await spool.flush(audit)
    # What was tried is no event.
    assert [1, 3] == audit.versions
    assert (0, 1) == (spool.waiting_bytes, spool.counts.refused)


async def test_a_file_with_nothing_but_what_was_tried_is_done_with(host: Host, audit: Audit, disk: Disk) -> None:
    spool = host.start()
    disk.fails = FULL
    refused(spool, 1)
    disk.heal()
    assert "" == spool.trouble
    await spool.flush(audit)
    assert ([], 0) == (audit.batches, spool.waiting_bytes)


# Syncing


async def test_what_was_written_is_synced_and_nothing_else_is(host: Host, spool: Spool, disk: Disk) -> None:
    async with running(spool.keep_syncing(every=0)):
        for _ in range(5):
            await asyncio.sleep(0)
        assert [] == disk.syncs
        read(spool, 1)
        await until(lambda: [host.files[0].stat().st_ino] == disk.syncs and is_synced(spool))
        for _ in range(5):
            await asyncio.sleep(0)
        assert 1 == len(disk.syncs)


async def test_every_file_that_waits_is_synced_though_it_is_done_with_meanwhile(
    host: Host, audit: Audit, disk: Disk
) -> None:
    spool = host.start(segment_bytes=1)
    disk.sync_gate.clear()
    for version in (1, 2, 3):
        read(spool, version)
    inodes = [file.stat().st_ino for file in host.files]
    async with running(spool.keep_syncing(every=0)):
        await until(lambda: bool(disk.syncs))
        await spool.flush(audit)
        assert 1 == len(host.files)
        disk.sync_gate.set()
        await until(lambda: inodes == disk.syncs)


async def test_no_file_stays_open_behind_a_sync(spool: Spool, disk: Disk) -> None:
    handles = open_files()
    disk.sync_fails = BROKEN
    read(spool, 1)
    async with running(spool.keep_syncing(every=0)):
        await until(lambda: len(disk.syncs) > 3)
        disk.sync_fails = None
        await until(lambda: is_synced(spool))
    assert handles == open_files()


async def test_a_sync_that_fails_is_tried_again_and_beyond_the_bound_it_is_refused(
    spool: Spool, disk: Disk, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    disk.sync_fails = BROKEN
    read(spool, 1)
    async with running(spool.keep_syncing(every=0)):
        await until(lambda: len(disk.syncs) > 2)
        clock.now += BOUND
        read(spool, 2)
        clock.now += 0.1
        assert "the disk does not take it in time" == spool.trouble
        refused(spool, 3)
        disk.sync_fails = None
        await until(lambda: not spool.trouble)
        read(spool, 4)
    assert "the audit spool cannot be synced" in caplog.messages


async def test_a_sync_that_hangs_is_noticed_by_the_first_read_beyond_the_bound(
    spool: Spool, disk: Disk, clock: Clock
) -> None:
    disk.sync_gate.clear()
    read(spool, 1)
    async with running(spool.keep_syncing(every=0)):
        await until(lambda: bool(disk.syncs))
        clock.now += BOUND
        read(spool, 2)
        clock.now += 0.1
        assert "the disk does not take it in time" == spool.trouble
        refused(spool, 3)
        disk.sync_gate.set()
        await until(lambda: not spool.trouble)
        read(spool, 4)


def test_how_long_the_disk_takes_counts_from_the_first_read_that_it_has_not_taken(spool: Spool, clock: Clock) -> None:
    for version in range(6):
        read(spool, version)
        clock.now += 1.0
    refused(spool, 6)


async def test_a_process_without_a_free_handle_goes_on_syncing_when_it_has_one(
    host: Host, disk: Disk, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = host.start(segment_bytes=1)
    read(spool, 1)
    read(spool, 2)
    handles, duplicate, asked = open_files(), os.dup, []

    def one_handle_left(handle: int) -> int:
        asked.append(handle)
        if len(asked) % 2 == 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return duplicate(handle)

    async with running(spool.keep_syncing(every=0)):
        with monkeypatch.context() as patched:
            patched.setattr(os, "dup", one_handle_left)
            await until(lambda: len(asked) > 5)
            assert [] == disk.syncs
            clock.now += BOUND + 0.1
            refused(spool, 3)
        await until(lambda: not spool.trouble and is_synced(spool))
    assert handles - 2 + len(host.files) == open_files()


async def test_a_process_without_a_free_thread_goes_on_syncing_when_it_has_one(
    host: Host,
    spool: Spool,
    disk: Disk,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handles, asked = open_files(), []

    def no_thread_left(thread: threading.Thread) -> None:
        asked.append(thread)
        raise RuntimeError("can't start new thread")

    read(spool, 1)
    async with running(spool.keep_syncing(every=0)):
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread_left)
            await until(lambda: len(asked) > 3)
            assert handles == open_files()
            assert [] == disk.syncs
            clock.now += BOUND + 0.1
            refused(spool, 2)
        await until(lambda: not spool.trouble and is_synced(spool))
        assert {host.files[0].stat().st_ino} == set(disk.syncs)
        read(spool, 3)
    assert handles == open_files()
    assert "the audit spool cannot be synced" in caplog.messages


async def test_work_of_the_spool_that_ends_is_told_of(
    host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = host.start()
    host.alive.remove(spool)

    async def ends(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Spool, "keep_syncing", ends)
    async with spool.flushed_into(audit):
        await until(lambda: "work in the background ended" in caplog.messages)


# Everything in any order


class SpoolMachine(RuleBasedStateMachine):
    """Reads, flushes, failures of the disk and of the database, kills and restarts in any order.

    Whatever happens, each read that was acknowledged is in the audit in the end, once, and in the order in which its
    process noted it; and nothing is there that no process tried to note.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.disk = Disk(self.clock)
        self.audit = Audit()
        self.folder = Path(tempfile.mkdtemp())
        self.host = Host(self.folder, self.clock, self.disk)
        self.truncate, self.batch = os.ftruncate, module._BATCH_BYTES
        self.truncates = True
        os.ftruncate = self.cut  # put back in teardown
        module._BATCH_BYTES = 800  # type: ignore[misc]  # put back in teardown
        logging.disable(logging.ERROR)
        self.noted = 0
        self.acknowledged: dict[int, list[int]] = {}
        self.processes: dict[int, int] = {}
        self.start()

    def teardown(self) -> None:
        try:
            self.heal()
            for spool in list(self.host.alive):
                self.host.kill(spool)
            last = self.host.start()
            self.runner.run(last.flush(self.audit))
            self.look_at_all()
            assert [last._current.path] == self.host.files
            self.host.kill(last)
        finally:
            os.ftruncate, module._BATCH_BYTES = self.truncate, self.batch  # type: ignore[misc]
            logging.disable(logging.NOTSET)
            shutil.rmtree(self.folder)
            self.runner.close()

    def look_at_all(self) -> None:
        arrived = self.audit.versions
        assert len(arrived) == len(set(arrived)) == len(self.audit.events)
        assert set(arrived) <= set(range(self.noted))
        for versions in self.acknowledged.values():
            assert versions == [version for version in arrived if version in set(versions)]

    def cut(self, handle: int, size: int) -> None:
        if not self.truncates:
            raise BROKEN
        self.truncate(handle, size)

    def heal(self) -> None:
        self.disk.heal()
        self.truncates, self.audit.fails, self.audit.late = True, None, False

    def start(self) -> Spool:
        spool = self.host.start(segment_bytes=600, max_bytes=6000)
        self.processes[id(spool)] = len(self.acknowledged)
        self.acknowledged[len(self.acknowledged)] = []
        # In the order of their beginning: a later one has a later name.
        self.clock.now += 1
        return spool

    # One rule, since rules of their own would be left out of most runs, and each needs the others.
    @rule(
        what=st.sampled_from(
            [*["read"] * 6, *["flush"] * 3, *["fail"] * 2, "heal", *["kill"] * 2, "stop", "ask", "away"]
        ),
        number=st.integers(1, 4),
        which=st.integers(0, 1),
        room=st.sampled_from([None, 0, 1, 50, 200, 10_000]),
        error=st.sampled_from([None, FULL, BROKEN]),
        takes=st.sampled_from([0.0, 0.0, BOUND + 1]),
        yes=st.booleans(),
    )
    def something_happens(
        self, what: str, number: int, which: int, room: int | None, error: OSError | None, takes: float, *, yes: bool
    ) -> None:
        while len(self.host.alive) <= which:
            self.start()
        spool = self.host.alive[which]
        match what:
            case "read":
                self.read(spool, number)
            case "flush":
                self.flush(spool)
            case "fail":
                self.disk.room, self.disk.fails, self.disk.takes, self.truncates = room, error, takes, yes
            case "heal":
                self.heal()
            case "kill":
                self.kill(spool, torn=yes)
            case "stop":
                self.host.stop(spool)
            case "ask":
                # It may find that it is well again.
                assert isinstance(spool.trouble, str)
            case _:
                self.audit.fails, self.audit.late = VaultUnavailable(), yes

    def read(self, spool: Spool, number: int) -> None:
        versions = list(range(self.noted, self.noted + number))
        self.noted += number
        try:
            read(spool, *versions)
        except AuditUnavailable:
            return
        self.acknowledged[self.processes[id(spool)]] += versions

    def kill(self, spool: Spool, *, torn: bool) -> None:
        """Kill a process, perhaps in the middle of a write."""
        segment = spool._current
        self.host.kill(spool)
        if torn:
            with segment.path.open("ab") as file:
                file.write(b'["0123456789abcdef0123456789abcdef", "acme", 1')

    def flush(self, spool: Spool) -> None:
        try:
            self.runner.run(spool.flush(self.audit))
        except VaultUnavailable:
            return
        assert 0 == spool.waiting_bytes
        self.look_at(spool)

    def look_at(self, spool: Spool) -> None:
        mine = self.acknowledged[self.processes[id(spool)]]
        assert mine == [version for version in self.audit.versions if version in set(mine)]


SpoolMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestSpoolAgainstItsModel = SpoolMachine.TestCase
