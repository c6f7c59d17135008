"""Providers that are down, as this worker sees it: their work waits, and one piece at a time tries."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tenantvault.credentials import Provider

FAILURES: Final = 3
"""So many in a row, without an answer between them, are an outage."""

FIRST_PAUSE: Final = 15.0
LONGEST_PAUSE: Final = 300.0
"""Seconds. Each try that fails doubles the pause before the next one."""

_MOST_DOUBLINGS: Final = 10


@dataclass(slots=True)
class _Outage:
    failures: int = 0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Outages:
    """A circuit breaker for each provider. `clock` is monotonic seconds; `jitter` gives numbers from 0 to 1."""

    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    _known: dict[Provider, _Outage] = field(default_factory=dict, init=False)

    def wait(self, provider: Provider) -> float:
        """How many seconds a piece of work has to be put off; 0 when it may try.

        In an outage, one may try when a pause is over. Those who have to wait come back spread over the next pause, so
        that they do not all come at once.
        """
        outage = self._known.get(provider)
        if outage is None or outage.failures < FAILURES:
            return 0.0
        pause = self._pause(outage)
        if self.clock() >= outage.until:
            # This one tries; the others wait for what comes of it.
            outage.until = self.clock() + pause
            return 0.0
        return outage.until - self.clock() + self.jitter() * pause

    def failed(self, provider: Provider) -> None:
        """The provider gave no answer."""
        outage = self._known.setdefault(provider, _Outage())
        outage.failures += 1
        if outage.failures >= FAILURES:
            outage.until = self.clock() + self._pause(outage)

    def answered(self, provider: Provider) -> None:
        """The provider answered, yes or no: it is there."""
        self._known.pop(provider, None)

    @staticmethod
    def _pause(outage: _Outage) -> float:
        return min(FIRST_PAUSE * 2.0 ** min(outage.failures - FAILURES, _MOST_DOUBLINGS), LONGEST_PAUSE)
