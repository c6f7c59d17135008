"""A bounded cache of what was read, for one process.

It holds ciphertext and the ready cipher, not plaintext. What was read before a change and arrives after it is given to
those who asked before the change, and is not kept.

While the process knows of every change (`Freshness`), a value is served from memory, and reads of the same key at the
same time are one read. When it may have missed some, each reads anew; only when that cannot be, a value is served that
was current at most so long ago as the caller, and the vault, allow.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from cachetools import TTLCache

from tenantvault.errors import VaultUnavailable

ENTRIES: Final = 1000
TTL_SECONDS: Final = 300.0

ABSENT_SECONDS: Final = 2.0
"""How long it is remembered that there is nothing."""

MAX_STALENESS_SECONDS: Final = 60.0

_REMEMBERED_CHANGES: Final = 10_000


class Value(Protocol):
    """What is kept: whose it is, and whether it says that there is nothing."""

    @property
    def org_id(self) -> str:
        """The org; empty when it is nobody's."""

    @property
    def generation(self) -> int:
        """The org's generation when it was read."""

    @property
    def absent(self) -> bool:
        """Whether it says that there is nothing."""

    @property
    def away(self) -> bool:
        """Whether it says that this one value cannot be had now. That is never kept."""


class Freshness(Protocol):
    """Whether this process has heard of every change."""

    @property
    def synced_at(self) -> float:
        """The last moment, by the monotonic clock, at which this process knew of every change."""

    @property
    def fresh_until(self) -> float:
        """Until then no change takes effect without this process."""

    @property
    def away(self) -> bool:
        """Whether the database was away when it was last asked."""


@dataclass(frozen=True, slots=True)
class AlwaysFresh:
    """Of a process that alone changes what it reads."""

    synced_at: float = float("inf")
    fresh_until: float = float("inf")
    away: bool = False


ValueT = TypeVar("ValueT", bound=Value)
Key = tuple[str, str]


