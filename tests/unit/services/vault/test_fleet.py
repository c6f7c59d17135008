import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from services.vault import fleet as module
from services.vault.cache import Cache
from services.vault.fleet import ACKNOWLEDGED, Alone, Fleet, Remembered, Sync
from services.vault.postgres import CHANGES
from services.vault.watchers import Watcher, Watchers

# Long beyond any test: time passes when a test says so.
LEASE = 1000.0
SHORT = 0.05


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Database:
    """What the vaults have in common: their rows, the orgs' generations, and the notifications."""

    clock: Clock
    vaults: dict[str, float] = field(default_factory=dict)
    rows: dict[str, tuple[list[str], str]] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    connections: list["Connection"] = field(default_factory=list)
    # Every statement as it comes, and what is said by NOTIFY.
    statements: list[str] = field(default_factory=list)
    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    away: bool = False
    # What happens before a statement is done: it may wait, raise, or change something.
    before: Callable[[str], Awaitable[None]] | None = None

    async def connect(self) -> Any:
        if self.away:
            raise ConnectionRefusedError
        self.connections.append(Connection(self))
        return self.connections[-1]

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator["Connection"]:  # noqa: ASYNC109 - as asyncpg has it
        assert timeout > 0
        if self.away:
            raise ConnectionRefusedError
        yield Connection(self)

    async def done(self, statement: str) -> None:
        self.statements.append(statement)
        if self.before is not None:
            await self.before(statement)
        if self.away:
            raise asyncpg.ConnectionDoesNotExistError

    def notify(self, channel: str, payload: str) -> None:
        """Tell all who listen, in the loop's next turn, as asyncpg does."""
        for connection in self.connections:
            if channel in connection.listeners:
                asyncio.get_running_loop().call_soon(connection.listeners[channel], connection, 1, channel, payload)

    def change(self, org_id: str, generation: int, by: str = "other", **more: Any) -> None:
        """A change is committed, and told."""
        self.generations[org_id] = generation
        self.notify(CHANGES, json.dumps({"org": org_id, "generation": generation, "vault": by, **more}))

    def acknowledge(self, vault: str, *orgs: tuple[str, int]) -> None:
        self.notify(ACKNOWLEDGED, json.dumps({"vault": vault, "orgs": orgs}))

    def cut(self) -> None:
        """Every connection that listens is lost."""
        connections, self.connections = self.connections, []
        for connection in connections:
            connection.lose()

    @property
    def acknowledged(self) -> list[tuple[str, int]]:
        """What vaults have said that they dropped."""
        return [
            (org_id, generation)
            for what, said in self.said
            if what == ACKNOWLEDGED
            for org_id, generation in said["orgs"]
        ]


