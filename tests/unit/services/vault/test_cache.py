import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.vault import cache as module
from services.vault.cache import Cache, Key
from services.vault.fleet import Sync
from tenantvault.errors import VaultUnavailable

ACME, GLOBEX, ACME_TWILIO = ("acme", "vapi"), ("globex", "vapi"), ("acme", "twilio")
LEASE = 10.0
TTL = 60.0
ABSENT_TTL = 5.0
BOUND = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Thing:
    """A value; told apart by its text."""

    text: str
    org_id: str = "acme"
    generation: int = 1
    absent: bool = False
    away: bool = False


AWAY = Thing("away", absent=True, away=True)
NOTHING = Thing("nothing", absent=True)
NOBODYS = Thing("nothing", org_id="", absent=True)


class Source:
    """What is loaded from; each load waits until the test lets it end."""

    def __init__(self) -> None:
        self.loads: list[asyncio.Future[list[Thing]]] = []
        self.keys: list[list[Key]] = []

    async def many(self, keys: Sequence[Key]) -> list[Thing]:
        self.keys.append(list(keys))
        self.loads.append(asyncio.get_running_loop().create_future())
        return await self.loads[-1]

    async def one(self) -> Thing:
        [value] = await self.many([])
        return value

    def give(self, number: int, *texts: str) -> None:
        self.loads[number].set_result([Thing(text) for text in texts])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sync(clock: Clock) -> Sync:
    """The process knows of every change."""
    sync = Sync()
    sync.renew(clock.now, float("inf"))
    return sync


@pytest.fixture
def cache(clock: Clock, sync: Sync) -> Cache[Thing]:
    return Cache(
        entries=3, ttl_seconds=TTL, absent_seconds=ABSENT_TTL, max_staleness=BOUND, freshness=sync, timer=clock
    )


@pytest.fixture
def directory(clock: Clock, sync: Sync) -> Cache[Thing]:
    return Cache(
        entries=3,
        ttl_seconds=TTL,
        absent_seconds=ABSENT_TTL,
        max_staleness=BOUND,
        owned=False,
        freshness=sync,
        timer=clock,
    )


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
    gc.collect(1)
    assert [] == left_over


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


Asked = asyncio.Task[tuple[Thing, bool]]
AskedMany = asyncio.Task[list[tuple[Thing, bool]]]


async def asked(cache: Cache[Thing], key: Key, source: Source, max_staleness: float | None = None) -> Asked:
    task = asyncio.ensure_future(cache.get(key, source.one, max_staleness))
    await settle()
    return task


async def asked_many(cache: Cache[Thing], keys: Sequence[Key], source: Source) -> AskedMany:
    task = asyncio.ensure_future(cache.get_many(keys, source.many))
    await settle()
    return task


def giving(value: str | Thing) -> Callable[[], Awaitable[Thing]]:
    async def load() -> Thing:
        return Thing(value) if isinstance(value, str) else value

    return load


async def never() -> Thing:
    raise AssertionError("nothing was to be loaded")


async def never_many(_: Sequence[Key]) -> list[Thing]:
    raise AssertionError("nothing was to be loaded")


async def away() -> Thing:
    raise VaultUnavailable


async def read(
    cache: Cache[Thing],
    key: Key,
    load: Callable[[], Awaitable[Thing]] = never,
    max_staleness: float | None = None,
    *,
    stale: bool = False,
) -> str:
    """What is read, which is stale or not as the test says."""
    value, was_stale = await cache.get(key, load, max_staleness)
    assert stale is was_stale
    return value.text


def texts(read: list[tuple[Thing, bool]]) -> list[str]:
    assert not any(stale for _, stale in read)
    return [value.text for value, _ in read]


async def test_a_value_is_loaded_once(cache: Cache[Thing]) -> None:
    assert "v" == await read(cache, ACME, giving("v"))
    assert "v" == await read(cache, ACME)
    assert (1, 1) == (cache.counts.hits, cache.counts.misses)


async def test_a_cache_without_a_freshness_is_of_a_process_that_knows_all() -> None:
    cache: Cache[Thing] = Cache()
    assert "v" == await read(cache, ACME, giving("v"))
    assert "v" == await read(cache, ACME)
    assert "v" == await read(cache, ACME, max_staleness=0.001)


async def test_keys_do_not_mix(cache: Cache[Thing]) -> None:
    for key in (ACME, GLOBEX, ACME_TWILIO):
        assert str(key) == await read(cache, key, giving(str(key)))
    for key in (ACME, GLOBEX, ACME_TWILIO):
        assert str(key) == await read(cache, key)


async def test_reads_of_one_key_at_the_same_time_are_one_read(cache: Cache[Thing], source: Source) -> None:
    readers = [await asked(cache, ACME, source) for _ in range(50)]
    assert 1 == len(source.loads)
    source.give(0, "v")
    assert ["v"] * 50 == texts(await asyncio.gather(*readers))
    assert (1, 49) == (cache.counts.misses, cache.counts.joined)


async def test_reads_of_two_keys_at_the_same_time_are_two(cache: Cache[Thing], source: Source) -> None:
    readers = [await asked(cache, key, source) for key in (ACME, GLOBEX)]
    source.give(0, "a")
    source.give(1, "g")
    assert ["a", "g"] == texts(await asyncio.gather(*readers))


async def test_a_value_is_let_go_when_its_time_is_up(cache: Cache[Thing], clock: Clock) -> None:
    await read(cache, ACME, giving("old"))
    clock.now += TTL - 0.1
    assert "old" == await read(cache, ACME)
    clock.now += 0.2
    assert "new" == await read(cache, ACME, giving("new"))


