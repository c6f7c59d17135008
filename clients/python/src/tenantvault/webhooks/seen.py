"""Which events were taken before."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from cachetools import TLRUCache

_MOST: Final = 100_000


class Seen(Protocol):
    """Remembers keys for a while. Several processes that take the same webhooks need one that they share."""

    async def add(self, key: str, ttl: float) -> bool:
        """Remember a key for `ttl` seconds; False when it is remembered already. Looking and adding are one step."""
        ...

    async def discard(self, key: str) -> None:
        """Forget a key; nothing happens when it is not there."""
        ...


class SeenInMemory:
    """Remembers in the memory of this process, up to `most` keys: then the one that was used longest ago goes.

    `clock` is monotonic seconds.
    """

    def __init__(self, *, most: int = _MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys: TLRUCache[str, float] = TLRUCache(most, ttu=lambda _, ttl, now: now + ttl, timer=clock)

    async def add(self, key: str, ttl: float) -> bool:
        """See the port."""
        if key in self._keys:
            return False
        self._keys[key] = ttl
        return True

    async def discard(self, key: str) -> None:
        """See the port."""
        self._keys.pop(key, None)
