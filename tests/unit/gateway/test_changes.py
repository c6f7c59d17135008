import asyncio
import io
import json
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio
import pytest

from gateway.changes import Changes
from gateway.problems import Refusal
from tenantvault.v1 import access_service_pb2 as pb
from tests.unit.gateway.fakes import FakeServices

LONG = 10.0
HEARTBEAT = pb.WatchChangesResponse(heartbeat=pb.Heartbeat())
RESYNC = pb.WatchChangesResponse(resync=pb.Resync())


def change(org_id: str) -> pb.WatchChangesResponse:
    return pb.WatchChangesResponse(change=pb.Change(org_id=org_id, generation=7))


def failed(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "canary-in-the-text")


class Watched(Changes):
    """Changes of a vault that is played by an object. `clock` is moved by hand; `pauses` are those between watches."""

    def __init__(self, **bounds: Any) -> None:
        self.vault = FakeServices()
        self.clock = 0.0
        self.pauses: list[float] = []
        super().__init__(self.vault, now=lambda: self.clock, sleep=self.rest, **bounds)

    async def rest(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def watch(self) -> "asyncio.Queue[pb.WatchChangesResponse | Exception | None]":
        """The next watch that is begun."""
        async with asyncio.timeout(LONG):
            return await self.vault.watches.get()


async def test_an_org_hears_of_its_own_changes_and_of_no_others() -> None:
    changes = Watched()
    with changes.listening("acme") as acme, changes.listening("globex") as globex:
        watch = await changes.watch()
        watch.put_nowait(HEARTBEAT)
        # What happened before the watch stood was told by nobody.
        assert (await acme.told(LONG), await globex.told(LONG)) == (True, True)
        for message in (change("acme"), change("acme"), HEARTBEAT, change("initech"), change("globex")):
            watch.put_nowait(message)
        assert await globex.told(LONG)
        assert await acme.told(LONG)
        assert not await acme.told(0.001)


async def test_whoever_may_have_missed_something_is_told_so() -> None:
    changes = Watched()
    with changes.listening("acme") as acme, changes.listening("globex") as globex:
        watch = await changes.watch()
        for message in (HEARTBEAT, RESYNC):
            watch.put_nowait(message)
            assert (await acme.told(LONG), await globex.told(LONG)) == (True, True)
        # Who is told when a watch breaks asks a vault that is gone: it is told when the next one stands. A vault that
        # stops ends its watches without an error.
        for end in (failed(grpc.StatusCode.UNAVAILABLE), failed(grpc.StatusCode.DEADLINE_EXCEEDED), None):
            watch.put_nowait(end)
            watch = await changes.watch()
            assert (await acme.told(0.001), await globex.told(0.001)) == (False, False)
            watch.put_nowait(change("globex"))
            assert (await acme.told(LONG), await globex.told(LONG)) == (True, True)


async def test_a_vault_that_comes_and_goes_is_asked_ever_more_seldom_until_it_stays() -> None:
    changes = Watched()
    with changes.listening("acme") as acme:
        for stands in (0, 1, 9, 0, 9, 9, 10, 0):
            watch = await changes.watch()
            for _ in range(2):
                watch.put_nowait(RESYNC)
                assert await acme.told(LONG)
                changes.clock += stands
            watch.put_nowait(failed(grpc.StatusCode.UNAVAILABLE))
        await changes.watch()
    assert changes.pauses == [0.25, 0.5, 1, 2, 4, 4, 0.25, 0.5]


async def test_silence_of_the_vault_is_noticed() -> None:
    changes = Watched()
    changes.clock = 100
    with changes.listening("acme") as acme:
        (await changes.watch()).put_nowait(failed(grpc.StatusCode.PERMISSION_DENIED))
        watch = await changes.watch()
        silent = [changes.is_deaf]
        for seconds in (5, 1):
            changes.clock += seconds
            silent.append(changes.is_deaf)
        watch.put_nowait(RESYNC)
        assert await acme.told(LONG)
        assert [*silent, changes.is_deaf] == [False, False, True, False]


async def test_there_is_one_watch_and_only_while_somebody_listens() -> None:
    changes = Watched()
    for _ in range(2):
        with changes.listening("acme"):
            await changes.watch()
            with changes.listening("acme"), changes.listening("globex"):
                await asyncio.sleep(0)
            assert (changes.vault.watching, changes.vault.watches.empty()) == (1, True)
        async with asyncio.timeout(LONG):
            await changes.vault.unwatched.wait()


async def test_a_watch_has_a_deadline_that_the_vault_allows_and_not_the_same_each_time() -> None:
    changes = Watched(jitter=iter((0.0, 0.5, 1.0)).__next__)
    with changes.listening("acme"):
        for _ in range(2):
            (await changes.watch()).put_nowait(None)
        await changes.watch()
    assert [how["timeout"] for how in changes.vault.metadata] == [1800, 1575, 1350]


@pytest.mark.parametrize("bounds", [{"per_org": 2}, {"in_all": 3}])
async def test_there_are_not_more_listeners_than_the_bounds(bounds: dict[str, int]) -> None:
    changes = Watched(**bounds)
    with ExitStack() as listeners, changes.listening("globex"):
        for _ in range(2):
            listeners.enter_context(changes.listening("acme"))
        with pytest.raises(Refusal) as refused, changes.listening("acme"):
            pass
        assert refused.value.code == "TOO_MANY_STREAMS"
        listeners.close()
        with changes.listening("acme"), changes.listening("acme"):
            pass


async def test_a_break_is_logged_once_and_what_is_no_break_is_not(log: io.StringIO) -> None:
    changes = Watched()
    with changes.listening("acme"):
        (await changes.watch()).put_nowait(failed(grpc.StatusCode.DEADLINE_EXCEEDED))
        for _ in range(2):
            (await changes.watch()).put_nowait(failed(grpc.StatusCode.PERMISSION_DENIED))
        watch = await changes.watch()
        watch.put_nowait(HEARTBEAT)
        watch.put_nowait(RuntimeError("canary-in-the-text"))
        await changes.watch()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    told = [(line["event"], line["code"]) for line in lines if line["logger"] == "gateway.changes"]
    assert told == [("the watch for changes broke", code) for code in ("PERMISSION_DENIED", "UNKNOWN")]
    assert "canary" not in log.getvalue()


async def test_when_the_process_stops_everybody_is_let_go_and_so_is_whoever_comes_then() -> None:
    changes = Watched()
    with changes.listening("acme") as acme:
        changes.end()
        with changes.listening("acme") as late:
            assert (await acme.told(LONG), await late.told(LONG), changes.ended) == (True, True, True)