async def test_reading_does_not_prolong(cache: Cache[Thing], clock: Clock) -> None:
    await read(cache, ACME, giving("old"))
    for _ in range(6):
        clock.now += TTL / 6 - 0.01
        await read(cache, ACME)
    clock.now += 0.1
    assert "new" == await read(cache, ACME, giving("new"))


async def test_the_least_recently_used_goes_first(cache: Cache[Thing]) -> None:
    keys = [(f"org-{number}", "vapi") for number in range(4)]
    for key in keys[:3]:
        await read(cache, key, giving(key[0]))
    await read(cache, keys[0])
    await read(cache, keys[3], giving("new"))
    await read(cache, keys[0])
    assert "again" == await read(cache, keys[1], giving("again"))


async def test_what_is_forgotten_is_loaded_again(cache: Cache[Thing]) -> None:
    for key in (ACME, ACME_TWILIO, GLOBEX):
        await read(cache, key, giving(Thing("old", key[0])))
    cache.forget("acme")
    assert "new" == await read(cache, ACME, giving("new"))
    assert "new" == await read(cache, ACME_TWILIO, giving("new"))
    assert "old" == await read(cache, GLOBEX)


async def test_forgetting_an_org_does_not_touch_one_whose_name_begins_alike(cache: Cache[Thing]) -> None:
    for value in (Thing("v", "acme-2"), Thing("v", "acme-2", absent=True)):
        await read(cache, ("acme-2", value.text + str(value.absent)), giving(value))
    cache.forget("acme")
    assert "v" == await read(cache, ("acme-2", "vFalse"))
    assert "v" == await read(cache, ("acme-2", "vTrue"))


async def test_what_was_forgotten_and_read_again_is_forgotten_again(cache: Cache[Thing]) -> None:
    for text in ("first", "second", "third"):
        assert text == await read(cache, ACME, giving(text))
        assert text == await read(cache, ACME)
        cache.forget("acme")


async def test_a_read_that_a_change_overtook_is_answered_and_not_kept(cache: Cache[Thing], source: Source) -> None:
    before = await asked(cache, ACME, source)
    cache.forget("acme")
    source.give(0, "old")
    assert "old" == (await before)[0].text
    assert "new" == await read(cache, ACME, giving("new"))
    assert 1 == cache.counts.dropped_fills


async def test_who_asks_after_a_change_does_not_join_a_read_from_before(cache: Cache[Thing], source: Source) -> None:
    before = await asked(cache, ACME, source)
    cache.forget("acme")
    after = await asked(cache, ACME, source)
    source.give(1, "new")
    assert "new" == (await after)[0].text
    source.give(0, "old")
    assert "old" == (await before)[0].text
    assert "new" == await read(cache, ACME)


async def test_an_overtaken_read_does_not_end_the_read_that_came_after(cache: Cache[Thing], source: Source) -> None:
    before = await asked(cache, ACME, source)
    cache.forget("acme")
    after = await asked(cache, ACME, source)
    source.give(0, "old")
    assert "old" == (await before)[0].text
    joined = await asked(cache, ACME, source)
    assert 2 == len(source.loads)
    source.give(1, "new")
    assert ["new", "new"] == texts([await after, await joined])


async def test_a_change_of_another_org_does_not_touch_a_read_under_way(cache: Cache[Thing], source: Source) -> None:
    reader = await asked(cache, ACME, source)
    cache.forget("globex")
    joined = await asked(cache, ACME, source)
    source.give(0, "v")
    assert ["v", "v"] == texts([await reader, await joined])
    assert "v" == await read(cache, ACME)


async def test_an_error_reaches_all_who_waited_and_is_not_kept(cache: Cache[Thing], source: Source) -> None:
    readers = [await asked(cache, ACME, source) for _ in range(3)]
    source.loads[0].set_exception(OSError("away"))
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert ["OSError('away')"] * 3 == [repr(result) for result in results]
    assert "v" == await read(cache, ACME, giving("v"))


async def test_one_reader_that_gives_up_does_not_end_the_read_of_the_others(
    cache: Cache[Thing], source: Source
) -> None:
    first, second = await asked(cache, ACME, source), await asked(cache, ACME, source)
    first.cancel()
    await settle()
    source.give(0, "v")
    assert "v" == (await second)[0].text
    assert first.cancelled()


async def test_a_read_that_nobody_waits_for_any_more_still_fills_the_cache(cache: Cache[Thing], source: Source) -> None:
    readers = [await asked(cache, ACME, source) for _ in range(3)]
    for reader in readers:
        reader.cancel()
    await settle()
    source.give(0, "v")
    await settle()
    assert "v" == await read(cache, ACME)
    assert all(reader.cancelled() for reader in readers)


async def test_an_error_that_nobody_waits_for_any_more_is_quiet(cache: Cache[Thing], source: Source) -> None:
    reader = await asked(cache, ACME, source)
    reader.cancel()
    await settle()
    source.loads.pop().set_exception(OSError("away"))
    await settle()


async def test_a_read_that_is_itself_cancelled_is_cleared_away(cache: Cache[Thing], source: Source) -> None:
    readers = [await asked_many(cache, [ACME, GLOBEX], source), await asked_many(cache, [GLOBEX], source)]
    [loading] = cache._flying
    loading.cancel()
    for reader in readers:
        with pytest.raises(asyncio.CancelledError):
            await reader
    assert set() == cache._flying
    assert "v" == await read(cache, ACME, giving("v"))
    assert "v" == await read(cache, GLOBEX, giving(Thing("v", "globex")))


