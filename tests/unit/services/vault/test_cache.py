import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.vault.cache import Cache, Key

ACME, GLOBEX = ("acme", "vapi"), ("globex", "vapi")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """What is loaded from; each load waits until the test lets it end."""

    def __init__(self) -> None:
        self.loads: list[asyncio.Future[str | None]] = []

    async def __call__(self) -> str | None:
        self.loads.append(asyncio.get_running_loop().create_future())
        return await self.loads[-1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache[str]:
    return Cache(entries=3, ttl_seconds=60, timer=clock)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture(autouse=True)
async def nothing_is_left_over() -> AsyncIterator[None]:
    """No error that nobody waited for reaches the loop's handler, not even from the garbage collector."""
    left_over: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left_over.append(context))
    yield
    await settle()
    gc.collect()
    assert [] == left_over


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def asked(cache: Cache[str], key: Key, source: Callable[[], Awaitable[str | None]]) -> "asyncio.Task[str | None]":
    task = asyncio.ensure_future(cache.get(key, source))
    await settle()
    return task


def giving(value: str | None) -> Callable[[], Awaitable[str | None]]:
    async def load() -> str | None:
        return value

    return load


async def never() -> str | None:
    raise AssertionError("nothing was to be loaded")


async def test_a_value_is_loaded_once(cache: Cache[str]) -> None:
    assert "v" == await cache.get(ACME, giving("v"))
    assert "v" == await cache.get(ACME, never)
    assert (1, 1) == (cache.counts.hits, cache.counts.misses)


async def test_what_is_not_there_is_asked_for_again(cache: Cache[str]) -> None:
    assert await cache.get(ACME, giving(None)) is None
    assert "v" == await cache.get(ACME, giving("v"))


async def test_keys_do_not_mix(cache: Cache[str]) -> None:
    for key in (ACME, GLOBEX, ("acme", "twilio")):
        assert str(key) == await cache.get(key, giving(str(key)))
    for key in (ACME, GLOBEX, ("acme", "twilio")):
        assert str(key) == await cache.get(key, never)


async def test_reads_of_one_key_at_the_same_time_are_one_read(cache: Cache[str], source: Source) -> None:
    readers = [await asked(cache, ACME, source) for _ in range(50)]
    [load] = source.loads
    load.set_result("v")
    assert ["v"] * 50 == await asyncio.gather(*readers)
    assert (1, 49) == (cache.counts.misses, cache.counts.joined)


async def test_reads_of_two_keys_at_the_same_time_are_two(cache: Cache[str], source: Source) -> None:
    readers = [await asked(cache, key, source) for key in (ACME, GLOBEX)]
    for load, value in zip(source.loads, ("a", "g"), strict=True):
        load.set_result(value)
    assert ["a", "g"] == list(await asyncio.gather(*readers))


async def test_a_value_is_let_go_when_its_time_is_up(cache: Cache[str], clock: Clock) -> None:
    await cache.get(ACME, giving("old"))
    clock.now += 59.9
    assert "old" == await cache.get(ACME, never)
    clock.now += 0.2
    assert "new" == await cache.get(ACME, giving("new"))


async def test_reading_does_not_prolong(cache: Cache[str], clock: Clock) -> None:
    await cache.get(ACME, giving("old"))
    for _ in range(6):
        clock.now += 9.99
        await cache.get(ACME, never)
    clock.now += 0.1
    assert "new" == await cache.get(ACME, giving("new"))


async def test_the_least_recently_used_goes_first(cache: Cache[str]) -> None:
    keys = [(f"org-{number}", "vapi") for number in range(4)]
    for key in keys[:3]:
        await cache.get(key, giving(key[0]))
    await cache.get(keys[0], never)
    await cache.get(keys[3], giving("new"))
    await cache.get(keys[0], never)
    assert "again" == await cache.get(keys[1], giving("again"))


async def test_what_is_forgotten_is_loaded_again(cache: Cache[str]) -> None:
    for key in (ACME, ("acme", "twilio"), GLOBEX):
        await cache.get(key, giving("old"))
    cache.forget("acme")
    assert "new" == await cache.get(ACME, giving("new"))
    assert "new" == await cache.get(("acme", "twilio"), giving("new"))
    assert "old" == await cache.get(GLOBEX, never)


async def test_forgetting_an_org_does_not_touch_one_whose_name_begins_alike(cache: Cache[str]) -> None:
    await cache.get(("acme-2", "vapi"), giving("v"))
    cache.forget("acme")
    assert "v" == await cache.get(("acme-2", "vapi"), never)


async def test_a_read_that_a_change_overtook_is_answered_and_not_kept(cache: Cache[str], source: Source) -> None:
    before = await asked(cache, ACME, source)
    cache.forget("acme")
    source.loads[0].set_result("old")
    assert "old" == await before
    assert "new" == await cache.get(ACME, giving("new"))
    assert 1 == cache.counts.dropped_fills


async def test_who_asks_after_a_change_does_not_join_a_read_from_before(cache: Cache[str], source: Source) -> None:
    before = await asked(cache, ACME, source)
    cache.forget("acme")
    after = await asked(cache, ACME, source)
    old, new = source.loads
    new.set_result("new")
    assert "new" == await after
    old.set_result("old")
    assert "old" == await before
    assert "new" == await cache.get(ACME, never)


