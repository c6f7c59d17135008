"""Which of the driver's errors say that the database is away; what the store does is in the exam."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from asyncpg.connect_utils import SessionAttribute

from services.vault import database
from services.vault.database import connection, in_org
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
        # No host takes writes.
        asyncpg.TargetServerAttributeNotMatched("canary"),
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


class Lent:
    """A connection that notes what is done with it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self.done.append("begin")
        try:
            yield
        except BaseException:
            self.done.append("rollback")
            raise
        self.done.append("commit")

    async def execute(self, statement: str, *arguments: object) -> None:
        self.done.append(f"{statement} {arguments}")


class Lending:
    def __init__(self) -> None:
        self.lent = Lent()

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[Lent]:  # noqa: ASYNC109 - as asyncpg has it
        assert database.ACQUIRE_SECONDS == timeout
        yield self.lent


ENTERED = "SELECT set_config('tenantvault.org_id', $1, true) ('acme',)"


async def test_an_orgs_context_is_that_of_one_transaction() -> None:
    pool: Any = Lending()
    async with in_org(pool, "acme") as db:
        await db.execute("SELECT")
    assert ["begin", ENTERED, "SELECT ()", "commit"] == pool.lent.done


@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError("a mistake"), ValueError), (ConnectionResetError(), VaultUnavailable)]
)
async def test_a_transaction_that_fails_leaves_nothing_behind(error: Exception, raised: type[Exception]) -> None:
    pool: Any = Lending()
    with pytest.raises(raised):
        async with in_org(pool, "acme"):
            raise error
    assert ["begin", ENTERED, "rollback"] == pool.lent.done


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the driver is called with."""
    given: dict[str, Any] = {}

    def create_pool(url: str, **arguments: Any) -> None:
        given.update(arguments, url=url)

    async def connect(url: str, **arguments: Any) -> None:
        create_pool(url, **arguments)

    monkeypatch.setattr(asyncpg, "create_pool", create_pool)
    monkeypatch.setattr(asyncpg, "connect", connect)
    return given


async def test_a_pool_connects_when_it_is_used_and_looks_where_it_should(given: dict[str, Any]) -> None:
    database.open_pool("postgresql:///vault", connections=7)
    assert ("postgresql:///vault", 0, 7) == (given["url"], given["min_size"], given["max_size"])
    assert (database.ACQUIRE_SECONDS, database.STATEMENT_SECONDS) == (given["timeout"], given["command_timeout"])
    # No schema that somebody else could put in front.
    assert "public, pg_temp" == given["server_settings"]["search_path"]
    assert f"{database.IDLE_SECONDS * 1000:g}" == given["server_settings"]["idle_in_transaction_session_timeout"]
    # A connection that comes back is not asked anything: that would be a round trip of every read.
    lent = Lent()
    await given["reset"](lent)
    assert [] == lent.done


async def test_what_listens_is_bounded_like_what_reads(given: dict[str, Any]) -> None:
    await database.listen("postgresql:///vault")
    assert "postgresql:///vault" == given["url"]
    assert (database.ACQUIRE_SECONDS, database.STATEMENT_SECONDS) == (given["timeout"], given["command_timeout"])
    assert "public, pg_temp" == given["server_settings"]["search_path"]


async def test_of_several_hosts_only_the_one_that_takes_writes_is_spoken_to(given: dict[str, Any]) -> None:
    database.open_pool("postgresql://one,two/vault")
    assert SessionAttribute.read_write is given.pop("target_session_attrs")
    await database.listen("postgresql://one,two/vault")
    assert SessionAttribute.read_write is given.pop("target_session_attrs")
