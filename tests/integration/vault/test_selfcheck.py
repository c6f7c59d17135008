"""What keeps a vault from serving, one by one, and that it serves again when it is mended."""

import base64
import contextlib
import errno
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.authority import DevelopmentAuthority
from services.rpc.server import CannotTell, NotReady
from services.vault.audit import SigningKey
from services.vault.config import Config
from services.vault.database import open_pool
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.migrate import OWNER
from services.vault.postgres_keys import PostgresKeys
from services.vault.seal import Unreadable
from services.vault.selfcheck import SelfCheck
from services.vault.spool import Spool
from tenantvault.channel import call
from tenantvault.errors import AuditUnavailable, CredentialNotFound, PermissionDenied, VaultUnavailable
from tenantvault.v1 import admin_service_pb2 as admin_pb
from tests.integration.conftest import Database
from tests.integration.vault.conftest import Journal, RunningVault, master_keys, running_vault, vault_settings

SERVING, NOT_SERVING = 1, 2


async def health(vault: RunningVault) -> int:
    stub = health_pb2_grpc.HealthStub(await vault.channel("anybody"))
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    return int(answer.status)


@dataclass(frozen=True)
class Fault:
    """Statements that break something, those that mend it, and the reason that must be in the log."""

    breaks: str
    mends: str
    reason: str


APP_ROLE = "the vault's database role"
POLICY = (
    "CREATE POLICY own_org ON org_keys TO tenantvault_app"
    " USING (org_id = current_setting('tenantvault.org_id', true))"
    " WITH CHECK (org_id = current_setting('tenantvault.org_id', true))"
)


def under(*names: str) -> str:
    """Statements that put keys beside the vault's own, and wrap something under each."""
    return "".join(
        f"INSERT INTO master_keys (master_key_id, fingerprint) VALUES ('{name}', 'x');"
        "INSERT INTO signing_keys (key_id, master_key_id, wrapped_key, public_key, is_current)"
        f" VALUES ('{name}', '{name}', 'x', 'x', false);"
        for name in names
    )


HERE = "DO $$ BEGIN EXECUTE format('{}', current_database()); END $$"
POLICY_REASON = "the row-level security policy of table org_keys is not the one that was migrated"

