"""The migration command on a real database."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.local.authority import DevelopmentAuthority
from deploy.local.postgres import EmbeddedPostgres
from services.vault.credential import RecordName
from services.vault.envelope import Envelope
from services.vault.keyring import Keyring
from services.vault.migrate import Migration, MigrationError, available, create_roles, migrate
from tenantvault.errors import CredentialUnreadable
from tenantvault.v1 import credential_pb2 as pb
from tests.integration.conftest import APP_PASSWORD, Database
from tests.integration.vault.conftest import VAPI, assistant, running_vault, vault_settings


@pytest.fixture
async def empty(postgres: EmbeddedPostgres) -> AsyncIterator[Database]:
    """A database without anything in it, on a server that has the roles."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    admin = Database(postgres.admin_url, "")
    await admin.admin(f"CREATE DATABASE {name}")
    database = Database(urlsplit(postgres.admin_url)._replace(path=f"/{name}").geturl(), "")
    await database.admin("GRANT USAGE, CREATE ON SCHEMA public TO tenantvault_owner WITH GRANT OPTION")
    yield database
    await admin.admin(f"DROP DATABASE {name} WITH (FORCE)")


async def applied(database: Database) -> list[str]:
    rows = await database.admin("SELECT name FROM schema_migrations ORDER BY name")
    return [row["name"] for row in rows]


ONE = Migration("0001_one", "CREATE TABLE one (x int)")
TWO = Migration("0002_two", "CREATE TABLE two (x int); INSERT INTO one VALUES (2)")
BROKEN = Migration("0003_broken", "CREATE TABLE three (x int); INSERT INTO nowhere VALUES (3)")


