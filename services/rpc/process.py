"""The beginning and the end of a gRPC process."""

import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import uvloop

from services.rpc import logs


def run(service: str, serve: Callable[[Mapping[str, str]], Coroutine[Any, Any, None]]) -> int:
    """Configure the logs, run `serve` on the environment until it returns, and give the exit status.

    A ValueError or an OSError from `serve` is a setting that is wrong: its sentence goes to standard error, status 2.
    """
    try:
        logs.configure(level=os.environ.get("TENANTVAULT_LOG_LEVEL", "info"), service=service)
        uvloop.run(serve(os.environ))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{service}: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
