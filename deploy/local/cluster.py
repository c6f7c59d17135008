"""The data directory of the embedded PostgreSQL: made once and whole, never over another."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from deploy.local.account import Account
from deploy.local.binaries import Binaries
from deploy.local.command import Command
from deploy.local.errors import LocalError

SUPERUSER: Final = "postgres"

ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""All that PostgreSQL's programs get to see: no PG* variable of the terminal reaches them."""

_POLL: Final = 0.05


def is_cluster(data: Path) -> bool:
    """Whether the directory holds a database cluster."""
    return (data / "PG_VERSION").exists()


def path_for(data: Path, account: Account | None) -> str:
    """How a program whose working directory is `data` should name it.

    The account that root changes to may not pass the folders above `data`, which can be private to root. It needs not
    to: Linux leads `/proc/self/cwd` to the working directory itself.
    """
    return "/proc/self/cwd" if account and sys.platform == "linux" else str(data)


def create_cluster(data: Path, *, binaries: Binaries, account: Account | None, password: str, scratch: Path) -> None:
    """Make a cluster whose superuser has this password. The caller holds the lock on `data`.

    It is made aside and moved into place, so that one that was cut off leaves nothing that looks like a cluster.
    `scratch` is a folder that the account owns. Raises LocalError when `data` holds something else or `initdb` fails.
    """
    if data.exists() and any(data.iterdir()):
        raise LocalError(f"{data} holds files and no PostgreSQL data: move them away, or choose another directory.")
    fresh = data.with_name(f"{data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    password_file = scratch / "password"
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    if account:
        os.chown(fresh, account.uid, account.gid)
        os.chown(password_file, account.uid, account.gid)
    try:
        password_file.write_text(password)
        _initdb(fresh, binaries=binaries, account=account, password_file=password_file)
    finally:
        password_file.unlink()
    fresh.replace(data)


def check_version(data: Path, binaries: Binaries) -> None:
    """Raise LocalError unless these programs can serve this cluster."""
    version = (data / "PG_VERSION").read_text().strip()
    if version != str(binaries.major):
        raise LocalError(
            f"{data} was made by PostgreSQL {version}, and the one here is {binaries.major}. Nothing was changed. "
            f"Move the directory away to begin with an empty database, or bring the data over with version {version}'s "
            "pg_dump."
        )


def forget_dead_server(data: Path, *, patience: float) -> None:
    """Make the cluster startable after a server that did not end in order. The caller holds the lock on `data`.

    PostgreSQL refuses to start while the process that `postmaster.pid` names exists. A killed server exists until its
    parent has taken note, so that is waited for; a process of another kind that has got its number since is no server.
    Raises LocalError when a server is still there after `patience` seconds: not one of ours, which would hold the lock.
    """
    note = data / "postmaster.pid"
    deadline = time.monotonic() + patience
    while (pid := _noted(note)) and _exists(pid):
        if _is_another(pid, data):
            note.unlink()
        elif time.monotonic() >= deadline:
            raise LocalError(f"A PostgreSQL that was not started here (process {pid}) runs on {data}: stop it first.")
        else:
            time.sleep(_POLL)


def _initdb(directory: Path, *, binaries: Binaries, account: Account | None, password_file: Path) -> None:
    arguments = (
        str(binaries.directory / "initdb"),
        f"--pgdata={path_for(directory, account)}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--data-checksums",
        "--no-instructions",
    )
    command = Command(arguments=arguments, environment=ENVIRONMENT, directory=directory, account=account)
    result = subprocess.run(
        command.tethered(), check=False, capture_output=True, text=True, cwd=directory, env=ENVIRONMENT
    )
    if result.returncode:
        raise LocalError(f"PostgreSQL could not set up {directory}:\n{result.stderr.strip()}")


def _noted(note: Path) -> int:
    try:
        return int(note.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return 0


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_another(pid: int, data: Path) -> bool:
    """Whether the process is certainly not a server on `data`; never certain where there is no /proc."""
    process = Path("/proc", str(pid))
    try:
        if (process / "comm").read_text().strip() != "postgres":
            return True
        return not (process / "cwd").samefile(data)
    except OSError:
        return False
