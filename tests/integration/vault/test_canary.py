"""Planted secrets, every method, every failure; then a look into every place where one could have been left."""

import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor
from prometheus_client import generate_latest

from deploy.local.authority import DevelopmentAuthority
from deploy.local.postgres import EmbeddedPostgres
from services.rpc.telemetry import Telemetry
from tenantvault.channel import call
from tenantvault.errors import TenantVaultError
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.conftest import Database
from tests.integration.vault.conftest import (
    Journal,
    RunningVault,
    assistant,
    running_vault,
    vault_settings,
)
from tests.integration.vault.contract import METHODS, filled, stub

CANARY = "canary5e7d9b31"
# As a dump, a hexadecimal column or an encoded field would show it, whatever its place in the bytes is.
SHAPES = (
    CANARY,
    CANARY.upper(),
    CANARY.encode().hex(),
    *(base64.b64encode(b"x" * offset + CANARY.encode()).decode()[4:16] for offset in range(3)),
)
PEERS = ("provider", "voice-agent", "gateway", "stranger")


def planted() -> list[pb.Credential]:
    """Each kind of credential with a canary in each of its secret fields, in the middle: the end is shown as a hint."""
    credentials = []
    for kind in pb.Credential.DESCRIPTOR.oneofs_by_name["kind"].fields:
        credential: Any = pb.Credential()
        message = getattr(credential, kind.name)
        assert kind.message_type is not None
        for part in kind.message_type.fields:
            if part.type == FieldDescriptor.TYPE_STRING:
                secret = part.GetOptions().debug_redact
                setattr(message, part.name, f"{part.name}-{CANARY}-9999" if secret else "plain")
        credentials.append(credential)
    return credentials


