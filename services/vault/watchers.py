"""Those who watch for changes: each has a bounded buffer, and is told when it could not be told everything."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BUFFERED_ORGS: Final = 10_000
"""Orgs that may wait for one watcher; beyond that it is told to resync."""


class Watcher:
    """What one watcher has still to be told: the newest generation of each org that changed."""

    def __init__(self, *, bound: int = BUFFERED_ORGS) -> None:
        self._bound = bound
        self._waiting: dict[str, int] = {}
        self._resync = False
        self._ended = False
        self._something = asyncio.Event()

    def tell(self, org_id: str, generation: int) -> None:
        """There is something to tell of an org. Of many changes only the newest waits."""
        if self._resync:
            return
        self._waiting[org_id] = max(generation, self._waiting.get(org_id, 0))
        if len(self._waiting) > self._bound:
            self.resync()
        self._something.set()

    def resync(self) -> None:
        """Changes were missed: that is all there is to tell."""
        self._waiting.clear()
        self._resync = True
        self._something.set()

    def end(self) -> None:
        """Tell nothing more."""
        self._ended = True
        self._something.set()

    async def next(self, patience: float) -> tuple[dict[str, int], bool] | None:
        """What waits: the generation by org, and whether to resync; nothing when `patience` seconds brought nothing.

        None when the watch has ended.
        """
        if not self._something.is_set():
            try:
                async with asyncio.timeout(patience):
                    await self._something.wait()
            except TimeoutError:
                return {}, False
        if self._ended:
            return None
        told = self._waiting, self._resync
        self._waiting, self._resync = {}, False
        self._something.clear()
        return told


class Watchers:
    """All watchers of this process."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    @contextmanager
    def watching(self) -> Iterator[Watcher]:
        """A watcher that is told from now on."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def tell(self, org_id: str, generation: int) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.tell(org_id, generation)

    def resync(self) -> None:
        """Tell all that changes were missed."""
        for watcher in self._watchers:
            watcher.resync()

    def end(self) -> None:
        """End all watches: the process stops."""
        for watcher in self._watchers:
            watcher.end()
