"""What changes in the vault, shared out among all who listen: one watch for the whole process.

The watch begins with the first listener and ends with the last. A listener is told that something changed, not what:
many changes are one, and where changes may have been missed, everybody is told.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import grpc
import grpc.aio

from gateway.problems import Refusal
from tenantvault.v1.access_service_pb2 import WatchChangesRequest, WatchChangesResponse

PER_ORG: Final = 20
IN_ALL: Final = 1000
"""Listeners of one org, and of all."""

LONGEST_WATCH: Final = 1800.0
"""Seconds after which a watch is taken up anew, at most. The vault allows an hour."""

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 4.0
"""Seconds before a watch that broke is taken up again; doubled each time until it stands for a while."""

STEADY: Final = 10.0
"""Seconds for which a watch stood when its break is not held against the vault."""

DEAF_AFTER: Final = 5.0
"""Seconds without a word from the vault, whose heart beats each second, after which changes may be missed."""

# Of a watch's length, by how much it is cut at random: gateways that began together do not ask together.
_SPREAD: Final = 0.25

_log = logging.getLogger(__name__)


class WatchCalls(Protocol):
    """What is asked of the vault: the stub of CredentialAccessService."""

    @property
    def WatchChanges(self) -> Callable[..., AsyncIterable[WatchChangesResponse]]:  # noqa: N802 - the proto's name
        """Every change, as it happens."""


class Listener:
    """Somebody who listens. However much there is to tell, it is one thing."""

    def __init__(self) -> None:
        self._something = asyncio.Event()

    def tell(self) -> None:
        """There is something to tell."""
        self._something.set()

    async def told(self, patience: float) -> bool:
        """Whether there is something, within `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._something.wait()
        except TimeoutError:
            return False
        self._something.clear()
        return True


class Changes:
    """All listeners of this process. `now` is a monotonic clock in seconds, `jitter` gives numbers from 0 to 1."""

    def __init__(
        self,
        vault: WatchCalls,
        *,
        per_org: int = PER_ORG,
        in_all: int = IN_ALL,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._vault = vault
        self._per_org = per_org
        self._in_all = in_all
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        self._listeners: dict[str, set[Listener]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._heard_at = -math.inf
        self._end = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the process stops."""
        return self._end.is_set()

    @property
    def is_deaf(self) -> bool:
        """Whether the vault was silent for so long that listeners may miss changes."""
        return self._now() - self._heard_at > DEAF_AFTER

    @contextmanager
    def listening(self, org_id: str) -> Iterator[Listener]:
        """A listener that is told of an org's changes from now on; Refusal when there are too many."""
        all_of_them = sum(map(len, self._listeners.values()))
        if len(self._listeners.get(org_id, ())) >= self._per_org or all_of_them >= self._in_all:
            raise Refusal("TOO_MANY_STREAMS")
        listener = Listener()
        self._listeners.setdefault(org_id, set()).add(listener)
        if self._watching is None:
            self._heard_at = self._now()
            self._watching = asyncio.create_task(self._watch())
        if self.ended:
            listener.tell()
        try:
            yield listener
        finally:
            self._listeners[org_id].discard(listener)
            if not self._listeners[org_id]:
                del self._listeners[org_id]
            if not self._listeners:
                self._watching.cancel()
                self._watching = None

    def end(self) -> None:
        """Let everybody go: the process stops."""
        self._end.set()
        self._tell(self._listeners)

    async def pause(self, seconds: float) -> None:
        """Wait, but not when the process stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._end.wait()

    def _tell(self, orgs: Iterable[str]) -> None:
        for org_id in orgs:
            for listener in self._listeners.get(org_id, ()):
                listener.tell()

    async def _watch(self) -> None:
        pause, is_known = FIRST_PAUSE, False
        while True:
            stood_at = math.inf
            longest = LONGEST_WATCH * (1 - _SPREAD * self._jitter())
            try:
                async for told in self._vault.WatchChanges(WatchChangesRequest(), timeout=longest):
                    self._heard_at = self._now()
                    if stood_at == math.inf or told.HasField("resync"):
                        # Nobody told what happened before the watch stood.
                        self._tell(self._listeners)
                        stood_at, is_known = min(stood_at, self._heard_at), False
                    elif told.HasField("change"):
                        self._tell([told.change.org_id])
            except Exception as error:  # noqa: BLE001 - whatever broke it, it is taken up again
                code = error.code() if isinstance(error, grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
                if not is_known and code is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    is_known = True
                    _log.warning("the watch for changes broke", exc_info=error, extra={"code": code.name})
            if self._heard_at - stood_at >= STEADY:
                pause = FIRST_PAUSE
            await self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