@dataclass
class Seen:
    """Everything that callers were told."""

    texts: list[str] = field(default_factory=list)

    async def call(self, calling: Any, request: Any) -> None:
        with contextlib.suppress(TenantVaultError):
            await self._raw(calling, request)

    async def _raw(self, calling: Any, request: Any) -> None:
        try:
            await calling(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            self.texts.append(f"{error!r} {error.details()} {error.debug_error_string()} {error.trailing_metadata()}")


@pytest.fixture
def database(fresh_database: Database) -> Database:
    return fresh_database


@pytest.fixture
async def vault(
    database: Database, authority: DevelopmentAuthority, journal: Journal, telemetry: Telemetry
) -> AsyncIterator[RunningVault]:
    async with running_vault(vault_settings(database, authority), authority) as vault:
        yield vault


async def dumped(database: Database) -> str:
    """Every row of every table as text; bytes come in hexadecimal."""
    tables = await database.admin(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    assert 9 <= len(tables)
    rows = [row for table in tables for row in await database.admin(f"SELECT t::text AS row FROM {table['name']} t")]
    queries = await database.admin("SELECT query AS row FROM pg_stat_activity WHERE query IS NOT NULL")
    return "\n".join(row["row"] for row in [*rows, *queries])


async def test_a_planted_secret_is_nowhere_but_where_it_was_asked_for(
    vault: RunningVault, database: Database, journal: Journal, postgres: EmbeddedPostgres, telemetry: Telemetry
) -> None:
    seen = Seen()
    store, access = await vault.store(), await vault.access()
    got = []

    # It goes in, comes out, is replaced, verified, disconnected and reconnected.
    for credential in planted():
        org = f"org-{credential.WhichOneof('kind')}"
        provider = pb.PROVIDER_TWILIO if credential.WhichOneof("kind") == "twilio" else pb.PROVIDER_VAPI
        at: dict[str, Any] = {"org_id": org, "provider": provider}
        await vault.connect(org, resource := assistant(), credential=credential)
        get = access_pb.GetCredentialRequest(**at)
        resolve = access_pb.ResolveCredentialRequest(
            kind=resource.kind, resource_id=resource.resource_id, provider=provider
        )
        got += [(await call(access.GetCredential, get)).credential.credential for _ in range(2)]
        got.append((await call(access.ResolveCredential, resolve)).credential.credential)
        await vault.put(org, credential, expected=1)
        await call(store.RecordVerification, store_pb.RecordVerificationRequest(**at, version=1, error="Refused."))
        await call(store.Disconnect, store_pb.DisconnectRequest(**at))
        await vault.put(org, credential, expected=1)
        await call(store.Reconnect, store_pb.ReconnectRequest(**at))
    assert [credential for credential in planted() for _ in range(3)] == got

    # Every method for every peer, with every credential, well-formed and not.
    for peer in PEERS:
        channel: Any = await vault.channel(peer)
        for path, method in METHODS.items():
            for org in ("org-vapi", f"BAD {CANARY}", ""):
                request = filled(method, org)
                for planting in planted() if hasattr(request, "credential") else [None]:
                    if planting is not None:
                        request.credential.CopyFrom(planting)
                    await seen.call(stub(channel, method), request)
                    await seen.call(
                        channel.unary_unary(path), request.SerializeToString() + b"\x0a\x7f" + CANARY.encode()
                    )
            await seen.call(channel.unary_unary(path), CANARY.encode())
            await seen.call(channel.unary_unary(path), b"\x12\x40" + (CANARY * 4).encode())
            metadata = (("x-request-id", CANARY), ("authorization", CANARY))
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub(channel, method)(filled(method, "org-vapi"), timeout=5, metadata=metadata[1:])

    # Secrets that are no good: too long, unprintable.
    for bad in (f"{CANARY}\0{CANARY}-9999", CANARY * 2000, f"{CANARY}\n"):
        request = store_pb.PutCredentialRequest(
            org_id="org-bad", credential=pb.Credential(vapi=pb.VapiCredential(api_key=bad))
        )
        await seen.call(store.PutCredential, request)

    # A database that refuses: its errors quote the row; and one whose records are damaged.
    await database.admin("ALTER TABLE credential_versions ADD CONSTRAINT never CHECK (version < 0) NOT VALID")
    await seen.call(store.PutCredential, store_pb.PutCredentialRequest(org_id="org-new", credential=planted()[0]))
    assert 1 == len(journal.events("a handler failed"))
    await database.admin("ALTER TABLE credential_versions DROP CONSTRAINT never")
    await database.admin(
        "UPDATE org_credentials SET encrypted_config = overlay(encrypted_config PLACING '\\x00' FROM 90)"
    )
    await call(
        store.RecordVerification,
        store_pb.RecordVerificationRequest(org_id="org-vapi", provider=pb.PROVIDER_VAPI, version=1),
    )
    await seen.call(access.GetCredential, access_pb.GetCredentialRequest(org_id="org-vapi", provider=pb.PROVIDER_VAPI))
    assert journal.events("a record does not open")
    await database.admin("ALTER TABLE org_credentials RENAME TO elsewhere")
    await seen.call(store.PutCredential, store_pb.PutCredentialRequest(org_id="org-new", credential=planted()[0]))
    await vault.server.check()

    places = {
        "the log": journal.text,
        "what callers were told": "\n".join(seen.texts),
        "the metrics": generate_latest(telemetry.registry).decode(),
        "the tables": await dumped(database),
        "PostgreSQL's log": server_log(postgres),
    }
    assert len(seen.texts) > 200
    assert {} == {
        place: [text[max(0, text.index(shape) - 80) :][:200] for shape in SHAPES if shape in text]
        for place, text in places.items()
        if any(shape in text for shape in SHAPES)
    }
    assert 'peer="stranger"' in places["the metrics"]
    assert "credential_versions" in places["PostgreSQL's log"]
    assert "••••9999" in places["the tables"]


def server_log(postgres: EmbeddedPostgres) -> str:
    path: Path = postgres._log
    return path.read_text("utf-8", "replace")


@pytest.fixture
def telemetry(monkeypatch: pytest.MonkeyPatch) -> Telemetry:
    """The metrics of the vault, which it makes itself."""
    from services.vault import main

    telemetry = Telemetry()
    monkeypatch.setattr(main, "Telemetry", lambda: telemetry)
    return telemetry


def test_the_shapes_find_a_canary_wherever_it_is() -> None:
    for offset in range(6):
        noise = b"\x00\xff" * offset + b"x" * (offset % 3)
        data = noise + CANARY.encode() + b"tail"
        for text in (base64.b64encode(data).decode(), data.hex(), data.decode("latin-1")):
            assert any(shape in text for shape in SHAPES), text
