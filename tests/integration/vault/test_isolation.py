"""The two walls between orgs: row-level security, and each org's own key."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from deploy.local.authority import DevelopmentAuthority
from services.vault import org as rules
from services.vault.audit import SigningKey, event_of
from services.vault.credential import Origin, Record, RecordName, Resource
from services.vault.database import open_pool
from services.vault.envelope import Envelope
from services.vault.fleet import Alone
from services.vault.keeper import Change, Held, Keeper
from services.vault.keyring import Keyring
from services.vault.postgres import PostgresStore
from services.vault.postgres_audit import PostgresAudit
from services.vault.postgres_keys import PostgresKeys
from services.vault.postgres_oauth import PostgresOAuthStates
from services.vault.postgres_work import PostgresWork
from services.vault.seal import Unreadable
from services.vault.work import Finish, OAuthState, Piece, Task
from tenantvault.channel import call
from tenantvault.errors import CredentialUnreadable, LeaseHeld, OAuthStateInvalid, ResourceNotFound, VersionConflict
from tenantvault.v1 import access_service_pb2 as access_pb
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory_pb
from tenantvault.v1 import store_service_pb2 as store_pb
from tests.integration.conftest import Database
from tests.integration.vault.conftest import (
    OTHER_VAPI,
    VAPI,
    Journal,
    RunningVault,
    assistant,
    eventually,
    forced,
    held,
    running_vault,
    vault_settings,
    waiting_for_locks,
)

TENANT_TABLES = (
    "orgs",
    "org_keys",
    "credential_versions",
    "org_credentials",
    "assistant_org_mapping",
    "audit_events",
    "audit_heads",
    "work",
    "tasks",
    "oauth_states",
)
LOOK_UPS = (
    "claim_due_work",
    "generations_of",
    "org_keys_by_master_key",
    "org_of_resource",
    "orgs_under_other_master_keys",
    "orgs_with_old_keys",
)
# From before the chain; nothing of the vault reads or writes it any more.
LEFT_BEHIND = "audit_events_unchained"

SCHEDULE = store_pb.Schedule(work=[store_pb.ScheduledWork(task=store_pb.TASK_VERIFY, due_in=Duration(seconds=86_400))])


@pytest.fixture
async def app(database: Database) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection as the vault's role, as a thief of its password would have."""
    db = await asyncpg.connect(database.app_url)
    yield db
    await db.close()


@dataclass(frozen=True)
class Filled:
    """Two orgs that have rows in every tenant table."""

    org: str = "acme"
    other_org: str = "globex"


@pytest.fixture(scope="module")
def filled(database: Database, authority: DevelopmentAuthority) -> Filled:
    filled = Filled()

    async def fill() -> None:
        async with running_vault(vault_settings(database, authority), authority) as vault:
            for of in (filled.org, filled.other_org):
                await vault.connect(of, assistant(), schedule=SCHEDULE)
                lease = store_pb.AcquireLeaseRequest(
                    org_id=of, provider=pb.PROVIDER_VAPI, owner="worker", duration=Duration(seconds=60)
                )
                await call((await vault.store()).AcquireLease, lease)
                state = store_pb.KeepOAuthStateRequest(
                    org_id=of,
                    provider=pb.PROVIDER_GOOGLE_CALENDAR,
                    state_hash=bytes(32),
                    binding=bytes(32),
                    duration=Duration(seconds=600),
                )
                await call((await vault.store()).KeepOAuthState, state)
        for table in TENANT_TABLES:
            rows = await database.admin(f"SELECT count(DISTINCT org_id) FROM {table}")
            assert rows[0]["count"] >= 2, table

    asyncio.run(fill())
    return filled


async def context(db: Any, org: str) -> None:
    await db.execute("SELECT set_config('tenantvault.org_id', $1, false)", org)


