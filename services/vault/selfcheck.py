"""What must be so before the vault serves, and while it does: role, row-level security, migrations, master keys."""

from collections.abc import Mapping
from typing import Final

from services.rpc.server import CannotTell, NotReady
from services.vault.migrate import available
from services.vault.postgres import Connection, Pool, connection
from tenantvault.errors import VaultUnavailable

_FENCE: Final = "(org_id = current_setting('tenantvault.org_id'::text, true))"
"""The policy's condition, as PostgreSQL writes it."""


class SelfCheck:
    """Checks the database against what the vault relies on.

    Args:
        fingerprints: for each master key's id the bytes that tell it from another; the first key wraps.
    """

    def __init__(self, pool: Pool, fingerprints: Mapping[str, bytes]) -> None:
        self._pool = pool
        self._fingerprints = fingerprints

    async def __call__(self) -> None:
        """Pass, or raise NotReady with the first thing that is not as it must be; CannotTell without a database."""
        try:
            async with connection(self._pool) as db:
                await _role(db)
                await _migrations(db)
                await _row_level_security(db)
                await self._master_keys(db)
        except NotReady:
            # What an operator mends may reach new connections only, e.g. a setting of the role.
            await self._pool.expire_connections()
            raise
        except VaultUnavailable as error:
            cause = type(error.__cause__).__name__
            raise CannotTell(
                f"the database cannot be reached ({cause}): check TENANTVAULT_DATABASE_URL and the server"
            ) from None

    async def _master_keys(self, db: Connection) -> None:
        seen = {
            row["master_key_id"]: row["fingerprint"]
            for row in await db.fetch("SELECT master_key_id, fingerprint FROM master_keys")
        }
        if lost := sorted(seen.keys() - self._fingerprints.keys()):
            raise NotReady(f"master key {', '.join(lost)} is missing: add it to TENANTVAULT_MASTER_KEYS")
        for key_id, fingerprint in self._fingerprints.items():
            if seen.get(key_id, fingerprint) != fingerprint:
                raise NotReady(f"master key {key_id} is another key than the one that wrapped this database's org keys")
        # The first key wraps from now on; the others are remembered from when they were the first.
        wrapping, fingerprint = next(iter(self._fingerprints.items()))
        if wrapping not in seen:
            await db.execute(
                "INSERT INTO master_keys (master_key_id, fingerprint) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                wrapping,
                fingerprint,
            )


async def _role(db: Connection) -> None:
    role = await db.fetchrow(
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication"
        "       OR session_user <> current_user AS privileged,"
        " current_setting('row_security') = 'on' AS row_security,"
        # Whatever it is: a table, a function, the schema (whose owner may drop what is in it), the database.
        " EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid"
        "          AND d.deptype = 'o') AS owns,"
        # A function of a better fit in a schema on the path would be called instead of PostgreSQL's own.
        " has_schema_privilege('public', 'CREATE') AS creates,"
        " EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid) AS is_member"
        " FROM pg_roles r WHERE rolname = current_user"
    )
    if role is None or role["privileged"]:
        raise NotReady("the vault's database role is privileged: log in as tenantvault_app")
    if role["owns"] or role["is_member"]:
        raise NotReady(
            "the vault's database role owns something or is a member of another role: log in as tenantvault_app"
        )
    if role["creates"]:
        raise NotReady("the vault's database role may create in schema public: revoke that from it and from PUBLIC")
    if not role["row_security"]:
        raise NotReady("row_security is off for the vault's database role: set it on")


async def _migrations(db: Connection) -> None:
    if not await db.fetchval("SELECT to_regclass('public.schema_migrations') IS NOT NULL"):
        raise NotReady("the database has no schema: run python -m services.vault.migrate")
    applied = {row["name"]: row["checksum"] for row in await db.fetch("SELECT name, checksum FROM schema_migrations")}
    wanted = {migration.name: migration.checksum for migration in available()}
    if missing := sorted(wanted.keys() - applied.keys()):
        raise NotReady(f"migration {missing[0]} is missing: run python -m services.vault.migrate")
    if changed := sorted(name for name, checksum in wanted.items() if applied[name] != checksum):
        raise NotReady(f"migration {changed[0]} was applied in another form than this version has")


async def _row_level_security(db: Connection) -> None:
    """Every table with an org_id must force row-level security, with a policy that compares that column."""
    tables = await db.fetch(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced,"
        "       EXISTS (SELECT FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = c.relname"
        "                AND p.policyname = 'own_org' AND p.cmd = 'ALL' AND p.roles = '{tenantvault_app}'"
        "                AND p.qual = $1 AND p.with_check = $1) AS fenced,"
        "       EXISTS (SELECT FROM pg_policies p WHERE p.schemaname = 'public' AND p.tablename = c.relname"
        "                AND p.policyname <> 'own_org' AND p.roles && '{public,tenantvault_app}') AS loose"
        "  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        "  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id' AND NOT a.attisdropped"
        " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') ORDER BY c.relname",
        _FENCE,
    )
    for table in tables:
        if not table["forced"]:
            raise NotReady(f"table {table['relname']} does not force row-level security")
        if not table["fenced"] or table["loose"]:
            raise NotReady(
                f"the row-level security policy of table {table['relname']} is not the one that was migrated"
            )
