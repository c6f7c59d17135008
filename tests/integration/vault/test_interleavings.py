"""The store on PostgreSQL, and the caches over it, in every order of events."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from services.vault.audit import Chain
from services.vault.database import open_pool
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.postgres import PostgresStore
from services.vault.seal import Unreadable
from services.vault.selfcheck import SelfCheck
from tests.integration.conftest import Database
from tests.suites.interleavings import Interleavings

EXAMPLES = int(os.environ.get("TENANTVAULT_TEST_INTERLEAVINGS", "10"))
SEED = bytes(range(32))


def test_no_order_of_events_gives_what_was_not_current(database: Database) -> None:
    async def chain() -> Chain:
        return Chain.from_seed(SEED)

    async def know_the_master_key() -> None:
        async with open_pool(database.app_url) as pool:
            ring = Keyring([LocalKey("exam", bytes(32))])
            await SelfCheck(pool, ring, chain=chain, unreadable=Unreadable)()

    asyncio.run(know_the_master_key())

    class OnPostgres(Interleavings):
        @staticmethod
        async def open_store() -> tuple[Any, Callable[[], Awaitable[None]]]:
            pool = await open_pool(database.app_url)
            return PostgresStore(pool, chain=chain), pool.close

    run_state_machine_as_test(
        OnPostgres,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
