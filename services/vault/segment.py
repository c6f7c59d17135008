"""One file of the audit spool: the events that it holds, a line each, and the lock of the process that writes it."""

import fcntl
import json
import logging
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from tenantvault.audit import Event

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Segment:
    """A file that this process holds: how many of its bytes are written, and how many are in the audit.

    `replayed` is whether another process wrote it.
    """

    path: Path
    handle: int
    written: int = 0
    flushed: int = 0
    replayed: bool = False

    @classmethod
    def begin(cls, path: Path) -> Self:
        """Make a file that nobody else takes over, or sees, before it is locked.

        Raises:
            OSError: it cannot be made.
        """
        unlocked = path.with_suffix(".new")
        handle = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Whoever holds the lock lives.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(path)
        except OSError:
            unlocked.unlink(missing_ok=True)
            os.close(handle)
            raise
        return cls(path, handle)

    @classmethod
    def take_over(cls, path: Path) -> Self | None:
        """Take a file over that another process wrote; None while that one lives, or when it is gone.

        Raises:
            OSError: it is there and cannot be opened.
        """
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        if not path.exists():
            os.close(handle)
            return None
        return cls(path, handle, written=os.fstat(handle).st_size, replayed=True)

    def lines(self, size: int) -> list[bytes]:
        """The whole lines among the next `size` bytes that are not in the audit yet, each with its end."""
        block = os.pread(self.handle, size, self.flushed)
        return block[: block.rfind(b"\n") + 1].splitlines(keepends=True)

    def drop(self) -> None:
        """Remove it: all of it is in the audit."""
        self.path.unlink(missing_ok=True)
        os.close(self.handle)


def read_event(line: bytes) -> Event | None:
    """What a line says; None when it is empty, or none of ours."""
    if line == b"\n":
        return None
    try:
        event_id, org_id, at, peer, on_behalf_of, action, provider, version, outcome, request_id = json.loads(
            line.decode()
        )
        return Event(
            event_id=str(uuid.UUID(event_id)),
            org_id=org_id,
            occurred_at=datetime.fromtimestamp(at, UTC),
            peer=peer,
            on_behalf_of=on_behalf_of,
            action=action,
            provider=provider,
            version=version,
            outcome=outcome,
            request_id=request_id,
            generation=0,
        )
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):
        _log.error("a line of the audit spool is none")
        return None
