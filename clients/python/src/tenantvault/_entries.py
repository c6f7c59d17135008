"""The answers that are in memory: by what was asked, by org, and how large they are together."""

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

Key: TypeAlias = Hashable
ValueT = TypeVar("ValueT")


@dataclass(slots=True)
class Entry(Generic[ValueT]):
    """One answer.

    Args:
        size: its bytes.
        ends: when it is too old to be given.
        until: when it may not be given at all any more.
        used: it was given since it was last looked at to make room.
    """

    value: ValueT
    org_id: str
    generation: int
    size: int
    ends: float = math.inf
    until: float = math.inf
    used: bool = False


class Entries(Generic[ValueT]):
    """Holds no more than so many answers, and so many bytes of them. `get` alone may be called beside another call."""

    def __init__(self, most: int, max_bytes: int) -> None:
        self._most = most
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, Entry[ValueT]] = OrderedDict()
        self._keys: dict[str, set[Key]] = {}
        self.get = self._entries.get
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: Key, entry: Entry[ValueT]) -> int:
        """Take the place of what is there; returns how many others had to go. It may be no larger than all together."""
        self._drop(key)
        gone = self._make_room(entry.size)
        self._entries[key] = entry
        self._keys.setdefault(entry.org_id, set()).add(key)
        self.bytes += entry.size
        return gone

    def drop(self, org_id: str, below: float = math.inf) -> int:
        """Drop an org's that are of a generation below; returns how many."""
        old = [key for key in self._keys.get(org_id, ()) if self._entries[key].generation < below]
        for key in old:
            self._drop(key)
        return len(old)

    def oldest(self) -> Mapping[str, int]:
        """The orgs of which there is something, with the oldest generation of it."""
        return {org_id: min(self._entries[key].generation for key in keys) for org_id, keys in self._keys.items()}

    def clear(self) -> int:
        """Drop all; returns how many."""
        gone = len(self._entries)
        self._entries.clear()
        self._keys.clear()
        self.bytes = 0
        return gone

    def _make_room(self, size: int) -> int:
        """Second chance: what was used since it was last looked at goes to the end instead."""
        gone, chances = 0, len(self._entries)
        while self._entries and (len(self._entries) >= self._most or self.bytes + size > self._max_bytes):
            key, entry = next(iter(self._entries.items()))
            chances -= 1
            if entry.used and chances > 0:
                entry.used = False
                self._entries.move_to_end(key)
            else:
                self._drop(key)
                gone += 1
        return gone

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.bytes -= entry.size
        keys = self._keys[entry.org_id]
        keys.discard(key)
        if not keys:
            del self._keys[entry.org_id]
