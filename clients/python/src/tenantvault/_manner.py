"""In what manner a client calls, as its maker wants it."""

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tenantvault._cache import Cache
from tenantvault._cache_settings import CacheSettings, CacheStatistics
from tenantvault._failures import Service, bad
from tenantvault._reads import seconds


class Span(Protocol):
    """One call over the wire, as it is told of."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with the call."""

    def end(self, code: str, reason: str = "") -> None:
        """It is over, with that gRPC status and, where it failed, the reason of the error."""


class Telemetry(Protocol):
    """Whom a client tells of its calls; `tenantvault.telemetry.OpenTelemetry` is one."""

    def begin(self, method: str, target: str, request: Any) -> Span:
        """A call of a method, by its full name, at a `host:port` begins. The request may name a customer."""

    def observe(self, statistics: Callable[[], CacheStatistics | None]) -> None:
        """Where the counts of a client's memory are, as long as there is the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How long, how often and with what memory a client calls.

    Raises:
        InvalidRequest: `deadline` or `hedge_after` is no number of seconds.
    """

    deadline: float
    cache: CacheSettings | None
    hedge_after: float | None
    telemetry: Telemetry | None
    now: Callable[[], datetime]
    timer: Callable[[], float]
    target: str
    provider_target: str

    def __post_init__(self) -> None:
        seconds(self.deadline)
        if self.hedge_after is not None and not 0 < self.hedge_after < math.inf:
            raise bad("hedge_after", "Give seconds, more than zero.")

    def timeout(self, deadline: float | None) -> float:
        """The seconds that a call may take; InvalidRequest when they are none."""
        return self.deadline if deadline is None else seconds(deadline)

    def begin(self, method: str, service: Service, request: Any) -> Span | None:
        """Tell that a call begins."""
        if self.telemetry is None:
            return None
        return self.telemetry.begin(method, self.target if service == "vault" else self.provider_target, request)

    def memory(self, *, several: bool) -> Cache[Any] | None:
        """The memory that is wanted. With `several` connections, other vaults than the watch's may answer."""
        if self.cache is None:
            return None
        cache: Cache[Any] = Cache(self.cache, self.timer, settle=self.cache.lease if several else 0.0)
        if self.telemetry is not None:
            gone = weakref.ref(cache)
            self.telemetry.observe(lambda: None if (there := gone()) is None else there.statistics)
        return cache


def connections(channels: int, *, hedges: bool) -> int:
    """How many connections a client needs; InvalidRequest when `channels` is no number of them."""
    if channels < 1:
        raise bad("channels", "Give the number of connections, 1 or more.")
    # A hedge goes another way than what it hedges.
    return max(channels, 2) if hedges else channels
