"""How much a client remembers, and how that did."""

import math
from dataclasses import dataclass
from typing import Final

from tenantvault.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """How much a client remembers, and for how long. Times are in seconds.

    Args:
        entries: answers at the most; those that were not used lately go first.
        max_bytes: how large they are together at the most, as they came from the vault; in memory it is several times
            as much.
        ttl: no answer that was asked for longer ago is given from memory.
        lease: how long after the vault was last heard an answer is still given from memory. A revocation reaches a
            client in milliseconds; one that is cut off from the vault serves the revoked credential so long.
        max_stale: how long after the vault was last heard an answer is given, marked `served_stale`, when the vault
            cannot be reached; 0 for never.
    """

    entries: int = 1000
    max_bytes: int = 8 * 1024 * 1024
    ttl: float = 300.0
    lease: float = 3.0
    max_stale: float = 0.0

    def __post_init__(self) -> None:
        lowest = {"entries": 1, "max_bytes": 1, "ttl": 0.001, "lease": 1.5, "max_stale": 0}
        for name, bound in lowest.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not bound <= value < math.inf:
                raise InvalidRequest(f"{name}: Give {bound} or more.", fields={name: f"Give {bound} or more."})


DEFAULT_CACHE: Final = CacheSettings()
"""What a client remembers when nothing else is said."""


@dataclass(slots=True)
class CacheStatistics:
    """How a client's memory did since the client was made.

    Args:
        hits: answers that were given from memory.
        misses: answers that were not.
        joined: those of the misses for which another caller had asked already.
        stale: answers that were given because the vault could not be reached.
        evicted: answers that were dropped to make room.
        invalidated: answers that were dropped because their org changed, or because changes were missed.
        not_kept: answers that could not be remembered, most of them because no watch was complete.
        watches: how often a watch was begun.
        entries: answers that are in memory now.
        bytes: how large they are together, as they came from the vault.
    """

    hits: int = 0
    misses: int = 0
    joined: int = 0
    stale: int = 0
    evicted: int = 0
    invalidated: int = 0
    not_kept: int = 0
    watches: int = 0
    entries: int = 0
    bytes: int = 0
