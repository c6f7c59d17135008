from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.vault.credential import Origin
from services.vault.postgres import Pool, PostgresStore, open_pool
from services.vault.selfcheck import SelfCheck
from tests.integration.conftest import Database
from tests.suites.store_exam import *  # noqa: F403 - the exam is the test
from tests.suites.store_exam import MASTER

EventRow = tuple[int, str, str, int, str, Origin]


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.app_url) as pool:
        await SelfCheck(pool, {MASTER: b"fingerprint"})()
        yield pool


@pytest.fixture
def store(pool: Pool) -> PostgresStore:
    return PostgresStore(pool)


@pytest.fixture
def events(database: Database) -> Callable[[str], Awaitable[list[EventRow]]]:
    async def read(org_id: str) -> list[EventRow]:
        rows = await database.admin(
            "SELECT generation, action, provider, version, outcome, peer, on_behalf_of, request_id"
            " FROM audit_events WHERE org_id = $1 ORDER BY generation",
            org_id,
        )
        return [
            (
                row["generation"],
                row["action"],
                row["provider"],
                row["version"],
                row["outcome"],
                Origin(row["peer"], row["on_behalf_of"], row["request_id"]),
            )
            for row in rows
        ]

    return read
