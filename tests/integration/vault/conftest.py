"""A vault as it is run, in this process: real PostgreSQL, real mutual TLS."""

import asyncio
import base64
import contextlib
import io
import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.local.authority import DevelopmentAuthority
from services.rpc import logs
from services.rpc.server import RpcServer
from services.vault import main, spool
from services.vault.fleet import Sync
from tenantvault._status import FailedCall, from_status
from tenantvault.audit import Event, Head, Link
from tenantvault.channel import call, open_channel
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import status_service_pb2 as status_pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceStub
from tenantvault.v1.admin_service_pb2_grpc import VaultAdminServiceStub
from tenantvault.v1.directory_service_pb2_grpc import OrgDirectoryServiceStub
from tenantvault.v1.status_service_pb2_grpc import IntegrationStatusServiceStub
from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceStub
from tests.integration.conftest import Database

if TYPE_CHECKING:
    # They are in the stubs only.
    from tenantvault.v1.access_service_pb2_grpc import CredentialAccessServiceAsyncStub
    from tenantvault.v1.admin_service_pb2_grpc import VaultAdminServiceAsyncStub
    from tenantvault.v1.directory_service_pb2_grpc import OrgDirectoryServiceAsyncStub
    from tenantvault.v1.status_service_pb2_grpc import IntegrationStatusServiceAsyncStub
    from tenantvault.v1.store_service_pb2_grpc import IntegrationStoreServiceAsyncStub

_FLUSH_SECONDS = 0.02

VAPI = pb.Credential(vapi=pb.VapiCredential(api_key="11111111-2222-3333-4444-555555555555", webhook_secret="hook"))
OTHER_VAPI = pb.Credential(vapi=pb.VapiCredential(api_key="99999999-8888-7777-6666-000000000000"))
TWILIO = pb.Credential(
    twilio=pb.TwilioCredential(account_sid="AC" + "0" * 32, auth_token="f" * 32, phone_number="+15005550006")
)
GOOGLE = pb.Credential(
    google_calendar=pb.GoogleCalendarCredential(
        refresh_token="1//0e-refresh-token-7777",
        access_token="ya29.access-token-1",
        expires_at=Timestamp(seconds=1_800_000_000),
        scopes=["https://www.googleapis.com/auth/calendar.events"],
        email="ada@example.com",
        channel_token="channel-token",
    )
)


def provider_of(credential: pb.Credential) -> "pb.Provider.ValueType":
    return pb.Provider.Value(f"PROVIDER_{credential.WhichOneof('kind')}".upper())


def assistant(resource_id: str = "", role: str = "inbound") -> pb.Resource:
    return pb.Resource(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id=resource_id or str(uuid.uuid4()), role=role)


def master_keys(*names: str) -> str:
    return "\n".join(f"{name}:{base64.b64encode(os.urandom(32)).decode()}" for name in names)


