from collections.abc import Awaitable, Callable

import pytest

from services.vault.credential import Origin
from services.vault.memory import MemoryStore
from tests.suites.store_exam import *  # noqa: F403 - the exam is the test

EventRow = tuple[int, str, str, int, str, Origin]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def events(store: MemoryStore) -> Callable[[str], Awaitable[list[EventRow]]]:
    async def read(org_id: str) -> list[EventRow]:
        return [
            (event.generation, event.action, event.provider, event.version, event.outcome, event.origin)
            for event in store.events
            if event.org_id == org_id
        ]

    return read
