"""Those who watch a fake vault for changes."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tenantvault.v1 import access_service_pb2 as access

HEARTBEAT: Final = access.WatchChangesResponse(heartbeat=access.Heartbeat())
"""Says that nothing was missed."""

HEARTBEAT_SECONDS: Final = 1.0
"""How often it is said, as by the real vault."""


class Watcher:
    """One who watches."""

    def __init__(self) -> None:
        self._words: queue.SimpleQueue[access.WatchChangesResponse | None] = queue.SimpleQueue()

    def tell(self, org_id: str, generation: int) -> None:
        """An org changed."""
        self._words.put(access.WatchChangesResponse(change=access.Change(org_id=org_id, generation=generation)))

    def end(self) -> None:
        """There is nothing more to tell."""
        self._words.put(None)

    def beat(self) -> None:
        """Nothing was missed up to now."""
        self._words.put(HEARTBEAT)

    def words(self) -> Iterator[access.WatchChangesResponse]:
        """What there is to tell, with heartbeats, until it ends."""
        while (word := self._next()) is not None:
            yield word

    def _next(self) -> access.WatchChangesResponse | None:
        try:
            return self._words.get(timeout=HEARTBEAT_SECONDS)
        except queue.Empty:
            return HEARTBEAT


class Watchers:
    """All who watch."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._lock = threading.Lock()

    @contextmanager
    def watching(self) -> Iterator[Watcher]:
        """One more, who is told from now on."""
        watcher = Watcher()
        with self._lock:
            self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            with self._lock:
                self._watchers.discard(watcher)

    def tell(self, org_id: str, generation: int) -> None:
        """Tell all that an org changed."""
        for watcher in self._all():
            watcher.tell(org_id, generation)

    def end(self) -> None:
        """End all watches that are under way."""
        for watcher in self._all():
            watcher.end()

    def _all(self) -> list[Watcher]:
        with self._lock:
            return list(self._watchers)
