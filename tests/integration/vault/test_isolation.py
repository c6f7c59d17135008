"""The two walls between orgs: row-level security, and each org's own key."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from deploy.local.authority import DevelopmentAuthority
from services.vault.credential import Origin, RecordName
from services.vault.postgres import PostgresStore, open_pool
from tenantvault.channel import call
from tenantvault.errors import CredentialUnreadable, ResourceNotFound, VersionConflict
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
    running_vault,
    vault_settings,
)

TENANT_TABLES = (
    "orgs",
    "org_keys",
    "credential_versions",
    "org_credentials",
    "assistant_org_mapping",
    "audit_events",
    "work",
)


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
                await vault.connect(of, assistant())
                lease = store_pb.AcquireLeaseRequest(
                    org_id=of, provider=pb.PROVIDER_VAPI, owner="worker", duration=Duration(seconds=60)
                )
                await call((await vault.store()).AcquireLease, lease)
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
    assert set(TENANT_TABLES) == {row["table_name"] for row in rows}


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


@pytest.mark.parametrize("table", ["orgs", "org_keys", "org_credentials", "assistant_org_mapping", "work"])
async def test_another_orgs_rows_cannot_be_changed(filled: Filled, app: Any, database: Database, table: str) -> None:
    before = await database.admin(f"SELECT * FROM {table} WHERE org_id = $1", filled.other_org)
    await context(app, filled.org)
    assert "UPDATE 0" == await app.execute(f"UPDATE {table} SET org_id = org_id WHERE org_id = $1", filled.other_org)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await app.execute(f"UPDATE {table} SET org_id = $1", filled.other_org)
    if table in {"assistant_org_mapping", "work"}:
        assert "DELETE 0" == await app.execute(f"DELETE FROM {table} WHERE org_id = $1", filled.other_org)
    else:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(f"DELETE FROM {table}")
    assert before == await database.admin(f"SELECT * FROM {table} WHERE org_id = $1", filled.other_org)


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
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.fetch("SELECT mac FROM assistant_org_mapping")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.execute("UPDATE assistant_org_mapping SET org_id = ''")
    finally:
        await db.close()
    functions = await database.admin(
        "SELECT p.proname, p.prosecdef, p.proowner::regrole::text AS owner, p.proconfig,"
        "       has_function_privilege('public', p.oid, 'EXECUTE') AS everybody"
        "  FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"
    )
    assert [("org_of_resource", "tenantvault_lookup", ["search_path=pg_catalog, pg_temp"], False)] == [
        (row["proname"], row["owner"], row["proconfig"], row["everybody"]) for row in functions if row["prosecdef"]
    ]


async def test_a_temporary_table_does_not_come_between(filled: Filled, app: Any) -> None:
    """A session may have temporary tables of any name; neither the functions nor the look-up see them."""
    await app.execute("SET search_path = pg_temp, public")
    await app.execute(
        "CREATE TEMP TABLE assistant_org_mapping AS SELECT 'vapi_assistant' AS kind, 'x' AS resource_id,"
        " 'hooli' AS org_id"
    )
    await app.execute("CREATE TEMP TABLE org_credentials AS SELECT 'hooli' AS org_id, 'vapi' AS provider")
    assert await app.fetchval("SELECT org_of_resource('vapi_assistant', 'x')") is None
    assert [] == await app.fetch("SELECT * FROM read_credential('hooli', 'vapi', false)")
    assert 1 == len(await app.fetch("SELECT * FROM read_credential($1, 'vapi', false)", filled.org))


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


async def test_no_context_stays_on_a_connection(
    filled: Filled, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = OneConnection(database)
    async with one.pool:
        store = PostgresStore(one.pool)
        key = await store.org_key(filled.org)
        assert key is not None
        name, origin = RecordName(filled.org, "vapi", 2, key.key_id), Origin("provider")
        [row] = await database.admin(
            "SELECT kind, resource_id FROM assistant_org_mapping WHERE org_id = $1", filled.org
        )

        async def broken() -> None:
            await store.put(RecordName(filled.org, "vapi", 3, "no such key"), b"", "", origin)

        async def cancelled() -> None:
            task = asyncio.ensure_future(
                store.put(RecordName(filled.org, "vapi", 3, key.key_id), b"sealed", "", origin)
            )
            await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        steps: dict[str, tuple[Callable[[], Any], Any]] = {
            "read": (lambda: store.read(filled.org, "vapi"), None),
            "read of nothing": (lambda: store.read(filled.org, "none"), None),
            "resolve": (lambda: store.resolve_credential(row["kind"], row["resource_id"], "vapi"), None),
            "resolve of nothing": (lambda: store.resolve(row["kind"], "none"), None),
            "list": (lambda: store.integrations(filled.org), None),
            "put": (lambda: store.put(name, b"sealed", "", origin), None),
            "conflict": (lambda: store.put(name, b"sealed", "", origin), VersionConflict),
            "database error": (broken, asyncpg.ForeignKeyViolationError),
            "cancelled": (cancelled, None),
            "lease": (lambda: store.acquire_lease(filled.org, "vapi", "worker", 1), None),
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


async def forced(database: Database, statement: str, *arguments: object) -> None:
    """Run statements as the superuser with every constraint and trigger off."""
    db = await asyncpg.connect(database.admin_url)
    try:
        async with db.transaction():
            await db.execute("SET LOCAL session_replication_role = replica")
            for part in filter(None, map(str.strip, statement.split(";"))):
                used = [argument for number, argument in enumerate(arguments, 1) if f"${number}" in part]
                await db.execute(part, *used)
    finally:
        await db.close()


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
    "theft",
    [CIPHERTEXT_ONLY, WITH_THE_KEYS_NAME, WITH_THE_KEY],
    ids=["ciphertext", "and the key's name", "and the key"],
)
async def test_a_row_that_was_copied_to_another_org_does_not_decrypt(
    vault: RunningVault, database: Database, journal: Journal, org: str, other_org: str, theft: str
) -> None:
    await vault.connect(org)
    await vault.connect(other_org, credential=OTHER_VAPI)
    await forced(database, theft, org, other_org)
    await unreadable(vault, other_org)
    assert (await vault.get(org)).credential == VAPI
    logged = journal.events("a record does not open")
    assert [(other_org, "vapi", 1)] * 2 == [(line["org"], line["provider"], line["version"]) for line in logged]
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
    "theft",
    [
        """
        UPDATE assistant_org_mapping m SET org_id = $2, key_id = k.key_id FROM org_keys k
         WHERE m.org_id = $1 AND k.org_id = $2
        """,
        """
        UPDATE assistant_org_mapping m SET org_id = $2, key_id = o.key_id, mac = o.mac FROM assistant_org_mapping o
         WHERE m.org_id = $1 AND o.org_id = $2
        """,
        """
        UPDATE assistant_org_mapping m SET org_id = $2 WHERE m.org_id = $1;
        INSERT INTO org_keys SELECT $2, key_id, master_key_id, wrapped_key, false, created_at FROM org_keys
         WHERE org_id = $1
        """,
        "UPDATE assistant_org_mapping SET mac = decode(repeat('00', 32), 'hex') WHERE org_id = $1 AND $2 <> ''",
        "UPDATE assistant_org_mapping SET role = 'outbound' WHERE org_id = $1 AND $2 <> ''",
    ],
    ids=["moved", "with the other's proof", "with its key", "another proof", "another role"],
)
async def test_a_mapping_that_was_changed_by_sql_is_refused(
    vault: RunningVault, database: Database, journal: Journal, org: str, other_org: str, theft: str
) -> None:
    resource, theirs = assistant(), assistant()
    await vault.connect(org, resource)
    await vault.connect(other_org, theirs, credential=OTHER_VAPI)
    await forced(database, theft, org, other_org)
    ask = access_pb.ResolveCredentialRequest(
        kind=resource.kind, resource_id=resource.resource_id, provider=pb.PROVIDER_VAPI
    )
    with pytest.raises(ResourceNotFound) as refused:
        await call((await vault.access()).ResolveCredential, ask)
    assert ResourceNotFound.sentence == refused.value.message
    whose = directory_pb.ResolveOrgRequest(kind=resource.kind, resource_id=resource.resource_id)
    with pytest.raises(ResourceNotFound):
        await call((await vault.directory()).ResolveOrg, whose)
    assert 2 == len(journal.events("a mapping's proof does not hold: its row was changed behind the vault's back"))
    whose.resource_id = theirs.resource_id
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
