"""Start the vault: `python -m services.vault.main`."""

import os
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta

from services.rpc import process, workers
from services.rpc.process import in_background
from services.rpc.server import RpcServer, ServerConfig, Service
from services.rpc.telemetry import Telemetry
from services.vault.audit import SigningKey
from services.vault.cache import Cache
from services.vault.config import Config
from services.vault.database import listen, open_pool
from services.vault.envelope import Envelope
from services.vault.fleet import Fleet, Remembered, Sync
from services.vault.keeper import Keeper
from services.vault.keyring import Keyring
from services.vault.postgres import PostgresStore
from services.vault.postgres_audit import PostgresAudit
from services.vault.postgres_keys import PostgresKeys
from services.vault.postgres_oauth import PostgresOAuthStates
from services.vault.postgres_work import PostgresWork
from services.vault.proof import AuditProof
from services.vault.reader import Nothing, Owned, Readable, Reader
from services.vault.rotation import MasterRotation, OrgRotations
from services.vault.seal import Unreadable
from services.vault.selfcheck import SelfCheck
from services.vault.servicer import AccessServicer, DirectoryServicer, StatusServicer
from services.vault.servicer_admin import AdminServicer
from services.vault.servicer_store import StoreServicer
from services.vault.watchers import Watchers
from tenantvault.v1 import (
    access_service_pb2,
    admin_service_pb2,
    directory_service_pb2,
    status_service_pb2,
    store_service_pb2,
)
from tenantvault.v1.access_service_pb2_grpc import add_CredentialAccessServiceServicer_to_server as add_access
from tenantvault.v1.admin_service_pb2_grpc import add_VaultAdminServiceServicer_to_server as add_admin
from tenantvault.v1.directory_service_pb2_grpc import add_OrgDirectoryServiceServicer_to_server as add_directory
from tenantvault.v1.status_service_pb2_grpc import add_IntegrationStatusServiceServicer_to_server as add_status
from tenantvault.v1.store_service_pb2_grpc import add_IntegrationStoreServiceServicer_to_server as add_store

LISTEN = "127.0.0.1:7401"
DIAGNOSE = "/tenantvault.v1.VaultAdminService/Diagnose"


@asynccontextmanager
async def assemble(environ: Mapping[str, str]) -> AsyncIterator[RpcServer]:
    """The vault of these settings, not yet listening. ValueError names a setting that is wrong."""
    config = Config.from_env(environ)
    server_config = ServerConfig.from_env(environ, listen=LISTEN)
    ring = Keyring.parse(config.master_keys.reveal())
    url = config.database_url.reveal()
    spool = config.open_spool()
    vault_id, sync, watchers = uuid.uuid4().hex, Sync(), Watchers()
    credentials: Cache[Readable | Nothing] = config.cache(sync)
    directory: Cache[Owned | Nothing] = config.cache(sync, owned=False)
    envelope = Envelope(ring, cached_keys=config.cached_org_keys)
    remembered = Remembered((credentials, directory), envelope, watchers)
    async with open_pool(url) as pool:
        keys = PostgresKeys(pool)
        chain = SigningKey(keys, ring, random=os.urandom).chain
        store = PostgresStore(pool, chain=chain, sender=vault_id)
        work = PostgresWork(pool, chain=chain)
        audit = PostgresAudit(pool, chain=chain)
        fleet = Fleet(
            connect=lambda: listen(url),
            pool=pool,
            sync=sync,
            remembered=remembered,
            vault_id=vault_id,
            master_keys=list(ring.fingerprints),
            lease_seconds=config.reconcile_seconds,
        )
        reader = Reader(
            store=store,
            envelope=envelope,
            credentials=credentials,
            directory=directory,
            log=spool,
            unreadable=Unreadable,
        )
        keeper = Keeper(
            store=store,
            envelope=envelope,
            vaults=fleet,
            forget=remembered.forget,
            unreadable=Unreadable,
            overlap=timedelta(seconds=config.overlap_seconds),
        )
        check = SelfCheck(pool, ring, chain=chain, spool_trouble=lambda: spool.trouble, unreadable=Unreadable)
        org_rotations = OrgRotations(keys, envelope, Unreadable)
        admin = AdminServicer(
            keeper=keeper,
            keys=keys,
            ring=ring,
            master_rotation=MasterRotation(master_keys=ring, store=keys, audit=audit, unreadable=Unreadable),
            org_rotations=org_rotations,
            chains=audit,
            proof=AuditProof(audit, chain),
            findings=check.findings,
        )
        services = [
            Service(access_service_pb2.DESCRIPTOR, add_access, AccessServicer(reader, store, watchers, sync, work)),
            Service(directory_service_pb2.DESCRIPTOR, add_directory, DirectoryServicer(reader)),
            Service(status_service_pb2.DESCRIPTOR, add_status, StatusServicer(store, audit)),
            Service(
                store_service_pb2.DESCRIPTOR,
                add_store,
                StoreServicer(keeper, store, work, PostgresOAuthStates(pool)),
            ),
            Service(admin_service_pb2.DESCRIPTOR, add_admin, admin),
        ]
        telemetry = Telemetry()
        telemetry.count(
            "tenantvault_cache_reads", "Reads of credentials, by outcome.", lambda: asdict(credentials.counts)
        )
        telemetry.count("tenantvault_directory_reads", "Look-ups, by outcome.", lambda: asdict(directory.counts))
        telemetry.count(
            "tenantvault_audit_spool", "Events of reads, by what became of them.", lambda: asdict(spool.counts)
        )
        telemetry.count("tenantvault_violations", "Rows changed by SQL, by kind.", lambda: asdict(reader.violations))
        server = RpcServer(
            server_config, services, check=check, telemetry=telemetry, always={DIAGNOSE}, stopping=watchers.end
        )
        async with spool.flushed_into(audit), fleet.joined(), in_background(org_rotations.keep_going()):
            yield server


async def serve(environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM."""
    async with assemble(environ) as server:
        await server.run()


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Serve, alone or as one of several workers; returns the exit status."""
    try:
        workers.hand_over("services.vault.main", LISTEN, environ)
    except ValueError as error:
        sys.stderr.write(f"vault: {error}\n")
        return 2
    return process.run("vault", serve)


if __name__ == "__main__":
    sys.exit(main())
