"""Where the embedded PostgreSQL's Unix socket is."""

import hashlib
import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

from deploy.local.account import Account
from deploy.local.cluster import SUPERUSER
from deploy.local.errors import LocalError

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, one of them a zero.
_LONGEST: Final = 103
_SOCKET: Final = ".s.PGSQL.5432"
_PRIVATE: Final = 0o700


class SocketFolder:
    """A folder of its own, with a short path, for each data directory: one that a crash left is used again."""

    def __init__(self, data: Path) -> None:
        name = f"tenantvault-{hashlib.sha256(os.fsencode(data)).hexdigest()[:12]}"
        self.path: Final = _temporary(name)

    def own(self, account: Account | None) -> None:
        """Make it, for the account that the server runs under; LocalError when somebody else made it before."""
        uid = account.uid if account else os.geteuid()
        try:
            self.path.mkdir(mode=_PRIVATE)
        except FileExistsError:
            pass
        else:
            if account:
                os.chown(self.path, account.uid, account.gid)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) != _PRIVATE:
            raise LocalError(
                f"{self.path} belongs to somebody else, and PostgreSQL's socket would go there: remove it."
            )

    def accepts(self) -> bool:
        """Whether a server takes connections there now."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.path / _SOCKET))
                connection.sendall(_startup_message())
                # R asks for the password; E says that the server is still starting up.
                return connection.recv(64).startswith(b"R")
            except OSError:
                return False

    def clear(self) -> None:
        """Remove what a server that has ended left there."""
        for name in (_SOCKET, f"{_SOCKET}.lock"):
            (self.path / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it once its server has ended. Nothing happens when it is not there."""
        if self.path.exists():
            self.clear()
            self.path.rmdir()


def _temporary(name: str) -> Path:
    chosen = Path(tempfile.gettempdir(), name)
    # Root's own temp folder may be closed to the account that the server runs under.
    if os.geteuid() == 0 or len(os.fsencode(chosen / _SOCKET)) > _LONGEST:
        return Path("/tmp", name)  # noqa: S108  # its owner is checked before use
    return chosen


def _startup_message() -> bytes:
    """The first message of a connection (https://www.postgresql.org/docs/current/protocol-message-formats.html)."""
    body = b"\0\3\0\0" + f"user\0{SUPERUSER}\0database\0postgres\0\0".encode()
    return (len(body) + 4).to_bytes(4, "big") + body
