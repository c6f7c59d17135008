"""How the application is served, and how that ends."""

from typing import Final

import uvicorn
from starlette.applications import Starlette

GRACE: Final = 10
"""Seconds that webhooks under way have to finish after SIGTERM; what takes longer, the provider delivers again."""


def new_server(app: Starlette, *, host: str, port: int) -> uvicorn.Server:
    """A server that, told to stop, takes nothing new and lets what is under way finish."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            # Paths hold the ids of orgs, and queries what a provider says of its customers.
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACE,
        )
    )
