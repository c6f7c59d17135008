"""What the client for threads answers with: from memory where it may, else the vault, once for all who ask alike."""

import threading
import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, TypeVar

from tenantvault._answers import instead, keep
from tenantvault._batches import Batch, Gathering, KeyT, Many, ValueT
from tenantvault._cache import Asked, Cache
from tenantvault._cache_settings import CacheStatistics
from tenantvault._entries import Key
from tenantvault._failures import client_closed, client_forked
from tenantvault._forks import tell_in_children
from tenantvault._hedge import Asking
from tenantvault._manner import Manner
from tenantvault._methods import WATCH
from tenantvault._reads import Read, handed_out
from tenantvault._sharing import Sharing
from tenantvault._tokens import end_after, remaining
from tenantvault._watch import Watching, WatchThread
from tenantvault._wire import Wire
from tenantvault.errors import DeadlineExceeded, TenantVaultError

AnswerT = TypeVar("AnswerT")


class Calls:
    """The calls of one client, for all threads of the process that made it.

    Args:
        several: there is more than one connection to the vault.
    """

    def __init__(self, wire: Wire, manner: Manner, *, several: bool = False) -> None:
        self._wire = wire
        self._manner = manner
        self._forked = False
        self._watch: WatchThread | None = None
        self._lock = threading.Lock()
        self._sharing: Sharing[Asking] = Sharing()
        self.cache = manner.memory(several=several)
        tell_in_children(self)

    def hit(self, key: Key, max_staleness: float | None = None) -> Any:
        """What may be given from memory now; None without."""
        cache = self.cache
        return None if cache is None else cache.hit(key, max_staleness)

    def remembered(self, key: Key) -> Any:
        """What `hit` gives; InvalidRequest where this client cannot be used."""
        found = self.hit(key)
        if found is None:
            self._ready(watching=False)
        return found

    def read(self, read: Read[AnswerT], deadline: float | None, max_staleness: float | None = None) -> AnswerT:
        """Ask the vault, together with all who ask the same.

        Who says how old the answer may be asks alone: another's call may have been made too long ago.
        """
        timeout = self._manner.timeout(deadline)
        cache = self._ready()
        if cache is None:
            return read.answer(self._wire.read(read.method, read.request, timeout))
        cache.count(missed=1)
        asked = cache.asked()
        try:
            if max_staleness is None:
                return self._shared(cache, read, asked, timeout)
            ready = cache.stale(read.key, max_staleness) is None
            outcome = self._kept(cache, read, asked, self._wire.read(read.method, read.request, timeout, ready=ready))
            return handed_out(outcome)
        except TenantVaultError as error:
            old: AnswerT | None = instead(cache, read.key, error, max_staleness)
            if old is None:
                raise
            return old

    def read_many(
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
                response = self._wire.read(many.method, request, remaining(ends, "vault"), ready=ready)
            except TenantVaultError as error:
                response = error

    def call(self, method: str, request: Any, deadline: float | None) -> Any:
        """Make a call to the vault that is no read, once."""
        timeout = self._manner.timeout(deadline)
        self._ready(watching=False)
        return self._wire.call(method, request, timeout)

    def close(self) -> None:
        """End the connections and every call under way, and forget everything."""
        if self._forked:
            return
        self._wire.closed = True
        if self.cache is not None:
            self.cache.end()
        with ExitStack() as stack:
            stack.callback(self._wire.close)
            with self._lock:
                watch = self._watch
            if watch is not None:
                watch.stop()

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
        if self._forked:
            raise client_forked()
        with self._lock:
            # Under the lock, so that `close` ends whatever is begun here.
            if self._wire.closed:
                raise client_closed()
            cache = self.cache
            if cache is None or not watching:
                return cache
            if self._watch is None:
                myself = weakref.ref(self)
                told = Watching(cache, wanted=lambda: myself() is not None)
                self._watch = WatchThread(self._wire.vault[WATCH], told)
            # Without a thread nothing would tell the memory; a plain call needs neither.
            return cache if self._watch.start() else None

    def _shared(self, cache: Cache[Any], read: Read[AnswerT], asked: Asked, timeout: float) -> AnswerT:
        ends = end_after(timeout)
        # A call that is shared has a time of its own: it goes on for the others when who began it has given up.
        limit = max(self._manner.deadline, timeout)

        def begin() -> Asking:
            # Who has something to fall back on does not wait for a vault that cannot be reached.
            ready = cache.stale(read.key) is None
            return self._wire.asking(read.method, read.request, limit, ready=ready)

        while True:
            wait = remaining(ends, "vault")
            with self._sharing.call(read.key, asked, begin, cache.joinable) as (shared, joined):
                cache.count(joined=joined)
                try:
                    if shared.answer is None:
                        shared.answer = self._kept(cache, read, shared.asked, self._wire.response(shared.work, wait))
                except DeadlineExceeded:
                    # Another that began it may have had less time.
                    if joined:
                        continue
                    raise
                answer: AnswerT | TenantVaultError = shared.answer
                return handed_out(answer)

    def _kept(self, cache: Cache[Any], read: Read[AnswerT], asked: Asked, response: Any) -> AnswerT | TenantVaultError:
        outcome = read.outcome(response)
        return keep(cache, read.key, outcome, asked, size=response.ByteSize(), now=self._manner.now)
