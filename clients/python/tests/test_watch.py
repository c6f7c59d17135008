"""What a watch says reaches the memory in its order, and an end is followed by the next watch."""

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tenantvault import CacheSettings
from tenantvault._cache import Cache
from tenantvault._watch import LONGEST, Watching, WatchThread, watch
from tenantvault.v1 import access_service_pb2 as access

HEARTBEAT = access.WatchChangesResponse(heartbeat=access.Heartbeat())
RESYNC = access.WatchChangesResponse(resync=access.Resync())


def change(org_id: str, generation: int) -> access.WatchChangesResponse:
    return access.WatchChangesResponse(change=access.Change(org_id=org_id, generation=generation))


@pytest.fixture
def cache(clock: Any) -> Cache[str]:
    return Cache(CacheSettings(), clock)


def keep(cache: Cache[str], org_id: str = "acme", generation: int = 3) -> None:
    cache.keep(org_id, "a", cache.asked(), org_id=org_id, generation=generation, size=1)


@pytest.fixture
def watching(cache: Cache[str]) -> Watching:
    return Watching(cache, chance=lambda: 1.0)


def test_words_are_told_in_their_order(cache: Cache[str], watching: Watching) -> None:
    assert watching.heard(HEARTBEAT)
    keep(cache)
    keep(cache, "globex")
    assert watching.heard(change("acme", 4))

    assert [None, "a"] == [cache.hit("acme"), cache.hit("globex")]


@pytest.mark.parametrize("word", [RESYNC, access.WatchChangesResponse()])
def test_a_resync_and_what_is_not_known_here_forget_everything(
    cache: Cache[str], watching: Watching, word: access.WatchChangesResponse
) -> None:
    watching.heard(HEARTBEAT)
    keep(cache)
    assert watching.heard(word)
    watching.heard(HEARTBEAT)

    assert cache.hit("acme") is None


def test_a_new_watch_is_told_what_is_known(cache: Cache[str], watching: Watching) -> None:
    watching.heard(HEARTBEAT)
    keep(cache)
    watching.ended()

    assert access.WatchChangesRequest(known=[access.KnownOrg(org_id="acme", generation=3)]) == watching.request()


def test_a_watch_that_was_silent_too_long_is_begun_anew(watching: Watching, clock: Any) -> None:
    watching.heard(HEARTBEAT)
    clock.now += 3

    assert not watching.heard(HEARTBEAT)


def test_a_watch_that_nobody_wants_ends_with_the_next_word(cache: Cache[str]) -> None:
    assert not Watching(cache, wanted=lambda: False).heard(HEARTBEAT)


def test_the_pause_doubles_up_to_a_bound_and_a_watch_that_lasts_makes_it_short_again(
    cache: Cache[str], watching: Watching
) -> None:
    pauses = [watching.ended(grpc.StatusCode.UNAVAILABLE) for _ in range(9)]
    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0] == pauses

    for _ in range(2):
        watching.heard(HEARTBEAT)
        assert 10.0 == watching.ended()
    watching.heard(HEARTBEAT)
    watching.heard(HEARTBEAT)
    assert 0.1 == watching.ended()
    assert 0.01 == pytest.approx(Watching(cache, chance=lambda: 0.0).ended())


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED"])
def test_a_refused_watch_is_said_once_and_seldom_asked_for_again(
    watching: Watching, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    with caplog.at_level(logging.WARNING):
        pauses = [watching.ended(grpc.StatusCode[code]) for _ in range(2)]

    assert [300.0, 300.0] == pauses
    (record,) = caplog.records
    assert "may not watch" in record.getMessage()


def test_an_end_gives_nothing_from_memory_until_the_next_heartbeat(cache: Cache[str], watching: Watching) -> None:
    watching.heard(HEARTBEAT)
    keep(cache)
    watching.ended()
    assert cache.hit("acme") is None
    watching.heard(HEARTBEAT)

    assert "a" == cache.hit("acme")


class Script:
    """Watches one after the other: each says its words, then ends, with an error or without; the last is held open.

    The word `none` stands for a watch that does not even begin.
    """

    def __init__(self, *watches: tuple[list[Any], Any]) -> None:
        self._watches = list(watches)
        self.requests: list[Any] = []
        self.options: list[Any] = []
        self.held = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, request: Any, **options: Any) -> "Script":
        self.requests.append(request)
        self.options.append(options)
        if self._watches and self._watches[0][0] == ["none"]:
            raise self._watches.pop(0)[1]
        return self

    def cancel(self) -> bool:
        if self.held.is_set():
            self.let_go.set()
        return True

    def __iter__(self) -> Iterator[Any]:
        if not self._watches:
            self.held.set()
            self.let_go.wait()
            raise Failed(grpc.StatusCode.CANCELLED)
        words, code = self._watches.pop(0)
        yield from words
        if isinstance(code, Exception):
            raise code
        if code is not None:
            raise Failed(code)

    async def __aiter__(self) -> AsyncIterator[Any]:
        if not self._watches:
            self.held.set()
            await asyncio.get_running_loop().create_future()
        words, code = self._watches.pop(0)
        for word in words:
            yield word
        if isinstance(code, Exception):
            raise code
        if code is not None:
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


