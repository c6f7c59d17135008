"""Fixtures for pytest: a fake vault for each test, and clients of it.

They are there where they are asked for, in the topmost `conftest.py`:

    pytest_plugins = ["tenantvault.testing.fixtures"]
"""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tenantvault.async_client import AsyncClient
from tenantvault.client import Client
from tenantvault.testing.vault import FakeVault


@pytest.fixture
def tenantvault_vault() -> Iterator[FakeVault]:
    """A fake vault in which nothing is connected."""
    with FakeVault() as vault:
        yield vault


@pytest.fixture
def tenantvault_client(tenantvault_vault: FakeVault) -> Iterator[Client]:
    """A client of the fake vault, for threads."""
    with tenantvault_vault.client() as client:
        yield client


@pytest_asyncio.fixture
async def tenantvault_async_client(tenantvault_vault: FakeVault) -> AsyncIterator[AsyncClient]:
    """A client of the fake vault, for asyncio."""
    async with tenantvault_vault.async_client() as client:
        yield client
