"""A lock on a file that ends with its holders."""

import fcntl
import os
import time
from pathlib import Path
from typing import Final, Self

_POLL: Final = 0.02


class FileLock:
    """An exclusive lock. It is held until every process that has `descriptor` open has closed it or has ended.

    A child that inherits the descriptor thus holds the lock too, and a lock that can be taken proves that the earlier
    holder and all its children are gone, however they ended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    @property
    def descriptor(self) -> int:
        """The open file; only while the lock is held."""
        if self._descriptor is None:
            raise ValueError("the lock is not held")
        return self._descriptor

    def acquire(self, *, patience: float = 0.0) -> bool:
        """Take the lock, waiting for up to `patience` seconds; False when somebody else has it still."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return False
                time.sleep(_POLL)
            except BaseException:
                os.close(descriptor)
                raise
            else:
                self._descriptor = descriptor
                return True

    def release(self) -> None:
        """Let go; children that inherited the lock keep it. Nothing happens when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire(patience=float("inf"))
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
