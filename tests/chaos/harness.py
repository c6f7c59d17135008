"""What every scenario stands on: a database, vaults as processes, and a report of claims and figures."""

import asyncio
import base64
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import grpc.aio

from deploy.local.authority import DevelopmentAuthority
from deploy.local.command import Command
from deploy.local.postgres import EmbeddedPostgres
from tenantvault.channel import open_channel
from tests.integration.conftest import Database, fill_template, new_database

RECONCILE_SECONDS: Final = 2.0
"""What a vault takes when nothing else is set: no change waits longer for a silent one."""

_START_WITHIN: Final = 60.0
_END_WITHIN: Final = 20.0
_POLL: Final = 0.01

Tell: TypeAlias = Callable[[str], None]


def silent(_: str) -> None:
    """Tell nobody."""


@dataclass(slots=True)
class Report:
    """What a scenario found: figures, and claims that hold or do not."""

    scenario: str
    figures: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, bool] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def claim(self, sentence: str, holds: bool, detail: object = "") -> None:
        """Note whether a claim holds; the detail says what stands against it."""
        self.claims[sentence] = holds
        if not holds:
            self.details[sentence] = str(detail)

    @property
    def broken(self) -> dict[str, str]:
        """The claims that do not hold, each with what stands against it."""
        return {sentence: self.details[sentence] for sentence, holds in self.claims.items() if not holds}

    def as_json(self) -> str:
        """One line."""
        return json.dumps(
            {"scenario": self.scenario, "holds": not self.broken, "figures": self.figures, "broken": self.broken}
        )

    def as_text(self) -> str:
        """For people."""
        lines = [f"{self.scenario}:"]
        lines += [f"  {name:<44} {value}" for name, value in self.figures.items()]
        lines += [f"  [{'holds' if holds else 'BROKEN'}] {sentence}" for sentence, holds in self.claims.items()]
        lines += [f"  {sentence}: {detail}" for sentence, detail in self.broken.items()]
        return "\n".join(lines)


