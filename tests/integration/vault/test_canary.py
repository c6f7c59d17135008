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
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import generate_latest

from deploy.local.authority import DevelopmentAuthority
from deploy.local.postgres import EmbeddedPostgres
from services.rpc.telemetry import Telemetry
from tenantvault.channel import call
from tenantvault.errors import InvalidRequest
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.conftest import Database
from tests.integration.vault.conftest import (
    Journal,
    RunningVault,
    assistant,
    provider_of,
    running_vault,
    vault_settings,
)
from tests.integration.vault.contract import METHODS, PLAINTEXT, bytes_of, filled, raw, stub

CANARY = "canary5e7d9b31"
# The secret that tells two credentials of a kind apart.
SECRETS = {
    "vapi": "api_key",
    "twilio": "auth_token",
    "google_calendar": "refresh_token",
    "resend": "api_key",
    "elevenlabs": "api_key",
}
# As a dump, a hexadecimal column or an encoded field would show it, whatever its place in the bytes is.
SHAPES = (
    CANARY,
    CANARY.upper(),
    CANARY.encode().hex(),
    *(base64.b64encode(b"x" * offset + CANARY.encode()).decode()[4:16] for offset in range(3)),
)
PEERS = ("provider", "voice-agent", "webhook-processor", "gateway", "operator", "stranger")


def planted() -> list[pb.Credential]:
    """Each kind of credential with a canary in each of its secret fields, in the middle: the end is shown as a hint."""
    credentials = []
    for kind in pb.Credential.DESCRIPTOR.oneofs_by_name["kind"].fields:
        credential: Any = pb.Credential()
        plant(getattr(credential, kind.name))
        credentials.append(credential)
    assert len(SECRETS) == len(credentials)
    return credentials


def plant(message: Any) -> None:
    for part in message.DESCRIPTOR.fields:
        value = f"{part.name}-{CANARY}-9999" if part.GetOptions().debug_redact else "plain"
        held = getattr(message, part.name)
        if isinstance(held, Timestamp):
            held.seconds = 1_900_000_000
        elif part.message_type is not None:
            plant(held.add())
        elif part.type == FieldDescriptor.TYPE_STRING:
            held.append(value) if hasattr(held, "append") else setattr(message, part.name, value)