async def test_what_is_missing_is_applied_and_nothing_twice(empty: Database) -> None:
    assert ["0001_one"] == await migrate(empty.admin_url, migrations=[ONE])
    assert ["0002_two"] == await migrate(empty.admin_url, migrations=[ONE, TWO])
    assert [] == await migrate(empty.admin_url, migrations=[ONE, TWO])
    assert ["0001_one", "0002_two"] == await applied(empty)
    owners = await empty.admin("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert ["tenantvault_owner"] == [row["tableowner"] for row in owners]


async def test_a_migration_that_fails_leaves_nothing_of_itself(empty: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await migrate(empty.admin_url, migrations=[ONE, TWO, BROKEN])
    assert ["0001_one", "0002_two"] == await applied(empty)
    assert [] == await empty.admin("SELECT FROM pg_tables WHERE tablename = 'three'")


async def test_a_migration_that_cannot_be_remembered_was_not_applied(empty: Database) -> None:
    forgetful = Migration(
        "0003_x", "CREATE TABLE three (x int); ALTER TABLE schema_migrations ADD CHECK (name < '0003')"
    )
    with pytest.raises(asyncpg.CheckViolationError):
        await migrate(empty.admin_url, migrations=[ONE, TWO, forgetful])
    assert ["0001_one", "0002_two"] == await applied(empty)
    assert [] == await empty.admin("SELECT FROM pg_tables WHERE tablename = 'three'")


async def test_a_migration_that_was_changed_or_is_unknown_stops_before_anything_is_done(empty: Database) -> None:
    await migrate(empty.admin_url, migrations=[ONE, TWO])
    with pytest.raises(MigrationError, match="0001_one was changed"):
        await migrate(empty.admin_url, migrations=[Migration("0001_one", "SELECT 1"), TWO, BROKEN])
    with pytest.raises(MigrationError, match="0002_two, which this version does not know"):
        await migrate(empty.admin_url, migrations=[ONE])


async def test_of_many_at_once_each_migration_is_applied_by_one(empty: Database) -> None:
    results = await asyncio.gather(*(migrate(empty.admin_url) for _ in range(6)))
    names = [migration.name for migration in available()]
    assert sorted([[], [], [], [], [], names]) == sorted(results)
    assert names == await applied(empty)


async def first_version(database: Database, org: str, resource: pb.Resource) -> None:
    """What the first version's vault left behind of an org that had connected."""
    await migrate(database.admin_url, migrations=available()[:1])
    ring = Keyring.parse(database.master_keys)
    envelope = Envelope(ring)
    key = await envelope.new_key(org)
    sealed = await envelope.seal(
        key, RecordName(org, "vapi", 1, key.key_id), VAPI.SerializeToString(deterministic=True)
    )
    await database.admin("INSERT INTO orgs (org_id, generation) VALUES ($1, 2)", org)
    await database.admin(
        "INSERT INTO master_keys (master_key_id, fingerprint) VALUES ('test-1', $1)", ring.fingerprints["test-1"]
    )
    await database.admin(
        "INSERT INTO org_keys (org_id, key_id, master_key_id, wrapped_key) VALUES ($1, $2, 'test-1', $3)",
        org,
        key.key_id,
        key.wrapped,
    )
    await database.admin(
        "INSERT INTO credential_versions (org_id, provider, version, key_id, encrypted_config, hint)"
        " VALUES ($1, 'vapi', 1, $2, $3, '')",
        org,
        key.key_id,
        sealed,
    )
    await database.admin(
        "INSERT INTO org_credentials (org_id, provider, version, latest_version, key_id, encrypted_config, is_active)"
        " VALUES ($1, 'vapi', 1, 1, $2, $3, true)",
        org,
        key.key_id,
        sealed,
    )
    await database.admin(
        "INSERT INTO assistant_org_mapping (kind, resource_id, org_id, provider, role, key_id, mac)"
        " VALUES ('vapi_assistant', $1, $2, 'vapi', 'inbound', $3, '')",
        resource.resource_id,
        org,
        key.key_id,
    )
    await database.admin(
        "INSERT INTO audit_events (org_id, generation, peer, on_behalf_of, action, provider, version, outcome,"
        " request_id) SELECT $1, g, 'provider', '', 'credential.put', 'vapi', 1, 'ok', '' FROM generate_series(1, 2) g",
        org,
    )


async def test_what_the_first_version_had_is_handed_out_when_it_was_connected_again(
    empty: Database, authority: DevelopmentAuthority, org: str
) -> None:
    database = replace(
        empty, app_url=urlsplit(empty.admin_url)._replace(netloc=f"tenantvault_app:{APP_PASSWORD}@").geturl()
    )
    resource = assistant()
    await first_version(database, org, resource)
    assert ["0002_depth", "0003_life", "0004_batches", "0005_retired"] == await migrate(database.admin_url)
    async with running_vault(vault_settings(database, authority), authority) as vault:
        # Nothing vouches for it: whoever wrote to the database before could have written it.
        with pytest.raises(CredentialUnreadable):
            await vault.get(org)
        await vault.connect(org, resource, expected=1)
        got = await vault.get(org)
        assert (1, VAPI, [resource]) == (got.version, got.credential, list(got.resources))
        await vault.events_when(org, "credential.get", 1)
        verdict = await vault.verdict(org)
        assert ("", 3) == (verdict.problem, verdict.events)
    [kept] = await database.admin("SELECT count(*) FROM audit_events_unchained WHERE org_id = $1", org)
    assert 2 == kept["count"]


async def test_what_was_ever_connected_is_tested_within_a_day_and_its_keys_are_replaced_one_after_the_other(
    empty: Database, org: str
) -> None:
    await first_version(empty, org, assistant())
    await migrate(empty.admin_url, migrations=available()[:2])
    gone = f"{org}-gone"
    await empty.admin("UPDATE org_credentials SET connected_at = now() - interval '1 year' WHERE org_id = $1", org)
    await empty.admin("INSERT INTO orgs (org_id, generation, state) VALUES ($1, 2, 'shredded')", gone)
    await empty.admin(
        "INSERT INTO org_keys (org_id, key_id, master_key_id, wrapped_key, is_current, destroyed_at)"
        " SELECT $2, key_id || '-gone', master_key_id, '', false, now() FROM org_keys WHERE org_id = $1",
        org,
        gone,
    )
    # One that is disconnected, one without a rotation, one that nobody knows any more when it was connected, and one of
    # an org that is shredded. Beside them, one that was never active.
    await empty.admin(
        "WITH more AS (INSERT INTO credential_versions (org_id, provider, version, key_id, encrypted_config, hint)"
        "   SELECT p.org_id, p.provider, 1, k.key_id, '\\x00', ''"
        "     FROM (VALUES ($1, 'twilio'), ($1, 'elevenlabs'), ($1, 'resend'), ($2, 'twilio')) p(org_id, provider)"
        "     JOIN org_keys k ON k.org_id = p.org_id RETURNING org_id, provider, version, key_id)"
        " INSERT INTO org_credentials (org_id, provider, version, latest_version, key_id, encrypted_config,"
        "                              is_active, connected_at)"
        " SELECT org_id, provider, version, 1, key_id, '\\x00', provider = 'elevenlabs',"
        "        CASE provider WHEN 'resend' THEN NULL ELSE now() - interval '1 day' END FROM more",
        org,
        gone,
    )
    await empty.admin(
        "INSERT INTO org_credentials (org_id, provider, latest_version) VALUES ($1, 'googleCalendar', 1)", org
    )
    assert ["0003_life", "0004_batches", "0005_retired"] == await migrate(empty.admin_url)
    rows = await empty.admin(
        "SELECT org_id, provider, task, by_hand, waits, owner, attempts, due_at - now() AS due_in FROM tasks"
        " ORDER BY task DESC, provider"
    )
    day, minute = timedelta(days=1), timedelta(minutes=1)
    earliest_and_latest = {
        ("elevenlabs", "verify", False): (timedelta(), day),
        ("resend", "verify", False): (timedelta(), day),
        ("twilio", "verify", False): (timedelta(), day),
        ("vapi", "verify", False): (timedelta(), day),
        ("twilio", "rotate", True): (89 * day, 89 * day),
        ("vapi", "rotate", True): (day, 14 * day),
    }
    assert list(earliest_and_latest) == [(row["provider"], row["task"], row["by_hand"]) for row in rows]
    assert ["resend", "twilio", "twilio"] == [row["provider"] for row in rows if row["waits"]]
    assert {(org, "", 0)} == {(row["org_id"], row["owner"], row["attempts"]) for row in rows}
    for row, (earliest, latest) in zip(rows, earliest_and_latest.values(), strict=True):
        assert earliest - minute < row["due_in"] < latest + minute, row
    # The wall that had to be opened for it stands again.
    forced = await empty.admin(
        "SELECT relname FROM pg_class WHERE relname IN ('org_credentials', 'orgs', 'tasks', 'oauth_states')"
        " AND relrowsecurity AND relforcerowsecurity ORDER BY relname"
    )
    assert ["oauth_states", "org_credentials", "orgs", "tasks"] == [row["relname"] for row in forced]


async def command(*arguments: str, **environ: str) -> tuple[int | None, str, str]:
    """Run `python -m services.vault.migrate` as an operator would."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.vault.migrate",
        *arguments,
        env={**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_command_applies_once_also_when_it_is_run_twice_at_the_same_time(
    empty: Database, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.write_text(empty.admin_url)
    names = ", ".join(migration.name for migration in available())
    results = await asyncio.gather(*(command(TENANTVAULT_MIGRATION_DATABASE_URL_FILE=str(file)) for _ in range(2)))
    assert [(0, f"migrate: applied {names}\n", ""), (0, "migrate: up to date\n", "")] == sorted(results)
    assert (0, "migrate: up to date\n", "") == await command(TENANTVAULT_MIGRATION_DATABASE_URL=empty.admin_url)


async def test_the_command_makes_the_roles_first_when_asked(postgres: EmbeddedPostgres) -> None:
    name = f"bare_{uuid.uuid4().hex[:12]}"
    admin = Database(postgres.admin_url, "")
    await admin.admin(f"CREATE DATABASE {name}")
    url = urlsplit(postgres.admin_url)._replace(path=f"/{name}")
    code, out, err = await command(
        "--roles",
        TENANTVAULT_MIGRATION_DATABASE_URL=url.geturl(),
        TENANTVAULT_APP_PASSWORD=APP_PASSWORD,
    )
    assert (0, "") == (code, err)
    assert out.startswith("migrate: applied 0001_vault")
    login = await asyncpg.connect(url._replace(netloc=f"tenantvault_app:{APP_PASSWORD}@").geturl())
    assert 0 == await login.fetchval("SELECT count(*) FROM org_credentials")
    await login.close()
    await admin.admin(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_role_that_may_not_act_as_the_owner_is_told_by_its_state(empty: Database) -> None:
    url = urlsplit(empty.admin_url)._replace(netloc=f"tenantvault_app:{APP_PASSWORD}@").geturl()
    code, out, err = await command(TENANTVAULT_MIGRATION_DATABASE_URL=url)
    assert (1, "") == (code, out)
    assert "migrate: the database refused or cannot be reached: InsufficientPrivilegeError (SQLSTATE 42501)\n" == err


async def test_a_database_that_takes_no_writes_is_told_in_a_sentence(empty: Database) -> None:
    name = urlsplit(empty.admin_url).path[1:]
    await empty.admin(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    code, out, err = await command(TENANTVAULT_MIGRATION_DATABASE_URL=empty.admin_url)
    assert (1, "") == (code, out)
    assert "migrate: the database refused or cannot be reached: TargetServerAttributeNotMatched\n" == err


async def test_a_changed_migration_is_told_in_a_sentence(empty: Database) -> None:
    await migrate(empty.admin_url)
    await empty.admin("UPDATE schema_migrations SET checksum = ''")
    code, out, err = await command(TENANTVAULT_MIGRATION_DATABASE_URL=empty.admin_url)
    assert (1, "", "migrate: migration 0001_vault was changed after it was applied: restore the file\n") == (
        code,
        out,
        err,
    )


@pytest.mark.parametrize("password", ["it's", 'a "quoted" $1 p@ss/w:rd %20', "x" * 200, "\\", " "])
async def test_the_server_takes_the_password_that_the_verifier_is_of(
    postgres: EmbeddedPostgres, database: Database, password: str
) -> None:
    await create_roles(postgres.admin_url, password)
    try:
        login = await asyncpg.connect(database.app_url, password=password)
        await login.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(database.app_url, password=f"{password}x")
    finally:
        await create_roles(postgres.admin_url, APP_PASSWORD)


async def test_the_roles_are_made_harmless_however_they_were(database: Database) -> None:
    """What an administrator may set without being a superuser; the self-check finds the rest."""
    await database.admin("ALTER ROLE tenantvault_app CREATEDB CREATEROLE INHERIT")
    await database.admin("GRANT CREATE ON SCHEMA public TO PUBLIC")
    await create_roles(database.admin_url, APP_PASSWORD)
    roles = await database.admin(
        "SELECT rolname, rolcanlogin, rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls AS privileged"
        "  FROM pg_roles WHERE rolname LIKE 'tenantvault%' ORDER BY rolname"
    )
    assert [
        ("tenantvault_app", True, False),
        ("tenantvault_lookup", False, False),
        ("tenantvault_owner", False, False),
    ] == [tuple(role.values()) for role in roles]
    [public] = await database.admin("SELECT has_schema_privilege('tenantvault_app', 'public', 'CREATE') AS may")
    assert not public["may"]
