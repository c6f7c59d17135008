"""A client belongs to the process, and an asyncio client to the event loop, in which it was made."""

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from tenantvault import AsyncClient, Provider, ResourceKind, Secret, VapiCredential
from tenantvault.credentials import ActiveCredential
from tenantvault.errors import InvalidRequest
from tenantvault.v1 import access_service_pb2 as access

ACTIVE = ActiveCredential(
    org_id="acme",
    provider=Provider.VAPI,
    version=1,
    credential=VapiCredential(api_key=Secret("key")),
    resources=(),
    last_verified_at=None,
    generation=7,
)

FORK = """
import asyncio, os, sys, warnings
import grpc, grpc.aio
from tenantvault import ActiveCredential, AsyncClient, Client, Provider, Secret, VapiCredential
from tenantvault.errors import InvalidRequest

# Python warns of threads, of which this is about.
warnings.simplefilter("ignore", DeprecationWarning)
ACTIVE = ActiveCredential(org_id="acme", provider=Provider.VAPI, version=1, resources=(), generation=7,
                          credential=VapiCredential(api_key=Secret("key")), last_verified_at=None)

def remember(client):
    cache = client._calls.cache
    cache.heard()
    cache.keep(("acme", Provider.VAPI, False), ACTIVE, cache.asked(), org_id="acme", generation=7, size=1)

def fork(child):
    process = os.fork()
    if process == 0:
        try:
            child()
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0, "the child failed"

def refused(call):
    try:
        call()
    except InvalidRequest as error:
        assert "forked" in str(error), error
    else:
        raise AssertionError("it was given")

def threads():
    client = Client(grpc.insecure_channel("localhost:1"))
    remember(client)
    client._calls._ready()  # begins the watch, as a read does
    assert client.vapi("acme") is ACTIVE
    # The worst moment: another thread holds what the child would have to take.
    locks = (client._calls.cache._lock, client._calls._lock, client._calls._watch._lock)

    def child():
        refused(lambda: client.vapi("acme"))
        refused(lambda: client.vapi("globex"))
        refused(lambda: client.google_calendar("acme"))
        refused(lambda: client.remembered("acme", Provider.VAPI))
        refused(lambda: client.get_many([("acme", Provider.VAPI)]))
        refused(lambda: client.report_failure("acme", Provider.VAPI, 1))
        assert client.cache_statistics.entries == 0
        client.forget()
        client.close()
        # One that is made here is its own.
        mine = Client(grpc.insecure_channel("localhost:1"))
        remember(mine)
        assert mine.vapi("acme") is ACTIVE

    for lock in locks:
        lock.acquire()
    fork(child)
    for lock in locks:
        lock.release()
    assert client.vapi("acme") is ACTIVE
    client.close()

async def tasks():
    client = AsyncClient(grpc.aio.insecure_channel("localhost:1"))
    remember(client)
    assert await client.vapi("acme") is ACTIVE

    def child():
        def run(call):
            try:
                call.send(None)
            except StopIteration as stop:
                return stop.value
            raise AssertionError("it waits")
        refused(lambda: run(client.vapi("acme")))
        refused(lambda: run(client.vapi("globex")))
        refused(lambda: client.remembered("acme", Provider.VAPI))
        run(client.close())

    fork(child)
    assert await client.vapi("acme") is ACTIVE
    await client.close()

threads()
asyncio.run(tasks())
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_client_that_was_made_before_a_fork_says_so_in_the_child_and_goes_on_in_the_parent() -> None:
    ran = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)

    assert (0, "done\n") == (ran.returncode, ran.stdout), ran.stderr


def remember(client: AsyncClient) -> None:
    cache = client._calls.cache
    assert cache is not None
    cache.heard()
    cache.keep(("acme", Provider.VAPI, False), ACTIVE, cache.asked(), org_id="acme", generation=7, size=1)


CALLS: dict[str, Any] = {
    "a hit": lambda client: client.vapi("acme"),
    "a miss": lambda client: client.vapi("globex"),
    "Google": lambda client: client.google_calendar("acme"),
    "many": lambda client: client.get_many([("acme", Provider.VAPI)]),
    "an org": lambda client: client.resolve_org(ResourceKind.PHONE_NUMBER, "+1"),
    "a report": lambda client: client.report_failure("acme", Provider.VAPI, 1),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_asyncio_client_belongs_to_the_loop_in_which_it_was_made(
    asynchronous: AsyncClient, wire: Any, call: str
) -> None:
    async def make() -> AsyncClient:
        client = AsyncClient(asynchronous._wire._channels[0])
        remember(client)
        assert await client.vapi("acme") is ACTIVE
        return client

    client = asyncio.run(make())

    async def use() -> None:
        with pytest.raises(InvalidRequest, match="another event loop"):
            await CALLS[call](client)
        await client.close()

    asyncio.run(use())
    assert ([], 1) == (wire.calls, wire.closed)


@pytest.mark.parametrize("call", CALLS)
def test_outside_of_any_loop_it_says_so_too(asynchronous: AsyncClient, call: str) -> None:
    with pytest.raises(InvalidRequest, match="event loop"):
        CALLS[call](asynchronous).send(None)


def test_one_that_was_made_outside_belongs_to_the_loop_that_uses_it_first(asynchronous: AsyncClient, wire: Any) -> None:
    wire.answer = access.ReportFailureResponse()

    async def use() -> None:
        await asynchronous.report_failure("acme", Provider.VAPI, 1)

    asyncio.run(use())
    with pytest.raises(InvalidRequest, match="another event loop"):
        asyncio.run(use())


def test_a_client_whose_loop_has_ended_with_its_watch_can_be_closed_in_another(
    asynchronous: AsyncClient, wire: Any
) -> None:
    async def make() -> AsyncClient:
        client = AsyncClient(asynchronous._wire._channels[0])
        client._calls._ready()
        await asyncio.sleep(0)
        return client

    client = asyncio.run(make())
    assert 1 == len(wire.watches)

    asyncio.run(client.close())

    assert 1 == wire.closed
