from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from itertools import count

import httpx
import pytest

from deploy.sandbox.app import create_app

VAPI_KEY = "ac3e0000-0000-4000-8000-000000000001"

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)


@pytest.fixture
def naps() -> list[float]:
    """The seconds that the sandbox would have slept."""
    return []


@pytest.fixture
async def sandbox(naps: list[float]) -> AsyncIterator[httpx.AsyncClient]:
    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    numbers = count(1)
    new_id: Callable[[], str] = lambda: f"00000000-0000-4000-8000-{next(numbers):012}"  # noqa: E731
    app = create_app(now=lambda: NOW, new_id=new_id, sleep=sleep)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://sandbox") as client:
        yield client


@pytest.fixture
async def vapi(sandbox: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """Acme's Vapi."""
    async with httpx.AsyncClient(
        transport=sandbox._transport,
        base_url="http://sandbox/vapi",
        headers={"Authorization": f"Bearer {VAPI_KEY}"},
    ) as client:
        yield client
