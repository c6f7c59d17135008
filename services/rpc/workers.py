"""Several processes of one service on one port: TENANTVAULT_WORKERS says how many.

The kernel hands each new connection to one of them (SO_REUSEPORT, socket(7)); they share nothing. A small process of
its own starts them, starts one again that ended, and ends them in order. The service's own program becomes it when more
than one worker is wanted: `python -m services.rpc.workers MODULE ADDRESS`.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.rpc import logs

MOST: Final = 64
"""Workers of one service."""

WORKER: Final = "TENANTVAULT_WORKER"
"""What a worker is told: the process that started it."""

GRACE: Final = 15.0
"""Seconds that workers have to end after SIGTERM; a little more than a server takes itself."""

_WRONG_SETTING: Final = 2  # the exit status; to start again would not help
_FIRST_PAUSE: Final = 0.5
_LAST_PAUSE: Final = 10.0
_STEADY: Final = 30.0  # seconds after which a worker's end is not held against it
_PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>
_log = logging.getLogger("services.rpc.workers")  # run as a program, this module has another name


def wanted(environ: Mapping[str, str]) -> int:
    """How many workers there are to be. ValueError when the setting is no number from 1 to 64."""
    text = environ.get("TENANTVAULT_WORKERS", "1")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST):
        raise ValueError(f"TENANTVAULT_WORKERS must be a number from 1 to {MOST}")
    return int(text)


def is_worker(environ: Mapping[str, str]) -> bool:
    """Whether this process is one of several on its port."""
    return WORKER in environ


def hand_over(module: str, listen: str, environ: Mapping[str, str]) -> None:
    """Become the process that starts the workers of a module, when the environment wants more than one.

    Else it returns; a worker is from now on ended when that process dies. `listen` is where they listen when nothing
    else is set. ValueError as `wanted`.
    """
    if is_worker(environ):
        _end_with(environ[WORKER])
    elif wanted(environ) > 1:
        command = [sys.executable, "-m", "services.rpc.workers", module, listen]
        os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def _end_with(parent: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    # It may have died before the kernel knew.
    if str(os.getppid()) != parent:
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the workers listen; held so that no other service takes the port between two workers."""

    host: str
    port: int
    held: socket.socket

    @classmethod
    def hold(cls, listen: str) -> "Address":
        """Take `host:port` (port 0: any) for the workers. OSError when somebody listens there."""
        host, _, port = listen.rpartition(":")
        bare = host.strip("[]")
        family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        # Without sharing first: a stranger that shares its port would get a part of the calls.
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                alone.bind((bare, int(port)))
                alone.listen(1)
            except OSError as error:
                raise OSError(f"cannot listen on {listen}: {os.strerror(error.errno or 0)}") from None
            number = alone.getsockname()[1]
        held = socket.socket(family, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((bare, number))
        return cls(host, number, held)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Workers:
    """The workers of one service. `command` starts one."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], count: int, address: Address) -> None:
        self._command = command
        self._environ = environ
        self._count = count
        self._address = address
        self._stopping = asyncio.Event()
        self._proven = False
        self._status = 0

    def stop(self) -> None:
        """End them in order."""
        self._stopping.set()

    async def run(self) -> int:
        """Keep them running until `stop`; returns the exit status."""
        async with asyncio.TaskGroup() as group:
            for number in range(1, self._count + 1):
                group.create_task(self._keep(number))
        return self._status

    async def _keep(self, number: int) -> None:
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        while not self._stopping.is_set():
            began = loop.time()
            try:
                status: int | None = await self._one(number)
            except OSError as error:
                _log.error("a worker cannot be started", extra={"worker": number, "cause": str(error.strerror)})
                status = None
            if self._stopping.is_set():
                return
            if loop.time() - began > _STEADY:
                self._proven, pause = True, _FIRST_PAUSE
            if status == _WRONG_SETTING and not self._proven:
                self._status = status
                self.stop()
                return
            # Settings that were good once: what is wrong with them now, e.g. a full disk, must not end the others.
            _log.error("a worker ended", extra={"worker": number, "status": status, "pause_seconds": pause})
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                pause = min(pause * 2, _LAST_PAUSE)

    async def _one(self, number: int) -> int:
        """The exit status of a worker that ran until it ended, or was ended."""
        process = await asyncio.create_subprocess_exec(*self._command, env=self._env(number))
        ended = asyncio.create_task(process.wait())
        told = asyncio.create_task(self._stopping.wait())
        try:
            _log.info("a worker began", extra={"worker": number, "pid": process.pid})
            await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await asyncio.wait({ended}, timeout=GRACE)
        finally:
            told.cancel()
            if not ended.done():
                _log.error("a worker did not end in time", extra={"worker": number})
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return await ended

    def _env(self, number: int) -> dict[str, str]:
        own = {**self._environ, WORKER: str(os.getpid()), "TENANTVAULT_LISTEN": str(self._address)}
        metrics = own.get("TENANTVAULT_METRICS_LISTEN", "")
        host, _, port = metrics.rpartition(":")
        if port.isdigit() and int(port):
            # Each tells of itself alone.
            own["TENANTVAULT_METRICS_LISTEN"] = f"{host}:{int(port) + number - 1}"
        return own


async def _supervise(module: str, environ: Mapping[str, str], listen: str) -> int:
    address = Address.hold(environ.get("TENANTVAULT_LISTEN") or listen)
    workers = Workers([sys.executable, "-m", module], environ, wanted(environ), address)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, workers.stop)
    _log.info("listening", extra={"port": address.port})
    try:
        return await workers.run()
    finally:
        address.held.close()


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the workers of a module that listens on an address when nothing else is set."""
    module, listen = arguments
    try:
        logs.configure(level=environ.get("TENANTVAULT_LOG_LEVEL", "info"), service="workers")
        return asyncio.run(_supervise(module, environ, listen))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"workers: {error}\n")
        return _WRONG_SETTING


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
