"""A read that gets no answer soon enough is asked a second time, and the first answer wins; the other call is ended.

That the vault is unavailable is no answer while the other call may have one.

https://research.google/pubs/the-tail-at-scale/ ("hedged requests")
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from tenantvault.errors import TenantVaultError, Unavailable

ResponseT = TypeVar("ResponseT")


async def first_answer(ask: Callable[[int], Coroutine[Any, Any, ResponseT]], after: float) -> ResponseT:
    """What `ask(0)` answers, or what `ask(1)` does, which is called after so many seconds without an answer."""
    calls = [_begun(ask(0))]
    try:
        await asyncio.wait(calls, timeout=after)
        if not calls[0].done():
            calls.append(_begun(ask(1)))
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            if not any(map(_answered, calls)):
                await asyncio.wait(calls)
        return next(filter(_answered, calls), calls[0]).result()
    finally:
        for call in calls:
            call.cancel()


class Future(Protocol):
    """A blocking call under way."""

    def done(self) -> bool:
        """Whether it is over."""

    def cancel(self) -> object:
        """End it."""

    def add_done_callback(self, fn: Callable[[Any], Any], /) -> None:
        """Call `fn` when it is over; at once when it is."""


class Asking:
    """The same for threads: several may wait for the answer, each as long as it likes.

    Args:
        ask: begins a call.
        error: what came of a call that is over, where that is an error.
        after: seconds without an answer before it is asked a second time; None for never.
    """

    def __init__(
        self,
        ask: Callable[[int], Future],
        error: Callable[[Any], TenantVaultError | None],
        after: float | None = None,
    ) -> None:
        self._ask = ask
        self._error = error
        self._again_at = None if after is None else time.monotonic() + after
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._calls: list[Future] = []
        self._winner: Future | None = None
        self._begin()

    def done(self) -> bool:
        """Whether there is an answer, or an error."""
        return self._over.is_set()

    def wait(self, timeout: float) -> Any:
        """The call that has the answer or the error; None when there is none within so many seconds."""
        ends = time.monotonic() + timeout
        if (
            self._again_at is not None
            and self._again_at < ends
            and not self._over.wait(max(self._again_at - time.monotonic(), 0))
        ):
            with self._lock:
                if len(self._calls) == 1 and not self._over.is_set():
                    self._begin()
        self._over.wait(max(ends - time.monotonic(), 0))
        return self._winner

    def cancel(self) -> None:
        """End what is under way."""
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def _begin(self) -> None:
        call = self._ask(len(self._calls))
        self._calls.append(call)
        call.add_done_callback(self._ended)

    def _ended(self, call: Future) -> None:
        with self._lock:
            others = [other for other in self._calls if other is not call and not other.done()]
            if self._over.is_set() or (others and isinstance(self._error(call), Unavailable)):
                return
            self._winner = call
            self._over.set()
        for other in others:
            other.cancel()


def _begun(call: Coroutine[Any, Any, ResponseT]) -> "asyncio.Task[ResponseT]":
    task = asyncio.create_task(call)
    # What the call that did not win raises is nobody's.
    task.add_done_callback(lambda over: over.cancelled() or over.exception())
    return task


def _answered(call: "asyncio.Task[ResponseT]") -> bool:
    return call.done() and not isinstance(call.exception(), Unavailable)
