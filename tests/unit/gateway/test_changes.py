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
    """Changes of a vault that is played by an object."""

    def __init__(self, **bounds: Any) -> None:
        self.vault = FakeServices()
        super().__init__(self.vault, **({"first_pause": 0.001} | bounds))

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
        for message in (HEARTBEAT, RESYNC, failed(grpc.StatusCode.UNAVAILABLE)):
            watch.put_nowait(message)
            assert (await acme.told(LONG), await globex.told(LONG)) == (True, True)
        # A watch that does not come to stand tells nothing; the next one that does, does.
        (await changes.watch()).put_nowait(failed(grpc.StatusCode.UNAVAILABLE))
        watch = await changes.watch()
        assert not await acme.told(0.001)
        watch.put_nowait(change("globex"))
        assert (await acme.told(LONG), await globex.told(LONG)) == (True, True)
        # A vault that stops ends its watches without an error.
        watch.put_nowait(None)
        assert (await acme.told(LONG), await globex.told(LONG)) == (True, True)


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


async def test_a_watch_has_a_deadline_that_the_vault_allows() -> None:
    changes = Watched()
    with changes.listening("acme"):
        await changes.watch()
    assert [how["timeout"] for how in changes.vault.metadata] == [1800]


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
