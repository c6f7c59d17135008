"""Runs the processes of the stack together."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.local.child import Child, Patience, Process
from deploy.local.errors import LocalError


def _silent(_: str) -> None:
    pass


class Supervisor:
    """Starts processes, each as soon as those before it are ready, watches them and ends them in reverse order.

    Their output goes to `<logs>/<name>.log`. They end with this process, however it ends (on Linux; elsewhere, when it
    ends in order). Use it from the main thread: the kernel ties a child to the thread that started it.
    """

    def __init__(
        self,
        processes: Sequence[Process],
        *,
        logs: Path,
        patience: Patience = Patience(),  # noqa: B008  # frozen
        announce: Callable[[str], None] = _silent,
    ) -> None:
        self._processes: Final = tuple(processes)
        self._announce = announce
        self._failure: asyncio.Event = asyncio.Event()
        self._why = ""
        self._children = {
            process.name: Child(
                process,
                log=logs / f"{process.name}.log",
                patience=patience,
                announce=announce,
                gave_up=self._give_up,
            )
            for process in self._processes
        }

    def child(self, name: str) -> Child:
        """A process of the stack; KeyError when there is none of that name."""
        return self._children[name]

    async def start(self) -> None:
        """Start everything and return when all is ready. When one does not start, ends the others; LocalError."""
        ready = {process.name: asyncio.Event() for process in self._processes}
        try:
            async with asyncio.TaskGroup() as group:
                for process in self._processes:
                    group.create_task(self._start(process, ready))
        except BaseExceptionGroup as errors:
            await self.stop()
            raise errors.exceptions[0] from None
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End everything, the last first."""
        for child in self._children.values():
            await child.unwatch()
        for process in reversed(self._processes):
            await self._children[process.name].stop()

    def abort(self) -> None:
        """End everything by force; a `stop` that is under way has nothing left to wait for."""
        for child in self._children.values():
            child.abort()

    async def failed(self) -> None:
        """Wait until a process cannot be kept running; then raises LocalError."""
        await self._failure.wait()
        raise LocalError(self._why)

    async def _start(self, process: Process, ready: Mapping[str, asyncio.Event]) -> None:
        for name in process.after:
            await ready[name].wait()
        began = time.monotonic()
        await self._children[process.name].start()
        self._announce(f"{process.name} {'ready' if process.ready else 'done'} after {time.monotonic() - began:.1f} s")
        ready[process.name].set()

    def _give_up(self, why: str) -> None:
        self._why = why
        self._failure.set()
