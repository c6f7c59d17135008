"""What must be so before the vault serves, and while it does."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import asyncpg

from services.rpc.server import CannotTell, NotReady
from services.vault.audit import Chain, event_of
from services.vault.credential import OrgKey, Origin
from services.vault.database import Connection, Pool, connection
from services.vault.migrate import available
from services.vault.postgres_audit import append
from services.vault.postgres_keys import is_used, running
from tenantvault.audit import VAULT_CHAIN
from tenantvault.errors import TenantVaultError, VaultUnavailable

_FENCE: Final = "(org_id = current_setting('tenantvault.org_id'::text, true))"
"""The policy's condition, as PostgreSQL writes it."""

_LOOK_UP_PATH: Final = "search_path=pg_catalog, pg_temp"
_PROBE: Final = bytes(32)
_AUDIT_SECONDS: Final = 2.0
_PROOF_SECONDS: Final = 300.0
"""How long the proof that the first master key wraps is good for; each costs two calls of a key service."""

# What logs statements, the values at which it logs none, and what says whether it logs their parameters.
_LOGS_STATEMENTS: Final[Mapping[str, tuple[Collection[str], str]]] = {
    "log_statement": ({"none", "ddl"}, "log_parameter_max_length"),
    "log_min_duration_statement": ({"-1"}, "log_parameter_max_length"),
    "log_min_duration_sample": ({"-1"}, "log_parameter_max_length"),
    "log_transaction_sample_rate": ({"0"}, "log_parameter_max_length"),
    "auto_explain.log_min_duration": ({"-1"}, "auto_explain.log_parameter_max_length"),
    "pgaudit.log": ({"none", ""}, "pgaudit.log_parameter"),
}
_LOGS_PARAMETERS: Final = frozenset(parameters for _, parameters in _LOGS_STATEMENTS.values())


class MasterKeys(Protocol):
    """The master keys that this vault has."""

    @property
    def wrapping(self) -> str:
        """The id of the key that wraps."""

    @property
    def fingerprints(self) -> Mapping[str, bytes]:
        """For each key's id the bytes that tell it from another."""

    async def wrap(self, org_id: str, key_id: str, key: bytes) -> OrgKey:
        """Wrap a key."""

    async def unwrap(self, key: OrgKey) -> bytes:
        """A key in the open."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; the problem is empty when it passed."""

    check: str
    problem: str = ""


