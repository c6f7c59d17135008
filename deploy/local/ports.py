"""TCP ports of this machine."""

import socket
from contextlib import closing

from deploy.local.errors import LocalError


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
    """A port that is free now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def require(port: int, *, setting: str) -> int:
    """The port itself, or a free one for 0; LocalError when it is taken, naming the setting that changes it."""
    if port and not is_free(port):
        raise LocalError(f"Port {port} is taken by another program: choose another one with {setting}.")
    return port or free_port()


def prefer(port: int) -> int:
    """The port itself when it is free, else a free one; always a free one for 0."""
    return port if port and is_free(port) else free_port()
