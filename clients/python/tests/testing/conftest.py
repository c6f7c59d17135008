"""The fixtures that the package offers, and each client of the fake vault."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tenantvault import AsyncClient, Client
from tenantvault.testing import FakeVault
from tenantvault.testing.fixtures import tenantvault_async_client, tenantvault_client, tenantvault_vault

__all__ = ["tenantvault_async_client", "tenantvault_client", "tenantvault_vault"]


class AnyClient:
    """Either client, awaited; the blocking one in a thread."""

    def __init__(self, client: AsyncClient | Client) -> None:
        self.client = client

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.client, verb)

        async def run(*arguments: Any, **options: Any) -> Any:
            if isinstance(self.client, AsyncClient):
                return await method(*arguments, **options)
            return await asyncio.to_thread(method, *arguments, **options)

        return run


@pytest.fixture(params=["asynchronous", "blocking"])
async def connect(
    request: pytest.FixtureRequest, tenantvault_vault: FakeVault
) -> AsyncIterator[Callable[..., AnyClient]]:
    """Makes a client of the fake vault, which is closed at the end."""
    made: list[AnyClient] = []

    def make(**options: Any) -> AnyClient:
        asynchronous = request.param == "asynchronous"
        maker = tenantvault_vault.async_client if asynchronous else tenantvault_vault.client
        made.append(AnyClient(maker(**options)))
        return made[-1]

    yield make
    for client in made:
        await client.close()


@pytest.fixture
async def client(connect: Callable[..., AnyClient]) -> AnyClient:
    return connect()
