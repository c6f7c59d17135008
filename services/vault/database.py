"""The database, as every part of the vault reaches it: within a bound, and with its being away as one error."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from tenantvault.errors import VaultUnavailable

ACQUIRE_SECONDS: Final = 2.0
"""How long a call waits for a connection before the database counts as away."""

STATEMENT_SECONDS: Final = 5.0
"""How long a statement may run."""

IDLE_SECONDS: Final = 2.0
"""How long a transaction may wait for its vault. One that stands still must not keep others from the rows it holds."""

WRITABLE: Final = SessionAttribute.read_write
"""Which of several hosts is the database, also when a URL says otherwise: a standby may not have the last changes, and
nobody that is asked there would know. The server tells when it is connected to."""

# What the database's being away looks like, and what leaves nothing behind and may go well the next time.
AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InvalidCachedStatementError,
)

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


def open_pool(database_url: str, *, connections: int = 10) -> Pool:
    """A pool that connects when it is first used; await or enter it. It never logs the URL."""
    return asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=connections,
        timeout=ACQUIRE_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        target_session_attrs=WRITABLE,
        reset=_leave_as_it_is,
        server_settings={
            "application_name": "tenantvault-vault",
            "search_path": "public, pg_temp",
            "idle_in_transaction_session_timeout": f"{IDLE_SECONDS * 1000:.0f}",
        },
    )


async def listen(database_url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection of its own, to listen on. It is closed by its caller."""
    return await asyncpg.connect(
        database_url,
        timeout=ACQUIRE_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        target_session_attrs=WRITABLE,
        server_settings={"application_name": "tenantvault-listener", "search_path": "public, pg_temp"},
    )


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection; whatever says that the database is away becomes VaultUnavailable."""
    try:
        async with pool.acquire(timeout=ACQUIRE_SECONDS) as lent:
            yield lent
    except AWAY as error:
        raise VaultUnavailable from error


async def _leave_as_it_is(_: object) -> None:
    """Give a connection back without asyncpg's reset query, which would be a second round trip of every read.

    There is nothing to reset: what is set here is set for a transaction. One that is open is still rolled back.
    """


@asynccontextmanager
async def in_org(pool: Pool, org_id: str) -> AsyncIterator[Connection]:
    """A transaction in the org's context; the context ends with it."""
    async with connection(pool) as db, db.transaction():
        await enter(db, org_id)
        yield db


async def enter(db: Connection, org_id: str) -> None:
    """Set the context of the transaction that is open."""
    await db.execute("SELECT set_config('tenantvault.org_id', $1, true)", org_id)
