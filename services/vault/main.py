"""Start the vault: `python -m services.vault.main`."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict

from services.rpc import process
from services.rpc.server import RpcServer, ServerConfig, Service
from services.rpc.telemetry import Telemetry
from services.vault.cache import Cache
from services.vault.config import Config
from services.vault.envelope import Envelope
from services.vault.keeper import Keeper, Readable
from services.vault.keyring import Keyring
from services.vault.postgres import PostgresStore, open_pool
from services.vault.seal import Unreadable
from services.vault.selfcheck import SelfCheck
from services.vault.servicer import AccessServicer, DirectoryServicer, StatusServicer, StoreServicer
from tenantvault.v1 import access_service_pb2, directory_service_pb2, status_service_pb2, store_service_pb2
from tenantvault.v1.access_service_pb2_grpc import add_CredentialAccessServiceServicer_to_server as add_access
from tenantvault.v1.directory_service_pb2_grpc import add_OrgDirectoryServiceServicer_to_server as add_directory
from tenantvault.v1.status_service_pb2_grpc import add_IntegrationStatusServiceServicer_to_server as add_status
from tenantvault.v1.store_service_pb2_grpc import add_IntegrationStoreServiceServicer_to_server as add_store

LISTEN = "127.0.0.1:7401"


@asynccontextmanager
async def assemble(environ: Mapping[str, str]) -> AsyncIterator[RpcServer]:
    """The vault of these settings, not yet listening. ValueError names a setting that is wrong."""
    config = Config.from_env(environ)
    server_config = ServerConfig.from_env(environ, listen=LISTEN)
    keyring = Keyring.parse(config.master_keys.reveal())
    cache: Cache[Readable] = Cache(entries=config.cache_entries, ttl_seconds=config.cache_ttl_seconds)
    async with open_pool(config.database_url.reveal()) as pool:
        store = PostgresStore(pool)
        keeper = Keeper(store=store, envelope=Envelope(keyring), cache=cache, unreadable=Unreadable)
        services = [
            Service(access_service_pb2.DESCRIPTOR, add_access, AccessServicer(keeper)),
            Service(directory_service_pb2.DESCRIPTOR, add_directory, DirectoryServicer(keeper)),
            Service(status_service_pb2.DESCRIPTOR, add_status, StatusServicer(store)),
            Service(store_service_pb2.DESCRIPTOR, add_store, StoreServicer(keeper, store)),
        ]
        telemetry = Telemetry()
        telemetry.count("tenantvault_cache_reads", "Reads of credentials, by outcome.", lambda: asdict(cache.counts))
        check = SelfCheck(pool, keyring.fingerprints)
        yield RpcServer(server_config, services, check=check, telemetry=telemetry)


async def serve(environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM."""
    async with assemble(environ) as server:
        await server.run()


if __name__ == "__main__":
    sys.exit(process.run("vault", serve))
