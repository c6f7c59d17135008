"""The database away, hanging, killed: how long callers wait, what they are told, and what is there afterwards."""

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.authority import DevelopmentAuthority
from deploy.local.postgres import EmbeddedPostgres
from services.rpc.peers import Policy
from services.rpc.server import ServerConfig
from services.vault import database as module
from tenantvault.channel import call
from tenantvault.errors import AuditUnavailable, CredentialNotFound, TenantVaultError, VaultUnavailable
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.chaos.relay import Relay
from tests.integration.conftest import Database, fill_template, new_database
from tests.integration.vault.conftest import (
    VAPI,
    Journal,
    RunningVault,
    assistant,
    eventually,
    held,
    running_vault,
    vault_settings,
    waiting_for_locks,
)
from tests.integration.vault.contract import METHODS, filled, stub

LONGEST = 15.0
"""Seconds that a call without a nearer deadline may take, whatever the database does."""


@pytest.fixture(scope="module")
def postgres(short_tmp: Path) -> Iterator[EmbeddedPostgres]:
    """A server of this module's own, to be stopped and killed. What it acknowledges is on the disk."""
    with EmbeddedPostgres(short_tmp / "outage") as server:
        fill_template(server)
        yield server


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Database:
    return new_database(postgres)


@contextlib.contextmanager
def away(server: EmbeddedPostgres) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.asynccontextmanager
async def read_only(database: Database) -> AsyncIterator[None]:
    """The database is to vaults as a standby is; the connections that they have are cut."""
    role = f"ALTER ROLE tenantvault_app IN DATABASE {urlsplit(database.app_url).path[1:]}"
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'tenantvault_app'"
    await database.admin(f"{role} SET default_transaction_read_only = on")
    try:
        await database.admin(f"{cut} AND datname = current_database()")
        yield
    finally:
        await database.admin(f"{role} RESET default_transaction_read_only")


# It says what is wrong with the database.
DIAGNOSE = "/tenantvault.v1.VaultAdminService/Diagnose"


async def ask_everything(vault: RunningVault, org: str) -> dict[str, TenantVaultError | None]:
    """What comes of each method, asked by a peer that may."""
    policy = Policy.read(ServerConfig.from_env(vault.environ, listen="").policy_file)
    outcomes: dict[str, TenantVaultError | None] = {}
    for path, method in METHODS.items():
        request = filled(method, org)
        if method.name == "ShredOrg":
            request.confirm_org_id = org
        try:
            await call(stub(await vault.channel(min(policy.rows[path])), method), request)
        except TenantVaultError as error:
            outcomes[path] = error
        else:
            outcomes[path] = None
    return outcomes


async def serving(vault: RunningVault) -> bool:
    stub = health_pb2_grpc.HealthStub(await vault.channel("anybody"))
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_while_the_database_is_away_what_is_in_memory_is_served_and_the_rest_is_told(
    vault: RunningVault, postgres: EmbeddedPostgres, journal: Journal, org: str, other_org: str
) -> None:
    await vault.connect(org)
    assert not (await vault.get(org)).served_stale
    with away(postgres):
        async with asyncio.timeout(LONGEST):
            outcomes = await ask_everything(vault, other_org)
        told = {path: outcome for path, outcome in outcomes.items() if path != DIAGNOSE}
        assert dict.fromkeys(told, VaultUnavailable) == {path: type(outcome) for path, outcome in told.items()}
        assert {VaultUnavailable.sentence} == {outcome.message for outcome in told.values() if outcome}
        assert outcomes[DIAGNOSE] is None
        got = await vault.get(org)
        assert (VAPI, True) == (got.credential, got.served_stale)
        assert not await vault.server.check()
        assert await serving(vault)
    # Nothing is done to the vault, and it goes on.
    await vault.connect(other_org)
    assert (await vault.get(other_org)).credential == VAPI
    assert await vault.server.check()
    await vault.in_sync()
    assert not (await vault.get(org)).served_stale
    [trouble] = journal.events("self-check failed")
    assert trouble["reason"].startswith("the database cannot be reached (")
    assert [] == journal.events("a handler failed")


async def test_a_database_that_takes_no_writes_is_away(
    vault: RunningVault, database: Database, org: str, other_org: str
) -> None:
    """A standby may lie behind: what it says is never given as new."""
    await vault.connect(org)
    await vault.connect(other_org)
    await vault.get(org)
    async with read_only(database):
        for _ in range(2):
            got = await vault.get(org)
            assert (VAPI, True) == (got.credential, got.served_stale)
            with pytest.raises(VaultUnavailable):
                await vault.get(other_org)
        assert not await vault.server.check()
        assert await serving(vault)
    await vault.in_sync()
    assert not (await vault.get(other_org)).served_stale


