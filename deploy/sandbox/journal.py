"""Which requests came, and how often. It never sees a header, a query string or a body."""

import logging
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Final

DROPPED: Final = 0
"""The status of a request whose connection was cut instead of answered."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request. `account` is who asked, empty when unknown; `status` is None while no answer was sent."""

    provider: str
    method: str
    path: str
    account: str
    status: int | None = None


class Journal:
    """Counts exchanges."""

    def __init__(self) -> None:
        self._counts: Counter[Exchange] = Counter()

    def begin(self, exchange: Exchange) -> None:
        """A request came."""
        self._counts[exchange] += 1

    def finish(self, exchange: Exchange, status: int) -> None:
        """It was answered, or DROPPED."""
        # A reset may have come between the two.
        if self._counts[exchange] > 1:
            self._counts[exchange] -= 1
        else:
            del self._counts[exchange]
        answered = replace(exchange, status=status)
        self._counts[answered] += 1
        _log.info("%s %s %s %d", answered.provider, answered.method, answered.path, status)

    def entries(self) -> list[dict[str, object]]:
        """The exchanges with their counts, in the order in which each was first seen."""
        return [{**asdict(exchange), "count": count} for exchange, count in self._counts.items()]

    def clear(self) -> None:
        """Forget everything."""
        self._counts.clear()