async def test_a_cancelled_read_that_was_overtaken_leaves_the_one_that_came_after_alone(
    cache: Cache[Thing], source: Source
) -> None:
    before = await asked(cache, ACME, source)
    cache.forget("acme")
    after = await asked(cache, ACME, source)
    source.loads[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await before
    joined = await asked(cache, ACME, source)
    source.give(1, "new")
    assert ["new", "new"] == texts([await after, await joined])


@pytest.mark.parametrize("answer", [[], [Thing("one")], [Thing("one")] * 3], ids=len)
async def test_a_load_that_gives_another_number_than_it_was_asked_for_is_an_error_to_all(
    cache: Cache[Thing], source: Source, answer: list[Thing]
) -> None:
    reader, joined = await asked_many(cache, [ACME, GLOBEX], source), await asked_many(cache, [GLOBEX], source)
    source.loads[0].set_result(answer)
    for waiting in (reader, joined):
        with pytest.raises(ValueError, match=r"zip\(\)"):
            await waiting
    assert "v" == await read(cache, ACME, giving("v"))


# Many at once


async def test_a_batch_is_one_load_of_what_is_not_there_and_each_key_once(cache: Cache[Thing], source: Source) -> None:
    await read(cache, GLOBEX, giving(Thing("there", "globex")))
    keys = [ACME, GLOBEX, ACME_TWILIO, ACME, GLOBEX, ACME_TWILIO]
    reader = await asked_many(cache, keys, source)
    assert [[ACME, ACME_TWILIO]] == source.keys
    source.give(0, "a", "t")
    assert ["a", "there", "t", "a", "there", "t"] == texts(await reader)
    assert (1, 3, 0) == (cache.counts.hits, cache.counts.misses, cache.counts.joined)
    assert ["t", "there", "a"] == texts(await cache.get_many([ACME_TWILIO, GLOBEX, ACME], never_many))


async def test_a_batch_of_none_loads_nothing(cache: Cache[Thing]) -> None:
    assert [] == await cache.get_many([], never_many)
    assert [] == await cache.get_many([], giving_all({}), max_staleness=0)


async def test_a_batch_and_a_single_read_share_what_is_under_way(cache: Cache[Thing], source: Source) -> None:
    batch = await asked_many(cache, [ACME, GLOBEX], source)
    single = await asked(cache, GLOBEX, source)
    other = await asked(cache, ACME_TWILIO, source)
    both = await asked_many(cache, [ACME_TWILIO, ACME], source)
    assert [[ACME, GLOBEX], []] == source.keys
    source.give(0, "a", "g")
    source.give(1, "t")
    assert [["a", "g"], ["g"], ["t"], ["t", "a"]] == [
        texts(await batch),
        texts([await single]),
        texts([await other]),
        texts(await both),
    ]
    assert (3, 3) == (cache.counts.misses, cache.counts.joined)


async def test_of_a_batch_only_what_changed_is_not_kept(cache: Cache[Thing], source: Source) -> None:
    batch = await asked_many(cache, [ACME, GLOBEX], source)
    cache.forget("acme")
    joined = await asked(cache, GLOBEX, source)
    source.loads[0].set_result([Thing("old"), Thing("g", "globex")])
    assert ["old", "g", "g"] == texts([*await batch, await joined])
    assert "new" == await read(cache, ACME, giving("new"))
    assert "g" == await read(cache, GLOBEX)


async def test_a_batch_that_fails_fails_for_all_who_wait_for_a_key_of_it(cache: Cache[Thing], source: Source) -> None:
    batch, single = await asked_many(cache, [ACME, GLOBEX], source), await asked(cache, GLOBEX, source)
    source.loads[0].set_exception(VaultUnavailable())
    for waiting in (batch, single):
        with pytest.raises(VaultUnavailable):
            await waiting


async def test_what_of_a_batch_cannot_be_had_now_is_told_to_who_asked_for_it_and_not_kept(
    cache: Cache[Thing], source: Source
) -> None:
    batch = await asked_many(cache, [ACME, GLOBEX], source)
    away, there = await asked(cache, ACME, source), await asked(cache, GLOBEX, source)
    source.loads[0].set_result([AWAY, Thing("g", "globex")])
    assert ["away", "g"] == texts(await batch)
    assert [(AWAY, False), (Thing("g", "globex"), False)] == [await away, await there]
    assert "g" == await read(cache, GLOBEX)
    assert "v" == await read(cache, ACME, giving("v"))
    # What came later says more.
    cache.keep(ACME, AWAY, cache.asked)
    assert "v" == await read(cache, ACME)


async def test_where_one_of_a_batch_cannot_be_had_now_its_old_value_is_given_to_who_can_bear_it(
    cache: Cache[Thing], sync: Sync, clock: Clock
) -> None:
    await cache.get_many([ACME, GLOBEX], giving_all({ACME: Thing("a"), GLOBEX: Thing("g", "globex")}))
    sync.lose()
    clock.now += 1.0

    async def load(keys: Sequence[Key]) -> list[Thing]:
        return [AWAY if key == ACME else Thing("new", key[0]) for key in keys]

    assert [("a", True), ("new", False)] == [(v.text, old) for v, old in await cache.get_many([ACME, GLOBEX], load)]
    assert [(AWAY, False)] == await cache.get_many([ACME], load, 0.5)
    assert 1 == cache.counts.stale


async def test_one_batch_that_is_given_up_does_not_end_the_read_of_the_others(
    cache: Cache[Thing], source: Source
) -> None:
    batch, single = await asked_many(cache, [ACME, GLOBEX], source), await asked(cache, GLOBEX, source)
    batch.cancel()
    await settle()
    source.loads[0].set_result([Thing("a"), Thing("g", "globex")])
    assert "g" == (await single)[0].text
    assert "a" == await read(cache, ACME)


# That there is nothing


async def test_what_is_not_there_is_remembered_for_a_short_while(cache: Cache[Thing], clock: Clock) -> None:
    assert "nothing" == await read(cache, ACME, giving(NOTHING))
    clock.now += ABSENT_TTL - 0.1
    assert "nothing" == await read(cache, ACME)
    clock.now += 0.2
    assert "v" == await read(cache, ACME, giving("v"))


async def test_asking_for_what_is_not_there_pushes_out_nothing_that_is(cache: Cache[Thing]) -> None:
    for key in (ACME, GLOBEX, ACME_TWILIO):
        await read(cache, key, giving(Thing("v", key[0])))
    for number in range(100):
        await read(cache, (f"org-{number}", "vapi"), giving(Thing("nothing", f"org-{number}", absent=True)))
    for key in (ACME, GLOBEX, ACME_TWILIO):
        assert "v" == await read(cache, key)
    assert 3 == len(cache._absent)


async def test_what_has_come_takes_the_place_of_nothing_and_what_has_gone_gives_way_to_it(
    cache: Cache[Thing],
) -> None:
    for value in (NOTHING, Thing("v"), NOTHING):
        cache.keep(ACME, value, cache.asked)
        assert value.text == await read(cache, ACME)
        assert 1 == len(cache._absent) + len(cache._values)


async def test_that_there_is_nothing_is_forgotten_with_the_org(cache: Cache[Thing]) -> None:
    await read(cache, ACME, giving(NOTHING))
    await read(cache, GLOBEX, giving(Thing("nothing", "globex", absent=True)))
    cache.forget("acme")
    assert "v" == await read(cache, ACME, giving("v"))
    assert "nothing" == await read(cache, GLOBEX)


async def test_nothing_that_a_change_overtook_is_not_kept(cache: Cache[Thing], source: Source) -> None:
    before = await asked(cache, ACME, source)
    cache.forget("acme")
    source.loads[0].set_result([NOTHING])
    assert (NOTHING, False) == await before
    assert "v" == await read(cache, ACME, giving("v"))


# Keeping what was read for another purpose


async def test_what_was_read_elsewhere_is_kept_unless_the_org_changed_meanwhile(cache: Cache[Thing]) -> None:
    began = cache.asked
    cache.keep(ACME, Thing("v"), began)
    assert "v" == await read(cache, ACME)
    cache.forget("acme")
    cache.keep(ACME, Thing("v"), began)
    cache.keep(GLOBEX, Thing("g", "globex"), began)
    assert "new" == await read(cache, ACME, giving("new"))
    assert "g" == await read(cache, GLOBEX)
    assert 1 == cache.counts.dropped_fills


async def test_a_change_is_known_of_although_many_came_after_it(
    cache: Cache[Thing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED_CHANGES", 10)
    began = cache.asked
    cache.forget("acme")
    between = cache.asked
    for number in range(10):
        cache.forget(f"org-{number}")
    assert 10 == len(cache._changed)
    cache.keep(ACME, Thing("old"), began)
    # Of one that did not change since, that is not known any more either: better once too often than once too seldom.
    cache.keep(GLOBEX, Thing("old", "globex"), began)
    assert [0, 2] == [len(cache._values), cache.counts.dropped_fills]
    cache.keep(ACME, Thing("v"), between)
    cache.keep(GLOBEX, Thing("g", "globex"), between)
    assert 2 == len(cache._values)


async def test_an_org_that_changes_again_and_again_counts_once(
    cache: Cache[Thing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED_CHANGES", 3)
    began = cache.asked
    for _ in range(100):
        cache.forget("globex")
    cache.keep(ACME, Thing("v"), began)
    assert "v" == await read(cache, ACME)
    for org_id in ("initech", "umbrella"):
        cache.forget(org_id)
    began = cache.asked
    # Not the change that is let go for this one, although it is the first of its org's.
    cache.forget("globex")
    cache.forget("hooli")
    cache.keep(ACME, Thing("again"), began)
    assert "again" == await read(cache, ACME)


# What is whose, and how old


async def test_the_generations_are_the_oldest_of_each_org(cache: Cache[Thing]) -> None:
    cache.keep(ACME, Thing("v", generation=4), cache.asked)
    cache.keep(ACME_TWILIO, Thing("v", generation=3), cache.asked)
    cache.keep(GLOBEX, Thing("v", "globex", generation=9), cache.asked)
    cache.keep(("initech", "vapi"), Thing("nothing", "initech", generation=1, absent=True), cache.asked)
    assert {"acme": 3, "globex": 9} == cache.generations()


async def test_what_is_not_remembered_any_more_has_no_generation(cache: Cache[Thing], clock: Clock) -> None:
    await read(cache, ACME, giving("v"))
    clock.now += TTL / 2
    await read(cache, GLOBEX, giving(Thing("v", "globex")))
    clock.now += TTL / 2
    assert {"globex": 1} == cache.generations()
    assert {"globex"} == cache._keys.keys()
    cache.forget("globex")
    assert {} == cache.generations()
    # It is looked after all the same when it comes back.
    await read(cache, ACME, giving("v"))
    cache.forget("acme")
    assert "new" == await read(cache, ACME, giving("new"))


async def test_what_was_pushed_out_is_not_looked_after_for_ever(cache: Cache[Thing]) -> None:
    for number in range(50):
        await read(cache, (f"org-{number}", "vapi"), giving(Thing("v", f"org-{number}")))
        cache.generations()
    assert 3 == len(cache._keys)


# A directory: whose a key is, only the value says


async def test_in_a_directory_an_org_is_forgotten_by_what_is_its_own(directory: Cache[Thing]) -> None:
    acme, globex = ("vapi_assistant", "a-1"), ("vapi_assistant", "g-1")
    await read(directory, acme, giving("a"))
    await read(directory, globex, giving(Thing("g", "globex")))
    directory.forget("acme")
    assert "new" == await read(directory, acme, giving("new"))
    assert "g" == await read(directory, globex)
    assert {"acme": 1, "globex": 1} == directory.generations()


async def test_in_a_directory_what_is_nobodys_is_forgotten_with_any_change(directory: Cache[Thing]) -> None:
    resource = ("vapi_assistant", "a-1")
    await read(directory, resource, giving(NOBODYS))
    assert "nothing" == await read(directory, resource)
    directory.forget("globex")
    assert "v" == await read(directory, resource, giving("v"))


async def test_in_a_directory_nobody_joins_a_read_that_any_change_overtook(
    directory: Cache[Thing], source: Source
) -> None:
    resource = ("vapi_assistant", "a-1")
    before = await asked(directory, resource, source)
    directory.forget("globex")
    after = await asked(directory, resource, source)
    source.give(0, "old")
    source.give(1, "new")
    assert ["old", "new"] == texts([await before, await after])
    assert "new" == await read(directory, resource)


async def test_in_a_directory_what_was_read_is_kept_unless_its_own_org_changed(directory: Cache[Thing]) -> None:
    acme, globex, nobodys = ("k", "acme"), ("k", "globex"), ("k", "nobody's")
    began = directory.asked
    directory.forget("acme")
    directory.keep(acme, Thing("old"), began)
    directory.keep(globex, Thing("g", "globex"), began)
    directory.keep(nobodys, NOBODYS, began)
    assert "g" == await read(directory, globex)
    assert "new" == await read(directory, acme, giving("new"))
    assert "new" == await read(directory, nobodys, giving("new"))
    directory.keep(nobodys, NOBODYS, directory.asked)
    assert "nothing" == await read(directory, nobodys)


async def test_in_a_directory_a_change_is_known_of_although_many_came_after_it(
    directory: Cache[Thing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED_CHANGES", 10)
    began = directory.asked
    for number in range(11):
        directory.forget(f"org-{number}")
    directory.keep(("k", "0"), Thing("old", "org-0"), began)
    directory.keep(("k", "9"), Thing("old", "org-9"), began)
    directory.keep(("k", "nobody's"), NOBODYS, began)
    assert 0 == len(directory._values) + len(directory._absent)


# When changes may be missed


async def test_while_every_change_is_known_of_nothing_is_asked_anew(
    cache: Cache[Thing], clock: Clock, sync: Sync
) -> None:
    await read(cache, ACME, giving("v"))
    sync.renew(clock.now, LEASE)
    clock.now += LEASE - 0.1
    assert "v" == await read(cache, ACME)
    clock.now += 0.1
    assert "new" == await read(cache, ACME, giving("new"))
    assert (1, 1) == (cache.counts.hits, cache.counts.revalidated)


async def test_once_changes_may_be_missed_each_read_is_one_of_the_database(cache: Cache[Thing], sync: Sync) -> None:
    await read(cache, ACME, giving("v1"))
    sync.lose()
    assert "v2" == await read(cache, ACME, giving("v2"))
    assert "v3" == await read(cache, ACME, giving("v3"))
    assert ["v4", "v4"] == texts(await cache.get_many([ACME, ACME], giving_all({ACME: Thing("v4")})))
    assert (0, 3, 1) == (cache.counts.hits, cache.counts.revalidated, cache.counts.misses)


async def test_what_was_read_anew_serves_again_when_every_change_is_known_of(
    cache: Cache[Thing], clock: Clock, sync: Sync
) -> None:
    await read(cache, ACME, giving("old"))
    sync.lose()
    await read(cache, ACME, giving("new"))
    sync.renew(clock.now, LEASE)
    assert "new" == await read(cache, ACME)


async def test_while_changes_may_be_missed_nobody_joins_a_read_that_began_before(
    cache: Cache[Thing], sync: Sync, source: Source
) -> None:
    before = await asked(cache, ACME, source)
    sync.lose()
    # A change that nobody tells of: it is in force now.
    after = await asked(cache, ACME, source)
    batch = await asked_many(cache, [ACME], source)
    assert 3 == len(source.loads)
    source.give(0, "old")
    source.give(1, "new")
    source.give(2, "new")
    assert ["old", "new", "new"] == texts([await before, await after, *await batch])
    assert (3, 0, 0) == (cache.counts.misses, cache.counts.revalidated, cache.counts.joined)


async def test_of_reads_side_by_side_the_last_to_begin_is_kept(
    cache: Cache[Thing], clock: Clock, sync: Sync, source: Source
) -> None:
    sync.lose()
    readers = [await asked(cache, ACME, source) for _ in range(3)]
    for number in (2, 0, 1):
        source.give(number, f"v{number}")
        await settle()
    assert ["v0", "v1", "v2"] == texts(await asyncio.gather(*readers))
    sync.renew(clock.now, LEASE)
    assert "v2" == await read(cache, ACME)


@pytest.mark.parametrize(
    ("unheard", "call_bound", "served"),
    [
        (BOUND, None, True),
        (BOUND + 0.1, None, False),
        (BOUND + 0.1, 10 * BOUND, False),
        (5.0, 5.0, True),
        (5.1, 5.0, False),
        (0.1, 0, False),
    ],
)
async def test_when_the_database_is_away_what_is_old_is_served_within_the_bounds_of_the_call_and_the_vault(
    cache: Cache[Thing], clock: Clock, sync: Sync, unheard: float, call_bound: float | None, *, served: bool
) -> None:
    await read(cache, ACME, giving("old"))
    sync.lose()
    clock.now += unheard
    if served:
        assert "old" == await read(cache, ACME, away, call_bound, stale=True)
        assert (1, 1) == (cache.counts.stale, cache.counts.revalidated)
    else:
        with pytest.raises(VaultUnavailable):
            await cache.get(ACME, away, call_bound)
        assert 0 == cache.counts.stale


async def test_that_there_was_nothing_is_never_served_when_the_database_is_away(
    cache: Cache[Thing], sync: Sync
) -> None:
    await read(cache, ACME, giving(NOTHING))
    sync.lose()
    for sync.away in (False, True):
        with pytest.raises(VaultUnavailable):
            await cache.get(ACME, away)
    assert "v" == await read(cache, ACME, giving("v"))


async def test_how_old_an_answer_is_counts_from_when_all_was_known_and_not_from_when_it_was_read(
    cache: Cache[Thing], clock: Clock, sync: Sync
) -> None:
    await read(cache, ACME, giving("old"))
    clock.now += 1.5 * BOUND
    sync.renew(clock.now, LEASE)
    sync.lose()
    clock.now += 0.5
    assert "old" == await read(cache, ACME, away, 0.5, stale=True)


async def test_nothing_is_served_in_place_of_what_was_never_read(cache: Cache[Thing], sync: Sync) -> None:
    sync.lose()
    with pytest.raises(VaultUnavailable):
        await cache.get(ACME, away)


async def test_nothing_forgotten_is_served_however_old_an_answer_may_be(cache: Cache[Thing], sync: Sync) -> None:
    await read(cache, ACME, giving("old"))
    sync.lose()
    cache.forget("acme")
    with pytest.raises(VaultUnavailable):
        await cache.get(ACME, away)


async def test_no_error_but_that_the_database_is_away_is_answered_by_what_is_old(
    cache: Cache[Thing], sync: Sync
) -> None:
    async def broken() -> Thing:
        raise OSError("broken")

    await read(cache, ACME, giving("old"))
    sync.lose()
    with pytest.raises(OSError, match="broken"):
        await cache.get(ACME, broken)


async def test_a_batch_while_the_database_is_away_is_what_is_there_or_an_error(cache: Cache[Thing], sync: Sync) -> None:
    async def away_many(_: Sequence[Key]) -> list[Thing]:
        raise VaultUnavailable

    await read(cache, ACME, giving("a"))
    await read(cache, ACME_TWILIO, giving("t"))
    sync.lose()
    assert [(Thing("t"), True), (Thing("a"), True)] == await cache.get_many([ACME_TWILIO, ACME], away_many)
    with pytest.raises(VaultUnavailable):
        await cache.get_many([ACME, GLOBEX], away_many)


async def test_a_database_that_was_just_away_is_not_asked_by_those_who_can_bear_an_old_answer(
    cache: Cache[Thing], clock: Clock, sync: Sync
) -> None:
    await read(cache, ACME, giving("old"))
    sync.lose()
    sync.away = True
    clock.now += 5
    assert "old" == await read(cache, ACME, never, stale=True)
    assert "old" == await read(cache, ACME, never, 5.0, stale=True)
    assert "new" == await read(cache, ACME, giving("new"), 4.9)
    assert "newer" == await read(cache, ACME, giving("newer"), 0)
    assert "g" == await read(cache, GLOBEX, giving(Thing("g", "globex")))
    assert 2 == cache.counts.stale
    clock.now += BOUND
    assert "again" == await read(cache, ACME, giving("again"))


async def test_a_call_that_bears_nothing_old_reads_in_any_case_and_alone(
    cache: Cache[Thing], clock: Clock, sync: Sync, source: Source
) -> None:
    for freshness in (sync, module.AlwaysFresh()):
        cache._freshness = freshness
        cache.forget("acme")
        assert "v" == await read(cache, ACME, giving("v"))
        assert "new" == await read(cache, ACME, giving("new"), 0)
        batch = await cache.get_many([ACME, ACME], giving_all({ACME: Thing("newer")}), max_staleness=0)
        assert ["newer", "newer"] == texts(batch)
        # It is nobody else's answer: no other has asked for it.
        assert "v" == await read(cache, ACME)
    under_way = await asked(cache, GLOBEX, source)
    alone = await asked(cache, GLOBEX, source, 0)
    assert 2 == len(source.loads)
    source.give(1, "mine")
    assert "mine" == (await alone)[0].text
    source.give(0, "theirs")
    assert "theirs" == (await under_way)[0].text


async def test_a_call_that_bears_less_than_the_time_since_all_was_known_reads_anew(
    cache: Cache[Thing], clock: Clock, sync: Sync
) -> None:
    await read(cache, ACME, giving("v"))
    sync.renew(clock.now, LEASE)
    clock.now += 2
    assert "v" == await read(cache, ACME, never, 2.0)
    assert "v" == await read(cache, ACME)
    assert "new" == await read(cache, ACME, giving("new"), 1.9)
    with pytest.raises(VaultUnavailable):
        await cache.get(ACME, away, 1.9)


async def test_a_call_that_bears_little_does_not_join_a_read_of_unknown_age(
    cache: Cache[Thing], clock: Clock, sync: Sync, source: Source
) -> None:
    sync.renew(clock.now, LEASE)
    before = await asked(cache, ACME, source)
    clock.now += 2
    strict = await asked(cache, ACME, source, 1.0)
    easy = await asked(cache, ACME, source, 3.0)
    assert 2 == len(source.loads)
    source.give(0, "old")
    source.give(1, "new")
    assert ["old", "new", "new"] == texts([await before, await strict, await easy])


async def test_after_changes_were_missed_nothing_that_is_being_read_is_kept(
    cache: Cache[Thing], directory: Cache[Thing], sync: Sync, source: Source
) -> None:
    for one in (cache, directory):
        before, began, loads = await asked(one, ACME, source), one.asked, len(source.loads)
        one.distrust_reads()
        after = await asked(one, ACME, source)
        assert loads + 1 == len(source.loads)
        source.give(loads - 1, "old")
        await settle()
        source.give(loads, "new")
        assert ["old", "new"] == texts([await before, await after])
        assert "new" == await read(one, ACME)
        one.keep(GLOBEX, Thing("old", "globex"), began)
        assert "g" == await read(one, GLOBEX, giving(Thing("g", "globex")))


async def test_after_changes_were_missed_what_is_there_stays_and_what_is_not_is_asked_for(
    cache: Cache[Thing],
) -> None:
    await read(cache, ACME, giving("v"))
    await read(cache, GLOBEX, giving(Thing("nothing", "globex", absent=True)))
    cache.distrust_reads()
    assert "v" == await read(cache, ACME)
    assert "g" == await read(cache, GLOBEX, giving(Thing("g", "globex")))


def giving_all(values: dict[Key, Thing]) -> Callable[[Sequence[Key]], Awaitable[list[Thing]]]:
    async def load(keys: Sequence[Key]) -> list[Thing]:
        return [values[key] for key in keys]

    return load


# Everything in any order


@dataclass
class Load:
    """A load under way; `read` is what it will give, since it has read: what was current then."""

    keys: list[Key]
    ended: asyncio.Future[list[Thing]]
    read: list[Thing] | None = None


@dataclass
class Reader:
    task: AskedMany
    keys: list[Key]
    began: float
    began_at_step: int
    bears: float | None


@dataclass
class Truth:
    """What an org has: its version, when each one before was replaced, and the step since which each is in force."""

    version: int = 1
    replaced: dict[int, float] = field(default_factory=dict)
    in_force: dict[int, int] = field(default_factory=dict)


class CacheMachine(RuleBasedStateMachine):
    """Reads, loads, changes, expiry and a lost database in any order, against what was true.

    A change is committed, then heard of (or missed), and then in force: the call that made it has returned, because
    this process has heard of it or may not serve from memory any more. Whoever asks after a change is in force must
    not be given what was before it, unless the answer says that it may be stale: then what it gives was current within
    the staleness that the call and the vault allow.
    """

    owned = True

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.step = 0
        self.sync = Sync()
        self.listening = False
        self.cache: Cache[Thing] = Cache(
            entries=3,
            ttl_seconds=TTL,
            absent_seconds=ABSENT_TTL,
            max_staleness=BOUND,
            owned=self.owned,
            freshness=self.sync,
            timer=self.clock,
        )
        self.truths = {"acme": Truth(), "globex": Truth()}
        # Changes that are committed, and of which the process has not heard yet: org and version.
        self.untold: list[tuple[str, int]] = []
        self.loads: list[Load] = []
        self.readers: list[Reader] = []
        self.regain_sync()

    def teardown(self) -> None:
        for load in self.loads:
            load.ended.cancel()
        self.runner.run(settle())
        self.runner.close()

    # One rule, since rules of their own would be left out of most runs, and each needs the others.
    @rule(
        what=st.sampled_from(
            [*["read"] * 6, *["go_on"] * 5, *["change"] * 3, "hear", *["lose", "regain", "wait"] * 2, "leave"]
        ),
        keys=st.lists(st.sampled_from([ACME, ACME, ACME_TWILIO, GLOBEX]), min_size=1, max_size=3),
        bears=st.sampled_from([None, None, None, 0.0, 1.0, 1.0, 8.0, 100.0]),
        which=st.integers(0, 7),
        how=st.integers(0, 4),
        seconds=st.sampled_from([0.5, 3.0, 3.0, 7.0, 11.0, 29.0, 61.0]),
    )
    def something_happens(
        self, what: str, keys: list[Key], bears: float | None, which: int, how: int, seconds: float
    ) -> None:
        match what:
            case "read":
                self.read(keys, bears, how)
            case "go_on" if self.loads:
                self.go_on(self.loads[which % len(self.loads)], how)
            case "change":
                self.change(keys[0][0], told=how < 2)
            case "hear" if self.untold:
                self.hear()
            case "lose":
                self.lose_sync(away=how > 0)
            case "regain":
                self.regain_sync()
            case "wait":
                self.clock.now += seconds
                self.end_waits()
            case "leave" if waiting := [reader for reader in self.readers if not reader.task.done()]:
                self.give_up(waiting[which % len(waiting)])

    def key_of(self, key: Key) -> Key:
        # In a directory the first part of a key is none of an org's.
        return key if self.owned else ("kind", "/".join(key))

    @staticmethod
    def org_of(key: Key) -> str:
        return key[0] if key[0] != "kind" else key[1].split("/")[0]

    def now_true(self, key: Key) -> Thing:
        org_id = self.org_of(key)
        version = self.truths[org_id].version
        # Every third version there is nothing, and in a directory nothing is nobody's.
        absent = version % 3 == 0
        return Thing(str(version), "" if absent and not self.owned else org_id, version, absent)

    def in_force(self, changes: list[tuple[str, int]]) -> None:
        for org_id, version in changes:
            self.truths[org_id].in_force.setdefault(version, self.step)

    def read(self, keys: list[Key], bears: float | None, answer: int) -> None:
        self.step += 1
        keys = [self.key_of(key) for key in keys]

        async def load(wanted: Sequence[Key]) -> list[Thing]:
            begun = Load(list(wanted), asyncio.get_running_loop().create_future())
            self.loads.append(begun)
            return await begun.ended

        async def load_one() -> Thing:
            [value] = await load(keys)
            return value

        async def one() -> list[tuple[Thing, bool]]:
            return [await self.cache.get(keys[0], load_one, bears)]

        async def begin() -> None:
            task = asyncio.ensure_future(one() if len(keys) == 1 else self.cache.get_many(keys, load, bears))
            self.readers.append(Reader(task, keys, self.clock.now, self.step, bears))
            await settle()

        loads = len(self.loads)
        self.runner.run(begin())
        if len(self.loads) > loads:
            self.go_on(self.loads[-1], answer)

    def go_on(self, load: Load, how: int) -> None:
        """Let the database read (1), and what it has read arrive (2), or nothing come of it (3).

        Or what it has read arrives, and of the first key it cannot be told what it says (4).
        """
        if load.read is None and how in {1, 2, 4}:
            load.read = [self.now_true(key) for key in load.keys]
        if how == 2:
            load.ended.set_result(load.read or [])
        if how == 4:
            [first, *rest] = load.read or []
            load.ended.set_result([replace(first, text="", absent=True, away=True), *rest])
        if how == 3:
            load.ended.set_exception(VaultUnavailable())
        self.loads = [load for load in self.loads if not load.ended.done()]
        self.runner.run(settle())

    def change(self, org_id: str, *, told: bool) -> None:
        truth = self.truths[org_id]
        truth.replaced[truth.version] = self.clock.now
        truth.version += 1
        if self.listening:
            self.untold.append((org_id, truth.version))
            self.end_waits()
        else:
            self.in_force([(org_id, truth.version)])
        while told and self.untold:
            self.hear()

    def hear(self) -> None:
        """In the order of the commits, as PostgreSQL tells it; the process acknowledges, and so the change returns."""
        org_id, version = self.untold.pop(0)
        self.cache.forget(org_id)
        self.in_force([(org_id, version)])

    def lose_sync(self, *, away: bool) -> None:
        """The connection is lost, and with it what was on its way."""
        self.listening = False
        self.sync.lose()
        self.sync.away = away
        self.end_waits()
        self.untold.clear()

    def regain_sync(self) -> None:
        """As the fleet does it: renew the lease, or listen anew, distrust and look at the generations."""
        while self.untold:
            self.hear()
        if not self.listening:
            self.listening = True
            self.cache.distrust_reads()
            for org_id, generation in self.cache.generations().items():
                if generation < self.truths[org_id].version:
                    self.cache.forget(org_id)
        self.sync.renew(self.clock.now, LEASE)

    def end_waits(self) -> None:
        """Nobody waits for a process that may not serve from memory."""
        if self.clock.now >= self.sync.fresh_until:
            self.in_force(self.untold)

    def give_up(self, reader: Reader) -> None:
        reader.task.cancel()
        self.runner.run(settle())
        self.readers.remove(reader)
        # A load that was for this reader alone ends with it.
        self.loads = [load for load in self.loads if not load.ended.done()]

    @invariant()
    def whoever_was_answered_was_answered_well(self) -> None:
        for reader in [reader for reader in self.readers if reader.task.done()]:
            self.readers.remove(reader)
            error = reader.task.exception()
            if error is not None:
                assert isinstance(error, VaultUnavailable)
                continue
            for key, (value, stale) in zip(reader.keys, reader.task.result(), strict=True):
                self.check(reader, key, value, stale=stale)

    def check(self, reader: Reader, key: Key, value: Thing, *, stale: bool) -> None:
        if value.away:
            assert not stale, "that it cannot be had, marked as old"
            return
        truth, version = self.truths[self.org_of(key)], int(value.text)
        replaced = truth.replaced.get(version, float("inf"))
        if stale:
            # Counted from when it was asked for: the answers to others of its batch may have come later.
            bound = BOUND if reader.bears is None else min(reader.bears, BOUND)
            assert replaced >= reader.began - bound, "older than may be borne"
            assert not value.absent, "that there was nothing, which cannot be marked as old"
            return
        later = [step for other, step in truth.in_force.items() if other > version]
        assert all(step >= reader.began_at_step for step in later), "from before a change that was in force"
        assert reader.bears is None or replaced >= reader.began - reader.bears, "older than may be borne"

    @invariant()
    def the_cache_is_bounded_and_holds_no_ended_read(self) -> None:
        assert len(self.cache._values) <= 3
        assert len(self.cache._absent) <= 3
        assert len(self.cache._flights) <= sum(len(load.keys) for load in self.loads)
        assert len(self.cache._flying) <= len(self.loads)
        assert not any(value.away for kept in (self.cache._values, self.cache._absent) for value in kept.values())


class DirectoryMachine(CacheMachine):
    owned = False


CacheMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=60, deadline=None)
TestCacheAgainstItsModel = CacheMachine.TestCase
DirectoryMachine.TestCase.settings = CacheMachine.TestCase.settings
TestDirectoryAgainstItsModel = DirectoryMachine.TestCase
