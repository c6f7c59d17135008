"""An embedded PostgreSQL: a child of this process, on a Unix socket, with passwords."""

import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self
from urllib.parse import quote, urlencode

from deploy.local.account import Account, server_account
from deploy.local.binaries import Binaries, find_binaries, open_to_all
from deploy.local.cluster import (
    ENVIRONMENT,
    SUPERUSER,
    check_version,
    create_cluster,
    forget_dead_server,
    is_cluster,
    path_for,
)
from deploy.local.command import Command
from deploy.local.errors import LocalError
from deploy.local.lock import FileLock
from deploy.local.logfile import open_log, tail
from deploy.local.sockets import SocketFolder
from deploy.local.strongbox import Strongbox

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_permissions": "0700",
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "jit": "off",
        # Nothing that a statement carries reaches the log: no statements, no parameters, no DETAIL with a row's values.
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_min_error_statement": "panic",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
    }
)
"""What the server is told on its command line, where no ALTER SYSTEM can undo it."""

# A crash of the server loses nothing with these; one of the machine may.
_FAST: Final[Mapping[str, str]] = MappingProxyType({"fsync": "off", "full_page_writes": "off"})

_START_WITHIN: Final = 60.0
_STOP: Final = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
_POLL: Final = 0.01


class EmbeddedPostgres:
    """A PostgreSQL server on `data`, which is made when it is not there.

    The server is a child of this process and ends with it; start it in a thread that lives on, the main one. As root it
    runs under an unprivileged account. `password_file` keeps the superuser's password (default: beside `data`).
    With `durable=False` a power cut may destroy the data and everything is faster: for tests. `patience` is how many
    seconds to wait for an earlier server on the same data that is just ending.
    """

    def __init__(
        self,
        data: Path,
        *,
        password_file: Path | None = None,
        durable: bool = True,
        patience: float = 10.0,
        binaries: Binaries | None = None,
    ) -> None:
        self._data = data.absolute()
        self._password_file = password_file or self._data.with_name(f"{data.name}.password")
        self._settings = {**SETTINGS, **({} if durable else _FAST)}
        self._patience = patience
        self._binaries = binaries
        self._lock = FileLock(self._data.with_name(f"{data.name}.lock"))
        self._log = self._data.with_name(f"{data.name}.log")
        self._sockets = SocketFolder(self._data)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def admin_url(self) -> str:
        """The superuser's URL, as asyncpg takes it. It holds the password, which the first `prepare` makes."""
        return self.url(SUPERUSER, self._password_file.read_text())

    @property
    def pid(self) -> int:
        """The server's process; only after `start`."""
        if self._process is None:
            raise ValueError("the server was not started")
        return self._process.pid

    def url(self, user: str, password: str) -> str:
        """The URL of a user of the database `postgres`."""
        return (
            f"postgresql://{quote(user)}:{quote(password, safe='')}@/postgres?{urlencode({'host': self._sockets.path})}"
        )

    def prepare(self) -> Command:
        """Take the lock on the data, make the cluster if need be, and give the command that runs the server.

        May take a second. Raises LocalError when the data are in use, of another version or not ours to serve.
        """
        self._data.parent.mkdir(parents=True, exist_ok=True)
        self._lock.release()
        if not self._lock.acquire(patience=self._patience):
            raise LocalError(f"A PostgreSQL is already running on {self._data}.")
        with ExitStack() as undo:
            undo.callback(self._lock.release)
            account = server_account(self._data)
            binaries = self._binaries or find_binaries()
            if account:
                binaries = open_to_all(binaries)
            self._sockets.own(account)
            undo.callback(self._sockets.remove)
            self._prepare_cluster(binaries, account)
            undo.pop_all()
        return self._command(binaries, account)

    def accepts(self) -> bool:
        """Whether the server takes connections now."""
        return self._sockets.accepts()

    def start(self) -> None:
        """Start the server and return when it takes connections. Raises LocalError."""
        command = self.prepare()
        with open_log(self._log) as log:
            self._process = subprocess.Popen(
                command.tethered(),
                env=dict(command.environment),
                cwd=command.directory,
                pass_fds=command.keep,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        deadline = time.monotonic() + _START_WITHIN
        while not self.accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise LocalError(f"PostgreSQL does not start; its log is {self._log}:{tail(self._log)}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """End the server in order, with force if that takes too long. Nothing happens when it does not run."""
        if self._process is not None:
            for ask, seconds in _STOP:
                self._process.send_signal(ask)
                try:
                    self._process.wait(seconds)
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._process = None
        self.close()

    def kill(self) -> None:
        """End the server as a crash would. The data stay taken until `start` or `stop`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Give the data and the socket's folder back once the server has ended; those of another are left alone."""
        if self._lock.is_held:
            self._sockets.remove()
            self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare_cluster(self, binaries: Binaries, account: Account | None) -> None:
        if is_cluster(self._data):
            check_version(self._data, binaries)
            if not self._password_file.exists():
                raise LocalError(
                    f"{self._data} is there and the password of its superuser is not: put {self._password_file} back, "
                    "or move the data away to begin with an empty database."
                )
            forget_dead_server(self._data, patience=self._patience)
            self._sockets.clear()
        else:
            box = Strongbox(self._password_file.parent)
            password = box.keep(self._password_file.name, lambda: secrets.token_urlsafe(32)).read_text()
            scratch = self._sockets.path
            create_cluster(self._data, binaries=binaries, account=account, password=password, scratch=scratch)

    def _command(self, binaries: Binaries, account: Account | None) -> Command:
        settings = {**self._settings, "unix_socket_directories": str(self._sockets.path)}
        options = (option for name, value in settings.items() for option in ("-c", f"{name}={value}"))
        return Command(
            arguments=(str(binaries.directory / "postgres"), "-D", path_for(self._data, account), *options),
            environment=ENVIRONMENT,
            directory=self._data,
            keep=(self._lock.descriptor,),
            account=account,
            stop=(signal.SIGINT, signal.SIGQUIT),
            orphaned=signal.SIGINT,
        )
