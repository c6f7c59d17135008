"""How much of bodies is held at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class BufferFull(Exception):
    """There is no room for more of a body now."""


@dataclass(slots=True)
class Buffer:
    """Room for `most` bytes of all bodies together.

    What arrived counts, not what was announced: an announcement costs its sender nothing, and would keep others out.
    """

    most: int
    held: int = 0

    def check(self, announced: int) -> None:
        """Refuse a body for which there is no room now, before any of it is read.

        Raises:
            BufferFull: less than `announced` bytes are free, or none at all.
        """
        if self.held + max(announced, 1) > self.most:
            raise BufferFull

    @contextmanager
    def part(self) -> Iterator["Part"]:
        """One body's part of the room. It is free again at the end."""
        part = Part(self)
        try:
            yield part
        finally:
            self.held -= part.held


@dataclass(slots=True)
class Part:
    """What one body takes of a buffer."""

    buffer: Buffer
    held: int = 0

    def take(self, size: int) -> None:
        """Count what arrived.

        Raises:
            BufferFull: with it more than the buffer holds.
        """
        if self.buffer.held + size > self.buffer.most:
            raise BufferFull
        self.buffer.held += size
        self.held += size
