"""Streams over a real connection: how they end, and how they break."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from gateway.changes import Changes
from gateway.main import GRACE, Server
from gateway.metrics import Metrics
from tenantvault.errors import VaultUnavailable
from tenantvault.v1 import status_service_pb2 as status_pb
from tests.unit.gateway.fakes import FakeServices, bearer, event, make_app

LONG = 10.0


@asynccontextmanager
async def serving(services: FakeServices) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    changes = Changes(services)
    app = make_app(services, {}, Metrics(), changes=changes, public_url="http://localhost", local=True)
    config = uvicorn.Config(
        app, port=0, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=GRACE, access_log=False
    )
    server, listener = Server(config, changes), config.bind_socket()
    running = asyncio.create_task(server.serve(sockets=[listener]))
    url = f"http://localhost:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, headers=bearer(), timeout=LONG) as client:
        yield server, client
    server.should_exit = True
    await running


async def test_whoever_listens_is_let_go_when_the_process_stops() -> None:
    async with (
        serving(FakeServices()) as (server, client),
        client.stream("GET", "/api/integrations/events") as stream,
    ):
        lines = stream.aiter_lines()
        assert await anext(lines) == "retry: 3000"
        began = time.monotonic()
        server.should_exit = True
        assert [line for line in [line async for line in lines] if line.startswith("event:")] == ["event: ready"]
        assert time.monotonic() - began < GRACE / 2


async def test_a_page_that_is_gone_holds_no_place() -> None:
    services = FakeServices()
    async with serving(services) as (_, client):
        async with client.stream("GET", "/api/integrations/events") as stream:
            await anext(stream.aiter_lines())
            async with asyncio.timeout(LONG):
                await services.watches.get()
        async with asyncio.timeout(LONG):
            await services.unwatched.wait()


async def test_a_download_that_cannot_be_finished_is_a_broken_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    services, asked = FakeServices(events=[event(2)]), 0
    first_page = services.ListAuditEvents

    async def list_events(request: Any, **how: Any) -> status_pb.ListAuditEventsResponse:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise VaultUnavailable
        return await first_page(request, **how)

    monkeypatch.setattr(services, "ListAuditEvents", list_events)
    async with serving(services) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/api/integrations/audit.csv")
    assert asked == 2