@dataclass
class Seen:
    """Everything that callers were told, but for the plaintext that they may have."""

    texts: list[str] = field(default_factory=list)

    async def call(self, calling: Any, request: Any, *, hands_out: bool = False) -> None:
        try:
            answer = await calling(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            self.texts.append(f"{error!r} {error.details()} {error.debug_error_string()} {error.trailing_metadata()}")
        else:
            if not hands_out:
                data = answer if isinstance(answer, bytes) else bytes_of(answer)
                self.texts.append(f"{answer!r} {data.hex()} {base64.b64encode(data).decode()}")


@pytest.fixture
async def database(fresh_database: Database) -> Database:
    """Its server logs every statement, as far as a vault puts up with: without parameters."""
    [row] = await fresh_database.admin("SELECT current_database() AS name")
    for setting in ("log_statement = 'all'", "log_min_duration_statement = 0", "log_parameter_max_length = 0"):
        await fresh_database.admin(f"ALTER DATABASE {row['name']} SET {setting}")
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
    assert 13 <= len(tables)
    rows = [row for table in tables for row in await database.admin(f"SELECT t::text AS row FROM {table['name']} t")]
    queries = await database.admin("SELECT query AS row FROM pg_stat_activity WHERE query IS NOT NULL")
    return "\n".join(row["row"] for row in [*rows, *queries])


async def live(vault: RunningVault, credential: pb.Credential) -> list[pb.Credential]:
    """It goes in, comes out, is replaced, verified, disconnected, reconnected, rolled back to; what came out."""
    store, access = await vault.store(), await vault.access()
    kind = str(credential.WhichOneof("kind"))
    provider = provider_of(credential)
    at: dict[str, Any] = {"org_id": (org := f"org-{kind}"), "provider": provider}
    await vault.connect(org, resource := assistant(), credential=credential)
    get = access_pb.GetCredentialRequest(**at)
    resolve = access_pb.ResolveCredentialRequest(
        kind=resource.kind, resource_id=resource.resource_id, provider=provider
    )
    batch = access_pb.BatchGetCredentialsRequest(keys=[access_pb.CredentialKey(**at)])
    got = [(await call(access.GetCredential, get)).credential.credential for _ in range(2)]
    got.append((await call(access.ResolveCredential, resolve)).credential.credential)
    got.append((await call(access.BatchGetCredentials, batch)).outcomes[0].credential.credential)
    await vault.put(org, credential, expected=1)
    await call(store.RecordVerification, store_pb.RecordVerificationRequest(**at, version=1, error="Refused."))
    await call(store.Disconnect, store_pb.DisconnectRequest(**at))
    await vault.put(org, credential, expected=2)
    await call(store.Reconnect, store_pb.ReconnectRequest(**at))
    # A newer version with its overlap, back to the first, and the newer one is destroyed.
    other = pb.Credential.FromString(credential.SerializeToString())
    setattr(getattr(other, kind), SECRETS[kind], f"other-{CANARY}-8888")
    newer = await vault.connect(org, resource, credential=other, expected=3)
    get.include_previous = True
    both = (await call(access.GetCredential, get)).credential
    assert other == both.credential
    got.append(both.previous.credential)
    back = store_pb.RollBackCredentialRequest(**at, version=1, expected_version=newer)
    await call(store.RollBackCredential, back)
    await call(store.DestroyVersion, store_pb.DestroyVersionRequest(**at, version=newer))
    report = access_pb.ReportFailureRequest(**at, version=1)
    await call(access.ReportFailure, report)
    if kind == "google_calendar":
        await refresh(vault, credential, at)
        assert (
            f"fresh-{CANARY}-7777"
            == (await call(access.GetCredential, get)).credential.credential.google_calendar.access_token
        )
    return got


async def refresh(vault: RunningVault, credential: pb.Credential, at: dict[str, Any]) -> None:
    store = await vault.store()
    lease = store_pb.AcquireLeaseRequest(**at, owner="worker", duration=Duration(seconds=60))
    await call(store.AcquireLease, lease)
    fresh = pb.Credential.FromString(credential.SerializeToString())
    fresh.google_calendar.access_token = f"fresh-{CANARY}-7777"
    request = store_pb.RefreshCredentialRequest(org_id=at["org_id"], credential=fresh, version=1, lease_owner="worker")
    await call(store.RefreshCredential, request)
    # What may not be refreshed is told of without its values.
    fresh.google_calendar.channel_token = f"other-{CANARY}-6666"
    request.credential.CopyFrom(fresh)
    with pytest.raises(InvalidRequest) as refused:
        await call(store.RefreshCredential, request)
    assert CANARY not in f"{refused.value!r} {refused.value.fields}"


async def ask_everything(vault: RunningVault, seen: Seen) -> None:
    """Every method for every peer, with every credential, well-formed and not."""
    for peer in PEERS:
        channel: Any = await vault.channel(peer)
        for path, method in METHODS.items():
            hands_out = path in PLAINTEXT
            for org in ("org-vapi", f"BAD {CANARY}", ""):
                request = filled(method, org)
                for planting in planted() if hasattr(request, "credential") else [None]:
                    if planting is not None:
                        request.credential.CopyFrom(planting)
                    await seen.call(stub(channel, method), request, hands_out=hands_out)
                    damaged = request.SerializeToString() + b"\x0a\x7f" + CANARY.encode()
                    await seen.call(raw(channel, method), damaged, hands_out=hands_out)
            await seen.call(raw(channel, method), CANARY.encode())
            await seen.call(raw(channel, method), b"\x12\x40" + (CANARY * 4).encode())
            metadata = (("x-request-id", CANARY), ("authorization", CANARY))
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub(channel, method)(filled(method, "org-vapi"), timeout=5, metadata=metadata[1:])
    await vault.unfreeze("org-vapi")


async def ask_for_trouble(vault: RunningVault, database: Database, journal: Journal, seen: Seen) -> None:
    store, access = await vault.store(), await vault.access()
    # Secrets that are no good: too long, unprintable.
    for bad in (f"{CANARY}\0{CANARY}-9999", CANARY * 2000, f"{CANARY}\n"):
        request = store_pb.PutCredentialRequest(
            org_id="org-bad", credential=pb.Credential(vapi=pb.VapiCredential(api_key=bad))
        )
        await seen.call(store.PutCredential, request)

    # A database that refuses: its errors quote the row; and one whose records are damaged.
    new = store_pb.PutCredentialRequest(org_id="org-new", credential=planted()[0])
    await database.admin("ALTER TABLE credential_versions ADD CONSTRAINT never CHECK (version < 0) NOT VALID")
    await seen.call(store.PutCredential, new)
    assert 1 == len(journal.events("a handler failed"))
    await database.admin("ALTER TABLE credential_versions DROP CONSTRAINT never")
    for table in ("org_credentials", "credential_versions"):
        await database.admin(
            f"UPDATE {table} SET encrypted_config = overlay(encrypted_config PLACING '\\x00' FROM 90)"
            " WHERE encrypted_config <> ''"
        )
    uncached = access_pb.GetCredentialRequest(org_id="org-vapi", provider=pb.PROVIDER_VAPI, max_staleness=Duration())
    await seen.call(access.GetCredential, uncached)
    assert journal.events("a record does not open")
    await vault.events_when("org-vapi", "integrity.violation", 1)
    await database.admin("ALTER TABLE org_credentials RENAME TO elsewhere")
    await seen.call(store.PutCredential, new)
    await vault.server.check()


async def test_a_planted_secret_is_nowhere_but_where_it_was_asked_for(
    vault: RunningVault, database: Database, journal: Journal, postgres: EmbeddedPostgres, telemetry: Telemetry
) -> None:
    seen = Seen()
    for credential in planted():
        assert [credential] * 5 == await live(vault, credential)
    await ask_everything(vault, seen)
    assert [] == journal.events("a handler failed")
    await ask_for_trouble(vault, database, journal, seen)

    places = {
        "the log": journal.text,
        "what callers were told": "\n".join(seen.texts),
        "the metrics": generate_latest(telemetry.registry).decode(),
        "the tables": await dumped(database),
        "PostgreSQL's log": server_log(postgres),
        "the audit spool": written(vault.environ["TENANTVAULT_AUDIT_SPOOL"]),
    }
    assert len(seen.texts) > 500
    assert {} == {
        place: [text[max(0, text.index(shape) - 80) :][:200] for shape in SHAPES if shape in text]
        for place, text in places.items()
        if any(shape in text for shape in SHAPES)
    }
    # Each place was looked into when there was something in it.
    assert 'peer="stranger"' in places["the metrics"]
    assert "INSERT INTO credential_versions" in places["PostgreSQL's log"]
    assert "org-vapi" not in places["PostgreSQL's log"]
    assert "••••9999" in places["the tables"]
    assert "credential.get" in places["the audit spool"]
    assert "credential.activate" in places["what callers were told"]


def written(folder: str) -> str:
    """The lines in the spool's files, those that are in the audit by now too."""
    return "\n".join(path.read_text("utf-8", "replace") for path in Path(folder).glob("*.spool"))


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