class Connection:
    """As much of asyncpg's as the fleet needs."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.listeners: dict[str, Callable[..., None]] = {}
        self.on_end: list[Callable[[Any], None]] = []
        self.closed = False

    def add_termination_listener(self, callback: Callable[[Any], None]) -> None:
        self.on_end.append(callback)

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        await self.database.done(f"LISTEN {channel}")
        self.listeners[channel] = callback

    async def execute(self, statement: str, *arguments: Any) -> None:
        match statement.partition(" ")[0], arguments:
            case "INSERT", (vault_id, master_keys, wrapping):
                await self.done("beat")
                self.database.rows.setdefault(vault_id, (master_keys, wrapping))
                self.database.vaults[vault_id] = self.database.clock.now
            case "DELETE", (vault_id,):
                await self.done("leave")
                self.database.vaults.pop(vault_id, None)
            case _, (channel, payload):
                await self.done(f"NOTIFY {channel}")
                self.database.said.append((channel, json.loads(payload)))
                assert len(payload) < 8000
                self.database.notify(channel, payload)

    async def fetch(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        if "generations_of" in statement:
            await self.done("generations")
            [orgs] = arguments
            known = self.database.generations
            return [{"org_id": org_id, "generation": known[org_id]} for org_id in orgs if org_id in known]
        await self.done("others")
        this, lease = arguments
        alive = self.database.clock.now - lease
        seen = self.database.vaults.items()
        return [{"vault_id": vault_id} for vault_id, seen_at in seen if vault_id != this and seen_at > alive]

    async def done(self, statement: str) -> None:
        await self.database.done(statement)
        if self.closed:
            raise asyncpg.ConnectionDoesNotExistError

    def lose(self) -> None:
        self.closed = True
        self.listeners.clear()
        for callback in self.on_end:
            asyncio.get_running_loop().call_soon(callback, self)

    def terminate(self) -> None:
        self.closed = True
        self.listeners.clear()
        if self in self.database.connections:
            self.database.connections.remove(self)


@dataclass(frozen=True)
class Thing:
    org_id: str
    text: str
    generation: int = 1
    absent: bool = False
    away: bool = False


class Keys:
    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.forgotten_all = 0

    def forget(self, org_id: str) -> None:
        self.forgotten.append(org_id)

    def forget_all(self) -> None:
        self.forgotten_all += 1


class Vault:
    """A vault's memory, and its place in the fleet."""

    def __init__(self, database: Database, vault_id: str = "this", lease: float = LEASE) -> None:
        self.database = database
        self.clock = database.clock
        self.sync = Sync()
        self.cache: Cache[Thing] = Cache(freshness=self.sync, timer=self.clock)
        self.directory: Cache[Thing] = Cache(owned=False, freshness=self.sync, timer=self.clock)
        self.keys, self.watchers = Keys(), Watchers()
        pool: Any = database
        self.fleet = Fleet(
            connect=database.connect,
            pool=pool,
            sync=self.sync,
            remembered=Remembered((self.cache, self.directory), self.keys, self.watchers),
            vault_id=vault_id,
            master_keys=["new", "old"],
            lease_seconds=lease,
            timer=self.clock,
        )

    @property
    def fresh(self) -> bool:
        return self.clock.now < self.sync.fresh_until

    def remember(self, org_id: str, text: str = "v", generation: int = 1) -> None:
        self.cache.keep((org_id, "vapi"), Thing(org_id, text, generation), self.cache.asked)
        self.directory.keep(("kind", org_id), Thing(org_id, text, generation), self.directory.asked)

    @property
    def remembers(self) -> set[str]:
        return set(self.cache.generations()) | set(self.directory.generations())


@pytest.fixture
def database() -> Database:
    return Database(Clock())


@pytest.fixture
def vault(database: Database) -> Vault:
    return Vault(database)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_RETRY", 0)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    caplog.set_level(logging.INFO, logger="services.vault.fleet")
    return lambda: [(record.levelname, record.message) for record in caplog.records]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def hearing(*vaults: Vault) -> AsyncIterator[None]:
    """The vaults hear each other while the body runs; it is for ever that they do."""
    tasks = [asyncio.create_task(vault.fleet.run()) for vault in vaults]
    try:
        await until(lambda: all(vault.fresh for vault in vaults))
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def told(watcher: Watcher) -> tuple[dict[str, int], bool]:
    answer = await watcher.next(0)
    assert answer is not None
    return answer


HEARING = ("INFO", "hearing the other vaults")
LOST = ("WARNING", "other vaults cannot be heard: reading everything anew")


# Being fresh


def test_a_process_that_never_heard_is_not_fresh_and_stays_so() -> None:
    sync = Sync()
    assert not sync.synced_at > float("-inf")
    sync.lose()
    assert not sync.fresh_until > float("-inf")


def test_a_lease_counts_from_when_all_was_known_and_ends_at_once_when_it_is_lost() -> None:
    sync = Sync(away=True)
    sync.renew(100.0, 2.0)
    assert (100.0, 102.0, False) == (sync.synced_at, sync.fresh_until, sync.away)
    sync.lose()
    assert (100.0, 100.0) == (sync.synced_at, sync.fresh_until)
    sync.lose()
    assert (100.0, 100.0) == (sync.synced_at, sync.fresh_until)
    sync.renew(101.0, 2.0)
    assert (101.0, 103.0) == (sync.synced_at, sync.fresh_until)


