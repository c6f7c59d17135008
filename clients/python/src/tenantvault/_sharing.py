"""One call at a time for each thing that is read, whoever of a client's callers wants it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tenantvault._cache import Asked
from tenantvault._entries import Key


class Work(Protocol):
    """A call under way that several callers wait for."""

    def done(self) -> bool:
        """Whether it is over, well or not."""

    def cancel(self) -> object:
        """End it: nobody waits for it any more."""


WorkT = TypeVar("WorkT", bound=Work)


@dataclass(slots=True)
class Shared(Generic[WorkT]):
    """A call, when it was asked, how many wait for it, and what the first of them made of its response."""

    work: WorkT
    asked: Asked
    callers: int = 0
    answer: Any = None


class Sharing(Generic[WorkT]):
    """The calls under way of a client, for tasks and for threads."""

    def __init__(self) -> None:
        self._under_way: dict[Key, Shared[WorkT]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._under_way)

    @contextmanager
    def call(
        self, key: Key, asked: Asked, begin: Callable[[], WorkT], joinable: Callable[[Asked], bool]
    ) -> Iterator[tuple[Shared[WorkT], bool]]:
        """The call to wait for, and whether it is another's: one that is under way and `joinable` still, or a new one.

        Who leaves ends nobody else's; when the last one leaves before it is over, it is cancelled.
        """
        with self._lock:
            shared = self._under_way.get(key)
            joined = shared is not None and not shared.work.done() and joinable(shared.asked)
            if shared is None or not joined:
                shared = self._under_way[key] = Shared(begin(), asked)
            shared.callers += 1
        try:
            yield shared, joined
        finally:
            with self._lock:
                shared.callers -= 1
                last = not shared.callers
                if last and self._under_way.get(key) is shared:
                    del self._under_way[key]
            if last and not shared.work.done():
                shared.work.cancel()
