"""Ctrl-C while gRPC has the main thread.

Python raises KeyboardInterrupt between any two instructions of the main thread, also in the middle of gRPC's own, which
has noted an operation, say, and not begun it. gRPC's other thread then waits for what never comes, on a queue that the
closing channel takes away under it, and ends with a traceback.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Protocol, Self


class Call(Protocol):
    """A call under way."""

    def cancel(self) -> object:
        """End it."""


class Held:
    """A block that Ctrl-C does not break into: it ends the block's call, and KeyboardInterrupt is raised behind it.

    Where Ctrl-C means something else than KeyboardInterrupt, or nothing, that stays.
    """

    def __init__(self, call: Call | None = None) -> None:
        self._call = call
        self._came = False
        self._holds = False

    def ends(self, call: Call) -> None:
        """Have Ctrl-C end this call, also one that came a moment ago."""
        self._call = call
        if self._came:
            call.cancel()

    def __enter__(self) -> Self:
        self._holds = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._holds:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._holds:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._came:
            raise KeyboardInterrupt from None

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        # gRPC's locks let the thread that holds them in once more.
        if self._call is not None:
            self._call.cancel()