async def test_to_see_that_a_database_takes_writes_costs_no_round_trip(database: Database) -> None:
    db = await module.listen(database.app_url)
    try:
        [row] = await database.admin("SELECT query FROM pg_stat_activity WHERE pid = $1", db.get_server_pid())
        assert "" == row["query"]
    finally:
        await db.close()


async def test_who_cannot_bear_an_old_answer_is_told_that_there_is_no_other(
    vault: RunningVault, postgres: EmbeddedPostgres, org: str
) -> None:
    resource = assistant()
    await vault.connect(org, resource)
    access = await vault.access()
    get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    resolve = access_pb.ResolveCredentialRequest(
        kind=resource.kind, resource_id=resource.resource_id, provider=pb.PROVIDER_VAPI
    )
    batch = access_pb.BatchGetCredentialsRequest(keys=[access_pb.CredentialKey(org_id=org, provider=pb.PROVIDER_VAPI)])
    ways: list[tuple[Callable[..., Any], Any]] = [
        (access.GetCredential, get),
        (access.ResolveCredential, resolve),
        (access.BatchGetCredentials, batch),
    ]
    for method, request in ways:
        await call(method, request)
    with away(postgres):
        for method, request in ways:
            for bearable in (Duration(), Duration(nanos=1)):
                request.max_staleness.CopyFrom(bearable)
                with pytest.raises(VaultUnavailable):
                    await call(method, request)
            # As much as the vault allows by itself, and no more.
            for bearable in (Duration(seconds=59), Duration(seconds=3600)):
                request.max_staleness.CopyFrom(bearable)
                await call(method, request)
        for answer in (
            (await call(access.GetCredential, get)).credential,
            (await call(access.ResolveCredential, resolve)).credential,
            (await call(access.BatchGetCredentials, batch)).outcomes[0].credential,
        ):
            assert (VAPI, True) == (answer.credential, answer.served_stale)
        # One that is not in memory has no answer, and so the batch has none.
        batch.keys.add(org_id=f"{org}-other", provider=pb.PROVIDER_VAPI)
        with pytest.raises(VaultUnavailable):
            await call(access.BatchGetCredentials, batch)


async def test_a_vault_that_allows_no_stale_answers_gives_none(
    vault_environ: dict[str, str], authority: DevelopmentAuthority, postgres: EmbeddedPostgres, org: str
) -> None:
    settings = {**vault_environ, "TENANTVAULT_MAX_STALENESS_SECONDS": "0"}
    async with running_vault(settings, authority) as vault:
        await vault.connect(org)
        await vault.get(org)
        with away(postgres):
            get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
            for more in (
                access_pb.GetCredentialRequest(),
                access_pb.GetCredentialRequest(max_staleness=Duration(seconds=60)),
            ):
                get.MergeFrom(more)
                with pytest.raises(VaultUnavailable):
                    await call((await vault.access()).GetCredential, get)
        assert (await vault.get(org)).credential == VAPI


@pytest.mark.parametrize("allowed", ["60", "0"])
async def test_a_vault_that_alone_is_cut_off_gives_what_was_taken_away_marked_or_not_at_all(
    allowed: str, vault: RunningVault, authority: DevelopmentAuthority, database: Database, org: str, tmp_path: Path
) -> None:
    url = urlsplit(database.app_url)
    [folder], [port] = (parse_qs(url.query).get(name, ["5432"]) for name in ("host", "port"))
    async with Relay.served() as relay:
        relay.lead_to(Path(folder) / f".s.PGSQL.{port}")
        there = url._replace(netloc=f"{url.netloc.rpartition('@')[0]}@127.0.0.1:{relay.port}", query="").geturl()
        settings = vault_settings(database, authority) | {
            "TENANTVAULT_DATABASE_URL": there,
            "TENANTVAULT_MAX_STALENESS_SECONDS": allowed,
        }
        async with running_vault(settings, authority) as cut_off:
            await vault.connect(org)
            assert not (await cut_off.get(org)).served_stale
            relay.lead_to(tmp_path / "nobody listens here")
            await vault.freeze(org)
            get = access_pb.GetCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
            if allowed == "0":
                with pytest.raises(VaultUnavailable):
                    await call((await cut_off.access()).GetCredential, get)
            else:
                assert (await call((await cut_off.access()).GetCredential, get)).credential.served_stale
            get.max_staleness.SetInParent()
            with pytest.raises(VaultUnavailable):
                await call((await cut_off.access()).GetCredential, get)


