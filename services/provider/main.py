"""Start the provider service: `python -m services.provider.main`."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from typing import Any

from services.provider.config import Config
from services.provider.connect import Connect
from services.provider.lease import Leases
from services.provider.lifecycle import Lifecycle
from services.provider.oauth import OAuth
from services.provider.outage import Outages
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Checkpoint, Provider, pass_by
from services.provider.refresh import Refresh
from services.provider.registry import providers
from services.provider.rotate import Rotate
from services.provider.servicer import IntegrationServicer
from services.provider.vault import GrpcVault
from services.provider.work import Timetable
from services.provider.worker import Worker
from services.rpc import process
from services.rpc.process import in_background
from services.rpc.server import RpcServer, ServerConfig, Service
from services.rpc.telemetry import Telemetry
from tenantvault.channel import open_channel
from tenantvault.v1 import integration_service_pb2
from tenantvault.v1.integration_service_pb2_grpc import add_IntegrationServiceServicer_to_server as add_integration

LISTEN = "127.0.0.1:7402"


@asynccontextmanager
async def assemble(environ: Mapping[str, str]) -> AsyncIterator[RpcServer]:
    """The provider service of these settings, not yet listening. ValueError names a setting that is wrong.

    In the role `work` it answers nothing but whether it is well; in the role `serve` nothing is done in the background.
    """
    config = Config.from_env(environ)
    server_config = ServerConfig.from_env(environ, listen=LISTEN)
    checkpoint, telemetry = _killed_at(config.kill_at), Telemetry()
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(open_channel(config.vault_target, server_config.tls))
        client = await stack.enter_async_context(new_client())
        vault = GrpcVault(channel)
        services = []
        if config.role != "work":
            verbs = _Verbs(
                vault, providers(Outbound(client, whole_seconds=config.patience_seconds), config), config, checkpoint
            )
            services.append(Service(integration_service_pb2.DESCRIPTOR, add_integration, verbs.servicer()))
        if config.role != "serve":
            # Nobody waits for it: what fails is tried again when it is due again, and not at once.
            worker = _Verbs(
                vault,
                providers(Outbound(client, retries=0, whole_seconds=config.patience_seconds), config),
                config,
                checkpoint,
            ).worker()
            telemetry.count("tenantvault_work", "Work in the background, by outcome.", lambda: asdict(worker.counts))
            await stack.enter_async_context(in_background(worker.run()))
        yield RpcServer(server_config, services, check=vault.check, telemetry=telemetry)


class _Verbs:
    """What is done with these providers."""

    def __init__(
        self, vault: GrpcVault, providers: tuple[Provider[Any], ...], config: Config, checkpoint: Checkpoint
    ) -> None:
        leases = Leases(vault, seconds=config.lease_seconds)
        timetable = Timetable(
            verify_seconds=config.verify_seconds,
            rotation_days=config.rotation_days,
            overlap_seconds=config.overlap_seconds,
        )
        self._config = config
        self._vault = vault
        self._providers = providers
        self._timetable = timetable
        self._connect = Connect(vault, providers, leases, timetable, checkpoint=checkpoint)
        self._lifecycle = Lifecycle(vault, providers, leases, self._connect)
        self._refresh = Refresh(vault, providers, leases, checkpoint=checkpoint)
        self._rotate = Rotate(vault, providers, leases, timetable, checkpoint=checkpoint)

    def servicer(self) -> IntegrationServicer:
        return IntegrationServicer(
            self._providers,
            connect=self._connect,
            lifecycle=self._lifecycle,
            oauth=OAuth(self._vault, self._providers, self._connect),
            refresh=self._refresh,
            rotate=self._rotate,
        )

    def worker(self) -> Worker:
        return Worker(
            work=self._vault,
            lifecycle=self._lifecycle,
            refresh=self._refresh,
            rotate=self._rotate,
            timetable=self._timetable,
            outages=Outages(),
            concurrency=self._config.work_concurrency,
            lease_seconds=self._config.work_lease_seconds,
            poll_seconds=self._config.work_poll_seconds,
        )


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
