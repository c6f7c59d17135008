import io
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from gateway import logs
from gateway.changes import Changes
from gateway.metrics import Metrics
from tests.unit.gateway.fakes import ORIGIN, FakeHealth, FakeServices, Gateway, MakeGateway, make_app


@pytest.fixture
async def make_gateway() -> AsyncIterator[MakeGateway]:
    clients: list[httpx.AsyncClient] = []

    async def make(**settings: Any) -> Gateway:
        services, health, metrics = FakeServices(), {"vault": FakeHealth(), "provider": FakeHealth()}, Metrics()
        changes = Changes(services, **settings.pop("bounds", {}))
        app = make_app(services, health, metrics, changes=changes, **settings)
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        client = httpx.AsyncClient(transport=transport, base_url=settings.get("public_url", ORIGIN))
        clients.append(client)
        return Gateway(app, services, health, client, changes)

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> Gateway:
    """A gateway as in production."""
    return await make_gateway()


@pytest.fixture
async def local_gateway(make_gateway: MakeGateway) -> Gateway:
    """A gateway as on one's own machine, with two demo orgs and the sandbox."""
    return await make_gateway(
        public_url="http://localhost:8400", local=True, sandbox=True, demo_orgs=("acme", "globex")
    )


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the process would write as its log, at the most talkative level."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.StringIO()
    logs.configure(level="debug", stream=stream)
    root.setLevel(logging.DEBUG)
    yield stream
    root.handlers, root.level = handlers, level
    for name in ("gateway", "tenantvault"):
        logging.getLogger(name).setLevel(logging.NOTSET)
