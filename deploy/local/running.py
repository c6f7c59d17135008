"""The stack that runs in a directory: one at a time, and where others find it."""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from deploy.local.errors import LocalError
from deploy.local.lock import FileLock

_FILE: Final = "running.json"
_LOCK: Final = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Where a running stack is reached: `pid` is its supervisor, targets are `host:port`."""

    pid: int
    gateway_url: str
    vault_target: str
    provider_target: str


@contextmanager
def claim(root: Path) -> Iterator[Callable[[Running], None]]:
    """Be the one stack of this directory; LocalError when another one runs. Gives a function that tells where it is."""
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / _LOCK)
    if not lock.acquire():
        other = _read(root)
        where = f" (process {other.pid}, {other.gateway_url})" if other else ""
        raise LocalError(f"TenantVault is already running on {root}{where}.")
    note = root / _FILE
    try:
        yield lambda running: _write(note, running)
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def find(root: Path) -> Running:
    """The stack that runs in this directory; LocalError when there is none."""
    running = _read(root) if _is_locked(root / _LOCK) else None
    if running is None:
        raise LocalError(f"TenantVault is not running on {root}: start it with 'make run' and leave it running.")
    return running


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def _write(note: Path, running: Running) -> None:
    note.write_text(json.dumps(asdict(running)))


def _read(root: Path) -> Running | None:
    try:
        return Running(**json.loads((root / _FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
