import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vault.watchers import Watcher, Watchers


async def test_of_many_changes_to_an_org_only_the_newest_is_told() -> None:
    watcher = Watcher()
    for generation in (3, 5, 4):
        watcher.tell("acme", generation)
    watcher.tell("globex", 1)
    assert ({"acme": 5, "globex": 1}, False) == await watcher.next(0)
    assert ({}, False) == await watcher.next(0)


async def test_a_watcher_that_waits_is_woken_by_a_change() -> None:
    watcher = Watcher()
    waiting = asyncio.create_task(watcher.next(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    watcher.tell("acme", 1)
    assert ({"acme": 1}, False) == await waiting


async def test_a_watcher_that_falls_behind_is_told_to_resync_and_nothing_that_it_could_take_for_all() -> None:
    watcher = Watcher(bound=2)
    for number in range(3):
        watcher.tell(f"org-{number}", 1)
    watcher.tell("acme", 1)
    assert ({}, True) == await watcher.next(0)
    watcher.tell("acme", 2)
    assert ({"acme": 2}, False) == await watcher.next(0)


async def test_the_bound_itself_may_wait() -> None:
    watcher = Watcher(bound=2)
    watcher.tell("acme", 1)
    watcher.tell("globex", 1)
    assert ({"acme": 1, "globex": 1}, False) == await watcher.next(0)


async def test_a_watch_that_has_ended_tells_nothing_more() -> None:
    watcher = Watcher()
    waiting = asyncio.create_task(watcher.next(60))
    await asyncio.sleep(0)
    watcher.tell("acme", 1)
    watcher.end()
    assert await waiting is None
    assert await watcher.next(60) is None


async def test_all_watchers_are_told_from_when_they_watch_until_they_do_not() -> None:
    watchers = Watchers()
    watchers.tell("before", 1)
    with watchers.watching() as first, watchers.watching() as second:
        watchers.tell("acme", 1)
        assert ({"acme": 1}, False) == await first.next(0)
        watchers.resync()
        assert ({}, True) == await first.next(0)
        # What waited when changes were missed is not all there was.
        assert ({}, True) == await second.next(0)
    watchers.tell("after", 1)
    assert ({}, False) == await first.next(0)


async def test_when_the_process_stops_every_watch_ends() -> None:
    watchers = Watchers()
    with watchers.watching() as first, watchers.watching() as second:
        watchers.end()
        assert await first.next(60) is None
        assert await second.next(60) is None


def test_a_watcher_that_is_cut_off_is_forgotten() -> None:
    watchers = Watchers()
    with pytest.raises(RuntimeError, match="cut off"), watchers.watching():
        raise RuntimeError("cut off")
    assert set() == watchers._watchers


ORGS = st.sampled_from(["a", "b", "c", "d"])


@given(events=st.lists(st.one_of(st.tuples(ORGS, st.integers(1, 50)), st.just("read"), st.just("miss")), max_size=40))
def test_whoever_reads_on_knows_the_newest_generation_or_that_something_was_missed(events: list[object]) -> None:
    async def watch() -> None:
        watcher = Watcher(bound=3)
        told: dict[str, int] = {}
        newest: dict[str, int] = {}

        async def read() -> None:
            answer = await watcher.next(0)
            assert answer is not None
            changes, resync = answer
            if resync:
                # It asks again for everything.
                told.clear()
                told.update(newest)
            told.update({org: max(generation, told.get(org, 0)) for org, generation in changes.items()})

        for event in events:
            match event:
                case "read":
                    await read()
                case "miss":
                    watcher.resync()
                case (str(org), int(generation)):
                    newest[org] = max(generation, newest.get(org, 0))
                    watcher.tell(org, generation)
        await read()
        assert newest == told

    asyncio.run(watch())
