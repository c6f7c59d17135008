"""The beginning and the end of a gRPC process."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import uvloop

from services.rpc import logs
from services.rpc.tasks import end

_log = logging.getLogger(__name__)


def run(service: str, serve: Callable[[Mapping[str, str]], Coroutine[Any, Any, None]]) -> int:
    """Configure the logs, run `serve` on the environment until it returns, and give the exit status.

    A ValueError or an OSError from `serve` is a setting that is wrong: its sentence goes to standard error, status 2.
    Whatever else it raises is logged without its text, status 1.
    """
    try:
        logs.configure(level=os.environ.get("TENANTVAULT_LOG_LEVEL", "info"), service=service)
        uvloop.run(_watched(serve(os.environ)))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{service}: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the interpreter would print the error's text
        _log.critical("the process failed", exc_info=error)
        return 1
    return 0


async def _watched(serving: Coroutine[Any, Any, None]) -> None:
    asyncio.get_running_loop().set_exception_handler(_left_over)
    await serving


def _left_over(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Log an error that no task waited for. The loop's own handler would write the error's text."""
    _log.error("an error that nobody waited for", exc_info=context.get("exception"))


@contextlib.asynccontextmanager
async def in_background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do endless work while the body runs. Work that ends with an error is logged; the others go on."""
    tasks = [asyncio.create_task(one) for one in work]
    for task in tasks:
        task.add_done_callback(_ended)
    try:
        yield
    finally:
        await end(*tasks)


def _ended(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("work in the background ended", exc_info=error)