FAULTS = {
    "superuser": Fault(
        "ALTER ROLE tenantvault_app SUPERUSER", "ALTER ROLE tenantvault_app NOSUPERUSER", f"{APP_ROLE} is privileged"
    ),
    "passes by row-level security": Fault(
        "ALTER ROLE tenantvault_app BYPASSRLS", "ALTER ROLE tenantvault_app NOBYPASSRLS", f"{APP_ROLE} is privileged"
    ),
    "makes roles": Fault(
        "ALTER ROLE tenantvault_app CREATEROLE", "ALTER ROLE tenantvault_app NOCREATEROLE", f"{APP_ROLE} is privileged"
    ),
    "makes databases": Fault(
        "ALTER ROLE tenantvault_app CREATEDB", "ALTER ROLE tenantvault_app NOCREATEDB", f"{APP_ROLE} is privileged"
    ),
    "replicates": Fault(
        "ALTER ROLE tenantvault_app REPLICATION",
        "ALTER ROLE tenantvault_app NOREPLICATION",
        f"{APP_ROLE} is privileged",
    ),
    "owns a table": Fault(
        "ALTER TABLE orgs OWNER TO tenantvault_app",
        f"ALTER TABLE orgs OWNER TO {OWNER}; GRANT SELECT, INSERT, UPDATE ON orgs TO tenantvault_app",
        f"{APP_ROLE} owns something",
    ),
    "owns a function": Fault(
        "ALTER FUNCTION read_credentials OWNER TO tenantvault_app",
        f"ALTER FUNCTION read_credentials OWNER TO {OWNER}",
        f"{APP_ROLE} owns something",
    ),
    "owns the schema": Fault(
        "ALTER SCHEMA public OWNER TO tenantvault_app",
        "ALTER SCHEMA public OWNER TO pg_database_owner",
        f"{APP_ROLE} owns something",
    ),
    "is a member of the owner": Fault(
        "GRANT tenantvault_owner TO tenantvault_app",
        "REVOKE tenantvault_owner FROM tenantvault_app",
        f"{APP_ROLE} owns something or is a member of another role",
    ),
    "is a member of the look-up": Fault(
        "GRANT tenantvault_lookup TO tenantvault_app",
        "REVOKE tenantvault_lookup FROM tenantvault_app",
        f"{APP_ROLE} owns something or is a member of another role",
    ),
    "everybody may create": Fault(
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"{APP_ROLE} may create in schema public",
    ),
    "row security is off": Fault(
        "ALTER ROLE tenantvault_app SET row_security = off",
        "ALTER ROLE tenantvault_app RESET row_security",
        "row_security is off",
    ),
    "not forced": Fault(
        "ALTER TABLE org_keys NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE org_keys FORCE ROW LEVEL SECURITY",
        "table org_keys does not force row-level security",
    ),
    "not enabled": Fault(
        "ALTER TABLE work DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE work ENABLE ROW LEVEL SECURITY",
        "table work does not force row-level security",
    ),
    "a new table without": Fault(
        "CREATE TABLE notes (org_id text)", "DROP TABLE notes", "table notes does not force row-level security"
    ),
    "the audit not forced": Fault(
        "ALTER TABLE audit_events NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE audit_events FORCE ROW LEVEL SECURITY",
        "table audit_events does not force row-level security",
    ),
    "policy of the audit's ends loosened": Fault(
        "ALTER POLICY own_org ON audit_heads USING (true)",
        "ALTER POLICY own_org ON audit_heads USING (org_id = current_setting('tenantvault.org_id', true))",
        "the row-level security policy of table audit_heads is not the one that was migrated",
    ),
    "policy of the tasks loosened": Fault(
        "ALTER POLICY own_org ON tasks USING (true)",
        "ALTER POLICY own_org ON tasks USING (org_id = current_setting('tenantvault.org_id', true))",
        "the row-level security policy of table tasks is not the one that was migrated",
    ),
    "the look-up's policy on the tasks for everybody": Fault(
        "ALTER POLICY claim ON tasks TO PUBLIC",
        "ALTER POLICY claim ON tasks TO tenantvault_lookup",
        "the row-level security policy of table tasks is not the one that was migrated",
    ),
    "the consents not forced": Fault(
        "ALTER TABLE oauth_states NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE oauth_states FORCE ROW LEVEL SECURITY",
        "table oauth_states does not force row-level security",
    ),
    "a look-up that everybody may call": Fault(
        "GRANT EXECUTE ON FUNCTION claim_due_work TO PUBLIC",
        "REVOKE EXECUTE ON FUNCTION claim_due_work FROM PUBLIC",
        "function claim_due_work passes by the walls between orgs in another way than it was migrated",
    ),
    "a look-up on another path": Fault(
        "ALTER FUNCTION org_of_resource SET search_path = public",
        "ALTER FUNCTION org_of_resource SET search_path = pg_catalog, pg_temp",
        "function org_of_resource passes by the walls between orgs in another way than it was migrated",
    ),
    "a function that acts as its owner": Fault(
        "CREATE FUNCTION all_orgs() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT org_id FROM orgs'",
        "DROP FUNCTION all_orgs",
        "function all_orgs passes by the walls between orgs in another way than it was migrated",
    ),
    "policy dropped": Fault("DROP POLICY own_org ON org_keys", POLICY, POLICY_REASON),
    "policy for reading loosened": Fault(
        "ALTER POLICY own_org ON org_keys USING (true)",
        "ALTER POLICY own_org ON org_keys USING (org_id = current_setting('tenantvault.org_id', true))",
        POLICY_REASON,
    ),
    "policy loosened by an or": Fault(
        "ALTER POLICY own_org ON org_keys USING (org_id = current_setting('tenantvault.org_id', true) OR true)",
        "ALTER POLICY own_org ON org_keys USING (org_id = current_setting('tenantvault.org_id', true))",
        POLICY_REASON,
    ),
    "policy loosened by a default": Fault(
        "ALTER POLICY own_org ON org_keys USING"
        " (org_id = coalesce(nullif(current_setting('tenantvault.org_id', true), ''), org_id))",
        "ALTER POLICY own_org ON org_keys USING (org_id = current_setting('tenantvault.org_id', true))",
        POLICY_REASON,
    ),
    "policy for writing loosened": Fault(
        "ALTER POLICY own_org ON org_keys WITH CHECK (true)",
        "ALTER POLICY own_org ON org_keys WITH CHECK (org_id = current_setting('tenantvault.org_id', true))",
        POLICY_REASON,
    ),
    "policy on another setting": Fault(
        "ALTER POLICY own_org ON org_keys USING (org_id = current_setting('tenantvault.org', true))"
        " WITH CHECK (org_id = current_setting('tenantvault.org', true))",
        f"DROP POLICY own_org ON org_keys; {POLICY}",
        POLICY_REASON,
    ),
    "policy for somebody else": Fault(
        "ALTER POLICY own_org ON org_keys TO tenantvault_lookup",
        "ALTER POLICY own_org ON org_keys TO tenantvault_app",
        POLICY_REASON,
    ),
    "policy added": Fault(
        "CREATE POLICY more ON org_keys TO tenantvault_app USING (true)",
        "DROP POLICY more ON org_keys",
        POLICY_REASON,
    ),
    "policy added for everybody": Fault(
        "CREATE POLICY more ON org_keys FOR SELECT USING (true)", "DROP POLICY more ON org_keys", POLICY_REASON
    ),
    "migration missing": Fault(
        "UPDATE schema_migrations SET name = '0000_other' WHERE name = '0001_vault'",
        "UPDATE schema_migrations SET name = '0001_vault' WHERE name = '0000_other'",
        "migration 0001_vault is missing: run python -m services.vault.migrate",
    ),
    "the newest migration missing": Fault(
        "UPDATE schema_migrations SET name = '0000_other' WHERE name = '0005_retired'",
        "UPDATE schema_migrations SET name = '0005_retired' WHERE name = '0000_other'",
        "migration 0005_retired is missing: run python -m services.vault.migrate",
    ),
    "migration changed": Fault(
        "UPDATE schema_migrations SET checksum = 'x' || checksum",
        "UPDATE schema_migrations SET checksum = substr(checksum, 2)",
        "migration 0001_vault was applied in another form than this version has",
    ),
    "no schema": Fault(
        "ALTER TABLE schema_migrations RENAME TO elsewhere",
        "ALTER TABLE elsewhere RENAME TO schema_migrations",
        "the database has no schema: run python -m services.vault.migrate",
    ),
    "master key lost": Fault(
        under("2025"),
        "DELETE FROM signing_keys WHERE master_key_id = '2025'; DELETE FROM master_keys WHERE master_key_id = '2025'",
        "master key 2025 is missing: add it to TENANTVAULT_MASTER_KEYS",
    ),
    "master key lost, and another": Fault(
        under("2024", "2025"),
        "DELETE FROM signing_keys WHERE master_key_id IN ('2024', '2025');"
        "DELETE FROM master_keys WHERE master_key_id IN ('2024', '2025')",
        "master key 2024, 2025 is missing: add it to TENANTVAULT_MASTER_KEYS",
    ),
    "all statements logged": Fault(
        "ALTER ROLE tenantvault_app SET log_statement = 'all';"
        "ALTER ROLE tenantvault_app SET log_parameter_max_length = -1",
        "ALTER ROLE tenantvault_app RESET log_statement; ALTER ROLE tenantvault_app RESET log_parameter_max_length",
        "statements are logged with their parameters (log_statement): set log_parameter_max_length to 0 or off",
    ),
    "changing statements logged": Fault(
        "ALTER ROLE tenantvault_app SET log_statement = 'mod';"
        "ALTER ROLE tenantvault_app SET log_parameter_max_length = 1",
        "ALTER ROLE tenantvault_app RESET log_statement; ALTER ROLE tenantvault_app RESET log_parameter_max_length",
        "statements are logged with their parameters (log_statement): set log_parameter_max_length to 0 or off",
    ),
    "slow statements logged": Fault(
        "ALTER ROLE tenantvault_app SET log_min_duration_statement = 0;"
        "ALTER ROLE tenantvault_app SET log_parameter_max_length = -1",
        "ALTER ROLE tenantvault_app RESET log_min_duration_statement;"
        "ALTER ROLE tenantvault_app RESET log_parameter_max_length",
        "statements are logged with their parameters (log_min_duration_statement): set log_parameter_max_length to 0",
    ),
    "some slow statements logged": Fault(
        "ALTER ROLE tenantvault_app SET log_min_duration_sample = 10;"
        "ALTER ROLE tenantvault_app SET log_parameter_max_length = -1",
        "ALTER ROLE tenantvault_app RESET log_min_duration_sample;"
        "ALTER ROLE tenantvault_app RESET log_parameter_max_length",
        "statements are logged with their parameters (log_min_duration_sample): set log_parameter_max_length to 0",
    ),
    "some transactions logged": Fault(
        "ALTER ROLE tenantvault_app SET log_transaction_sample_rate = 0.1;"
        "ALTER ROLE tenantvault_app SET log_parameter_max_length = -1",
        "ALTER ROLE tenantvault_app RESET log_transaction_sample_rate;"
        "ALTER ROLE tenantvault_app RESET log_parameter_max_length",
        "statements are logged with their parameters (log_transaction_sample_rate): set log_parameter_max_length to 0",
    ),
    "parameters of failed statements logged": Fault(
        "ALTER ROLE tenantvault_app SET log_parameter_max_length_on_error = -1",
        "ALTER ROLE tenantvault_app RESET log_parameter_max_length_on_error",
        "failed statements are logged with their parameters: set log_parameter_max_length_on_error to 0",
    ),
    "no events can be added": Fault(
        "REVOKE INSERT ON audit_events FROM tenantvault_app",
        "GRANT INSERT ON audit_events TO tenantvault_app",
        "the audit cannot be written (InsufficientPrivilegeError): run the migrations",
    ),
    "no chain can be signed": Fault(
        "REVOKE UPDATE ON audit_heads FROM tenantvault_app",
        "GRANT UPDATE ON audit_heads TO tenantvault_app",
        "the audit cannot be written (InsufficientPrivilegeError): run the migrations",
    ),
    "no event is good enough": Fault(
        "ALTER TABLE audit_events ADD CONSTRAINT never CHECK (sequence < 0) NOT VALID",
        "ALTER TABLE audit_events DROP CONSTRAINT never",
        "the audit cannot be written (CheckViolationError): run the migrations",
    ),
    "no temporary tables": Fault(
        f"{HERE.format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC')}",
        f"{HERE.format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC')}",
        f"{APP_ROLE} may not make temporary tables: grant TEMPORARY on the database",
    ),
    "login refused": Fault(
        "ALTER ROLE tenantvault_app NOLOGIN",
        "ALTER ROLE tenantvault_app LOGIN",
        "the database cannot be reached (InvalidAuthorizationSpecificationError)",
    ),
}


