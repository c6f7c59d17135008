"""Starts the service: `python -m webhook_processor`."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping

from tenantvault import AsyncClient
from webhook_processor import logs
from webhook_processor.app import build
from webhook_processor.outbound import Outbound
from webhook_processor.server import new_server
from webhook_processor.settings import Settings


async def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT. ValueError when a setting is wrong, OSError when a certificate cannot be used."""
    # The client belongs to the event loop in which it is made.
    async with AsyncClient.from_env(environ) as vault, Outbound() as providers:
        app = build(vault, providers, public_url=settings.public_url)
        await new_server(app, host=settings.host, port=settings.port).serve()


def main(environ: Mapping[str, str] = os.environ) -> None:
    """Read the settings, then serve; a wrong setting ends the process with a sentence."""
    # The server hands a signal on when it has stopped: then the client is closed, and that is a good end.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit())
    try:
        settings = Settings.from_env(environ)
        logs.configure(settings.log_level)
        asyncio.run(serve(settings, environ))
    except (ValueError, OSError) as error:
        sys.exit(f"webhook_processor: {error}")


if __name__ == "__main__":
    main()
