"""Serves the sandbox on loopback: `python -m deploy.sandbox`.

TENANTVAULT_SANDBOX_LISTEN is where (`127.0.0.1:7499`; port 0 takes a free one); TENANTVAULT_LOG_LEVEL is `info`.
"""

import logging
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deploy.sandbox.app import create_app
from deploy.sandbox.traffic import DROP


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where to listen, and how much to say."""

    host: str
    port: int
    log_level: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """From the environment; ValueError says which variable to mend. Only loopback will do."""
        listen = environ.get("TENANTVAULT_SANDBOX_LISTEN", "127.0.0.1:7499")
        host, _, port = listen.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            address = ip_address("127.0.0.1" if host == "localhost" else host)
            number = int(port)
        except ValueError:
            raise ValueError("TENANTVAULT_SANDBOX_LISTEN: give an address and a port, e.g. 127.0.0.1:7499") from None
        if not address.is_loopback:
            raise ValueError("TENANTVAULT_SANDBOX_LISTEN: the sandbox listens on loopback only, e.g. 127.0.0.1:7499")
        if not 0 <= number <= 65535:  # noqa: PLR2004  # the range of TCP ports
            raise ValueError("TENANTVAULT_SANDBOX_LISTEN: the port is at most 65535")
        level = environ.get("TENANTVAULT_LOG_LEVEL", "info").upper()
        if level not in logging.getLevelNamesMapping():
            raise ValueError("TENANTVAULT_LOG_LEVEL: give debug, info, warning or error")
        return cls(host=str(address), port=number, log_level=level)


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1, with the extension that cuts a connection."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {DROP: self.transport.abort}  # type: ignore[dict-item]  # typed for ASGI's own


def serve(config: Config) -> None:
    """Serve until a signal comes."""
    logging.basicConfig(level=config.log_level, format="%(levelname)s %(name)s: %(message)s")
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.create_server((config.host, config.port), family=family) as listener:
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(),
                http=Protocol,
                log_config=None,
                access_log=False,  # it would show query strings
                server_header=False,
                timeout_graceful_shutdown=1,  # a slow answer must not hold up the end
            )
        )
        print(f"sandbox: http://{config.host}:{listener.getsockname()[1]}", flush=True)
        server.run(sockets=[listener])


if __name__ == "__main__":
    try:
        serve(Config.from_env(os.environ))
    except (ValueError, OSError) as error:
        sys.exit(f"sandbox: {error}")
