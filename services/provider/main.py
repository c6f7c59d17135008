"""Start the provider service: `python -m services.provider.main`."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from services.provider.config import Config
from services.provider.connect import Connect, pass_by
from services.provider.lease import Leases
from services.provider.lifecycle import Lifecycle
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Checkpoint, Provider
from services.provider.providers.twilio import Twilio
from services.provider.providers.vapi import Vapi
from services.provider.servicer import IntegrationServicer
from services.provider.vault import GrpcVault
from services.rpc import process
from services.rpc.server import RpcServer, ServerConfig, Service
from services.rpc.telemetry import Telemetry
from tenantvault.channel import open_channel
from tenantvault.v1 import integration_service_pb2
from tenantvault.v1.integration_service_pb2_grpc import add_IntegrationServiceServicer_to_server as add_integration

LISTEN = "127.0.0.1:7402"


@asynccontextmanager
async def assemble(environ: Mapping[str, str]) -> AsyncIterator[RpcServer]:
    """The provider service of these settings, not yet listening. ValueError names a setting that is wrong."""
    config = Config.from_env(environ)
    server_config = ServerConfig.from_env(environ, listen=LISTEN)
    async with open_channel(config.vault_target, server_config.tls) as channel, new_client() as client:
        vault, outbound = GrpcVault(channel), Outbound(client)
        providers: tuple[Provider[Any], ...] = (
            Vapi(outbound, urls=config.vapi_urls, webhook_url=config.vapi_webhook_url),
            Twilio(outbound, url=config.twilio_url),
        )
        leases = Leases(vault, seconds=config.lease_seconds)
        connect = Connect(vault, providers, leases, checkpoint=_killed_at(config.kill_at))
        servicer = IntegrationServicer(connect, Lifecycle(vault, providers))
        services = [Service(integration_service_pb2.DESCRIPTOR, add_integration, servicer)]
        yield RpcServer(server_config, services, check=vault.check, telemetry=Telemetry())


def _killed_at(wanted: str) -> Checkpoint:
    async def checkpoint(step: str) -> None:
        if step == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    return checkpoint if wanted else pass_by


async def serve(environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM."""
    async with assemble(environ) as server:
        await server.run()


if __name__ == "__main__":
    sys.exit(process.run("provider", serve))
