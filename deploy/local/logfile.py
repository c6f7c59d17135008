"""The log file of a process."""

from pathlib import Path
from typing import BinaryIO, Final

_ROTATE_BYTES: Final = 10_000_000
_TAIL_BYTES: Final = 16_384


def open_log(path: Path) -> BinaryIO:
    """Open for appending; a file of more than 10 MB is put aside first, as `<name>.1`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _ROTATE_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("ab")


def tail(path: Path, *, lines: int = 12) -> str:
    """The last lines, indented, to be shown below a message; empty when there is no such file."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        last = file.read().decode(errors="replace").splitlines()[-lines:]
    return "".join(f"\n    {line}" for line in last)
