import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from services.rpc.health import HealthServicer

NOT_SERVING, SERVING, UNKNOWN = 2, 1, 3


class Context:
    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise grpc.aio.AbortError(code, details)


CONTEXT: Any = Context()


def asked(service: str = "") -> Any:
    return SimpleNamespace(service=service)


@pytest.fixture
def health() -> HealthServicer:
    return HealthServicer(["a.B", "a.C"])


class Watcher:
    """Reads a watch as a peer would."""

    def __init__(self, health: HealthServicer, service: str = "") -> None:
        self._answers: AsyncIterator[Any] = health.Watch(asked(service), CONTEXT)

    async def next(self) -> int:
        answer: Any = await asyncio.wait_for(anext(self._answers), 1)
        return int(answer.status)

    async def ends(self) -> bool:
        try:
            await self.next()
        except StopAsyncIteration:
            return True
        return False

    async def close(self) -> None:
        await self._answers.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_nothing_is_serving_before_it_is_said(health: HealthServicer) -> None:
    assert NOT_SERVING == (await health.Check(asked(), CONTEXT)).status


@pytest.mark.parametrize("service", ["", "a.B", "a.C"])
async def test_the_process_and_its_services_have_one_status(health: HealthServicer, service: str) -> None:
    for serving, status in ((True, SERVING), (False, NOT_SERVING), (True, SERVING)):
        health.set(serving=serving)
        assert status == (await health.Check(asked(service), CONTEXT)).status


async def test_a_service_that_is_not_served_is_not_found(health: HealthServicer) -> None:
    with pytest.raises(grpc.aio.AbortError) as refused:
        await health.Check(asked("a.D"), CONTEXT)
    assert grpc.StatusCode.NOT_FOUND is refused.value.args[0]


async def test_the_list_has_all_of_them(health: HealthServicer) -> None:
    health.set(serving=True)
    listed = await health.List(asked(), CONTEXT)
    assert {"": SERVING, "a.B": SERVING, "a.C": SERVING} == {
        name: answer.status for name, answer in listed.statuses.items()
    }


async def test_a_watch_tells_each_change_once(health: HealthServicer) -> None:
    watcher = Watcher(health)
    assert NOT_SERVING == await watcher.next()
    waiting = asyncio.ensure_future(watcher.next())
    await asyncio.sleep(0)
    health.set(serving=False)
    await asyncio.sleep(0)
    assert not waiting.done()
    health.set(serving=True)
    assert SERVING == await waiting
    health.set(serving=False)
    assert NOT_SERVING == await watcher.next()
    await watcher.close()


async def test_a_watch_of_an_unknown_service_says_so_and_waits(health: HealthServicer) -> None:
    watcher = Watcher(health, "a.D")
    assert UNKNOWN == await watcher.next()
    health.set(serving=True)
    health.end()
    assert await watcher.ends()


async def test_a_watcher_that_does_not_read_holds_up_nobody(health: HealthServicer) -> None:
    asleep, awake = Watcher(health), Watcher(health)
    assert NOT_SERVING == await asleep.next()
    for serving, status in ((True, SERVING), (False, NOT_SERVING)) * 3:
        health.set(serving=serving)
        assert status == await awake.next()
    health.set(serving=True)
    assert SERVING == await asleep.next()
    for watcher in (asleep, awake):
        await watcher.close()


async def test_the_end_is_the_last_answer_of_every_watch(health: HealthServicer) -> None:
    health.set(serving=True)
    watchers = [Watcher(health), Watcher(health, "a.B")]
    for watcher in watchers:
        assert SERVING == await watcher.next()
    health.end()
    for watcher in watchers:
        assert NOT_SERVING == await watcher.next()
        assert await watcher.ends()


async def test_after_the_end_nothing_changes_any_more(health: HealthServicer) -> None:
    health.end()
    health.set(serving=True)
    assert NOT_SERVING == (await health.Check(asked(), CONTEXT)).status
    late = Watcher(health)
    assert NOT_SERVING == await late.next()
    assert await late.ends()
