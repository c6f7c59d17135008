"""What the asyncio client answers with: from memory where it may, else the vault, once for all who ask alike."""

import asyncio
import weakref
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from tenantvault._answers import instead, keep
from tenantvault._async_wire import AsyncWire
from tenantvault._batches import Batch, Gathering, KeyT, Many, ValueT
from tenantvault._cache import Asked, Cache
from tenantvault._cache_settings import CacheStatistics
from tenantvault._entries import Key
from tenantvault._failures import Service, client_closed, client_forked, no_answer, other_loop
from tenantvault._forks import tell_in_children
from tenantvault._manner import Manner
from tenantvault._methods import WATCH
from tenantvault._reads import Read, handed_out
from tenantvault._sharing import Sharing
from tenantvault._tokens import end_after, remaining
from tenantvault._watch import Watching, watch
from tenantvault.errors import DeadlineExceeded, TenantVaultError

AnswerT = TypeVar("AnswerT")


class AsyncCalls:
    """The calls of one client. It belongs to the event loop in which it was made, or first used, and to its process.

    Args:
        several: there is more than one connection to the vault.
    """

    def __init__(self, wire: AsyncWire, manner: Manner, *, several: bool = False) -> None:
        self._wire = wire
        self._manner = manner
        self._forked = False
        self._watch: asyncio.Task[None] | None = None
        self._sharing: Sharing[asyncio.Task[Any]] = Sharing()
        self.cache = manner.memory(several=several)
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        tell_in_children(self)

    def hit(self, key: Key, max_staleness: float | None = None) -> Any:
        """What may be given from memory now; None without. InvalidRequest in another event loop or process."""
        try:
            if asyncio.get_running_loop() is not self._loop:
                self._arrive()
        except RuntimeError:
            raise (client_forked() if self._forked else other_loop()) from None
        cache = self.cache
        return None if cache is None else cache.hit(key, max_staleness)

    def remembered(self, key: Key) -> Any:
        """What `hit` gives; InvalidRequest where this client cannot be used."""
        found = self.hit(key)
        if found is None:
            self._ready(watching=False)
        return found

    async def read(self, read: Read[AnswerT], deadline: float | None, max_staleness: float | None = None) -> AnswerT:
        """Ask the vault, together with all who ask the same.

        Who says how old the answer may be asks alone: another's call may have been made too long ago.
        """
        timeout = self._manner.timeout(deadline)
        cache = self._ready()
        if cache is None:
            return read.answer(await self._wire.read(read.method, read.request, timeout))
        cache.count(missed=1)
        asked = cache.asked()
        try:
            if max_staleness is None:
                return await self._shared(cache, read, asked, timeout)
            outcome = await self._answer(cache, read, asked, timeout, max_staleness)
            return handed_out(outcome)
        except TenantVaultError as error:
            old: AnswerT | None = instead(cache, read.key, error, max_staleness)
            if old is None:
                raise
            return old

    async def read_many(
        self, many: Many[KeyT, ValueT], keys: Iterable[KeyT], deadline: float | None, max_staleness: float | None = None
    ) -> Batch[KeyT, ValueT]:
        """What is asked of many keys: from memory, and the rest from the vault."""
        ends = end_after(self._manner.timeout(deadline))
        steps = Gathering(many, self._ready(), within=max_staleness, now=self._manner.now).steps(keys)
        response: Any = None
        while True:
            try:
                request, ready = steps.send(response)
            except StopIteration as stop:
                found: Batch[KeyT, ValueT] = stop.value
                return found
            try:
                response = await self._wire.read(many.method, request, remaining(ends, "vault"), ready=ready)
            except TenantVaultError as error:
                response = error

    async def call(self, method: str, request: Any, deadline: float | None, service: Service = "vault") -> Any:
        """Make a call that is no read, once."""
        timeout = self._manner.timeout(deadline)
        self._ready(watching=False)
        return await self._wire.call(method, request, timeout, service)

    async def close(self) -> None:
        """End the connections and every call under way, and forget everything."""
        if self._forked:
            return
        self._wire.closed = True
        if self.cache is not None:
            self.cache.end()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._wire.close)
            if self._watch is not None and self._watch.get_loop() is asyncio.get_running_loop():
                self._watch.cancel()
                await asyncio.wait({self._watch})

    def forget(self) -> None:
        """Forget every answer that is in memory."""
        if self.cache is not None:
            self.cache.forget()

    @property
    def statistics(self) -> CacheStatistics:
        """How the memory did; nothing where there is none."""
        return CacheStatistics() if self.cache is None else self.cache.statistics

    def forked(self) -> None:
        """This process is a child of the one that made it."""
        self._forked = True
        self.cache = None

    def _ready(self, *, watching: bool = True) -> Cache[Any] | None:
        """The memory, where there is one; InvalidRequest where this client cannot be used."""
        self.hit(())
        if self._wire.closed:
            raise client_closed()
        if watching and self.cache is not None and self._watch is None:
            myself = weakref.ref(self)
            told = Watching(self.cache, wanted=lambda: myself() is not None)
            self._watch = asyncio.create_task(watch(self._wire.vault[WATCH], told))
        return self.cache

    def _arrive(self) -> None:
        if self._forked:
            raise client_forked()
        if self._loop is not None:
            raise other_loop()
        self._loop = asyncio.get_running_loop()

    async def _shared(self, cache: Cache[Any], read: Read[AnswerT], asked: Asked, patience: float) -> AnswerT:
        ends = end_after(patience)
        # A call that is shared has a time of its own: it goes on for the others when who began it has given up.
        limit = max(self._manner.deadline, patience)

        async def outcome() -> AnswerT | TenantVaultError:
            try:
                return await self._answer(cache, read, asked, limit)
            except TenantVaultError as error:
                return error

        def begin() -> "asyncio.Task[AnswerT | TenantVaultError]":
            return asyncio.create_task(outcome())

        while True:
            wait = remaining(ends, "vault")
            with self._sharing.call(read.key, asked, begin, cache.joinable) as (shared, joined):
                cache.count(joined=joined)
                await asyncio.wait({shared.work}, timeout=wait)
                if not shared.work.done():
                    raise no_answer("vault")
                found: AnswerT | TenantVaultError = shared.work.result()
            # Another that began it may have had less time.
            if not joined or not isinstance(found, DeadlineExceeded):
                return handed_out(found)

    async def _answer(
        self, cache: Cache[Any], read: Read[AnswerT], asked: Asked, limit: float, max_staleness: float | None = None
    ) -> AnswerT | TenantVaultError:
        # Who has something to fall back on does not wait for a vault that cannot be reached.
        ready = cache.stale(read.key, max_staleness) is None
        response = await self._wire.read(read.method, read.request, limit, ready=ready)
        outcome = read.outcome(response)
        return keep(cache, read.key, outcome, asked, size=response.ByteSize(), now=self._manner.now)
