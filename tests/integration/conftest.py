"""One PostgreSQL for each test process, one database for each test module."""

import asyncio
import base64
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from deploy.local.authority import DevelopmentAuthority
from deploy.local.postgres import EmbeddedPostgres
from services.vault.migrate import create_roles, migrate

APP_PASSWORD = uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database: as its administrator, and as the vault's role. Its vaults have one master key."""

    admin_url: str
    app_url: str
    master_keys: str = field(default_factory=lambda: f"test-1:{base64.b64encode(os.urandom(32)).decode()}", repr=False)

    async def admin(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement as the superuser, who passes by row-level security."""
        db = await asyncpg.connect(self.admin_url)
        try:
            return await db.fetch(statement, *arguments)
        finally:
            await db.close()


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tv-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(short_tmp: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(short_tmp / "pg", durable=False) as server:
        fill_template(server)
        yield server


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Database:
    return new_database(postgres)


@pytest.fixture(scope="session")
def authority(short_tmp: Path) -> DevelopmentAuthority:
    return DevelopmentAuthority(short_tmp / "ca")


@pytest.fixture
def fresh_database(postgres: EmbeddedPostgres) -> Database:
    """A database of one test's own."""
    return new_database(postgres)


def new_database(postgres: EmbeddedPostgres) -> Database:
    name = f"tv_{uuid.uuid4().hex[:12]}"
    asyncio.run(_execute(postgres.admin_url, f"CREATE DATABASE {name} TEMPLATE tenantvault_template"))
    return Database(
        _on(postgres.admin_url, name),
        _as("tenantvault_app", APP_PASSWORD, _on(postgres.admin_url, name)),
    )


def fill_template(postgres: EmbeddedPostgres) -> None:
    """Make the roles, and the migrated database that all others are copies of."""
    asyncio.run(_execute(postgres.admin_url, "CREATE DATABASE tenantvault_template"))
    url = _on(postgres.admin_url, "tenantvault_template")
    asyncio.run(create_roles(url, APP_PASSWORD))
    asyncio.run(migrate(url))


async def _execute(url: str, statement: str) -> None:
    db = await asyncpg.connect(url)
    try:
        await db.execute(statement)
    finally:
        await db.close()


def _on(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def _as(user: str, password: str, url: str) -> str:
    return urlsplit(url)._replace(netloc=f"{user}:{password}@").geturl()
