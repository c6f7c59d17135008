"""The watch that keeps a client's memory right, for tasks and for threads.

It ends when the vault does, and is taken up again after a pause that grows; what moved on meanwhile is told first. It
holds nothing of the client, and ends by itself when nobody has the client any more.
"""

import asyncio
import logging
import random
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from tenantvault._cache import Cache
from tenantvault.v1 import access_service_pb2 as access

LONGEST: Final = 600.0
"""Seconds after which a watch is begun anew; the vault allows an hour."""

_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 10.0
_REFUSED_PAUSE: Final = 300.0
_MOST_DOUBLINGS: Final = 16
_REFUSED: Final = frozenset(
    {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
)
_log = logging.getLogger(__name__)


class Watching:
    """What a watch says, told to the memory, and when to begin the next one.

    `wanted` says whether anybody still needs the memory. `chance` is from 0 to 1.
    """

    def __init__(
        self,
        cache: Cache[Any],
        *,
        wanted: Callable[[], bool] = lambda: True,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._cache = cache
        self._chance = chance
        self._failures = 0
        self._beaten = self._warned = self._told = False
        self.wanted = wanted

    def request(self) -> access.WatchChangesRequest:
        """The request of the next watch."""
        known = self._cache.known().items()
        return access.WatchChangesRequest(
            known=[access.KnownOrg(org_id=org_id, generation=generation) for org_id, generation in known]
        )

    def heard(self, message: access.WatchChangesResponse) -> bool:
        """The next word of the watch; False when the watch should end with it.

        What this version does not know is taken for changes that were missed.
        """
        match message.WhichOneof("event"):
            case "change":
                self._cache.changed(message.change.org_id, message.change.generation)
            case "heartbeat":
                # The first says that a watch began, not that it lasts: what ends with it is a failure like any other.
                if self._beaten:
                    self._failures = 0
                self._beaten = True
                if not self._cache.heard():
                    return False
            case _:
                self._cache.resync()
        return self.wanted()

    def ended(self, code: grpc.StatusCode | None = None) -> float:
        """The watch is over, by that status; returns the seconds until the next: random, so that not all come at once.

        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter")
        """
        self._cache.lost()
        self._beaten = False
        if code in _REFUSED:
            if not self._warned:
                self._warned = True
                _log.warning("this service may not watch for changes (%s): nothing is kept in memory", code)
            return _REFUSED_PAUSE * max(self._chance(), 0.1)
        limit: float = min(_FIRST_PAUSE * 2**self._failures, _LAST_PAUSE)
        self._failures = min(self._failures + 1, _MOST_DOUBLINGS)
        return limit * max(self._chance(), 0.1)

    def failed(self, error: Exception) -> None:
        """Say once that a watch failed by no status: its class and its place, since its text could hold anything."""
        if not self._told:
            self._told = True
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = type(error).__qualname__
            text = "the watch failed (%s, %s:%d): nothing is kept in memory until it goes on"
            _log.warning(text, kind, place.filename, place.lineno)


class AsyncMethod(Protocol):
    """WatchChanges of an asyncio stub."""

    def __call__(self, request: access.WatchChangesRequest, /, *, timeout: float, wait_for_ready: bool) -> "AsyncCall":
        """Begin a watch."""


class AsyncCall(Protocol):
    """A watch under way."""

    def __aiter__(self) -> AsyncIterator[access.WatchChangesResponse]:
        """Its words."""

    def cancel(self) -> bool:
        """End it."""


async def watch(method: AsyncMethod, watching: Watching) -> None:
    """Watch until it is cancelled.

    A vault that stands still is noticed by the connection's keep-alive, and by the lease before that.
    """
    while watching.wanted():
        call = code = None
        try:
            call = method(watching.request(), timeout=LONGEST, wait_for_ready=True)
            async for word in call:
                if not watching.heard(word):
                    break
        except grpc.aio.AioRpcError as error:
            code = error.code()
        except Exception as error:  # noqa: BLE001 - whatever it is, without a watch nothing would be remembered again
            watching.failed(error)
        finally:
            if call is not None:
                call.cancel()
            pause = watching.ended(code)
        await asyncio.sleep(pause)


class Method(Protocol):
    """WatchChanges of a blocking stub."""

    def __call__(self, request: access.WatchChangesRequest, /, *, timeout: float, wait_for_ready: bool) -> "Call":
        """Begin a watch."""


class Call(Protocol):
    """A watch under way."""

    def __iter__(self) -> Iterator[access.WatchChangesResponse]:
        """Its words."""

    def cancel(self) -> bool:
        """End it."""


class WatchThread:
    """The same in a thread of its own."""

    def __init__(self, method: Method, watching: Watching) -> None:
        self._method = method
        self._watching = watching
        self._call: Call | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="tenantvault-watch", daemon=True)

    def start(self) -> bool:
        """Begin, unless it began before; False, said once, when no thread can be started now."""
        if self._thread.ident is None:
            try:
                self._thread.start()
            except RuntimeError as error:
                self._watching.failed(error)
                return False
        return True

    def stop(self) -> None:
        """End; it returns when the thread has ended."""
        with self._lock:
            self._over.set()
            self._end()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._watching.wanted():
            if self._over.wait(self._watched()):
                return

    def _watched(self) -> float:
        """Watch once; the seconds until the next time."""
        code = None
        try:
            for word in self._begun():
                if not self._watching.heard(word):
                    break
        except grpc.RpcError as error:
            # Every call's error is a call too.
            code = error.code()
        except Exception as error:  # noqa: BLE001 - as above
            self._watching.failed(error)
        finally:
            self._end()
        return self._watching.ended(code)

    def _begun(self) -> Iterable[access.WatchChangesResponse]:
        request = self._watching.request()
        with self._lock:
            if self._over.is_set():
                return ()
            self._call = self._method(request, timeout=LONGEST, wait_for_ready=True)
            return self._call

    def _end(self) -> None:
        if self._call is not None:
            self._call.cancel()
