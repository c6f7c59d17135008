"""Bring the database's schema up to date: `python -m services.vault.migrate`.

Migrations are plain SQL files, numbered, forward only, each applied in a transaction of its own under one lock and
remembered with its checksum. The vault never runs them.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from services.vault.config import required_secret, required_url
from services.vault.database import WRITABLE

FOLDER: Final = Path(__file__).with_name("migrations")
OWNER: Final = "tenantvault_owner"
APP: Final = "tenantvault_app"

_LOCK: Final = 0x7E4A_7641  # any number that nothing else in the database locks
_CONNECT_SECONDS: Final = 10.0
_SCRAM_ITERATIONS: Final = 4096  # PostgreSQL's scram_iterations


class MigrationError(Exception):
    """The database is not in a state from which this version can go on; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A migration file."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available(folder: Path = FOLDER) -> list[Migration]:
    """The migrations of this version, in order."""
    return [Migration(path.stem, path.read_text("utf-8")) for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))]


async def migrate(database_url: str, *, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is missing, as the owner role; returns the names of what was applied.

    Raises:
        MigrationError: a migration was changed after it was applied, or the database is of a newer version.
    """
    wanted = available() if migrations is None else migrations
    db = await asyncpg.connect(database_url, timeout=_CONNECT_SECONDS, target_session_attrs=WRITABLE)
    try:
        await db.execute(f"SET ROLE {OWNER}")
        await db.execute("SET search_path = public, pg_temp")
        await db.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await db.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await db.fetch("SELECT name, checksum FROM schema_migrations")
        missing = _missing(wanted, {row["name"]: row["checksum"] for row in rows})
        for migration in missing:
            async with db.transaction():
                await db.execute(migration.sql)
                await db.execute(
                    "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)",
                    migration.name,
                    migration.checksum,
                )
        return [migration.name for migration in missing]
    finally:
        await db.close()


async def create_roles(database_url: str, app_password: str) -> None:
    """Make the three roles and set the application role's password; the URL is an administrator's.

    The password travels as a SCRAM verifier (RFC 5803), so that no statement log can hold it.
    """
    db = await asyncpg.connect(database_url, timeout=_CONNECT_SECONDS, target_session_attrs=WRITABLE)
    try:
        async with db.transaction():
            await db.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await db.execute(FOLDER.joinpath("roles.sql").read_text("utf-8"))
            await db.execute(f"ALTER ROLE {APP} PASSWORD '{scram_verifier(app_password, os.urandom(16))}'")
    finally:
        await db.close()


def scram_verifier(password: str, salt: bytes) -> str:
    """What PostgreSQL keeps of a password: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded_salt, encoded_stored, encoded_server = (
        base64.b64encode(part).decode() for part in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{encoded_salt}${encoded_stored}:{encoded_server}"


def _missing(wanted: Sequence[Migration], applied: Mapping[str, str]) -> list[Migration]:
    if unknown := sorted(applied.keys() - {migration.name for migration in wanted}):
        raise MigrationError(
            f"the database has migration {unknown[-1]}, which this version does not know: use a newer one"
        )
    for migration in wanted:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise MigrationError(f"migration {migration.name} was changed after it was applied: restore the file")
    return [migration for migration in wanted if migration.name not in applied]


def _password(name: str) -> str:
    password = required_secret(os.environ, name).reveal()
    if not password.isascii():
        # Clients prepare others (RFC 4013) before they prove that they know them.
        raise ValueError(f"{name} may have ASCII characters only")
    return password


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m services.vault.migrate",
        description="Bring the vault's database schema up to date. TENANTVAULT_MIGRATION_DATABASE_URL (or ..._FILE)"
        " names a role that may act as tenantvault_owner.",
    )
    parser.add_argument(
        "--roles",
        action="store_true",
        help="first create the database roles; the URL must be an administrator's, and TENANTVAULT_APP_PASSWORD"
        " (or ..._FILE) gives the password that the vault logs in with",
    )
    options = parser.parse_args(arguments)
    try:
        database_url = required_url(os.environ, "TENANTVAULT_MIGRATION_DATABASE_URL").reveal()
        app_password = _password("TENANTVAULT_APP_PASSWORD") if options.roles else ""
    except ValueError as error:
        sys.stderr.write(f"migrate: {error}\n")
        return 2
    try:
        if options.roles:
            asyncio.run(create_roles(database_url, app_password))
        applied = asyncio.run(migrate(database_url))
    except MigrationError as error:
        sys.stderr.write(f"migrate: {error}\n")
    except (
        OSError,
        TimeoutError,
        ValueError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ) as error:
        # Not the error's text: the driver's quotes the URL, the server's the values of a row.
        state = f" (SQLSTATE {error.sqlstate})" if isinstance(error, asyncpg.PostgresError) else ""
        sys.stderr.write(f"migrate: the database refused or cannot be reached: {type(error).__name__}{state}\n")
    else:
        sys.stdout.write(f"migrate: applied {', '.join(applied)}\n" if applied else "migrate: up to date\n")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
