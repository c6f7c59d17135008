"""The store in memory, and the caches over it, in every order of events."""

from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import HealthCheck, settings

from services.vault.memory import MemoryStore
from tests.suites.interleavings import Interleavings


class OnMemory(Interleavings):
    @staticmethod
    async def open_store() -> tuple[Any, Callable[[], Awaitable[None]]]:
        async def close() -> None:
            pass

        return MemoryStore(), close


TestInterleavingsOnMemory = OnMemory.TestCase
TestInterleavingsOnMemory.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