async def test_what_is_read_while_the_database_is_away_is_in_the_audit_when_it_is_back(
    vault: RunningVault, postgres: EmbeddedPostgres, org: str
) -> None:
    await vault.connect(org)
    await vault.get(org)
    with away(postgres):
        for _ in range(10):
            assert (await vault.get(org)).served_stale
    await vault.events_when(org, "credential.get", 11)
    assert ("", 13) == ((verdict := await vault.verdict(org)).problem, verdict.events)


async def test_when_too_much_waits_for_the_database_no_plaintext_leaves_until_it_is_back(
    vault_environ: dict[str, str], authority: DevelopmentAuthority, postgres: EmbeddedPostgres, org: str
) -> None:
    settings = {**vault_environ, "TENANTVAULT_AUDIT_SPOOL_MAX_BYTES": "1000"}
    async with running_vault(settings, authority) as vault:
        await vault.connect(org)
        await vault.get(org)
        answered = 1
        with away(postgres):
            with contextlib.suppress(AuditUnavailable):
                while answered < 10:
                    await vault.get(org)
                    answered += 1
            with pytest.raises(AuditUnavailable):
                await vault.get(org)
        assert 1 < answered < 10
        # What was answered is in the audit, and nothing else is.
        await vault.events_when(org, "credential.get", answered)
        assert await vault.server.check()
        assert (await vault.get(org)).credential == VAPI


