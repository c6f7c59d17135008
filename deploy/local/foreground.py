"""The stack in a terminal: until Ctrl-C, or until it cannot go on."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

from deploy.local.stack import Stack


async def run_until_told(stack: Stack, *, ready: Callable[[], None]) -> None:
    """Start the stack, call `ready`, and end it in order at the first signal to stop, at once at the second.

    Raises LocalError when it does not start or a process cannot be kept running.
    """
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(_work(stack, ready))

    def told() -> None:
        if work.cancelling():
            stack.abort()
        else:
            print("\nStopping.", flush=True)
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told)
    with suppress(asyncio.CancelledError):
        await work


async def _work(stack: Stack, ready: Callable[[], None]) -> None:
    async with stack:
        ready()
        await stack.failed()