async def test_every_table_with_an_org_is_known_here(database: Database) -> None:
    rows = await database.admin(
        "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND column_name = 'org_id'"
    )
    assert {*TENANT_TABLES, LEFT_BEHIND} == {row["table_name"] for row in rows}


async def test_the_events_from_before_the_chain_are_out_of_the_vaults_reach(filled: Filled, app: Any) -> None:
    await context(app, filled.org)
    for statement in (f"SELECT * FROM {LEFT_BEHIND}", f"DELETE FROM {LEFT_BEHIND}", f"TRUNCATE {LEFT_BEHIND}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await app.execute(statement)


@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_without_a_context_there_are_no_rows(filled: Filled, app: Any, table: str) -> None:
    assert 0 == await app.fetchval(f"SELECT count(*) FROM {table}")
    await context(app, "")
    assert 0 == await app.fetchval(f"SELECT count(*) FROM {table}")


@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_with_a_context_there_are_that_orgs_rows_only(filled: Filled, app: Any, table: str) -> None:
    await context(app, filled.org)
    rows = await app.fetch(f"SELECT DISTINCT org_id FROM {table}")
    assert [filled.org] == [row["org_id"] for row in rows]
    assert 0 == await app.fetchval(f"SELECT count(*) FROM {table} WHERE org_id = $1", filled.other_org)
    for odd in (
        f"{filled.org}' OR true --",
        f"{filled.org}\x01",
        f"{filled.org} ",
        filled.org.upper(),
        "%",
        "*",
        filled.org[:-1],
    ):
        await context(app, odd)
        assert 0 == await app.fetchval(f"SELECT count(*) FROM {table}")


@pytest.mark.parametrize(
    "table", ["orgs", "org_keys", "org_credentials", "assistant_org_mapping", "audit_heads", "work", "tasks"]
)
async def test_another_orgs_rows_cannot_be_changed(filled: Filled, app: Any, database: Database, table: str) -> None:
    before = await database.admin(f"SELECT * FROM {table} WHERE org_id = $1", filled.other_org)
    await context(app, filled.org)
    assert "UPDATE 0" == await app.execute(f"UPDATE {table} SET org_id = org_id WHERE org_id = $1", filled.other_org)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await app.execute(f"UPDATE {table} SET org_id = $1", filled.other_org)
    if table in {"assistant_org_mapping", "work", "tasks"}:
        assert "DELETE 0" == await app.execute(f"DELETE FROM {table} WHERE org_id = $1", filled.other_org)
    else:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(f"DELETE FROM {table}")
    assert before == await database.admin(f"SELECT * FROM {table} WHERE org_id = $1", filled.other_org)


async def test_another_orgs_consents_cannot_be_ended_and_none_can_be_changed(
    filled: Filled, app: Any, database: Database
) -> None:
    await context(app, filled.org)
    assert "DELETE 0" == await app.execute("DELETE FROM oauth_states WHERE org_id = $1", filled.other_org)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
        await app.execute("UPDATE oauth_states SET expires_at = 'infinity'")
    assert await database.admin("SELECT FROM oauth_states WHERE org_id = $1", filled.other_org)


@pytest.mark.parametrize("table", TENANT_TABLES)
async def test_a_row_of_another_org_cannot_be_added(filled: Filled, app: Any, table: str) -> None:
    """The org's own row, with the other's name on it."""
    await context(app, filled.org)
    columns = [
        row["column_name"]
        for row in await app.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = $1 AND table_schema = 'public'",
            table,
        )
    ]
    wanted = ", ".join("$1" if column == "org_id" else column for column in columns)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await app.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {wanted} FROM {table}", filled.other_org)