async def test_a_vault_that_is_started_before_its_database_serves_when_that_comes(
    vault_environ: dict[str, str], authority: DevelopmentAuthority, postgres: EmbeddedPostgres
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        with away(postgres):
            vault = await stack.enter_async_context(running_vault(vault_environ, authority, ready=False))
            checking = asyncio.ensure_future(vault.server.keep_checking())
            stack.callback(checking.cancel)
            assert not await serving(vault)
        async with asyncio.timeout(LONGEST):
            await vault.server.ready()
        assert await serving(vault)


async def test_a_database_that_hangs_holds_a_call_no_longer_than_a_statement_may_take(
    vault_environ: dict[str, str],
    authority: DevelopmentAuthority,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    org: str,
) -> None:
    monkeypatch.setattr(module, "STATEMENT_SECONDS", 1.5)
    async with running_vault(vault_environ, authority) as vault:
        await vault.connect(org)
        async with held(database), asyncio.timeout(LONGEST):
            for calling in (vault.get(org), vault.put(org, expected=1)):
                with pytest.raises(VaultUnavailable):
                    await calling
        assert (await vault.get(org)).credential == VAPI


async def test_when_all_connections_are_in_use_the_next_call_is_told_so_soon(
    vault_environ: dict[str, str],
    authority: DevelopmentAuthority,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    org: str,
) -> None:
    """Ten calls hang; those behind them wait for a connection only so long, and health stays what it was."""
    monkeypatch.setattr(module, "ACQUIRE_SECONDS", 1.0)
    async with running_vault(vault_environ, authority) as vault:
        await vault.connect(org)
        async with held(database), asyncio.timeout(LONGEST):
            hanging = [asyncio.ensure_future(vault.get(f"org-{number}")) for number in range(10)]
            await eventually(lambda: waiting_for_locks(database, 10))
            with pytest.raises(VaultUnavailable):
                await vault.get(org)
            assert not await vault.server.check()
            assert await serving(vault)
            assert not any(calling.done() for calling in hanging)
        outcomes = await asyncio.gather(*hanging, return_exceptions=True)
        assert {CredentialNotFound} == set(map(type, outcomes))
        assert (await vault.get(org)).credential == VAPI


@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
async def test_a_connection_that_is_cut_in_the_middle_is_told_and_replaced(
    vault: RunningVault, database: Database, org: str, end: str
) -> None:
    await vault.connect(org)
    async with held(database), asyncio.timeout(LONGEST):
        hanging = [asyncio.ensure_future(calling) for calling in (vault.get(org), vault.put(org, expected=1))]
        await eventually(lambda: waiting_for_locks(database, 2))
        await database.admin(
            f"SELECT {end}(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        outcomes = await asyncio.gather(*hanging, return_exceptions=True)
    assert [VaultUnavailable] * 2 == [type(outcome) for outcome in outcomes]
    assert (await vault.get(org)).credential == VAPI
    assert 1 == await vault.put(org, expected=1)


async def test_a_vault_can_be_stopped_while_the_database_hangs(
    vault_environ: dict[str, str],
    authority: DevelopmentAuthority,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    org: str,
) -> None:
    monkeypatch.setattr(module, "STATEMENT_SECONDS", 1.5)
    async with contextlib.AsyncExitStack() as stack:
        vault = await stack.enter_async_context(running_vault(vault_environ, authority))
        async with held(database), asyncio.timeout(LONGEST):
            hanging = asyncio.ensure_future(vault.get(org))
            await eventually(lambda: waiting_for_locks(database, 1))
            await vault.server.stop(grace=0)
            with pytest.raises(TenantVaultError):
                await hanging
            await stack.aclose()


async def test_a_change_whose_caller_gives_up_is_made_or_not_and_what_is_read_is_what_is_stored(
    vault: RunningVault, database: Database, org: str
) -> None:
    await vault.connect(org)
    await vault.get(org)
    store = await vault.store()
    request = store_pb.DisconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    async with held(database):
        giving_up = asyncio.ensure_future(call(store.Disconnect, request))
        await eventually(lambda: waiting_for_locks(database, 1))
        giving_up.cancel()
        await asyncio.gather(giving_up, return_exceptions=True)
        assert (await vault.get(org)).credential == VAPI

    async def is_disconnected() -> bool:
        [row] = await database.admin("SELECT is_active FROM org_credentials WHERE org_id = $1", org)
        return not row["is_active"]

    async def is_not_read() -> bool:
        try:
            await vault.get(org)
        except CredentialNotFound:
            return True
        return False

    await eventually(is_disconnected)
    await eventually(is_not_read)


async def test_what_was_acknowledged_before_a_kill_is_there_with_its_event(
    vault: RunningVault, postgres: EmbeddedPostgres, database: Database
) -> None:
    acknowledged: list[tuple[str, str]] = []
    enough = asyncio.Event()

    async def work(number: int) -> None:
        store = await vault.store()
        while True:
            org = f"kill-{number}-{uuid.uuid4().hex[:8]}"
            try:
                await vault.put(org)
                acknowledged.append((org, "credential.put"))
                register = store_pb.RegisterResourcesRequest(
                    org_id=org, provider=pb.PROVIDER_VAPI, version=1, resources=[assistant(org)]
                )
                await call(store.RegisterResources, register)
                acknowledged.append((org, "credential.activate"))
                await call(store.Disconnect, store_pb.DisconnectRequest(org_id=org, provider=pb.PROVIDER_VAPI))
                acknowledged.append((org, "credential.disconnect"))
            except VaultUnavailable:
                return
            if len(acknowledged) > 120:
                enough.set()

    workers = [asyncio.ensure_future(work(number)) for number in range(8)]
    async with asyncio.timeout(30):
        await enough.wait()
        postgres.kill()
        await asyncio.gather(*workers)
        postgres.start()
    events = await database.admin("SELECT org_id, action FROM audit_events WHERE org_id LIKE 'kill-%'")
    kept = {(event["org_id"], event["action"]) for event in events}
    assert set(acknowledged) <= kept
    # And of what was not acknowledged nothing is there by halves.
    rows = await database.admin(
        "SELECT o.org_id, o.generation, coalesce(c.version, 0) AS version, coalesce(c.is_active, false) AS is_active,"
        "       (SELECT count(*) FROM credential_versions v WHERE v.org_id = o.org_id) AS versions,"
        "       (SELECT count(*) FROM assistant_org_mapping m WHERE m.org_id = o.org_id) AS mappings"
        "  FROM orgs o LEFT JOIN org_credentials c USING (org_id) WHERE o.org_id LIKE 'kill-%'"
    )
    actions = Counter(org for org, _ in kept)
    for row in rows:
        org = row["org_id"]
        done = [(org, f"credential.{action}") in kept for action in ("put", "activate", "disconnect")]
        put, activated, disconnected = done
        assert (actions[org], put, activated, activated, activated and not disconnected) == (
            row["generation"],
            row["versions"] == 1,
            row["version"] == 1,
            row["mappings"] == 1,
            row["is_active"],
        )
    # The vault was not restarted.
    connected = next(row["org_id"] for row in rows if row["version"])
    store = await vault.store()
    await call(store.Reconnect, store_pb.ReconnectRequest(org_id=connected, provider=pb.PROVIDER_VAPI))
    assert (await vault.get(connected)).credential == VAPI
