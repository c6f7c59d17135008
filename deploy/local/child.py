"""One process of the stack: started, watched, started again, ended."""

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.command import Command
from deploy.local.errors import LocalError
from deploy.local.logfile import open_log, tail
from deploy.local.probes import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of the stack.

    `launch` gives its command each time it is started; it runs in a thread and may take its time. `ready` returns once
    the process can be used; without it the process is a step that is done when it exits with 0. `after` are the
    processes that must be ready before.
    """

    name: str
    launch: Callable[[], Command]
    ready: Probe | None
    after: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the supervisor waits, in seconds, and how often it tries.

    `start`: for a process to become ready. `stop`: for each of its stop signals. A process that ends unexpectedly is
    started again after `backoff`, doubled each time, up to `restarts` times within `window`.
    """

    start: float = 60.0
    stop: float = 12.0
    restarts: int = 5
    backoff: float = 0.2
    window: float = 60.0


class Child:
    """A `Process` that runs, with its output in the file `log`.

    `announce` is told what happens to it. `gave_up` is told when it ended too often to be started again.
    """

    def __init__(
        self,
        process: Process,
        *,
        log: Path,
        patience: Patience,
        announce: Callable[[str], None],
        gave_up: Callable[[str], None],
    ) -> None:
        self.log: Final = log
        self._process = process
        self._patience = patience
        self._announce = announce
        self._gave_up = gave_up
        self._command: Command | None = None
        self._running: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Its process id; LocalError when it does not run."""
        if self._running is None or self._running.returncode is not None:
            raise LocalError(f"{self._process.name} is not running.")
        return self._running.pid

    async def start(self, extra: Mapping[str, str] | None = None) -> None:
        """Start it and return when it is ready, or done when it is a step. Raises LocalError.

        `extra` is added to its environment for this once: should it end, it is started again without.
        """
        await self._start(extra or {})
        if self._process.ready is not None:
            self._watch = asyncio.create_task(self._keep_running())

    async def unwatch(self) -> None:
        """From now on it may end without being started again."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None

    async def stop(self) -> None:
        """End it: its stop signals one after the other, then SIGKILL. Nothing happens when it does not run."""
        await self.unwatch()
        if self._running is not None and self._command is not None:
            for ask in self._command.stop:
                with suppress(ProcessLookupError):
                    self._running.send_signal(ask)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._running.wait(), self._patience.stop)
                    break
        await self._end()

    async def kill(self) -> None:
        """End it as a crash would. It stays away until `start`."""
        await self.unwatch()
        await self._end()

    def abort(self) -> None:
        """End it by force, without waiting; whoever waits for it goes on."""
        if self._running is not None and self._running.returncode is None:
            os.killpg(self._running.pid, signal.SIGKILL)

    async def _start(self, extra: Mapping[str, str]) -> None:
        self._command = await self._launched()
        with open_log(self.log) as log:
            self._running = await asyncio.create_subprocess_exec(
                *self._command.tethered(),
                env={**self._command.environment, **extra},
                cwd=self._command.directory,
                pass_fds=self._command.keep,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: Ctrl-C reaches us alone, and we end everything in order.
                process_group=0,
            )
        trouble = await self._trouble(self._running)
        if trouble:
            await self._end()
            raise LocalError(f"{self._process.name} {trouble}. Its log is {self.log}:{tail(self.log)}")

    async def _launched(self) -> Command:
        launching = asyncio.ensure_future(asyncio.to_thread(self._process.launch))
        try:
            return await asyncio.shield(launching)
        finally:
            # A thread cannot be broken off, and whoever gives up waits until it no longer touches anything.
            await asyncio.wait({launching})

    async def _trouble(self, running: asyncio.subprocess.Process) -> str:
        """Wait until it is ready or done; what kept it from that, empty when nothing did."""
        step = self._process.ready is None
        ended = asyncio.create_task(running.wait())
        ready = asyncio.ensure_future(self._process.ready()) if self._process.ready else ended
        try:
            await asyncio.wait({ended, ready}, timeout=self._patience.start, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not (step and ended.result() == 0):
                return _ending(ended.result())
            if not ready.done():
                return f"was not ready within {self._patience.start:g} s"
            await ready
            return ""
        finally:
            ended.cancel()
            ready.cancel()

    async def _keep_running(self) -> None:
        name = self._process.name
        ends: deque[float] = deque(maxlen=self._patience.restarts + 1)
        while True:
            if self._running is not None:
                what = _ending(await self._running.wait())
                await self._end()
            ends.append(time.monotonic())
            recent = sum(end > ends[-1] - self._patience.window for end in ends)
            if recent > self._patience.restarts:
                self._gave_up(f"{name} {what}, too often to start it again. Its log is {self.log}:{tail(self.log)}")
                return
            self._announce(f"{name} {what}; starting it again.")
            await asyncio.sleep(self._patience.backoff * 2 ** (recent - 1))
            try:
                await self._start({})
            except LocalError as error:
                what = str(error)
            else:
                self._announce(f"{name} is ready again.")

    async def _end(self) -> None:
        if self._running is not None:
            # The whole group, so that what it started itself ends too.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._running.pid, signal.SIGKILL)
            await self._running.wait()
            self._running = None


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