class Failed(grpc.RpcError):
    """How a blocking watch fails."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


Run = Callable[[Script, Watching], Any]


@pytest.fixture(params=["task", "thread"])
def run(request: pytest.FixtureRequest) -> Run:
    """Watches until the last watch is held, and ends it."""

    def thread(script: Script, watching: Watching) -> None:
        watched = WatchThread(script, watching)
        watched.start()
        script.held.wait()
        watched.stop()
        assert not watched._thread.is_alive()

    async def task(script: Script, watching: Watching) -> None:
        watched = asyncio.create_task(watch(script, watching))
        await asyncio.to_thread(script.held.wait)
        watched.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watched

    return (lambda script, watching: asyncio.run(task(script, watching))) if request.param == "task" else thread


@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_a_watch_that_ended_is_taken_up_again_with_what_is_known(cache: Cache[str], run: Run, code: Any) -> None:
    told: list[str] = []

    class Keeping(Watching):
        def heard(self, message: access.WatchChangesResponse) -> bool:
            go_on = super().heard(message)
            told.append(str(message.WhichOneof("event")))
            if message.HasField("heartbeat"):
                keep(cache)
            return go_on

    script = Script(([HEARTBEAT], code))
    run(script, Keeping(cache, chance=lambda: 0.0))

    assert ["heartbeat"] == told
    assert [[], [("acme", 3)]] == [
        [(org.org_id, org.generation) for org in request.known] for request in script.requests
    ]
    assert {"timeout": LONGEST, "wait_for_ready": True} == script.options[0]
    # Nothing has been heard since.
    assert cache.hit("acme") is None
    assert 2 == cache.statistics.watches


@pytest.mark.parametrize("words", [[HEARTBEAT], ["none"]])
def test_a_watch_that_fails_by_no_status_is_taken_up_again_and_that_is_said_once_without_its_text(
    cache: Cache[str], run: Run, words: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    paused: list[float] = []

    class Pausing(Watching):
        def ended(self, code: grpc.StatusCode | None = None) -> float:
            paused.append(super().ended(code))
            return 0.0

    script = Script((words, RuntimeError("foreign text")), (words, RuntimeError("foreign text")))
    run(script, Pausing(cache, chance=lambda: 1.0))

    assert 3 == len(script.requests)
    assert [0.1, 0.2] == paused[:2]
    (record,) = caplog.records
    assert "RuntimeError" in record.getMessage()
    assert "foreign text" not in caplog.text
    assert cache.hit("acme") is None


def test_a_watch_that_is_not_believed_any_more_is_begun_anew_and_not_read_to_its_end(
    cache: Cache[str], run: Run, clock: Any
) -> None:
    class Late(Watching):
        def heard(self, message: access.WatchChangesResponse) -> bool:
            go_on = super().heard(message)
            clock.now += 3
            return go_on

    script = Script(([HEARTBEAT, HEARTBEAT, change("acme", 9)], None))
    run(script, Late(cache, chance=lambda: 0.0))

    assert 2 == len(script.requests)
    assert 0 == cache._generations.newest("acme")


def test_a_thread_that_is_stopped_in_its_pause_ends_at_once(cache: Cache[str]) -> None:
    paused = threading.Event()

    class Long(Watching):
        def ended(self, code: grpc.StatusCode | None = None) -> float:
            super().ended(code)
            paused.set()
            return 600.0

    watched = WatchThread(Script(([], None)), Long(cache))
    watched.start()
    paused.wait()
    watched.stop()


def test_a_thread_that_is_stopped_before_it_watches_does_not_begin(cache: Cache[str]) -> None:
    script = Script()

    class Slow(Watching):
        def request(self) -> access.WatchChangesRequest:
            watched._over.set()
            return super().request()

    watched = WatchThread(script, Slow(cache))
    watched.start()
    watched.stop()

    assert [] == script.requests


@pytest.mark.parametrize("kind", ["task", "thread"])
def test_a_watch_ends_when_nobody_has_the_client_any_more(cache: Cache[str], kind: str) -> None:
    class Client:
        pass

    client = Client()
    there = weakref.ref(client)
    told: list[Any] = []

    class Telling(Watching):
        def heard(self, message: access.WatchChangesResponse) -> bool:
            nonlocal client
            told.append(message)
            if len(told) == 2:
                del client
                gc.collect()
            return super().heard(message)

    watching = Telling(cache, wanted=lambda: there() is not None, chance=lambda: 0.0)
    script = Script(([HEARTBEAT] * 5, None))
    if kind == "thread":
        watched = WatchThread(script, watching)
        watched.start()
        watched._thread.join()
    else:
        asyncio.run(watch(script, watching))

    assert 2 == len(told)
    assert 1 == len(script.requests)