async def run(database: Database, statements: str) -> None:
    db = await asyncpg.connect(database.admin_url)
    try:
        await db.execute(statements)
    finally:
        await db.close()


@contextlib.asynccontextmanager
async def broken(database: Database, fault: Fault) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A database with a fault; calling what is given mends it. The role, which outlives it, is mended in any case."""
    mended = False

    async def mend() -> None:
        nonlocal mended
        mended = True
        await run(database, fault.mends)

    await run(database, fault.breaks)
    try:
        yield mend
    finally:
        if not mended:
            await mend()


# The role is the cluster's, and the cluster is this test process's own: no other test meets the broken role.
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_vault_does_not_begin_to_serve_with(
    database: Database, authority: DevelopmentAuthority, journal: Journal, fault: str
) -> None:
    settings = vault_settings(database, authority)
    async with (
        broken(database, FAULTS[fault]) as mend,
        running_vault(settings, authority, ready=False) as vault,
    ):
        assert not await vault.server.check()
        assert not await vault.server.check()
        assert NOT_SERVING == await health(vault)
        with pytest.raises(VaultUnavailable):
            await vault.get("acme")
        await mend()
        assert await vault.server.check()
        assert SERVING == await health(vault)
        with pytest.raises(CredentialNotFound):
            await vault.get("acme")
    [failure] = journal.events("self-check failed")
    assert ("error", True) == (failure["level"], failure["reason"].startswith(FAULTS[fault].reason)), failure
    assert 1 == len(journal.events("ready to serve"))


async def test_a_vault_that_serves_stops_when_a_wall_is_taken_down(
    vault: RunningVault, database: Database, journal: Journal, org: str
) -> None:
    await vault.connect(org)
    await vault.get(org)
    await database.admin("DROP POLICY own_org ON org_keys")
    assert not await vault.server.check()
    assert NOT_SERVING == await health(vault)
    # Not even what is in memory.
    with pytest.raises(VaultUnavailable):
        await vault.get(org)
    assert 1 == len(journal.events("no longer serving"))
    await database.admin(POLICY)
    assert await vault.server.check()
    assert org == (await vault.get(org)).org_id


async def test_a_vault_with_another_key_under_a_known_name_does_not_serve(
    vault: RunningVault, database: Database, authority: DevelopmentAuthority, journal: Journal, org: str
) -> None:
    await vault.connect(org)
    settings = {**vault.environ, "TENANTVAULT_MASTER_KEYS": master_keys("test-1")}
    async with running_vault(settings, authority, ready=False) as wrong:
        assert not await wrong.server.check()
        assert NOT_SERVING == await health(wrong)
    [failure] = journal.events("self-check failed")
    assert "master key test-1 is another key than the one that wrapped this database's org keys" == failure["reason"]
    for secret in (settings["TENANTVAULT_MASTER_KEYS"], vault.environ["TENANTVAULT_MASTER_KEYS"]):
        assert secret.partition(":")[2] not in journal.text


async def test_a_vault_whose_first_key_is_new_serves_with_the_old_one_beside_it(
    fresh_database: Database, authority: DevelopmentAuthority, org: str
) -> None:
    settings, new = vault_settings(fresh_database, authority), master_keys("test-2")
    async with running_vault(settings, authority) as vault:
        await vault.connect(org)
    async with running_vault({**settings, "TENANTVAULT_MASTER_KEYS": new}, authority, ready=False) as without:
        assert not await without.server.check()
    both = {**settings, "TENANTVAULT_MASTER_KEYS": f"{new}\n{fresh_database.master_keys}"}
    async with running_vault(both, authority) as renewed:
        assert (await renewed.get(org)).version == 1
        await renewed.connect("newcomer")
    rows = await fresh_database.admin("SELECT org_id, master_key_id FROM org_keys ORDER BY org_id")
    assert {org: "test-1", "newcomer": "test-2"} == {row["org_id"]: row["master_key_id"] for row in rows}


async def states(database: Database) -> dict[str, str]:
    rows = await database.admin("SELECT master_key_id, state FROM master_keys")
    return {row["master_key_id"]: row["state"] for row in rows}


async def test_a_key_behind_the_first_is_staged_and_active_once_it_is_the_first(
    fresh_database: Database, authority: DevelopmentAuthority
) -> None:
    settings, new = vault_settings(fresh_database, authority), master_keys("test-2")
    behind = {**settings, "TENANTVAULT_MASTER_KEYS": f"{fresh_database.master_keys}\n{new}"}
    async with running_vault(behind, authority):
        assert {"test-1": "active", "test-2": "staged"} == await states(fresh_database)
    # What was only tried may go again, and it may come back as another key is not let in under its name.
    async with running_vault(settings, authority):
        pass
    other = {**settings, "TENANTVAULT_MASTER_KEYS": f"{fresh_database.master_keys}\n{master_keys('test-2')}"}
    async with running_vault(other, authority, ready=False) as vault:
        assert not await vault.server.check()
    first = {**settings, "TENANTVAULT_MASTER_KEYS": f"{new}\n{fresh_database.master_keys}"}
    async with running_vault(first, authority):
        assert {"test-1": "active", "test-2": "active"} == await states(fresh_database)
    async with running_vault(behind, authority):
        assert {"test-1": "active", "test-2": "active"} == await states(fresh_database)


async def test_a_vault_whose_first_key_the_others_lack_does_not_serve_and_takes_no_other_down(
    fresh_database: Database, authority: DevelopmentAuthority, journal: Journal, org: str
) -> None:
    settings, new = vault_settings(fresh_database, authority), master_keys("test-2")
    first = {**settings, "TENANTVAULT_MASTER_KEYS": f"{new}\n{fresh_database.master_keys}"}
    async with running_vault(settings, authority) as vault:
        await vault.connect(org)
        async with running_vault(first, authority, ready=False) as hasty:
            await hasty.in_sync()
            assert not await hasty.server.check()
            assert NOT_SERVING == await health(hasty)
            assert {"test-1": "active"} == await states(fresh_database)
            assert await vault.server.check()
            assert 1 == (await vault.get(org)).version
        [row] = await fresh_database.admin("SELECT vault_id FROM vaults")
    [failure] = journal.events("self-check failed")
    assert failure["reason"] == (
        f"master key test-2 is first here, and vault {row['vault_id']} does not have it: put it second in"
        " TENANTVAULT_MASTER_KEYS of all vaults, then first"
    )
    # The key is lost, and nothing was wrapped under it.
    async with running_vault(settings, authority) as vault:
        assert 1 == (await vault.get(org)).version


async def test_a_vault_that_comes_without_a_key_keeps_no_vault_from_serving_that_wraps_with_it(
    fresh_database: Database, authority: DevelopmentAuthority, org: str
) -> None:
    settings, new = vault_settings(fresh_database, authority), master_keys("test-2")
    first = {**settings, "TENANTVAULT_MASTER_KEYS": f"{new}\n{fresh_database.master_keys}"}
    async with running_vault(settings, authority):
        pass
    async with running_vault(first, authority) as vault, running_vault(settings, authority) as late:
        await late.in_sync()
        assert await vault.server.check()
        async with running_vault(first, authority, ready=False) as another:
            assert not await another.server.check()
        # From the first thing that is wrapped under it, the key is missed.
        assert await late.server.check()
        await vault.connect(org)
        assert not await late.server.check()
        assert await vault.server.check()
    # And it may be the first again, whoever runs.
    async with running_vault(settings, authority, ready=False) as late:
        await late.in_sync()
        async with running_vault(first, authority) as vault:
            assert 1 == (await vault.get(org)).version


async def test_a_key_under_which_nothing_is_wrapped_may_be_lost_but_its_name_is_taken(
    fresh_database: Database, authority: DevelopmentAuthority, journal: Journal, org: str
) -> None:
    settings = vault_settings(fresh_database, authority)
    async with running_vault(settings, authority) as vault:
        await vault.connect(org)
    await fresh_database.admin("INSERT INTO master_keys (master_key_id, fingerprint) VALUES ('lost', 'x')")
    async with running_vault(settings, authority) as vault:
        assert 1 == (await vault.get(org)).version
    for names, is_let_in in (("lost", False), ("next", True)):
        keys = f"{master_keys(names)}\n{fresh_database.master_keys}"
        async with running_vault({**settings, "TENANTVAULT_MASTER_KEYS": keys}, authority, ready=False) as vault:
            assert is_let_in == await vault.server.check()
    [failure] = journal.events("self-check failed")
    assert "master key lost is another key than the first of this id: give it an id of its own" == failure["reason"]


async def test_a_retired_key_may_go_or_stay_but_never_be_first(
    fresh_database: Database, authority: DevelopmentAuthority, journal: Journal
) -> None:
    old, new = master_keys("old"), master_keys("new")
    settings = vault_settings(fresh_database, authority)
    async with running_vault({**settings, "TENANTVAULT_MASTER_KEYS": f"{new}\n{old}"}, authority):
        await fresh_database.admin("UPDATE master_keys SET state = 'retired' WHERE master_key_id = 'old'")
    for may in (new, f"{new}\n{old}"):
        async with running_vault({**settings, "TENANTVAULT_MASTER_KEYS": may}, authority):
            assert {"new": "active", "old": "retired"} == await states(fresh_database)
    async with running_vault({**settings, "TENANTVAULT_MASTER_KEYS": f"{old}\n{new}"}, authority, ready=False) as vault:
        assert not await vault.server.check()
        assert NOT_SERVING == await health(vault)
    [failure] = journal.events("self-check failed")
    assert failure["reason"] == (
        "master key old is retired: put the key that is in use first in TENANTVAULT_MASTER_KEYS"
    )
    assert {"new": "active", "old": "retired"} == await states(fresh_database)


async def nothing_wraps(*_: object, **__: object) -> bytes:
    raise VaultUnavailable


async def nothing_unwraps(*_: object, **__: object) -> bytes:
    raise Unreadable


async def something_else_comes_out(*_: object, **__: object) -> bytes:
    return bytes(range(32))


@pytest.mark.parametrize(
    ("method", "instead"),
    [("wrap", nothing_wraps), ("unwrap", nothing_unwraps), ("unwrap", something_else_comes_out)],
)
async def test_a_master_key_that_does_not_wrap_and_unwrap_keeps_a_vault_from_serving(
    database: Database,
    authority: DevelopmentAuthority,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    instead: Any,
) -> None:
    async with running_vault(vault_settings(database, authority), authority, ready=False) as vault:
        with monkeypatch.context() as patch:
            patch.setattr(LocalKey, method, instead)
            assert not await vault.server.check()
            assert not await vault.server.check()
            assert NOT_SERVING == await health(vault)
        assert await vault.server.check()
        assert SERVING == await health(vault)
    [failure] = journal.events("self-check failed")
    assert "master key test-1 does not wrap and unwrap: look at the key service" == failure["reason"]


PROOF_SECONDS = 300


@pytest.mark.parametrize(
    ("method", "instead", "goes_on"),
    [("wrap", nothing_wraps, True), ("unwrap", nothing_wraps, True), ("unwrap", something_else_comes_out, False)],
    ids=["no wrapping", "no unwrapping", "something else"],
)
async def test_that_the_first_key_wraps_is_proved_again_after_minutes(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch, method: str, instead: Any, goes_on: bool
) -> None:
    """A key service that is away stops what needs it, and nothing else: what is remembered is still served."""
    now = 0.0
    problem = "master key test-1 does not wrap and unwrap: look at the key service"
    async with open_pool(fresh_database.app_url) as pool:
        ring = Keyring.parse(fresh_database.master_keys)
        chain = SigningKey(PostgresKeys(pool), ring, random=os.urandom).chain
        check = SelfCheck(pool, ring, chain=chain, unreadable=Unreadable, timer=lambda: now)
        await check()
        with monkeypatch.context() as patch:
            patch.setattr(LocalKey, method, instead)
            now = PROOF_SECONDS - 1
            await check()
            now = PROOF_SECONDS
            for _ in range(2):
                with pytest.raises(NotReady, match=problem) as found:
                    await check()
                assert goes_on == isinstance(found.value, CannotTell)
            # What keeps a vault from serving in any case is not hidden behind it.
            async with broken(fresh_database, FAULTS["no events can be added"]):
                with pytest.raises(NotReady) as found:
                    await check()
                assert not isinstance(found.value, CannotTell)
        await check()
        with monkeypatch.context() as patch:
            patch.setattr(LocalKey, method, instead)
            now += PROOF_SECONDS - 1
            await check()


async def test_a_diagnosis_asks_the_key_service_each_time(
    database: Database, authority: DevelopmentAuthority, monkeypatch: pytest.MonkeyPatch, org: str
) -> None:
    problem = "master key test-1 does not wrap and unwrap: look at the key service"
    async with running_vault(vault_settings(database, authority), authority) as vault:
        await vault.connect(org)
        with monkeypatch.context() as patch:
            patch.setattr(LocalKey, "wrap", nothing_wraps)
            assert dict.fromkeys(CHECKS, "") | {"wrapping": problem} == await vault.diagnosis()
            # What was found is not forgotten by the next check, and takes nothing away that needs no key service.
            assert not await vault.server.check()
            assert SERVING == await health(vault)
            assert 1 == (await vault.get(org)).version
        assert dict.fromkeys(CHECKS, "") == await vault.diagnosis()
        assert await vault.server.check()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE signing_keys SET wrapped_key = overlay(wrapped_key PLACING '\\x00' FROM 80)",
        "UPDATE signing_keys SET wrapped_key = ''",
        "UPDATE signing_keys SET key_id = 'another'",
        "UPDATE signing_keys SET wrapped_key = (SELECT wrapped_key FROM org_keys LIMIT 1)",
    ],
    ids=["damaged", "emptied", "renamed", "an org's"],
)
async def test_a_vault_whose_signing_key_was_changed_by_sql_does_not_begin_to_serve(
    fresh_database: Database, authority: DevelopmentAuthority, journal: Journal, org: str, tampering: str
) -> None:
    settings = vault_settings(fresh_database, authority)
    async with running_vault(settings, authority) as vault:
        await vault.connect(org)
    [kept] = await fresh_database.admin("SELECT * FROM signing_keys")
    await fresh_database.admin(tampering)
    async with running_vault(settings, authority, ready=False) as vault:
        assert not await vault.server.check()
        assert NOT_SERVING == await health(vault)
        assert "does not unwrap" in (await vault.diagnosis())["audit"]
        await fresh_database.admin(
            "UPDATE signing_keys SET key_id = $1, wrapped_key = $2", kept["key_id"], kept["wrapped_key"]
        )
        assert await vault.server.check()
        assert "" == (await vault.verdict(org)).problem
    [failure] = journal.events("self-check failed")
    assert "the key that signs the audit does not unwrap: its row was changed by SQL" == failure["reason"]


async def test_a_vault_whose_disk_is_full_hands_nothing_out_until_there_is_room_again(
    database: Database,
    authority: DevelopmentAuthority,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    org: str,
) -> None:
    full = False

    def write(handle: int, data: bytes) -> int:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(handle, data)

    monkeypatch.setattr(Config, "open_spool", lambda config: Spool(config.audit_spool, write=write))
    async with running_vault(vault_settings(database, authority), authority) as vault:
        await vault.connect(org)
        await vault.get(org)
        full = True
        with pytest.raises(AuditUnavailable):
            await vault.get(org)
        for _ in range(2):
            assert not await vault.server.check()
            assert NOT_SERVING == await health(vault)
        assert "No space left on device" in (await vault.diagnosis())["audit"]
        with pytest.raises(VaultUnavailable):
            await vault.get(org)
        full = False
        assert await vault.server.check()
        assert SERVING == await health(vault)
        await vault.get(org)
        # The two that were answered.
        await vault.events_when(org, "credential.get", 2)
    [failure] = journal.events("self-check failed")
    assert "the audit spool cannot be written: it cannot be written: No space left on device" == failure["reason"]
    assert [] == journal.events("a line of the audit spool is none")


CHECKS = ["role", "migrations", "row-level security", "statement logging", "master keys", "wrapping", "audit"]


async def test_a_diagnosis_names_whatever_is_wrong_while_the_vault_does_not_serve(
    database: Database, authority: DevelopmentAuthority
) -> None:
    wrong = {
        "role": FAULTS["makes databases"],
        "row-level security": FAULTS["policy dropped"],
        "statement logging": FAULTS["slow statements logged"],
        "master keys": FAULTS["master key lost"],
    }
    # The key that signs the audit is made when it is first needed, which takes a master key that is known.
    async with running_vault(vault_settings(database, authority), authority) as vault:
        assert dict.fromkeys(CHECKS, "") == await vault.diagnosis()
    async with contextlib.AsyncExitStack() as stack:
        mending = [await stack.enter_async_context(broken(database, fault)) for fault in wrong.values()]
        settings = vault_settings(database, authority)
        vault = await stack.enter_async_context(running_vault(settings, authority, ready=False))
        # Also before it was ever asked whether it is ready.
        for _ in range(2):
            found = await vault.diagnosis()
            assert CHECKS == list(found)
            for check, problem in found.items():
                assert problem.startswith(wrong[check].reason) if check in wrong else problem == "", (check, problem)
            assert not await vault.server.check()
        with pytest.raises(VaultUnavailable):
            await vault.get("acme")
        for peer in ("gateway", "provider", "voice-agent", "stranger"):
            with pytest.raises(PermissionDenied):
                await call((await vault.admin(peer)).Diagnose, admin_pb.DiagnoseRequest())
        for mend in mending:
            await mend()
        assert await vault.server.check()
        assert dict.fromkeys(CHECKS, "") == await vault.diagnosis()


async def test_a_diagnosis_says_when_it_was_made(vault: RunningVault) -> None:
    before = time.time()
    answer = await call((await vault.admin()).Diagnose, admin_pb.DiagnoseRequest())
    assert before - 1 <= answer.checked_at.seconds + answer.checked_at.nanos / 1e9 <= time.time() + 1


async def test_a_diagnosis_is_made_although_a_check_cannot_be(vault: RunningVault, database: Database) -> None:
    await database.admin("ALTER TABLE master_keys RENAME TO elsewhere")
    try:
        found = await vault.diagnosis()
    finally:
        await database.admin("ALTER TABLE elsewhere RENAME TO master_keys")
    assert "it could not be made (UndefinedTableError)" == found.pop("master keys")
    assert dict.fromkeys(found, "") == found


async def test_statements_may_be_logged_without_their_parameters(
    database: Database, authority: DevelopmentAuthority
) -> None:
    logging_them = Fault(
        "ALTER ROLE tenantvault_app SET log_statement = 'all';"
        "ALTER ROLE tenantvault_app SET log_min_duration_statement = 0",
        "ALTER ROLE tenantvault_app RESET log_statement; ALTER ROLE tenantvault_app RESET log_min_duration_statement",
        "",
    )
    async with (
        broken(database, logging_them),
        running_vault(vault_settings(database, authority), authority) as vault,
    ):
        assert SERVING == await health(vault)


async def test_a_check_leaves_no_event_behind(vault: RunningVault) -> None:
    before = [await vault.events("_vault"), (await vault.verdict("_vault")).events]
    for _ in range(3):
        assert await vault.server.check()
    assert before == [await vault.events("_vault"), (await vault.verdict("_vault")).events]


async def test_a_vault_that_logs_in_as_the_administrator_does_not_serve(
    database: Database, authority: DevelopmentAuthority, journal: Journal
) -> None:
    settings = {**vault_settings(database, authority), "TENANTVAULT_DATABASE_URL": database.admin_url}
    async with running_vault(settings, authority, ready=False) as vault:
        assert not await vault.server.check()
        assert NOT_SERVING == await health(vault)
    [failure] = journal.events("self-check failed")
    assert failure["reason"].startswith("the vault's database role is privileged: log in as tenantvault_app")


async def test_a_role_that_another_login_has_put_on_is_seen_through(
    database: Database, authority: DevelopmentAuthority, journal: Journal
) -> None:
    """Whoever can take it off again is not the role that it says it is."""
    separator = "&" if urlsplit(database.admin_url).query else "?"
    url = f"{database.admin_url}{separator}role=tenantvault_app"
    settings = {**vault_settings(database, authority), "TENANTVAULT_DATABASE_URL": url}
    async with running_vault(settings, authority, ready=False) as vault:
        assert not await vault.server.check()
    [failure] = journal.events("self-check failed")
    assert failure["reason"].startswith("the vault's database role is privileged")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda parts: parts._replace(netloc="tenantvault_app:canary-wrong@"), "InvalidPasswordError"),
        (lambda parts: parts._replace(path="/nowhere"), "InvalidCatalogNameError"),
        (lambda parts: parts._replace(query="host=/nowhere"), "FileNotFoundError"),
        (lambda parts: parts._replace(query=f"{parts.query}&sslmode=canary"), "ClientConfigurationError"),
    ],
    ids=["password", "database", "host", "option"],
)
async def test_a_url_that_leads_nowhere_is_told_by_its_cause_and_not_shown(
    database: Database,
    authority: DevelopmentAuthority,
    journal: Journal,
    change: Callable[..., object],
    cause: str,
) -> None:
    url = change(urlsplit(database.app_url)).geturl()  # type: ignore[attr-defined]  # still the URL's parts
    async with running_vault(
        {**vault_settings(database, authority), "TENANTVAULT_DATABASE_URL": url}, authority, ready=False
    ) as vault:
        assert not await vault.server.check()
        assert NOT_SERVING == await health(vault)
    [failure] = journal.events("self-check failed")
    assert (
        f"the database cannot be reached ({cause}): check TENANTVAULT_DATABASE_URL and the server"
        == (failure["reason"])
    )
    assert "canary" not in journal.text


async def test_the_fingerprints_are_written_once(vault: RunningVault, database: Database) -> None:
    [before] = await database.admin("SELECT master_key_id, fingerprint, first_seen_at FROM master_keys")
    await vault.server.check()
    [after] = await database.admin("SELECT master_key_id, fingerprint, first_seen_at FROM master_keys")
    assert before == after
    assert ("test-1", 16) == (after["master_key_id"], len(after["fingerprint"]))
    assert after["fingerprint"] not in base64.b64decode(database.master_keys.partition(":")[2])


async def test_a_key_that_never_was_the_first_may_go_again(fresh_database: Database) -> None:
    first, tried = master_keys("first"), master_keys("tried")
    async with open_pool(fresh_database.app_url) as pool:

        def check(*keys: str) -> SelfCheck:
            ring = Keyring.parse("\n".join(keys))
            chain = SigningKey(PostgresKeys(pool), ring, random=os.urandom).chain
            return SelfCheck(pool, ring, chain=chain, unreadable=Unreadable)

        await check(first, tried)()
        await check(first)()
        with pytest.raises(NotReady, match="master key first is missing"):
            await check(tried)()
