"""Starts the gateway: `python -m gateway.main`."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Final

import grpc.aio
import uvicorn
import uvloop
from grpc_health.v1.health_pb2_grpc import HealthStub
from starlette.applications import Starlette

from gateway import keys, logs
from gateway.activity import Activity
from gateway.app import build
from gateway.authentication import Authenticator
from gateway.changes import Changes
from gateway.config import Config
from gateway.consent import GoogleConsent
from gateway.events import Events
from gateway.health import Health
from gateway.integrations import Integrations
from gateway.metrics import Metrics
from gateway.overview import Overview
from gateway.pages import Pages
from gateway.session import Sessions
from gateway.tokens import BearerTokens
from tenantvault.channel import open_channel
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.integration_service_pb2_grpc import IntegrationServiceStub
from tenantvault.v1.status_service_pb2_grpc import IntegrationStatusServiceStub

GRACE: Final = 10
"""Seconds that requests under way have to finish after SIGTERM."""

_log = logging.getLogger("gateway.main")  # run as a program, this module has another name


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with (
        open_channel(config.vault_target, config.tls) as vault,
        open_channel(config.provider_target, config.tls) as provider,
    ):
        changes = Changes(CredentialAccessServiceStub(vault))
        server = uvicorn.Config(
            _app(config, vault=vault, provider=provider, changes=changes),
            host=config.host,
            port=config.port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=GRACE,
        )
        listener = server.bind_socket()
        _log.info("listening", extra={"port": listener.getsockname()[1]})
        await Server(server, changes).serve(sockets=[listener])


class Server(uvicorn.Server):
    """Lets those go who listen to events, before it waits for requests under way: they would stay for minutes."""

    def __init__(self, config: uvicorn.Config, changes: Changes) -> None:
        super().__init__(config)
        self._changes = changes

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: no new requests, and some time for the others."""
        self._changes.end()
        await super().shutdown(sockets)


def _app(config: Config, *, vault: grpc.aio.Channel, provider: grpc.aio.Channel, changes: Changes) -> Starlette:
    authenticator, metrics = _authenticator(config), Metrics()
    integrations, status = IntegrationServiceStub(provider), IntegrationStatusServiceStub(vault)
    return build(
        authenticator=authenticator,
        overview=Overview(vault=status, provider=integrations),
        activity=Activity(vault=status),
        events=Events(changes=changes, authenticator=authenticator, metrics=metrics),
        integrations=Integrations(provider=integrations),
        google_consent=GoogleConsent(provider=integrations),
        pages=Pages(authenticator=authenticator, demo_orgs=config.demo_orgs, sandbox=config.sandbox),
        health=Health({"vault": HealthStub(vault), "provider": HealthStub(provider)}),
        metrics=metrics,
        public_url=config.public_url,
        local=config.local,
    )


def _authenticator(config: Config) -> Authenticator:
    return Authenticator(
        tokens=BearerTokens(
            keys=keys.chosen(config.jwt_secret, url=config.jwks_url, file=config.jwks_file),
            issuer=config.issuer,
            audience=config.audience,
            org=config.org_claim,
            role=config.role_claim,
        ),
        sessions=Sessions(config.session_secret, secure=config.secure),
        admin_roles=config.admin_roles,
        scheme=config.public_url.scheme,
    )


def main(environ: Mapping[str, str] = os.environ) -> None:
    """Read the settings, then serve; a wrong setting ends the process with a sentence."""
    try:
        config = Config.from_env(environ)
        logs.configure(level=config.log_level)
    except ValueError as error:
        sys.exit(f"gateway: {error}")
    # The server hands a signal on when it has stopped; for us that is a good end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.signal(signal.SIGINT, lambda *_: sys.exit())
    try:
        uvloop.run(serve(config))
    except OSError as error:
        sys.exit(f"gateway: {error}")
    except Exception as error:  # noqa: BLE001 - the interpreter would print the error's text
        _log.critical("the process failed", exc_info=error)
        sys.exit(1)


if __name__ == "__main__":
    main()