@pytest.mark.parametrize("table", ["credential_versions", "audit_events"])
async def test_what_is_immutable_cannot_be_changed_by_the_vault_itself(filled: Filled, app: Any, table: str) -> None:
    await context(app, filled.org)
    for statement in (f"UPDATE {table} SET provider = 'x'", f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await app.execute(statement)


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("credential_versions", {"key_id", "encrypted_config", "activated_at", "destroyed_at"}),
        ("audit_events", set()),
        ("signing_keys", {"master_key_id", "wrapped_key"}),
        ("master_keys", {"state"}),
        ("schema_migrations", set()),
    ],
)
async def test_of_what_stays_the_vault_itself_can_change_no_more_than_it_must(
    filled: Filled, app: Any, table: str, columns: set[str]
) -> None:
    rows = await app.fetch(
        "SELECT column_name AS name, has_column_privilege($1, column_name, 'UPDATE') AS may"
        "  FROM information_schema.columns WHERE table_name = $1 AND table_schema = 'public'",
        table,
    )
    assert columns == {row["name"] for row in rows if row["may"]}
    assert not await app.fetchval("SELECT has_table_privilege($1, 'DELETE, TRUNCATE')", table)


@pytest.mark.parametrize(
    "statement",
    [
        *(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY" for table in TENANT_TABLES),
        "ALTER TABLE orgs NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY own_org ON org_credentials",
        "ALTER POLICY own_org ON org_credentials USING (true)",
        "CREATE POLICY more ON org_credentials USING (true)",
        "DROP TABLE audit_events",
        "TRUNCATE org_credentials",
        "CREATE TABLE mine (x int)",
        "CREATE FUNCTION public.jsonb_build_array(text, text, text) RETURNS jsonb LANGUAGE sql AS 'SELECT null::jsonb'",
        "CREATE OR REPLACE FUNCTION org_of_resource(text, text) RETURNS text LANGUAGE sql AS 'SELECT null::text'",
        "SET ROLE tenantvault_owner",
        "SET ROLE tenantvault_lookup",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "ALTER ROLE tenantvault_app BYPASSRLS",
        "ALTER ROLE tenantvault_app SUPERUSER",
        "GRANT tenantvault_owner TO tenantvault_app",
        "CREATE ROLE more",
        "UPDATE schema_migrations SET checksum = ''",
        "DELETE FROM master_keys",
        "UPDATE master_keys SET fingerprint = ''",
        "UPDATE signing_keys SET public_key = ''",
        "DELETE FROM signing_keys",
        "DELETE FROM audit_heads",
        "CREATE OR REPLACE FUNCTION claim_due_work(text, interval, int) RETURNS void LANGUAGE sql AS ''",
        "ALTER POLICY claim ON tasks TO tenantvault_app",
        "CREATE OR REPLACE FUNCTION keep_audit_events() RETURNS void LANGUAGE sql AS ''",
        "COPY org_credentials TO PROGRAM 'cat'",
        "SET session_replication_role = replica",
    ],
)
async def test_the_vaults_role_may_not(filled: Filled, app: Any, statement: str) -> None:
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
        await app.execute(statement)


async def test_switching_row_security_off_gives_an_error_and_no_rows(filled: Filled, app: Any) -> None:
    await app.execute("SET row_security = off")
    for table in TENANT_TABLES:
        for given in ("", filled.org):
            await context(app, given)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await app.fetch(f"SELECT * FROM {table}")


async def test_the_look_up_across_orgs_gives_an_org_and_nothing_else(
    filled: Filled, app: Any, database: Database
) -> None:
    rows = await database.admin(
        "SELECT kind, resource_id, org_id FROM assistant_org_mapping WHERE org_id IN ($1, $2)",
        filled.org,
        filled.other_org,
    )
    await context(app, filled.org)
    for row in rows:
        answer = await app.fetch("SELECT * FROM org_of_resource($1, $2)", row["kind"], row["resource_id"])
        assert [[row["org_id"]]] == [list(found.values()) for found in answer]
        assert not await app.fetchval("SELECT org_of_resource($1, $2)", "phone_number", row["resource_id"])
    for odd in ("%", "", "' OR true --"):
        assert await app.fetchval("SELECT org_of_resource('vapi_assistant', $1)", odd) is None
    assert filled.org == await app.fetchval("SELECT current_setting('tenantvault.org_id')")


async def test_the_look_ups_owner_can_do_nothing_else_and_nobody_is_it(database: Database, filled: Filled) -> None:
    [role] = await database.admin(
        "SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles"
        " WHERE rolname = 'tenantvault_lookup'"
    )
    assert not any(role.values())
    db = await asyncpg.connect(database.admin_url)
    try:
        await db.execute("SET ROLE tenantvault_lookup")
        for table in TENANT_TABLES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.fetch(f"SELECT * FROM {table}")
        for statement in (
            "SELECT mac FROM assistant_org_mapping",
            "SELECT wrapped_key FROM org_keys",
            "SELECT created_at FROM orgs",
            "SELECT encrypted_config FROM org_credentials",
            "SELECT account FROM org_credentials",
            "SELECT owner FROM tasks",
            "SELECT org_id FROM oauth_states",
            "UPDATE assistant_org_mapping SET org_id = ''",
            "UPDATE org_credentials SET is_active = true",
            "UPDATE orgs SET state = 'active'",
            "UPDATE tasks SET due_at = now()",
            "UPDATE tasks SET progress = ''",
            "UPDATE tasks SET org_id = ''",
            "DELETE FROM tasks",
            "INSERT INTO tasks (org_id, provider, task, due_at) VALUES ('acme', 'vapi', 'rotate', now())",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.execute(statement)
    finally:
        await db.close()
    functions = await database.admin(
        "SELECT p.proname, p.prosecdef, p.proowner::regrole::text AS owner, p.proconfig,"
        "       has_function_privilege('public', p.oid, 'EXECUTE') AS everybody"
        "  FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"
    )
    definers = {row["proname"]: tuple(row.values())[2:] for row in functions if row["prosecdef"]}
    assert set(LOOK_UPS) == set(definers)
    assert {("tenantvault_lookup", ("search_path=pg_catalog, pg_temp",), False)} == {
        (owner, tuple(config), everybody) for owner, config, everybody in definers.values()
    }


async def test_taking_work_tells_whose_it_is_and_changes_nothing_but_who_has_it(
    filled: Filled, app: Any, database: Database
) -> None:
    whole = "SELECT * FROM tasks WHERE org_id = ANY($1) ORDER BY org_id"
    both = [filled.org, filled.other_org]
    await database.admin("UPDATE tasks SET due_at = now() WHERE org_id = ANY($1)", both)
    before = [dict(row) for row in await database.admin(whole, both)]
    await context(app, filled.org)
    taken = await app.fetch("SELECT * FROM claim_due_work('worker', interval '1 minute', 100)")
    assert {(of, "vapi", "verify", 1) for of in both} <= {tuple(row.values())[:4] for row in taken}
    assert ["org_id", "provider", "task", "attempts", "progress", "due_at"] == list(taken[0].keys())
    after = [dict(row) for row in await database.admin(whole, both)]
    assert {"owner", "leased_until", "attempts"} == {
        name for old, new in zip(before, after, strict=True) for name in old if old[name] != new[name]
    }
    # Having it opens no other way to another org's row.
    assert "UPDATE 0" == await app.execute("UPDATE tasks SET progress = 'x' WHERE org_id = $1", filled.other_org)
    await database.admin("UPDATE tasks SET due_at = now() + interval '1 day' WHERE org_id = ANY($1)", both)


async def test_the_look_ups_for_rotations_give_names_and_counts_and_no_key(
    filled: Filled, app: Any, database: Database
) -> None:
    others = await app.fetch("SELECT * FROM orgs_under_other_master_keys('none', '', 1000) AS org_id")
    assert {filled.org, filled.other_org} <= {row["org_id"] for row in others}
    counts = await app.fetch("SELECT * FROM org_keys_by_master_key()")
    assert [{"master_key_id", "org_keys"}] == [set(row.keys()) for row in counts]
    old = await app.fetch("SELECT * FROM orgs_with_old_keys('', 1000) AS org_id")
    assert not {filled.org, filled.other_org} & {row["org_id"] for row in old}
    generations = await app.fetch("SELECT * FROM generations_of($1)", [filled.org, "hooli"])
    assert [(filled.org, 2)] == [tuple(row.values()) for row in generations]
    # What they lead to is read within the org's own context, of each org for itself.
    wanted = [filled.other_org, "hooli", filled.org]
    kept = await app.fetch("SELECT * FROM keys_of_orgs($1)", wanted)
    own = await database.admin(
        "SELECT org_id, key_id, master_key_id, wrapped_key FROM org_keys WHERE org_id = ANY($1) ORDER BY org_id DESC",
        wanted,
    )
    assert [list(row.values()) for row in own] == [list(row.values()) for row in kept]


async def test_a_temporary_table_does_not_come_between(filled: Filled, app: Any) -> None:
    """A session may have temporary tables of any name; neither the functions nor the look-up see them."""
    await app.execute("SET search_path = pg_temp, public")
    await app.execute(
        "CREATE TEMP TABLE assistant_org_mapping AS SELECT 'vapi_assistant' AS kind, 'x' AS resource_id,"
        " 'hooli' AS org_id"
    )
    await app.execute("CREATE TEMP TABLE org_credentials AS SELECT 'hooli' AS org_id, 'vapi' AS provider")
    assert await app.fetchval("SELECT org_of_resource('vapi_assistant', 'x')") is None
    assert [] == await app.fetch("SELECT * FROM read_credentials('{hooli}', '{vapi}', false)")
    assert [] == await app.fetch("SELECT * FROM resolve_credentials('{vapi_assistant}', '{x}', 'vapi')")
    assert 1 == len(await app.fetch("SELECT * FROM read_credentials($1, '{vapi}', false)", [filled.org]))


class OneConnection:
    """A pool of one connection, so that what is left on it is seen."""

    def __init__(self, database: Database) -> None:
        self.pool = open_pool(database.app_url, connections=1)

    async def left_over(self) -> tuple[str, int, bool]:
        async with self.pool.acquire() as db:
            setting = await db.fetchval("SELECT coalesce(current_setting('tenantvault.org_id', true), '')")
            rows = await db.fetchval("SELECT count(*) FROM org_credentials")
            return setting, rows, db.is_in_transaction()


NOTHING = ("", 0, False)


async def test_no_context_stays_on_a_connection(database: Database, filled: Filled, org: str, other_org: str) -> None:
    one, ring = OneConnection(database), Keyring.parse(database.master_keys)
    async with one.pool:
        keys, envelope, origin = PostgresKeys(one.pool), Envelope(ring), Origin("provider")
        chain = SigningKey(keys, ring, random=os.urandom).chain
        store, audit = PostgresStore(one.pool, chain=chain), PostgresAudit(one.pool, chain=chain)
        keeper = Keeper(store=store, envelope=envelope, vaults=Alone(), forget=lambda _: None, unreadable=Unreadable)
        resource = Resource("vapi_assistant", str(uuid.uuid4()))
        await keeper.put(org, "vapi", b"x", "", expected_version=0, origin=origin)
        assert NOTHING == await one.left_over()
        await keeper.activate(org, "vapi", 1, [resource], origin)
        assert NOTHING == await one.left_over()
        [stored] = await store.read([(org, "vapi")])
        assert stored is not None
        assert stored.key is not None
        assert stored.record is not None
        key, record = stored.key, stored.record
        both = [event_of(origin, org_id=of, action="credential.get") for of in (org, other_org)]

        def change(key_id: str) -> Awaitable[object]:
            async def decide(held: Held) -> Change:
                changed = rules.put(held.org, "vapi", held.org.pointers["vapi"].latest_version + 1)
                return Change(changed=changed, name=RecordName(org, "vapi", changed.version, key_id), sealed=b"sealed")

            return store.change(org, decide, origin, provider="vapi")

        async def cancelled() -> None:
            async with held(database):
                task = asyncio.ensure_future(change(key.key_id))
                await eventually(lambda: waiting_for_locks(database, 1))
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()

        async def exported() -> None:
            assert [part async for part in audit.chain_of(org)]

        elsewhere = Record(record.name, b"x", key)
        work, states = PostgresWork(one.pool, chain=chain), PostgresOAuthStates(one.pool)
        piece = Piece(org, "vapi", Task.VERIFY)
        state = OAuthState(org_id=org, provider="googleCalendar", state_hash=bytes(32), binding=bytes(32))
        steps: dict[str, tuple[Callable[[], Awaitable[object]], type[Exception] | None]] = {
            "read": (lambda: store.read([(org, "vapi"), (other_org, "vapi")]), None),
            "read of nothing": (lambda: store.read([(org, "none")]), None),
            "resolve": (lambda: store.resolve([(resource.kind, resource.resource_id)], "vapi"), None),
            "resolve of nothing": (lambda: store.resolve([(resource.kind, "none")], None), None),
            "list": (lambda: store.integrations(org), None),
            "versions": (lambda: store.versions(org, "vapi"), None),
            "generations": (lambda: store.generations([org, other_org]), None),
            "put": (lambda: keeper.put(org, "vapi", b"y", "", expected_version=1, origin=origin), None),
            "conflict": (
                lambda: keeper.put(org, "vapi", b"z", "", expected_version=1, origin=origin),
                VersionConflict,
            ),
            "database error": (lambda: change("no such key"), asyncpg.ForeignKeyViolationError),
            "cancelled": (cancelled, None),
            "lease": (lambda: store.acquire_lease(org, "vapi", "worker", 1), None),
            "lease given back": (lambda: store.release_lease(org, "vapi", "worker"), None),
            "work": (lambda: work.claim("worker", timedelta(seconds=1), at_most=1), None),
            "work that is not had": (lambda: work.finish(piece, "nobody", Finish(due_in=timedelta())), LeaseHeld),
            "work's progress": (lambda: work.keep_progress(piece, "nobody", ""), LeaseHeld),
            "a failure": (lambda: work.report_failure(org, "vapi", 1, origin), None),
            "a consent": (lambda: states.keep_oauth_state(state, timedelta(seconds=60)), None),
            "a consent that comes back": (lambda: states.use_oauth_state(state), None),
            "a consent that comes back twice": (lambda: states.use_oauth_state(state), OAuthStateInvalid),
            "events of two orgs": (lambda: audit.add(both), None),
            "list of events": (lambda: audit.events(org), None),
            "count of reads": (lambda: audit.reads(org, datetime.now(UTC)), None),
            "export": (exported, None),
            "end of a chain": (lambda: audit.head(org), None),
            "generation": (lambda: audit.generation(org), None),
            "rotation of the org's key": (lambda: keeper.rotate_key(org, origin), None),
            "records under old keys": (lambda: keys.records_under_old_keys(org, at_most=9), None),
            "a record in the place of another": (lambda: keys.replace_record(record, elsewhere), None),
            "old keys": (lambda: keys.destroy_old_keys(org), None),
            "keys under other master keys": (lambda: keys.keys_under_others("none", after="", at_most=9), None),
            "keys wrapped anew": (lambda: keys.rewrap([key], [key]), None),
        }
        for step, (act, error) in steps.items():
            if error is None:
                await act()
            else:
                with pytest.raises(error):
                    await act()
            assert NOTHING == await one.left_over(), step


async def unreadable(vault: RunningVault, org: str) -> None:
    newest = access_pb.GetNewestCredentialRequest(org_id=org, provider=pb.PROVIDER_VAPI)
    for read in (vault.get(org), call((await vault.access("provider")).GetNewestCredential, newest)):
        with pytest.raises(CredentialUnreadable) as refused:
            await read
        assert CredentialUnreadable.sentence == refused.value.message


CIPHERTEXT_ONLY = """
    UPDATE org_credentials t SET encrypted_config = s.encrypted_config
      FROM org_credentials s WHERE s.org_id = $1 AND t.org_id = $2;
    UPDATE credential_versions t SET encrypted_config = s.encrypted_config
      FROM credential_versions s WHERE s.org_id = $1 AND t.org_id = $2
"""
WITH_THE_KEYS_NAME = """
    UPDATE org_credentials t SET encrypted_config = s.encrypted_config, key_id = s.key_id
      FROM org_credentials s WHERE s.org_id = $1 AND t.org_id = $2;
    UPDATE credential_versions t SET encrypted_config = s.encrypted_config, key_id = s.key_id
      FROM credential_versions s WHERE s.org_id = $1 AND t.org_id = $2;
    UPDATE org_keys t SET key_id = s.key_id FROM org_keys s WHERE s.org_id = $1 AND t.org_id = $2
"""
WITH_THE_KEY = (
    WITH_THE_KEYS_NAME
    + """;
    UPDATE org_keys t SET wrapped_key = s.wrapped_key, master_key_id = s.master_key_id
      FROM org_keys s WHERE s.org_id = $1 AND t.org_id = $2
"""
)


@pytest.mark.parametrize(
    ("theft", "found"),
    [
        (CIPHERTEXT_ONLY, "a record does not open"),
        (WITH_THE_KEYS_NAME, "an org's key does not unwrap"),
        (WITH_THE_KEY, "an org's key does not unwrap"),
    ],
    ids=["ciphertext", "and the key's name", "and the key"],
)
async def test_a_row_that_was_copied_to_another_org_does_not_decrypt(
    vault: RunningVault, database: Database, journal: Journal, org: str, other_org: str, theft: str, found: str
) -> None:
    await vault.connect(org)
    await vault.connect(other_org, credential=OTHER_VAPI)
    await forced(database, theft, org, other_org)
    await unreadable(vault, other_org)
    assert (await vault.get(org)).credential == VAPI
    logged = journal.events(found)
    assert [(other_org, "vapi")] * 2 == [(line["org"], line["provider"]) for line in logged]
    for secret in (VAPI.vapi.api_key, OTHER_VAPI.vapi.api_key, "InvalidTag"):
        assert secret not in journal.text


@pytest.mark.parametrize(
    "theft",
    [
        """
        UPDATE org_credentials c SET encrypted_config = v.encrypted_config
          FROM credential_versions v WHERE c.org_id = $1 AND v.org_id = $1 AND v.version = 1;
        UPDATE credential_versions n SET encrypted_config = v.encrypted_config
          FROM credential_versions v WHERE n.org_id = $1 AND n.version = 2 AND v.org_id = $1 AND v.version = 1
        """,
        """
        UPDATE org_credentials SET version = 7, latest_version = 7 WHERE org_id = $1;
        UPDATE credential_versions SET version = 7 WHERE org_id = $1 AND version = 2
        """,
    ],
    ids=["the old one as the new", "under another number"],
)
async def test_a_row_that_was_moved_between_versions_does_not_decrypt(
    vault: RunningVault, database: Database, org: str, theft: str
) -> None:
    await vault.connect(org)
    await vault.connect(org, credential=OTHER_VAPI, expected=1)
    await forced(database, theft, org)
    await unreadable(vault, org)


async def test_a_row_that_was_moved_to_another_provider_does_not_decrypt(
    vault: RunningVault, database: Database, org: str
) -> None:
    await vault.connect(org)
    await forced(
        database,
        "UPDATE org_credentials SET provider = 'twilio' WHERE org_id = $1;"
        "UPDATE credential_versions SET provider = 'twilio' WHERE org_id = $1",
        org,
    )
    with pytest.raises(CredentialUnreadable):
        await vault.get(org, pb.PROVIDER_TWILIO)


@pytest.mark.parametrize(
    ("theft", "involved"),
    [
        ("UPDATE assistant_org_mapping SET org_id = $2 WHERE org_id = $1", True),
        (
            """
            UPDATE assistant_org_mapping m SET org_id = $2, mac = o.mac FROM assistant_org_mapping o
             WHERE m.org_id = $1 AND o.org_id = $2
            """,
            True,
        ),
        (
            """
            UPDATE assistant_org_mapping m SET org_id = $2 WHERE m.org_id = $1;
            INSERT INTO org_keys SELECT $2, key_id, master_key_id, wrapped_key, false, created_at FROM org_keys
             WHERE org_id = $1
            """,
            True,
        ),
        (
            "UPDATE assistant_org_mapping SET mac = decode(repeat('00', 32), 'hex') WHERE org_id = $1 AND $2 <> ''",
            False,
        ),
        ("UPDATE assistant_org_mapping SET role = 'outbound' WHERE org_id = $1 AND $2 <> ''", False),
    ],
    ids=["moved", "with the other's proof", "with its key", "another proof", "another role"],
)
async def test_a_mapping_that_was_changed_by_sql_is_refused(
    vault: RunningVault,
    database: Database,
    journal: Journal,
    org: str,
    other_org: str,
    theft: str,
    involved: bool,
) -> None:
    resource, theirs = assistant(), assistant()
    await vault.connect(org, resource)
    await vault.connect(other_org, theirs, credential=OTHER_VAPI)
    await forced(database, theft, org, other_org)
    ask = access_pb.ResolveCredentialRequest(
        kind=resource.kind, resource_id=resource.resource_id, provider=pb.PROVIDER_VAPI
    )
    whose = directory_pb.ResolveOrgRequest(kind=resource.kind, resource_id=resource.resource_id)
    for refused in (
        call((await vault.access()).ResolveCredential, ask),
        call((await vault.directory()).ResolveOrg, whose),
    ):
        with pytest.raises(ResourceNotFound) as told:
            await refused
        assert ResourceNotFound.sentence == told.value.message
    with pytest.raises(CredentialUnreadable):
        await vault.get(org)
    logged = journal.events("an integration's proof does not hold: its rows were changed by SQL")
    assert {other_org, org} if involved else {org} == {line["org"] for line in logged}
    whose.resource_id = theirs.resource_id
    if involved:
        # Somebody wrote into its directory too: what it has there is not taken for its own.
        with pytest.raises(ResourceNotFound):
            await call((await vault.directory()).ResolveOrg, whose)
    else:
        assert other_org == (await call((await vault.directory()).ResolveOrg, whose)).org_id


async def test_an_org_key_that_was_exchanged_seals_nothing(
    vault: RunningVault, database: Database, journal: Journal, org: str, other_org: str
) -> None:
    """The next version must not come under a key that another org has, too."""
    await vault.connect(org)
    await vault.connect(other_org)
    await forced(
        database,
        "UPDATE org_keys t SET wrapped_key = s.wrapped_key FROM org_keys s WHERE s.org_id = $1 AND t.org_id = $2",
        org,
        other_org,
    )
    store = await vault.store()
    register = store_pb.RegisterResourcesRequest(
        org_id=other_org, provider=pb.PROVIDER_VAPI, version=1, resources=[assistant()]
    )
    for change in (vault.put(other_org, OTHER_VAPI, expected=1), call(store.RegisterResources, register)):
        with pytest.raises(CredentialUnreadable):
            await change
    assert 2 == len(journal.events("an org's key does not unwrap"))
    rows = await database.admin("SELECT version FROM credential_versions WHERE org_id = $1", other_org)
    assert [1] == [row["version"] for row in rows]
