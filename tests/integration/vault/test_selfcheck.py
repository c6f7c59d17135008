"""What keeps a vault from serving, one by one, and that it serves again when it is mended."""

import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.authority import DevelopmentAuthority
from services.rpc.server import NotReady
from services.vault.migrate import OWNER
from services.vault.postgres import open_pool
from services.vault.selfcheck import SelfCheck
from tenantvault.errors import CredentialNotFound, VaultUnavailable
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
        "ALTER FUNCTION read_credential OWNER TO tenantvault_app",
        f"ALTER FUNCTION read_credential OWNER TO {OWNER}",
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
        "UPDATE schema_migrations SET name = '0000_other'",
        "UPDATE schema_migrations SET name = '0001_vault'",
        "migration 0001_vault is missing: run python -m services.vault.migrate",
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
        "INSERT INTO master_keys (master_key_id, fingerprint) VALUES ('2025', 'x')",
        "DELETE FROM master_keys WHERE master_key_id = '2025'",
        "master key 2025 is missing: add it to TENANTVAULT_MASTER_KEYS",
    ),
    "login refused": Fault(
        "ALTER ROLE tenantvault_app NOLOGIN",
        "ALTER ROLE tenantvault_app LOGIN",
        "the database cannot be reached (InvalidAuthorizationSpecificationError)",
    ),
}


async def run(database: Database, statements: str) -> None:
    for statement in statements.split(";"):
        await database.admin(statement)


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
    async with open_pool(fresh_database.app_url) as pool:
        await SelfCheck(pool, {"first": b"1", "tried": b"2"})()
        await SelfCheck(pool, {"first": b"1"})()
        with pytest.raises(NotReady, match="master key first is missing"):
            await SelfCheck(pool, {"tried": b"2"})()
