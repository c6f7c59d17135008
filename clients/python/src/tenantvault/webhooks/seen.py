"""Which events were taken before."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

_MOST: Final = 100_000
# Of all that is remembered, how much may be one org's.
_SHARE: Final = 10


class Mark(StrEnum):
    """What was known of an event when it came."""

    NEW = "new"
    """Nothing: it is marked as under way now."""
    UNDER_WAY = "under_way"
    """It is being taken, and nobody knows yet whether that ends well."""
    TAKEN = "taken"
    """It was taken."""


class Seen(Protocol):
    """Remembers keys for a while. Several processes that take the same webhooks need one that they share.

    A key is `{provider}:{org}:{hash}`, at most a few hundred characters.
    """

    async def add(self, key: str, ttl: float) -> Mark:
        """What is known of a key; when that is nothing, it is under way for `ttl` seconds. It is one step."""
        ...

    async def keep(self, key: str, ttl: float) -> None:
        """From now on a key is taken, for `ttl` seconds; it may have been forgotten in the meantime."""
        ...

    async def discard(self, key: str) -> None:
        """Forget a key; nothing happens when it is not there."""
        ...


@dataclass(frozen=True, slots=True)
class _Kept:
    mark: Mark
    ends: float


class SeenInMemory:
    """Remembers in the memory of this process.

    Args:
        most: how many keys are kept; then the oldest goes.
        most_per_org: how many of them are one org's, a tenth of `most` unless it is given; then the oldest of that org
            goes, so that one with many events does not push out what is known of the others.
        clock: monotonic seconds.
    """

    def __init__(
        self, *, most: int = _MOST, most_per_org: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._most_per_org = max(1, most // _SHARE) if most_per_org is None else most_per_org
        self._clock = clock
        # Both in the order in which the keys came; what has ended goes when its turn comes.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._by_org: dict[str, OrderedDict[str, None]] = {}

    async def add(self, key: str, ttl: float) -> Mark:
        """See the port."""
        kept = self._kept.get(key)
        if kept is not None and kept.ends > self._clock():
            return kept.mark
        self._put(key, Mark.UNDER_WAY, ttl)
        return Mark.NEW

    async def keep(self, key: str, ttl: float) -> None:
        """See the port."""
        self._put(key, Mark.TAKEN, ttl)

    async def discard(self, key: str) -> None:
        """See the port."""
        self._forget(key)

    def _put(self, key: str, mark: Mark, ttl: float) -> None:
        self._forget(key)
        self._kept[key] = _Kept(mark, self._clock() + ttl)
        own = self._by_org.setdefault(_org(key), OrderedDict())
        own[key] = None
        if len(own) > self._most_per_org:
            self._forget(next(iter(own)))
        if len(self._kept) > self._most:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: str) -> None:
        if self._kept.pop(key, None) is None:
            return
        org_id = _org(key)
        own = self._by_org[org_id]
        del own[key]
        if not own:
            del self._by_org[org_id]


def _org(key: str) -> str:
    """What stands between the provider and the hash: all the providers of an org share its part."""
    return key.partition(":")[2].rpartition(":")[0]