@dataclass(frozen=True, slots=True)
class RunningVault:
    """A vault that serves, and how to reach it as a peer."""

    target: str
    server: RpcServer
    authority: DevelopmentAuthority
    environ: dict[str, str]
    sync: Sync
    _stack: contextlib.AsyncExitStack
    _channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)

    async def channel(self, peer: str) -> grpc.aio.Channel:
        if peer not in self._channels:
            channel = open_channel(self.target, self.authority.issue(peer, server=False))
            self._channels[peer] = await self._stack.enter_async_context(channel)
        return self._channels[peer]

    async def access(self, peer: str = "voice-agent") -> "CredentialAccessServiceAsyncStub":
        return CredentialAccessServiceStub(await self.channel(peer))

    async def directory(self, peer: str = "webhook-processor") -> "OrgDirectoryServiceAsyncStub":
        return OrgDirectoryServiceStub(await self.channel(peer))

    async def status(self, peer: str = "gateway") -> "IntegrationStatusServiceAsyncStub":
        return IntegrationStatusServiceStub(await self.channel(peer))

    async def store(self, peer: str = "provider") -> "IntegrationStoreServiceAsyncStub":
        return IntegrationStoreServiceStub(await self.channel(peer))

    async def admin(self, peer: str = "operator") -> "VaultAdminServiceAsyncStub":
        return VaultAdminServiceStub(await self.channel(peer))

    async def in_sync(self) -> None:
        """Return when it hears the other vaults, so that it serves from memory."""

        async def hears() -> bool:
            return time.monotonic() < self.sync.fresh_until

        await eventually(hears)

    def count(self, metric: str, outcome: str) -> float:
        """A number of its metrics, e.g. of `tenantvault_violations`."""
        number = self.server._telemetry.registry.get_sample_value(f"{metric}_total", {"outcome": outcome})
        assert number is not None, (metric, outcome)
        return number

    async def put(self, org: str, credential: pb.Credential = VAPI, *, expected: int = 0) -> int:
        request = store_pb.PutCredentialRequest(org_id=org, credential=credential, expected_version=expected)
        return (await call((await self.store()).PutCredential, request)).version

    async def connect(
        self,
        org: str,
        *resources: pb.Resource,
        credential: pb.Credential = VAPI,
        expected: int = 0,
        schedule: store_pb.Schedule | None = None,
    ) -> int:
        version = await self.put(org, credential, expected=expected)
        request = store_pb.RegisterResourcesRequest(
            org_id=org, provider=provider_of(credential), version=version, resources=resources, schedule=schedule
        )
        await call((await self.store()).RegisterResources, request)
        return version

    async def get(self, org: str, provider: "pb.Provider.ValueType" = pb.PROVIDER_VAPI) -> pb.ActiveCredential:
        request = access_pb.GetCredentialRequest(org_id=org, provider=provider)
        return (await call((await self.access()).GetCredential, request)).credential

    async def freeze(self, org: str) -> int:
        return (await call((await self.admin()).FreezeOrg, admin_pb.FreezeOrgRequest(org_id=org))).generation

    async def unfreeze(self, org: str) -> int:
        return (await call((await self.admin()).UnfreezeOrg, admin_pb.UnfreezeOrgRequest(org_id=org))).generation

    async def shred(self, org: str) -> int:
        request = admin_pb.ShredOrgRequest(org_id=org, confirm_org_id=org)
        return (await call((await self.admin()).ShredOrg, request)).generation

    async def diagnosis(self) -> dict[str, str]:
        """What each self-check finds now: its problem, empty when it passes."""
        answer = await call((await self.admin()).Diagnose, admin_pb.DiagnoseRequest())
        assert all(finding.passed == (not finding.problem) for finding in answer.findings)
        return {finding.check: finding.problem for finding in answer.findings}

    async def verdict(self, org: str) -> admin_pb.VerifyAuditResponse:
        """What comes of proving a chain."""
        return await call((await self.admin()).VerifyAudit, admin_pb.VerifyAuditRequest(org_id=org))

    async def exported(self, org: str) -> tuple[list[Link], Head | None]:
        """A chain as it is exported: its events, the oldest first, and its head, which comes last."""
        parts = await answers((await self.admin()).ExportAudit(admin_pb.ExportAuditRequest(org_id=org), timeout=60))
        heads = [_head(part.head) for part in parts if part.HasField("head")]
        assert len(heads) <= 1
        assert not any(part.HasField("head") for part in parts[:-1])
        return [_link(part.event) for part in parts if part.HasField("event")], heads[0] if heads else None

    async def events(self, org: str, action: str = "", **more: Any) -> list[status_pb.AuditEvent]:
        """What is in the audit by now, newest first."""
        request = status_pb.ListAuditEventsRequest(org_id=org, action=action, page_size=1000, **more)
        return list((await call((await self.status("operator")).ListAuditEvents, request)).events)

    async def events_when(self, org: str, action: str, number: int) -> list[status_pb.AuditEvent]:
        """The events of an action, newest first, once there are so many: those of reads come a moment later."""
        found: list[status_pb.AuditEvent] = []

        async def are_there() -> bool:
            found[:] = await self.events(org, action)
            return len(found) >= number

        await eventually(are_there)
        assert number == len(found), found
        return found


def _link(told: status_pb.AuditEvent) -> Link:
    event = Event(
        event_id=told.event_id,
        org_id=told.org_id,
        occurred_at=told.occurred_at.ToDatetime(tzinfo=UTC),
        peer=told.peer,
        on_behalf_of=told.on_behalf_of,
        action=told.action,
        provider=told.provider,
        version=told.version,
        outcome=told.outcome,
        request_id=told.request_id,
        generation=told.generation,
    )
    return Link(event, told.sequence, told.hash)


def _head(told: admin_pb.AuditHead) -> Head:
    return Head(told.org_id, told.sequence, told.hash, told.signature, told.public_key)


async def answers(calling: Any) -> list[Any]:
    """All answers of a call whose answers stream; a failure is the error that it stands for."""
    try:
        return [answer async for answer in calling]
    except grpc.aio.AioRpcError as error:
        raise from_status(cast("FailedCall", error)) from None


