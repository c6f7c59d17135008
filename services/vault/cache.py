"""A bounded cache of what was read, for one process.

It holds ciphertext and the ready cipher, not plaintext. Reads of the same key at the same time are one read. What was
read before a change and arrives after it is given to those who asked before the change, and is not kept.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cachetools import TTLCache

ENTRIES: Final = 1000
TTL_SECONDS: Final = 300.0

ValueT = TypeVar("ValueT")
Key = tuple[str, str]


@dataclass(slots=True)
class Counts:
    """How the cache did since the process began."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    dropped_fills: int = 0


class Cache(Generic[ValueT]):
    """Values by org and provider: least recently used out first, each at most `ttl_seconds` old."""

    def __init__(
        self, *, entries: int = ENTRIES, ttl_seconds: float = TTL_SECONDS, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._values: TTLCache[Key, ValueT] = TTLCache(entries, ttl_seconds, timer=timer)
        self._flights: dict[Key, asyncio.Task[ValueT | None]] = {}
        self.counts = Counts()

    async def get(self, key: Key, load: Callable[[], Awaitable[ValueT | None]]) -> ValueT | None:
        """The value, from memory or by `load`; None is not kept. What `load` raises reaches all who waited."""
        value = self._values.get(key)
        if value is not None:
            self.counts.hits += 1
            return value
        flight = self._flights.get(key)
        if flight is None:
            self.counts.misses += 1
            flight = asyncio.ensure_future(self._fill(key, load))
            flight.add_done_callback(_seen)
            self._flights[key] = flight
        else:
            self.counts.joined += 1
        # One caller that gives up must not end the read of the others.
        return await asyncio.shield(flight)

    def forget(self, org_id: str) -> None:
        """Drop all of an org's values, and what is being read of it now."""
        for keys in (self._values, self._flights):
            for key in [key for key in keys if key[0] == org_id]:
                keys.pop(key, None)

    async def _fill(self, key: Key, load: Callable[[], Awaitable[ValueT | None]]) -> ValueT | None:
        flight = asyncio.current_task()
        try:
            value = await load()
        finally:
            current = self._flights.get(key) is flight
            if current:
                del self._flights[key]
        if not current:
            self.counts.dropped_fills += 1
        elif value is not None:
            self._values[key] = value
        return value


def _seen(flight: "asyncio.Task[ValueT | None]") -> None:
    """Look at a flight's error although everybody who waited for it has gone: asyncio warns otherwise."""
    if not flight.cancelled():
        flight.exception()