async def test_an_overtaken_read_does_not_end_the_read_that_came_after(cache: Cache[str], source: Source) -> None:
    before = await asked(cache, ACME, source)
    cache.forget("acme")
    after = await asked(cache, ACME, source)
    old, new = source.loads
    old.set_result("old")
    assert "old" == await before
    joined = await asked(cache, ACME, source)
    assert 2 == len(source.loads)
    new.set_result("new")
    assert ("new", "new") == (await after, await joined)


async def test_an_error_reaches_all_who_waited_and_is_not_kept(cache: Cache[str], source: Source) -> None:
    readers = [await asked(cache, ACME, source) for _ in range(3)]
    source.loads[0].set_exception(OSError("away"))
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert ["OSError('away')"] * 3 == [repr(result) for result in results]
    assert "v" == await cache.get(ACME, giving("v"))


async def test_one_reader_that_gives_up_does_not_end_the_read_of_the_others(cache: Cache[str], source: Source) -> None:
    first, second = await asked(cache, ACME, source), await asked(cache, ACME, source)
    first.cancel()
    await settle()
    source.loads[0].set_result("v")
    assert "v" == await second
    assert first.cancelled()


async def test_a_read_that_nobody_waits_for_any_more_still_fills_the_cache(cache: Cache[str], source: Source) -> None:
    reader = await asked(cache, ACME, source)
    reader.cancel()
    await settle()
    source.loads[0].set_result("v")
    await settle()
    assert "v" == await cache.get(ACME, never)


async def test_an_error_that_nobody_waits_for_any_more_is_quiet(cache: Cache[str], source: Source) -> None:
    reader = await asked(cache, ACME, source)
    reader.cancel()
    await settle()
    source.loads.pop().set_exception(OSError("away"))
    await settle()


async def test_a_read_that_is_itself_cancelled_is_cleared_away(cache: Cache[str]) -> None:
    async def cancelled() -> str | None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await cache.get(ACME, cancelled)
    assert "v" == await cache.get(ACME, giving("v"))


@dataclass
class Load:
    key: Key
    number: int
    ended: asyncio.Future[int]
    failed: bool = False


@dataclass
class Reader:
    task: "asyncio.Task[int | None]"
    key: Key
    floor: int
    began: float


class CacheMachine(RuleBasedStateMachine):
    """Reads, answers, changes and cancellations in any order.

    Loads are numbered as they begin, and each gives its own number. Whoever asks after a change must get a number of a
    load that began after that change.
    """

    KEYS = st.sampled_from([ACME, ("acme", "twilio"), GLOBEX])

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.cache: Cache[int] = Cache(entries=2, ttl_seconds=60, timer=self.clock)
        self.loads: list[Load] = []
        self.readers: list[Reader] = []
        self.floors = {"acme": 0, "globex": 0}
        self.filled: dict[int, float] = {}

    def teardown(self) -> None:
        for load in self.open_loads():
            load.ended.cancel()
        self.runner.run(settle())
        self.runner.close()

    def open_loads(self) -> list[Load]:
        return [load for load in self.loads if not load.ended.done()]

    @rule(key=KEYS)
    def read(self, key: Key) -> None:
        async def load() -> int:
            begun = Load(key, len(self.loads), asyncio.get_running_loop().create_future())
            self.loads.append(begun)
            return await begun.ended

        async def read() -> None:
            task = asyncio.ensure_future(self.cache.get(key, load))
            self.readers.append(Reader(task, key, self.floors[key[0]], self.clock.now))
            await settle()

        self.runner.run(read())
        since = [load for load in self.open_loads() if load.key == key and load.number >= self.floors[key[0]]]
        assert len(since) <= 1, "two reads of one key are under way"

    @precondition(lambda self: self.open_loads())
    @rule(data=st.data(), fails=st.booleans())
    def answer(self, data: st.DataObject, *, fails: bool) -> None:
        load = data.draw(st.sampled_from(self.open_loads()))
        load.failed = fails
        if fails:
            load.ended.set_exception(OSError("away"))
        else:
            load.ended.set_result(load.number)
            self.filled[load.number] = self.clock.now
        self.runner.run(settle())

    @rule(org=st.sampled_from(["acme", "globex"]))
    def change(self, org: str) -> None:
        self.cache.forget(org)
        self.floors[org] = len(self.loads)

    @precondition(lambda self: any(not reader.task.done() for reader in self.readers))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from([reader for reader in self.readers if not reader.task.done()]))
        reader.task.cancel()
        self.runner.run(settle())
        self.readers.remove(reader)

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def whoever_was_answered_was_answered_well(self) -> None:
        for reader in [reader for reader in self.readers if reader.task.done()]:
            self.readers.remove(reader)
            error = reader.task.exception()
            if error is not None:
                assert isinstance(error, OSError)
                continue
            load = self.loads[reader.task.result() or 0]
            assert reader.key == load.key
            assert reader.floor <= load.number, "a value from before the change"
            assert self.filled[load.number] >= reader.began - 60, "a value whose time is up"

    @invariant()
    def the_cache_is_bounded_and_holds_no_ended_read(self) -> None:
        assert len(self.cache._values) <= 2
        assert len(self.cache._flights) <= len(self.open_loads())


CacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCacheAgainstItsModel = CacheMachine.TestCase
