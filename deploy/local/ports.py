"""TCP ports of this machine."""

import secrets
import socket
from contextlib import closing
from typing import Final

from deploy.local.errors import LocalError

_OURS: Final = range(15_000, 32_000)
"""Linux gives connections ports from 32768 on, macOS and Windows from 49152 on (RFC 6335)."""


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 at this port now."""
    with closing(socket.socket()) as probe:
        # As servers do; a connection that has just ended does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now, and that no connection is given before a server listens there.

    Raises:
        LocalError: none was found.
    """
    for _ in range(100):
        if is_free(port := secrets.choice(_OURS)):
            return port
    raise LocalError("No TCP port is free on this machine.")


def require(port: int, *, setting: str) -> int:
    """The port itself, or a free one for 0; LocalError when it is taken, naming the setting that changes it."""
    if port and not is_free(port):
        raise LocalError(f"Port {port} is taken by another program: choose another one with {setting}.")
    return port or free_port()


def prefer(port: int) -> int:
    """The port itself when it is free, else a free one; always a free one for 0."""
    return port if port and is_free(port) else free_port()
