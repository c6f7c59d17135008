"""Whose account PostgreSQL runs under: it refuses to run as root."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.errors import LocalError

# An account made for PostgreSQL, else the one that owns nothing.
_UNPRIVILEGED: Final = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine, by its numbers."""

    uid: int
    gid: int


def server_account(data: Path) -> Account | None:
    """The account that root has to change to for a server on `data`; None when this process's own will do.

    A data directory that exists keeps its owner, so a stack that was first started by a normal user goes on working
    after a start as root. Raises LocalError when no account fits.
    """
    uid = os.geteuid()
    owner = data.stat().st_uid if data.exists() else None
    if uid:
        _entry(uid)
        if owner not in {None, uid}:
            raise LocalError(f"{data} belongs to another user (uid {owner}): start as that user or as root.")
        return None
    if owner:
        return Account(owner, _entry(owner).pw_gid)
    if owner == 0 and any(data.iterdir()):
        raise LocalError(f"{data} belongs to root, and PostgreSQL does not run as root: give it to another user.")
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise LocalError("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody': add one.")


def _entry(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise LocalError(
            f"User id {uid} has no entry in the user database (/etc/passwd), and PostgreSQL needs one: "
            "add it, start as another user, or set DATABASE_URL to a PostgreSQL that runs already."
        ) from None