def spread(milliseconds: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile (nearest rank) and the largest."""
    ordered = sorted(milliseconds)
    if not ordered:
        return {}

    def rank(share: float) -> float:
        return round(ordered[max(math.ceil(share * len(ordered)), 1) - 1], 2)

    return {"p50": rank(0.5), "p99": rank(0.99), "max": round(ordered[-1], 2)}


async def eventually(condition: Callable[[], Awaitable[bool]], *, within: float = 30.0) -> bool:
    """Whether a condition came to hold within so many seconds."""
    end = time.monotonic() + within
    while not await condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(_POLL)
    return True


def new_master_key(key_id: str) -> str:
    """A line of a keyring."""
    return f"{key_id}:{base64.b64encode(os.urandom(32)).decode()}"


@dataclass(frozen=True, slots=True)
class Ground:
    """A migrated database, an authority, and a folder for spools and logs."""

    database: Database
    authority: DevelopmentAuthority
    folder: Path


class Server:
    """A PostgreSQL of one scenario's own, to be killed and started again while the event loop goes on.

    A thread of its own works it: the server ends with the thread that started it.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._postgres = EmbeddedPostgres(folder / "pg", durable=durable)
        self._hands = ThreadPoolExecutor(1)

    async def start(self) -> None:
        """Start, and return when it takes connections."""
        await self._by_hand(self._postgres.start)

    async def stop(self) -> None:
        """End it in order."""
        await self._by_hand(self._postgres.stop)

    async def kill(self) -> None:
        """SIGKILL to the postmaster."""
        await self._by_hand(self._postgres.kill)

    async def stop_at_once(self) -> None:
        """PostgreSQL's immediate shutdown: SIGQUIT to the postmaster, no checkpoint, recovery at the next start."""

        def at_once() -> None:
            os.kill(self._postgres.pid, signal.SIGQUIT)
            self._postgres.stop()

        await self._by_hand(at_once)

    async def accepts(self) -> bool:
        """Whether it takes connections."""
        return bool(await self._by_hand(self._postgres.accepts))

    async def new_database(self) -> Database:
        """A migrated database; call it once."""

        def make() -> Database:
            fill_template(self._postgres)
            return new_database(self._postgres)

        database: Database = await self._by_hand(make)
        return database

    def close(self) -> None:
        """End the thread."""
        self._hands.shutdown()

    async def _by_hand(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._hands, work)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder with a short path that goes again."""
    folder = Path(tempfile.mkdtemp(prefix="tv-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def own_ground(folder: Path, *, durable: bool = False) -> AsyncIterator[tuple[Server, Ground]]:
    """A server of one's own with a migrated database."""
    server = Server(folder, durable=durable)
    try:
        await server.start()
        try:
            yield server, Ground(await server.new_database(), DevelopmentAuthority(folder / "ca"), folder)
        finally:
            await server.stop()
    finally:
        server.close()


class Vault:
    """`python -m services.vault.main`, on a spool folder that it keeps from one life to the next."""

    def __init__(self, ground: Ground, name: str, settings: Mapping[str, str]) -> None:
        self.name = name
        self.target = ""
        self._ground = ground
        self._settings = dict(settings)
        self._spool = ground.folder / f"spool-{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = ground.folder / f"vault-{name}.log"
        self._read = 0
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self, settings: Mapping[str, str] | None = None, *, ready: bool = True) -> None:
        """Start it and return when it serves; `settings` are kept for its later lives."""
        self._settings |= settings or {}
        self._read = self._log.stat().st_size if self._log.exists() else 0
        command = Command(
            arguments=(sys.executable, "-m", "services.vault.main"),
            environment=self._environment(),
            directory=Path.cwd(),
        )
        with self._log.open("ab") as log:
            # Not in a thread: a child that is tethered ends with the thread that started it.
            self._process = subprocess.Popen(  # noqa: ASYNC220
                command.tethered(),
                env=command.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        port = (await self.said("listening"))["port"]
        if ready:
            await self.said("ready to serve")
        self.target = f"localhost:{port}"
        # Whoever tried meanwhile has a channel to where it was.
        self._let_go()

    async def said(self, event: str) -> dict[str, Any]:
        """The next line of that event in its log."""
        end = time.monotonic() + _START_WITHIN
        while True:
            for line in self._new_lines():
                if line.get("event") == event:
                    return line
            if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"vault {self.name} did not say {event!r}:\n{self._log.read_text()[-2000:]}")
            await asyncio.sleep(_POLL)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.target.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    async def kill(self) -> None:
        """SIGKILL; it returns when the process is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM; it returns when the process is gone."""
        await self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def channel(self, peer: str) -> grpc.aio.Channel:
        """A channel of a peer to the process that runs now."""
        if peer not in self._channels:
            self._channels[peer] = open_channel(self.target, self._ground.authority.issue(peer, server=False))
        return self._channels[peer]

    def failures(self) -> list[str]:
        """What its log says that must never be said: handlers that failed, work that ended."""
        never = ("a handler failed", "work in the background ended", "Traceback")
        return [line[:1000] for line in self._lines() if any(word in line for word in never)]

    def left_over(self) -> int:
        """How often its log tells of an error that nobody waited for, as drivers leave them behind."""
        return sum("an error that nobody waited for" in line for line in self._lines())

    async def close(self) -> None:
        """End the process and the channels."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.resume()
            await self.kill()
        self._let_go()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines() if self._log.exists() else []

    def _environment(self) -> dict[str, str]:
        tls = self._ground.authority.issue("vault", server=True)
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "TENANTVAULT_PROFILE": "local",
            "TENANTVAULT_LISTEN": "127.0.0.1:0",
            "TENANTVAULT_TLS_CERT": str(tls.certificate),
            "TENANTVAULT_TLS_KEY": str(tls.key),
            "TENANTVAULT_TLS_CA": str(tls.authorities),
            "TENANTVAULT_DATABASE_URL": self._ground.database.app_url,
            "TENANTVAULT_MASTER_KEYS": self._ground.database.master_keys,
            "TENANTVAULT_AUDIT_SPOOL": str(self._spool),
            "TENANTVAULT_RECONCILE_SECONDS": str(RECONCILE_SECONDS),
            **self._settings,
        }

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    async def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        end = time.monotonic() + _END_WITHIN
        while self._process.poll() is None:
            if time.monotonic() > end:
                self._process.kill()
            await asyncio.sleep(_POLL / 5)

    def _let_go(self) -> None:
        for channel in self._channels.values():
            # With grace: closing at once would cancel whoever waits for an answer that is on its way.
            closing = asyncio.ensure_future(channel.close(grace=5))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._channels = {}


@contextlib.asynccontextmanager
async def vaults(
    ground: Ground, number: int, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[list[Vault]]:
    """So many vaults on one database, all serving."""
    made = [Vault(ground, str(place), settings) for place in range(number)]
    try:
        await asyncio.gather(*(vault.start() for vault in made))
        yield made
    finally:
        await asyncio.gather(*(vault.close() for vault in made))