class SelfCheck:
    """Checks the database, the keys and the audit against what the vault relies on.

    Args:
        chain: gives what extends the audit's chains.
        spool_trouble: what keeps reads from being audited now; empty when nothing does.
        unreadable: what a key that does not unwrap raises.
        timer: seconds that only grow.
    """

    def __init__(
        self,
        pool: Pool,
        master_keys: MasterKeys,
        *,
        chain: Callable[[], Awaitable[Chain]],
        spool_trouble: Callable[[], str] = str,
        unreadable: type[Exception],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._master_keys = master_keys
        self._chain = chain
        self._spool_trouble = spool_trouble
        self._unreadable = unreadable
        self._timer = timer
        self._joined = False
        self._proved_until = float("-inf")
        self._checks: Mapping[str, Callable[[Connection], Awaitable[None]]] = {
            "role": _role,
            "migrations": _migrations,
            "row-level security": _row_level_security,
            "statement logging": _statement_logging,
            "master keys": self._known_master_keys,
            "wrapping": self._wrapping,
            "audit": self._audit,
        }

    async def __call__(self) -> None:
        """Pass, or raise NotReady with the first thing that is not as it must be; CannotTell when it cannot be told."""
        doubts = []
        try:
            async with connection(self._pool) as db:
                for check in self._checks.values():
                    try:
                        await check(db)
                    except CannotTell as doubt:
                        # What a later check finds weighs more.
                        doubts.append(doubt)
        except NotReady:
            # What an operator mends may reach new connections only, e.g. a setting of the role.
            await self._pool.expire_connections()
            raise
        except VaultUnavailable as error:
            raise CannotTell(_away(error)) from None
        if doubts:
            raise doubts[0]

    async def findings(self) -> list[Finding]:
        """Make every check anew, whatever the others find."""
        found = []
        for name, check in {**self._checks, "wrapping": self._prove_wrapping}.items():
            try:
                async with connection(self._pool) as db:
                    await check(db)
                found.append(Finding(name))
            except NotReady as reason:
                found.append(Finding(name, str(reason)))
            except VaultUnavailable as error:
                found.append(Finding(name, _away(error)))
            except Exception as error:  # noqa: BLE001 - a check that cannot be made is told like one that failed
                found.append(Finding(name, f"it could not be made ({type(error).__name__})"))
        return found

    async def _known_master_keys(self, db: Connection) -> None:
        ours, wrapping = self._master_keys.fingerprints, self._master_keys.wrapping
        rows = await db.fetch("SELECT master_key_id, fingerprint, state FROM master_keys")
        seen = {row["master_key_id"]: (row["fingerprint"], row["state"]) for row in rows}
        missing = sorted(key_id for key_id, (_, state) in seen.items() if state == "active" and key_id not in ours)
        if lost := [key_id for key_id in missing if await is_used(db, key_id)]:
            raise NotReady(f"master key {', '.join(lost)} is missing: add it to TENANTVAULT_MASTER_KEYS")
        for key_id, fingerprint in ours.items():
            if seen.get(key_id, (fingerprint, ""))[0] == fingerprint:
                continue
            if await is_used(db, key_id):
                raise NotReady(f"master key {key_id} is another key than the one that wrapped this database's org keys")
            # Its fingerprint stays: a running vault may have the other one staged.
            raise NotReady(f"master key {key_id} is another key than the first of this id: give it an id of its own")
        if seen.get(wrapping, (b"", ""))[1] == "retired":
            raise NotReady(
                f"master key {wrapping} is retired: put the key that is in use first in TENANTVAULT_MASTER_KEYS"
            )
        if seen and not self._joined:
            await self._is_everywhere(db, wrapping)
        for key_id, fingerprint in ours.items():
            state = "active" if key_id == wrapping else "staged"
            if key_id not in seen:
                await db.execute(
                    "INSERT INTO master_keys (master_key_id, fingerprint, state) VALUES ($1, $2, $3)"
                    " ON CONFLICT DO NOTHING",
                    key_id,
                    fingerprint,
                    state,
                )
            if seen.get(key_id, (b"", state))[1] == "staged" and key_id == wrapping:
                await db.execute(
                    "UPDATE master_keys SET state = 'active' WHERE master_key_id = $1 AND state = 'staged'", key_id
                )
        # A vault that comes later without this key must not keep this one from serving.
        self._joined = True

    @staticmethod
    async def _is_everywhere(db: Connection, wrapping: str) -> None:
        """What is wrapped under a key that another vault lacks would take that vault down."""
        lacking = [vault.vault_id for vault in await running(db) if wrapping not in vault.master_keys]
        if lacking and not await is_used(db, wrapping):
            raise NotReady(
                f"master key {wrapping} is first here, and vault {lacking[0]} does not have it: put it second in"
                " TENANTVAULT_MASTER_KEYS of all vaults, then first"
            )

    async def _wrapping(self, db: Connection) -> None:
        if self._timer() >= self._proved_until:
            await self._prove_wrapping(db)

    async def _prove_wrapping(self, _: Connection) -> None:
        """Wrap and unwrap once: a key that is kept elsewhere may refuse."""
        began = self._timer()
        failure: type[NotReady] = NotReady
        try:
            wrapped = await self._master_keys.wrap(VAULT_CHAIN, "probe", _PROBE)
            if await self._master_keys.unwrap(wrapped) == _PROBE:
                self._proved_until = began + _PROOF_SECONDS
                return
        except VaultUnavailable:
            # A key service that went away takes no reads away that need none of it.
            if self._proved_until > float("-inf"):
                failure = CannotTell
        except (TenantVaultError, self._unreadable):
            pass
        self._proved_until = min(self._proved_until, began)
        raise failure(f"master key {self._master_keys.wrapping} does not wrap and unwrap: look at the key service")

    async def _audit(self, db: Connection) -> None:
        if trouble := self._spool_trouble():
            raise NotReady(f"the audit spool cannot be written: {trouble}")
        try:
            chain = await self._chain()
        except self._unreadable:
            raise NotReady("the key that signs the audit does not unwrap: its row was changed by SQL") from None
        if not await db.fetchval("SELECT has_database_privilege(current_database(), 'TEMPORARY')"):
            raise NotReady("the vault's database role may not make temporary tables: grant TEMPORARY on the database")
        # An event is written, and taken back.
        attempt = db.transaction()
        await attempt.start()
        try:
            async with asyncio.timeout(_AUDIT_SECONDS):
                await db.execute("SELECT set_config('tenantvault.org_id', $1, true)", VAULT_CHAIN)
                await append(db, chain, VAULT_CHAIN, [event_of(Origin("vault"), org_id=VAULT_CHAIN, action="probe")])
        except (asyncpg.InsufficientPrivilegeError, asyncpg.IntegrityConstraintViolationError) as error:
            raise NotReady(f"the audit cannot be written ({type(error).__name__}): run the migrations") from None
        finally:
            await attempt.rollback()


def _away(error: VaultUnavailable) -> str:
    cause = type(error.__cause__).__name__
    return f"the database cannot be reached ({cause}): check TENANTVAULT_DATABASE_URL and the server"


async def _role(db: Connection) -> None:
    role = await db.fetchrow(
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication"
        "       OR session_user <> current_user AS privileged,"
        " current_setting('row_security') = 'on' AS row_security,"
        # Whatever it is: a table, a function, the schema (whose owner may drop what is in it), the database.
        # Temporary tables are its own, and go with the connection.
        " EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid"
        "          AND d.deptype = 'o' AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class t"
        "          WHERE t.oid = d.objid AND t.relpersistence = 't'))) AS owns,"
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
    # What acts as another role than its caller's: the look-ups, and nothing else but what an extension brings along.
    loose = await db.fetchval(
        "SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname = 'public' AND p.prosecdef"
        "   AND (pg_get_userbyid(p.proowner) <> 'tenantvault_lookup' OR p.proconfig IS DISTINCT FROM $1"
        "        OR has_function_privilege('public', p.oid, 'EXECUTE'))"
        "   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid"
        "                    AND d.deptype = 'e') ORDER BY p.proname LIMIT 1",
        [_LOOK_UP_PATH],
    )
    if loose:
        raise NotReady(
            f"function {loose} passes by the walls between orgs in another way than it was migrated: drop it, or look"
            " at the migrations"
        )


async def _statement_logging(db: Connection) -> None:
    """A log of statements must not hold their parameters: ciphertext, hints, and whose they are."""
    rows = await db.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY($1)",
        [*_LOGS_STATEMENTS, *_LOGS_PARAMETERS, "log_parameter_max_length_on_error"],
    )
    values = {row["name"]: row["setting"] for row in rows}
    if values["log_parameter_max_length_on_error"] != "0":
        raise NotReady("failed statements are logged with their parameters: set log_parameter_max_length_on_error to 0")
    for logs, (off, parameters) in _LOGS_STATEMENTS.items():
        if logs in values and values[logs] not in off and values.get(parameters, "0") not in {"0", "off"}:
            raise NotReady(f"statements are logged with their parameters ({logs}): set {parameters} to 0 or off")