@contextlib.asynccontextmanager
async def running_vault(
    environ: dict[str, str], authority: DevelopmentAuthority, *, ready: bool = True
) -> AsyncIterator[RunningVault]:
    """With `ready`, it has passed its self-check once and hears the other vaults; it is not checked again by itself."""
    async with contextlib.AsyncExitStack() as outer:
        server, sync = await _assembled(outer, environ)
        async with contextlib.AsyncExitStack() as stack:
            port = await server.start()
            try:
                vault = RunningVault(f"localhost:{port}", server, authority, environ, sync, stack)
                if ready:
                    assert await server.check()
                    await vault.in_sync()
                yield vault
            finally:
                await server.stop(grace=1.0)


async def _assembled(stack: contextlib.AsyncExitStack, environ: dict[str, str]) -> tuple[RpcServer, Sync]:
    """The vault of these settings, and its own word on whether it hears the others."""
    made: list[Sync] = []

    def kept() -> Sync:
        made.append(Sync())
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "Sync", kept)
        # What was read is looked for in the audit a moment later.
        patch.setattr(spool, "FLUSH_SECONDS", _FLUSH_SECONDS)
        server = await stack.enter_async_context(main.assemble(environ))
    [sync] = made
    return server, sync


@pytest.fixture
def vault_environ(database: Database, authority: DevelopmentAuthority) -> dict[str, str]:
    return vault_settings(database, authority)


def vault_settings(database: Database, authority: DevelopmentAuthority) -> dict[str, str]:
    tls = authority.issue("vault", server=True)
    return {
        "TENANTVAULT_PROFILE": "local",
        "TENANTVAULT_LISTEN": "127.0.0.1:0",
        "TENANTVAULT_TLS_CERT": str(tls.certificate),
        "TENANTVAULT_TLS_KEY": str(tls.key),
        "TENANTVAULT_TLS_CA": str(tls.authorities),
        "TENANTVAULT_DATABASE_URL": database.app_url,
        "TENANTVAULT_MASTER_KEYS": database.master_keys,
        # Beside the certificates, whose folder goes with the tests.
        "TENANTVAULT_AUDIT_SPOOL": tempfile.mkdtemp(prefix="spool-", dir=tls.certificate.parent),
    }


@pytest.fixture
async def vault(vault_environ: dict[str, str], authority: DevelopmentAuthority) -> AsyncIterator[RunningVault]:
    async with running_vault(vault_environ, authority) as running:
        yield running


@pytest.fixture
def org() -> str:
    return f"acme-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def other_org() -> str:
    return f"globex-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Journal:
    """What the process writes to its log."""

    stream: io.StringIO

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def events(self, text: str) -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in self.text.splitlines())
        return [line for line in lines if line["event"] == text]


@pytest.fixture
def journal() -> Iterator[Journal]:
    """The log as the process's main installs it, at its most talkative."""
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("services", "tenantvault")]
    handlers, levels = root.handlers, [logger.level for logger in (root, *ours)]
    stream = io.StringIO()
    logs.configure(level="debug", service="vault", stream=stream)
    yield Journal(stream)
    root.handlers = handlers
    for logger, level in zip((root, *ours), levels, strict=True):
        logger.setLevel(level)


@contextlib.asynccontextmanager
async def held(database: Database, table: str = "org_credentials") -> AsyncIterator[None]:
    """Nobody gets at a table while this is open."""
    db = await asyncpg.connect(database.admin_url)
    try:
        async with db.transaction():
            await db.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await db.close()


async def forced(database: Database, statements: str, *arguments: object) -> None:
    """Run statements as the superuser with every constraint and trigger off, as an attacker of the database would."""
    db = await asyncpg.connect(database.admin_url)
    try:
        async with db.transaction():
            await db.execute("SET LOCAL session_replication_role = replica")
            for part in filter(None, map(str.strip, statements.split(";"))):
                used = [argument for number, argument in enumerate(arguments, 1) if f"${number}" in part]
                await db.execute(part, *used)
    finally:
        await db.close()


async def waiting_for_locks(database: Database, number: int) -> bool:
    """Whether so many statements hang."""
    [row] = await database.admin(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return bool(row["count"] >= number)


async def eventually(condition: Callable[[], Awaitable[bool]], *, within: float = 10.0) -> None:
    """Wait until a condition holds, up to `within` seconds, however long a loaded machine takes."""
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - what is waited for has no event in this process
            await asyncio.sleep(0.01)
