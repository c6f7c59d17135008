"""Which of the driver's errors say that the database is away; what the store does is in the exam."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from services.vault.database import connection
from tenantvault.errors import VaultUnavailable, VersionConflict

# SQLSTATE classes: connection, authorization, rollback, resources, intervention
# (https://www.postgresql.org/docs/current/errcodes-appendix.html).
AWAY_CLASSES = ("08", "28", "40", "53", "57")
AWAY_STATES = ("25006", "3D000")  # a standby; no such database

ERRORS = sorted(
    {
        error
        for _, error in inspect.getmembers(asyncpg.exceptions, inspect.isclass)
        if issubclass(error, asyncpg.PostgresError) and error.sqlstate
    },
    key=lambda error: error.__name__,
)


class FakePool:
    """Lends nothing and fails as it is told, on lending or on use."""

    def __init__(self, error: BaseException | None = None) -> None:
        self._error = error

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[None]:  # noqa: ASYNC109 - as asyncpg has it
        assert timeout > 0
        if self._error is not None:
            raise self._error
        yield


async def use(error: BaseException, *, on_lending: bool) -> None:
    pool: Any = FakePool(error if on_lending else None)
    async with connection(pool):
        raise error


def is_away(error: type[asyncpg.PostgresError]) -> bool:
    state = error.sqlstate or ""
    return state[:2] in AWAY_CLASSES or state in AWAY_STATES


@pytest.mark.parametrize("on_lending", [True, False])
async def test_every_state_that_says_so_is_the_vault_unavailable_and_no_other(*, on_lending: bool) -> None:
    for error in ERRORS:
        # A statement that was prepared before the schema changed: asyncpg's own class for a state of many causes.
        expected = is_away(error) or issubclass(error, asyncpg.InvalidCachedStatementError)
        with pytest.raises(VaultUnavailable if expected else error) as caught:
            await use(error("canary-77aa"), on_lending=on_lending)
        assert not expected or "canary" not in str(caught.value)
    assert 20 < sum(map(is_away, ERRORS)) < len(ERRORS)


@pytest.mark.parametrize(
    "error",
    [
        OSError("canary"),
        ConnectionResetError("canary"),
        FileNotFoundError("canary"),
        TimeoutError("canary"),
        asyncpg.InterfaceError("canary"),
        asyncpg.InternalClientError("canary"),
        asyncpg.ClientConfigurationError("canary"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("on_lending", [True, False])
async def test_what_the_driver_meets_on_its_way_is_the_vault_unavailable(error: Exception, *, on_lending: bool) -> None:
    with pytest.raises(VaultUnavailable) as caught:
        await use(error, on_lending=on_lending)
    assert VaultUnavailable.sentence == caught.value.message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [VersionConflict(), RuntimeError("a mistake"), asyncio.CancelledError()], ids=lambda e: type(e).__name__
)
async def test_everything_else_goes_on_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        await use(error, on_lending=False)
    assert caught.value is error