async def test_a_vault_is_fresh_when_it_listens_and_says_that_it_lives(
    vault: Vault, database: Database, logged: Callable[[], list[tuple[str, str]]]
) -> None:
    assert not vault.fresh
    async with hearing(vault):
        assert {"this": 5000.0} == database.vaults
        assert {"this": (["new", "old"], "new")} == database.rows
        assert (5000.0, 5000.0 + LEASE, False) == (vault.sync.synced_at, vault.sync.fresh_until, vault.sync.away)
        assert [HEARING] == logged()
    assert not vault.fresh
    assert [] == database.connections


async def test_first_it_listens_then_it_looks_then_it_distrusts_then_it_looks_again(
    vault: Vault, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    miss = Remembered.miss

    def noted(remembered: Remembered) -> None:
        database.statements.append("distrust")
        miss(remembered)

    monkeypatch.setattr(Remembered, "miss", noted)
    fresh: list[bool] = []

    async def look(_: str) -> None:
        fresh.append(vault.fresh)

    database.before = look
    async with hearing(vault):
        assert [
            f"LISTEN {CHANGES}",
            f"LISTEN {ACKNOWLEDGED}",
            "beat",
            "generations",
            "distrust",
            "beat",
            "generations",
        ] == database.statements
        assert not any(fresh)


STEPS = 6
ORDERS = [
    (begins, changes, arrives)
    for begins in range(STEPS + 1)
    for changes in range(begins, STEPS + 1)
    for arrives in range(changes, STEPS + 1)
]


@dataclass
class Overtaken:
    """A read, a change, and what was read before it arrives: each before a statement with which a vault begins to
    listen, or after all of them."""

    vault: Vault
    cache: Cache[Thing]
    key: tuple[str, str]
    order: tuple[int, int, int]
    step: int = 0
    arrival: "asyncio.Future[Thing]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    reader: "asyncio.Task[tuple[Thing, bool]] | None" = None

    async def load(self) -> Thing:
        return await self.arrival

    async def happen(self, statement: str = "") -> None:
        if statement == f"NOTIFY {ACKNOWLEDGED}":
            return
        begins, changes, arrives = self.order
        if self.step == begins:
            self.reader = asyncio.create_task(self.cache.get(self.key, self.load))
            await settle()
        if self.step == changes:
            self.vault.database.change("acme", 2)
            await settle()
        if self.step == arrives:
            self.arrival.set_result(Thing("acme", "old"))
            await settle()
        self.step += 1


@pytest.mark.parametrize("owned", [True, False])
async def test_what_was_read_before_a_change_is_not_served_after_it_whenever_the_vault_began_to_listen(
    *, owned: bool
) -> None:
    async def load_again() -> Thing:
        return Thing("acme", "new", 2)

    for order in ORDERS:
        vault = Vault(Database(Clock(), generations={"acme": 1}))
        cache, key = (vault.cache, ("acme", "vapi")) if owned else (vault.directory, ("kind", "acme"))
        overtaken = Overtaken(vault, cache, key, order)
        vault.database.before = overtaken.happen
        async with hearing(vault):
            vault.database.before = None
            assert STEPS == overtaken.step
            await overtaken.happen()
            assert overtaken.reader is not None
            assert (Thing("acme", "old"), False) == await overtaken.reader
            assert (Thing("acme", "new", 2), False) == await cache.get(key, load_again), order
            assert (Thing("acme", "new", 2), False) == await cache.get(key, overtaken.load), order


async def test_while_a_vault_is_alone_and_well_it_renews_its_lease_and_says_that_it_lives(
    vault: Vault, database: Database
) -> None:
    async with hearing(vault):
        for _ in range(5):
            database.clock.now += LEASE / 4
            # Anything wakes it; it looks at the time then.
            database.change("acme", 1)
            await until(lambda: vault.sync.synced_at == database.clock.now)
            assert database.clock.now == database.vaults["this"]
            assert vault.sync.fresh_until == database.clock.now + LEASE


async def test_a_lease_is_renewed_by_itself(database: Database) -> None:
    vault = Vault(database, lease=SHORT)
    async with hearing(vault):
        beats = database.statements.count("beat")
        await until(lambda: database.statements.count("beat") > beats + 3)
        await until(lambda: vault.fresh)


async def test_a_lease_is_of_the_moment_before_the_database_was_asked(vault: Vault, database: Database) -> None:
    async def slow(statement: str) -> None:
        if statement in {"beat", "generations"}:
            database.clock.now += 10

    database.before = slow
    async with hearing(vault):
        # Two looks of two statements: the lease is of the second look's beginning.
        assert (5020.0, 5040.0) == (vault.sync.synced_at, database.clock.now)


async def test_what_moved_on_unheard_is_dropped_when_it_is_looked_for(vault: Vault, database: Database) -> None:
    async with hearing(vault):
        for org_id in ("acme", "globex", "initech"):
            vault.remember(org_id, generation=3)
        # An org that nobody knows, one that is as it was, and one that has moved on.
        database.generations.update(globex=3, initech=4)
        database.clock.now += LEASE / 4
        with vault.watchers.watching() as watcher:
            database.change("hooli", 1)
            await until(lambda: vault.sync.synced_at == database.clock.now)
            assert {"acme", "globex"} == vault.remembers
            assert ({"hooli": 1, "initech": 4}, False) == await told(watcher)
            # It may have been shredded.
            assert ["initech"] == vault.keys.forgotten


# Changes elsewhere


async def test_a_change_elsewhere_is_dropped_told_and_acknowledged(vault: Vault, database: Database) -> None:
    async with hearing(vault):
        vault.remember("acme")
        vault.remember("globex")
        with vault.watchers.watching() as watcher:
            database.change("acme", 2)
            await until(lambda: bool(database.said))
            assert [(ACKNOWLEDGED, {"vault": "this", "orgs": [["acme", 2]]})] == database.said
            assert {"globex"} == vault.remembers
            assert ({"acme": 2}, False) == await told(watcher)
            assert [] == vault.keys.forgotten
        assert vault.fresh


async def test_a_change_of_its_own_is_dropped_and_told_and_not_acknowledged(vault: Vault, database: Database) -> None:
    async with hearing(vault):
        vault.remember("acme")
        with vault.watchers.watching() as watcher:
            database.change("acme", 2, by="this")
            database.change("globex", 1)
            await until(lambda: bool(database.said))
            assert [("globex", 1)] == database.acknowledged
            assert set() == vault.remembers
            assert ({"acme": 2, "globex": 1}, False) == await told(watcher)


async def test_what_was_read_since_a_change_of_its_own_returned_stays(vault: Vault, database: Database) -> None:
    async with hearing(vault):
        await vault.fleet.settled("acme", 2)
        vault.remember("acme")
        vault.remember("globex")
        database.change("acme", 2, by="this")
        # Of this one it never learned whether it came about.
        database.change("globex", 2, by="this")
        database.change("other", 1)
        await until(lambda: bool(database.said))
        assert {"acme"} == vault.remembers
        database.change("acme", 3, by="this")
        await until(lambda: set() == vault.remembers)


@pytest.mark.parametrize("by", ["this", "other"])
async def test_the_keys_of_an_org_that_is_gone_are_dropped(vault: Vault, database: Database, by: str) -> None:
    async with hearing(vault):
        database.change("acme", 2, by=by, gone=True)
        database.change("globex", 2, by=by, gone=False)
        await until(lambda: ["acme"] == vault.keys.forgotten)


async def test_many_changes_are_acknowledged_in_payloads_that_a_notification_can_hold(
    vault: Vault, database: Database
) -> None:
    orgs = [(f"{number:03}".rjust(63, "a"), 2**62 + number) for number in range(120)]
    async with hearing(vault):
        for org_id, generation in orgs:
            database.change(org_id, generation)
        await until(lambda: orgs == database.acknowledged)
    assert [50, 50, 20] == [len(said["orgs"]) for _, said in database.said]


async def test_an_acknowledgement_that_cannot_be_sent_loses_the_connection_and_nothing_else(
    vault: Vault, database: Database
) -> None:
    fails = True

    async def fail_once(statement: str) -> None:
        nonlocal fails
        if statement == f"NOTIFY {ACKNOWLEDGED}" and fails:
            fails = False
            raise asyncpg.ConnectionDoesNotExistError

    database.before = fail_once
    async with hearing(vault):
        database.change("acme", 2)
        await until(lambda: not fails)
        await until(lambda: vault.fresh)
        database.change("globex", 1)
        await until(lambda: [("globex", 1)] == database.acknowledged)


MALFORMED = [
    "",
    "canary",
    "null",
    "true",
    "7",
    '"acme"',
    "[]",
    '["acme", 2]',
    "{",
    "[" * 7999,
    "1" * 7999,
    "{}",
    '{"org": "acme"}',
    '{"generation": 2}',
    '{"org": null, "generation": 2}',
    '{"org": 7, "generation": 2}',
    '{"org": ["acme"], "generation": 2}',
    '{"org": "acme", "generation": "2"}',
    '{"org": "acme", "generation": 2.5}',
    '{"org": "acme", "generation": null}',
    '{"org": "acme", "generation": -1}',
    f'{{"org": "acme", "generation": {2**63}}}',
    '{"org": "", "generation": 2}',
    '{"org": "ACME", "generation": 2}',
    '{"org": "acme\\n", "generation": 2}',
    '{"org": "\\ud800", "generation": 2}',
    f'{{"org": "{"a" * 7900}", "generation": 2}}',
    '{"vault": "other"}',
    '{"vault": "other", "orgs": null}',
    '{"vault": "other", "orgs": "acme"}',
    '{"vault": "other", "orgs": {"acme": 2}}',
    '{"vault": "other", "orgs": [null, 7, "ab", [], ["acme"], ["acme", 2, 3], ["acme", "2"], [2, "acme"]]}',
    f'{{"vault": "other", "orgs": [["acme", {2**63}], ["acme", -2], ["ACME", 2]]}}',
    '{"vault": 7, "orgs": [["acme", 2]]}',
    '{"orgs": [["acme", 2]]}',
    '{"vault": "this", "orgs": [["acme", 2]]}',
]


@pytest.mark.parametrize("payload", MALFORMED, ids=lambda payload: payload[:40] or "empty")
async def test_what_is_none_of_ours_does_nothing(vault: Vault, database: Database, payload: str) -> None:
    """Anybody who may use the database may notify."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with hearing(vault):
        vault.remember("acme")
        for channel in (CHANGES, ACKNOWLEDGED):
            database.notify(channel, payload)
        await settle()
        assert {"acme"} == vault.remembers
        assert ([], {}) == (database.said, dict(vault.fleet._acknowledged))
        assert vault.fresh
    assert [] == complaints


# Waiting for the others


async def test_a_change_waits_for_nobody_when_nobody_else_is_there(vault: Vault, database: Database) -> None:
    async with hearing(vault):
        database.vaults["silent for long"] = database.clock.now - LEASE
        await vault.fleet.settled("acme", 2)
    assert "others" in database.statements


async def test_a_change_waits_until_every_other_vault_has_dropped_what_was_before_it(
    vault: Vault, database: Database
) -> None:
    database.vaults.update(one=database.clock.now, two=database.clock.now)
    async with hearing(vault):
        waiting = asyncio.create_task(vault.fleet.settled("acme", 5))
        for by, org_id, generation in (
            ("one", "acme", 5),
            ("two", "globex", 5),
            ("two", "acme", 4),
            ("three", "acme", 5),
            ("this", "acme", 5),
        ):
            await settle()
            database.acknowledge(by, (org_id, generation))
            await settle()
            assert not waiting.done()
        database.acknowledge("two", ("globex", 9), ("acme", 6))
        await waiting


async def test_an_acknowledgement_that_comes_first_counts_and_an_older_one_does_not_take_it_back(
    vault: Vault, database: Database
) -> None:
    database.vaults["one"] = database.clock.now
    async with hearing(vault):
        for generation in (5, 3):
            database.acknowledge("one", ("acme", generation))
        await settle()
        await vault.fleet.settled("acme", 5)


async def test_what_was_acknowledged_is_not_remembered_for_ever(vault: Vault, database: Database) -> None:
    async with hearing(vault):
        database.acknowledge("one", ("acme", 5))
        await settle()
        assert 1 == len(vault.fleet._acknowledged)
        database.clock.now += 61
        assert 0 == len(vault.fleet._acknowledged)


async def test_a_vault_that_is_silent_is_waited_for_until_its_lease_has_ended(
    vault: Vault, database: Database, logged: Callable[[], list[tuple[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    database.vaults.update(one=database.clock.now, two=database.clock.now)
    async with hearing(vault):
        waiting = asyncio.create_task(vault.fleet.settled("acme", 5))
        await settle()
        database.clock.now += LEASE - 1
        database.acknowledge("one", ("acme", 5))
        await settle()
        assert not waiting.done()
        database.clock.now += 1
        # Anything that is heard makes it look at the time.
        database.acknowledge("three", ("globex", 1))
        await waiting
    assert ("WARNING", "a change was not acknowledged in time") in logged()
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert ("acme", 1) == (vars(record)["org"], vars(record)["vaults"])


async def test_the_lease_of_a_silent_vault_ends_by_itself(database: Database) -> None:
    vault = Vault(database, lease=SHORT)
    vault.fleet._timer = asyncio.get_running_loop().time
    database.vaults["one"] = database.clock.now
    began = asyncio.get_running_loop().time()
    await vault.fleet.settled("acme", 5)
    assert asyncio.get_running_loop().time() - began >= SHORT
    # It was reminded once, in vain.
    assert [(CHANGES, {"org": "acme", "generation": 5, "vault": "this"})] == database.said


async def test_a_vault_that_did_not_hear_is_told_once_more_long_before_its_lease_ends(
    vault: Vault, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BEATS", 10_000)
    database.vaults["one"] = database.clock.now

    async def answer(statement: str) -> None:
        if statement == f"NOTIFY {CHANGES}":
            vault.fleet._hear_acknowledgement(None, 1, ACKNOWLEDGED, '{"vault": "one", "orgs": [["acme", 5]]}')

    database.before = answer
    await vault.fleet.settled("acme", 5)
    assert [(CHANGES, {"org": "acme", "generation": 5, "vault": "this"})] == database.said


async def test_when_the_database_is_away_whoever_there_may_be_is_waited_for(
    database: Database, logged: Callable[[], list[tuple[str, str]]]
) -> None:
    vault = Vault(database, lease=SHORT)
    vault.fleet._timer = asyncio.get_running_loop().time
    database.away = True
    began = asyncio.get_running_loop().time()
    await vault.fleet.settled("acme", 5)
    assert asyncio.get_running_loop().time() - began >= SHORT
    assert [
        ("INFO", "the database is away: the lease of whoever did not hear ends by itself"),
        ("WARNING", "a change was not acknowledged in time"),
    ] == logged()


async def test_two_vaults_settle_each_others_changes(database: Database) -> None:
    one, other = Vault(database, "one"), Vault(database, "other")
    async with hearing(one, other):
        for vault in (one, other):
            vault.remember("acme")
        database.change("acme", 2, by="one")
        database.change("globex", 7, by="other")
        await asyncio.gather(one.fleet.settled("acme", 2), other.fleet.settled("globex", 7))
        assert (set(), set()) == (one.remembers, other.remembers)


async def test_a_vault_that_is_alone_waits_for_nobody() -> None:
    await Alone().settled("acme", 1)


# Losing the others, and finding them again


async def test_a_lost_connection_ends_the_lease_before_anything_else_is_served(
    vault: Vault, database: Database
) -> None:
    async with hearing(vault):
        [connection] = database.connections
        [end] = connection.on_end
        end(connection)
        assert not vault.fresh
        await until(lambda: vault.fresh)
        assert connection.closed
        assert 1 == len(database.connections)


async def test_a_connection_that_is_lost_while_it_is_asked_gives_no_lease(vault: Vault, database: Database) -> None:
    """What comes back at the same moment as the end is not enough: nothing is heard any more."""
    fresh: list[bool] = []

    async def cut(statement: str) -> None:
        fresh.append(vault.fresh)
        if statement == "generations" and database.statements.count("generations") == 3:
            for connection in database.connections:
                for end in connection.on_end:
                    end(connection)

    database.before = cut
    async with hearing(vault):
        fresh.clear()
        database.clock.now += LEASE / 4
        database.change("acme", 2)
        await until(lambda: database.statements.count(f"LISTEN {CHANGES}") == 2 and vault.fresh)
    # From the cut on until it listened anew.
    assert [True, True, *[False] * STEPS] == fresh[-STEPS - 2 :]


async def test_after_a_gap_what_moved_on_is_dropped_and_those_who_watch_are_told(
    vault: Vault, database: Database
) -> None:
    async with hearing(vault):
        vault.remember("acme")
        vault.remember("globex")
        database.generations.update(acme=1, globex=1)
        asked = vault.cache.asked
        with vault.watchers.watching() as watcher:
            database.cut()
            database.generations["acme"] = 2
            await until(lambda: not vault.fresh)
            await until(lambda: vault.fresh)
            assert {"globex"} == vault.remembers
            assert ({}, True) == await told(watcher)
        # What is still on its way was perhaps read before a change that was not heard of.
        vault.cache.keep(("initech", "vapi"), Thing("initech", "old"), asked)
        assert {"globex"} == vault.remembers


async def test_after_a_gap_no_key_is_kept_for_any_org_may_have_been_shredded(vault: Vault, database: Database) -> None:
    async with hearing(vault):
        vault.keys.forgotten_all = 0
        database.change("acme", 2)
        await until(lambda: bool(database.said))
        assert 0 == vault.keys.forgotten_all
        database.cut()
        await until(lambda: not vault.fresh)
        await until(lambda: vault.fresh)
        assert 1 == vault.keys.forgotten_all


async def test_a_database_that_is_away_is_told_of_once_and_tried_again(
    vault: Vault, database: Database, logged: Callable[[], list[tuple[str, str]]]
) -> None:
    attempts = 0
    connect = database.connect

    async def counted() -> Any:
        nonlocal attempts
        attempts += 1
        return await connect()

    vault.fleet._connect = counted
    for expected in ([LOST, HEARING], [LOST, HEARING, LOST, HEARING]):
        database.away = True
        running = asyncio.create_task(vault.fleet.run())
        before = attempts
        await until(lambda before=before: attempts > before + 3)  # type: ignore[misc]  # bound at once
        assert (True, False) == (vault.sync.away, vault.fresh)
        database.away = False
        await until(lambda: vault.fresh)
        assert (False, True) == (vault.sync.away, vault.fresh)
        assert expected == logged()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_database_that_was_just_heard_counts_as_away_when_it_cannot_be_heard_again(
    vault: Vault, database: Database
) -> None:
    away: list[bool] = []
    connect = database.connect

    async def noted() -> Any:
        away.append(vault.sync.away)
        return await connect()

    vault.fleet._connect = noted
    async with hearing(vault):
        database.away = True
        database.clock.now += LEASE / 4
        database.change("acme", 1)
        await until(lambda: len(away) > 3)
        # Only the second refusal says so: a vault that stood still has lost its connection by its own doing.
        assert [False, False, True, True] == away[:4]
        database.away = False
        await until(lambda: vault.fresh)


async def test_it_is_tried_again_at_once_and_then_less_often(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 8:
            raise asyncio.CancelledError

    async def connect() -> Any:
        if len(naps) == 6:
            # Heard, and lost at once.
            vault.fleet._hearing = True
        raise ConnectionRefusedError

    monkeypatch.setattr(module, "_FIRST_RETRY", 0.05)
    monkeypatch.setattr(asyncio, "sleep", nap)
    vault.fleet._connect = connect
    with pytest.raises(asyncio.CancelledError):
        await vault.fleet.run()
    assert [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 0.05, 0.1] == naps


async def test_a_schema_that_is_not_there_yet_is_told_of_once_and_waited_for(
    vault: Vault, database: Database, logged: Callable[[], list[tuple[str, str]]]
) -> None:
    attempts = 0

    async def not_migrated(statement: str) -> None:
        nonlocal attempts
        if statement == "beat" and attempts < 5:
            attempts += 1
            raise asyncpg.UndefinedTableError('relation "vaults" does not exist')

    database.before = not_migrated
    async with hearing(vault):
        assert [("ERROR", LOST[1]), HEARING] == logged()
        assert 1 == len(database.connections)
        assert not vault.sync.away


async def test_a_database_that_does_not_answer_is_lost_within_half_a_lease(database: Database) -> None:
    vault = Vault(database, lease=SHORT)
    hangs = False

    async def hanging(_: str) -> None:
        if hangs:
            await asyncio.Event().wait()

    database.before = hanging
    async with hearing(vault):
        hangs = True
        await until(lambda: not vault.fresh)
        hangs = False
        await until(lambda: vault.fresh)


# Leaving


async def test_a_vault_that_leaves_is_not_waited_for(vault: Vault, database: Database) -> None:
    other = Vault(database, "other")
    async with hearing(other):
        async with vault.fleet.joined():
            await until(lambda: vault.fresh)
            assert {"this", "other"} == database.vaults.keys()
        assert {"other"} == database.vaults.keys()
        assert not vault.fresh
        await other.fleet.settled("acme", 1)


async def test_a_vault_that_leaves_says_so_after_it_last_said_that_it_lives(vault: Vault, database: Database) -> None:
    async with vault.fleet.joined():
        await until(lambda: vault.fresh)

        async def beat_meanwhile(statement: str) -> None:
            if statement == "leave":
                # What would keep it alive, were it still running.
                database.clock.now += LEASE / 4
                database.change("acme", 2)
                await settle()

        database.before = beat_meanwhile
    assert {} == database.vaults
    assert "leave" == database.statements[-1]


async def test_a_vault_leaves_though_what_it_did_failed(vault: Vault, database: Database) -> None:
    async def body() -> None:
        async with vault.fleet.joined():
            await until(lambda: vault.fresh)
            raise ValueError("the body's own")

    with pytest.raises(ValueError, match="the body's own"):
        await body()
    assert {} == database.vaults


@pytest.mark.parametrize("error", [ConnectionResetError(), asyncpg.UndefinedTableError("vaults")], ids=repr)
async def test_a_vault_that_cannot_say_that_it_leaves_leaves_all_the_same(
    vault: Vault, database: Database, error: Exception, logged: Callable[[], list[tuple[str, str]]]
) -> None:
    async def fail(_: str) -> None:
        raise error

    vault.sync.renew(database.clock.now, LEASE)
    database.before = fail
    await vault.fleet.leave()
    assert [("INFO", "the other vaults notice by themselves that this one has left")] == logged()
    assert not vault.fresh


# What is remembered


def test_what_is_remembered_is_all_that_the_caches_have() -> None:
    vault = Vault(Database(Clock()))
    remembered = vault.fleet._remembered
    vault.cache.keep(("acme", "vapi"), Thing("acme", "v", 4), vault.cache.asked)
    vault.directory.keep(("kind", "a"), Thing("acme", "v", 3), vault.directory.asked)
    vault.directory.keep(("kind", "g"), Thing("globex", "v", 9), vault.directory.asked)
    assert {"acme": 3, "globex": 9} == remembered.generations()
    remembered.forget("acme")
    assert {"globex": 9} == remembered.generations()
    assert {"globex"} == vault.remembers