@dataclass(slots=True)
class Counts:
    """How the cache did since the process began."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    dropped_fills: int = 0
    revalidated: int = 0
    stale: int = 0


class Cache(Generic[ValueT]):
    """Values by key: least recently used out first, each at most `ttl_seconds` old.

    Args:
        owned: whether a key's first part is the org; else any change may be about any key that is being read.
        max_staleness: how old (seconds) a value may be at the most when the database is away.
    """

    def __init__(
        self,
        *,
        entries: int = ENTRIES,
        ttl_seconds: float = TTL_SECONDS,
        absent_seconds: float = ABSENT_SECONDS,
        max_staleness: float = MAX_STALENESS_SECONDS,
        owned: bool = True,
        freshness: Freshness | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._values: TTLCache[Key, ValueT] = TTLCache(entries, ttl_seconds, timer=timer)
        # Apart, so that asking for what is not there pushes out nothing that is.
        self._absent: TTLCache[Key, ValueT] = TTLCache(entries, absent_seconds, timer=timer)
        self._flights: dict[Key, asyncio.Future[ValueT]] = {}
        self._flying: set[asyncio.Task[None]] = set()
        self._keys: dict[str, set[Key]] = {}
        self._changes = 0
        # The number of each org's last change, the latest change last, and of the latest that is not in there any more.
        self._changed: dict[str, int] = {}
        self._let_go = 0
        self._max_staleness = max_staleness
        self._owned = owned
        self._freshness = freshness or AlwaysFresh()
        self._timer = timer
        self.counts = Counts()

    async def get(
        self, key: Key, load: Callable[[], Awaitable[ValueT]], max_staleness: float | None = None
    ) -> tuple[ValueT, bool]:
        """The value, from memory or by `load`, and whether it may be stale.

        `max_staleness` is in seconds: None is the vault's own bound, 0 reads in any case. What `load` raises reaches
        all who waited.
        """
        value = self._values.get(key)
        if value is not None and max_staleness != 0 and self._fresh(max_staleness):
            self.counts.hits += 1
            return value, False

        async def load_one(_: Sequence[Key]) -> Sequence[ValueT]:
            return [await load()]

        return (await self.get_many([key], load_one, max_staleness))[0]

    async def get_many(
        self,
        keys: Sequence[Key],
        load: Callable[[Sequence[Key]], Awaitable[Sequence[ValueT]]],
        max_staleness: float | None = None,
    ) -> list[tuple[ValueT, bool]]:
        """The values, in the order of the keys; those that are not in memory by one `load`, each asked for once."""
        if max_staleness == 0:
            wanted = list(dict.fromkeys(keys))
            loaded = dict(zip(wanted, await load(wanted), strict=True))
            return [(loaded[key], False) for key in keys]
        found: dict[Key, tuple[ValueT, bool]] = {}
        waits: dict[Key, asyncio.Future[ValueT]] = {}
        to_load: list[Key] = []
        for key in dict.fromkeys(keys):
            if (at_hand := self._at_hand(key, max_staleness)) is not None:
                found[key] = at_hand
            elif key in self._flights and self._fresh(max_staleness):
                # Not while changes may be missed: it may have begun before one that is in force by now.
                self.counts.joined += 1
                waits[key] = self._flights[key]
            else:
                to_load.append(key)
        if to_load:
            waits.update(self._take_off(to_load, load))
        for key, flight in waits.items():
            try:
                # One caller that gives up must not end the read of the others.
                value = await asyncio.shield(flight)
            except VaultUnavailable:
                if (old := self._old(key, max_staleness)) is None:
                    raise
            else:
                old = self._old(key, max_staleness) if value.away else None
            found[key] = (value, False) if old is None else (old, True)
        return [found[key] for key in keys]

    def keep(self, key: Key, value: ValueT, asked: int) -> None:
        """Remember what was read since `asked` gave that number, unless it changed meanwhile."""
        if value.away:
            return
        if self._owned or not value.absent:
            changed = self._changed.get(key[0] if self._owned else value.org_id, self._let_go)
        else:
            # Whose it may have become meanwhile is not known.
            changed = self._changes
        if changed > asked:
            self.counts.dropped_fills += 1
        elif value.absent:
            self._values.pop(key, None)
            self._absent[key] = value
        else:
            self._absent.pop(key, None)
            self._values[key] = value
            self._keys.setdefault(value.org_id, set()).add(key)

    @property
    def asked(self) -> int:
        """A number for `keep`, to be taken before a read begins."""
        return self._changes

    def generations(self) -> dict[str, int]:
        """The orgs of which something is remembered, with the oldest generation of it."""
        self._values.expire()
        found: dict[str, int] = {}
        for value in self._values.values():
            found[value.org_id] = min(value.generation, found.get(value.org_id, value.generation))
        # What was pushed out or grew too old is not in there any more.
        for org_id in self._keys.keys() - found.keys():
            del self._keys[org_id]
        return found

    def distrust_reads(self) -> None:
        """Keep nothing of what is being read now, and nothing that says that there is nothing: changes were missed."""
        self._changes += 1
        self._let_go = self._changes
        self._changed.clear()
        self._flights.clear()
        self._absent.clear()

    def forget(self, org_id: str) -> None:
        """Drop all of an org's values, and what is being read of it now."""
        self._changes += 1
        self._changed.pop(org_id, None)
        self._changed[org_id] = self._changes
        if len(self._changed) > _REMEMBERED_CHANGES:
            self._let_go = self._changed.pop(next(iter(self._changed)))
        for key in self._keys.pop(org_id, ()):
            self._values.pop(key, None)
        for keys in (self._absent, self._flights):
            for key in [key for key in keys if not self._owned or key[0] == org_id]:
                keys.pop(key, None)

    def _at_hand(self, key: Key, max_staleness: float | None) -> tuple[ValueT, bool] | None:
        """What can be given without waiting, and whether it may be stale."""
        value = self._remembered(key)
        if value is None:
            return None
        if self._fresh(max_staleness):
            self.counts.hits += 1
            return value, False
        if self._freshness.away and not value.absent and self._bearable(max_staleness):
            # It was just asked in vain: those who can bear an old answer need not wait for another refusal.
            self.counts.stale += 1
            return value, True
        return None

    def _remembered(self, key: Key) -> ValueT | None:
        value = self._values.get(key)
        return value if value is not None else self._absent.get(key)

    def _fresh(self, max_staleness: float | None) -> bool:
        now = self._timer()
        return now < self._freshness.fresh_until and (
            max_staleness is None or now - self._freshness.synced_at <= max_staleness
        )

    def _bearable(self, max_staleness: float | None) -> bool:
        bound = self._max_staleness if max_staleness is None else min(max_staleness, self._max_staleness)
        return self._timer() - self._freshness.synced_at <= bound

    def _old(self, key: Key, max_staleness: float | None) -> ValueT | None:
        """What was there so long ago as can be borne: never that there was nothing, which cannot be marked as old."""
        value = self._values.get(key)
        if value is None or not self._bearable(max_staleness):
            return None
        self.counts.stale += 1
        return value

    def _take_off(
        self, keys: Sequence[Key], load: Callable[[Sequence[Key]], Awaitable[Sequence[ValueT]]]
    ) -> dict[Key, "asyncio.Future[ValueT]"]:
        """Begin to read keys together: a flight for each, which others may join until it has landed."""
        again = sum(self._remembered(key) is not None for key in keys)
        self.counts.revalidated += again
        self.counts.misses += len(keys) - again
        loop = asyncio.get_running_loop()
        flights: dict[Key, asyncio.Future[ValueT]] = {key: loop.create_future() for key in keys}
        self._flights.update(flights)
        for flight in flights.values():
            flight.add_done_callback(_seen)
        # The loop itself would not keep it.
        task = loop.create_task(self._fly(flights, load))
        self._flying.add(task)
        task.add_done_callback(self._flying.discard)
        return flights

    async def _fly(
        self, flights: dict[Key, "asyncio.Future[ValueT]"], load: Callable[[Sequence[Key]], Awaitable[Sequence[ValueT]]]
    ) -> None:
        asked, keys = self._changes, list(flights)
        try:
            values = list(zip(keys, await load(keys), strict=True))
        except asyncio.CancelledError:
            for key in keys:
                self._land(key, flights[key])
                flights[key].cancel()
            raise
        except Exception as error:  # noqa: BLE001 - it is handed to those who wait
            for key in keys:
                self._land(key, flights[key])
                flights[key].set_exception(error)
        else:
            for key, value in values:
                if self._land(key, flights[key]):
                    self.keep(key, value, asked)
                else:
                    self.counts.dropped_fills += 1
                flights[key].set_result(value)

    def _land(self, key: Key, flight: "asyncio.Future[ValueT]") -> bool:
        """End a flight; whether nothing changed under it."""
        current = self._flights.get(key) is flight
        if current:
            del self._flights[key]
        return current


def _seen(flight: "asyncio.Future[ValueT]") -> None:
    """Look at a flight's error although everybody who waited for it has gone: asyncio warns otherwise."""
    if not flight.cancelled():
        flight.exception()
