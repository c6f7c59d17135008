"""Secrets that are made once and kept in files that only their owner may read."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


class Strongbox:
    """A folder of secrets, one a file, mode 0600 from the first byte."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, name: str) -> Path:
        """Where the secret is or will be."""
        return self._directory / name

    def keep(self, name: str, make: Callable[[], str]) -> Path:
        """The file of a secret, made when it is not there yet. Of two that make it at once, one wins for both."""
        path = self.path(name)
        if not path.exists():
            fresh = self._fresh(make())
            try:
                path.hardlink_to(fresh)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path

    def put(self, name: str, value: str) -> Path:
        """The file of a value that may change from start to start."""
        path = self.path(name)
        self._fresh(value).replace(path)
        return path

    def read(self, name: str) -> str:
        """The secret; FileNotFoundError when it was never made."""
        return self.path(name).read_text()

    def _fresh(self, value: str) -> Path:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes the file with mode 0600.
        descriptor, name = tempfile.mkstemp(dir=self._directory, prefix=".new-")
        with os.fdopen(descriptor, "w") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        return Path(name)
