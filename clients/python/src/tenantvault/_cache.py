"""What a client remembers of the vault's answers, and until when.

The vault tells of every change by a watch (`tenantvault._watch`). While the watch says that nothing was missed, an
answer is given from memory; a change drops what it makes old. When the watch is silent for longer than the lease,
nothing is given from memory any more, until another watch was heard, which begins with what moved on meanwhile.

An answer that was asked for before a change and comes after it is not kept: it says an older generation of its org than
the change did, or it was asked for under another watch.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from tenantvault._cache_settings import CacheSettings, CacheStatistics
from tenantvault._entries import Entries, Entry, Key
from tenantvault._generations import Generations

_KNOWN_ORGS: Final = 10_000  # that a watch may be asked about
_NEVER: Final = -math.inf

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class Asked:
    """The moment at which something was asked for, and whether its answer can be kept at all."""

    watch: int
    change: int
    at: float
    fresh: bool


class Cache(Generic[ValueT]):
    """Answers by what was asked, for tasks and for threads.

    A hit takes no lock and changes nothing but a mark and a count: whatever else is changed is changed under the lock.

    Args:
        settle: seconds for which a watch has to be heard before answers are kept. It is for answers that come from
            other vaults than the watch: one of those may not have heard yet of what was told before this watch.
    """

    def __init__(
        self, settings: CacheSettings, timer: Callable[[], float] = time.monotonic, *, settle: float = 0.0
    ) -> None:
        self._settings = settings
        self._lease = settings.lease
        self._timer = timer
        self._settle = settle
        self._lock = threading.Lock()
        self._entries: Entries[ValueT] = Entries(settings.entries, settings.max_bytes)
        self._since = self._heard_at = self._fresh_until = _NEVER
        self._ended = False
        self._watch = 0
        self._generations = Generations()
        self._counts = CacheStatistics()

    def hit(self, key: Key, within: float | None = None) -> ValueT | None:
        """What may be given from memory now; with `within`, only what was current so many seconds ago.

        What can be no key, or no number of seconds, is not there.
        """
        # Read before the entry: then all that was told until it was set has been dropped, however long this waits.
        fresh_until = self._fresh_until
        try:
            entry = self._entries.get(key)
            if entry is None:
                return None
            now = self._timer()
            if now >= fresh_until or now >= entry.ends:
                return None
            if within is not None and not now - (fresh_until - self._lease) < within:
                return None
        except TypeError:
            return None
        entry.used = True
        self._counts.hits += 1
        return entry.value

    def stale(self, key: Key, within: float | None = None) -> ValueT | None:
        """What may be given when the vault cannot be reached: it was current at most `max_stale` seconds ago."""
        heard_at = self._heard_at
        entry = self._entries.get(key)
        if entry is None:
            return None
        limit = self._settings.max_stale if within is None else min(self._settings.max_stale, within)
        now = self._timer()
        return entry.value if now - heard_at < limit and now < entry.until else None

    def asked(self) -> Asked:
        """To be taken before something is asked for, and given with its answer."""
        with self._lock:
            now = self._timer()
            fresh = self._since + self._settle <= now < self._fresh_until
            return Asked(self._watch, self._generations.changes, now, fresh)

    def joinable(self, asked: Asked) -> bool:
        """Whether what was asked for then answers somebody who asks now.

        It does when nothing is known to have changed since, and it is not longer ago than the lease.
        """
        return (
            asked.watch == self._watch
            and asked.change == self._generations.changes
            and self._timer() - asked.at < self._settings.lease
        )

    def keep(
        self, key: Key, value: ValueT, asked: Asked, *, org_id: str, generation: int, size: int, life: float = math.inf
    ) -> None:
        """Remember an answer of that many bytes for at most `life` seconds, unless it may be old already."""
        with self._lock:
            now = self._timer()
            ends = min(asked.at + self._settings.ttl, now + life)
            if generation:
                self._learn(org_id, generation)
            if (
                self._ended
                or not asked.fresh
                or asked.watch != self._watch
                or asked.change < self._generations.let_go
                or not generation
                or generation < self._generations.newest(org_id)
                or size > self._settings.max_bytes
                or now >= ends
            ):
                self._counts.not_kept += 1
                return
            entry = Entry(value, org_id, generation, size, ends, now + life)
            self._counts.evicted += self._entries.put(key, entry)

    def known(self) -> Mapping[str, int]:
        """The orgs of which something is remembered, with the oldest generation of it: a new watch asks about them.

        More than may be asked about are forgotten first.
        """
        with self._lock:
            self._counts.watches += 1
            for org_id in list(self._entries.oldest())[:-_KNOWN_ORGS]:
                self._entries.drop(org_id)
            return self._entries.oldest()

    def changed(self, org_id: str, generation: int) -> None:
        """An org changed: drop what is older."""
        with self._lock:
            self._generations.changes += 1
            self._learn(org_id, generation)

    def resync(self) -> None:
        """Changes were missed: forget everything, and give nothing until the watch is heard again."""
        with self._lock:
            self._lose()
            self._counts.invalidated += self._entries.clear()

    def heard(self) -> bool:
        """The watch says that nothing was missed up to now. False when that cannot be believed any more.

        What comes after a silence beyond the lease may have been on its way for as long, with changes behind it.
        """
        with self._lock:
            now = self._timer()
            if self._ended or _NEVER < self._fresh_until <= now:
                return False
            if self._fresh_until == _NEVER:
                self._since = now
            self._heard_at = now
            self._fresh_until = now + self._lease
            return True

    def lost(self) -> None:
        """The watch has ended: nothing is given from memory until another one was heard."""
        with self._lock:
            self._lose()

    def forget(self) -> None:
        """Forget everything, and keep nothing that was asked for before now."""
        with self._lock:
            self._watch += 1
            self._entries.clear()

    def end(self) -> None:
        """Forget everything, for good."""
        with self._lock:
            self._ended = True
            self._lose()
            self._entries.clear()

    def count(self, *, missed: int = 0, joined: int = 0, stale: int = 0) -> None:
        """Count what became of a call that found nothing."""
        with self._lock:
            self._counts.misses += missed
            self._counts.joined += joined
            self._counts.stale += stale

    @property
    def statistics(self) -> CacheStatistics:
        """A copy of the counts."""
        with self._lock:
            return replace(self._counts, entries=len(self._entries), bytes=self._entries.bytes)

    def _lose(self) -> None:
        self._watch += 1
        self._fresh_until = _NEVER

    def _learn(self, org_id: str, generation: int) -> None:
        if self._generations.learn(org_id, generation):
            self._counts.invalidated += self._entries.drop(org_id, generation)
