"""Several vaults on one store, and every order in which what they do can happen, against a model of the truth.

Each call of the store waits at a gate before and after; the machine opens the gates in any order. Messages between the
vaults are delivered when the machine says so, vaults lose each other and find each other again, the database is away
and comes back, time passes. What must hold: a read gives what was current at some moment between its beginning and its
end, where a change counts as in force from the moment that its call has returned; only when the answer says that it may
be stale may it be older, and then not by more than was allowed.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from services.vault.cache import Cache
from services.vault.credential import OrgState, Origin, Plaintext, Stored
from services.vault.envelope import Envelope
from services.vault.keeper import Change, Decide, Held, Keeper
from services.vault.keyring import Keyring
from services.vault.local_key import LocalKey
from services.vault.reader import Reader
from services.vault.seal import Unreadable
from tenantvault.errors import CredentialNotFound, OrgFrozen, TenantVaultError, VaultUnavailable

ORIGIN = Origin("provider")
PROVIDERS = ("vapi", "twilio")
VAULTS = st.sampled_from([0, 1])
PROVIDER = st.sampled_from(PROVIDERS)
WAITS = st.booleans()
BOUND = 60.0


class NoLog:
    def write(self, origin: Origin, action: str, reads: Sequence[tuple[str, str, int]], *, outcome: str = "ok") -> None:
        assert "ok" == outcome, "nobody changed a row by SQL"


calling: ContextVar[int] = ContextVar("calling", default=0)
"""Which call of the machine's it is that reaches the store."""

gated: ContextVar[bool] = ContextVar("gated", default=True)
"""Whether that call waits at the gates."""


@dataclass
class Truth:
    """What could be read from a generation on: a version, or 0 for nothing. When its call returned, it is in force."""

    generation: int
    version: int
    in_force: float = float("inf")
    in_force_at: float = float("inf")


@dataclass
class Calling:
    """A call under way."""

    task: "asyncio.Task[Any]"
    check: Callable[[Any], None]


class GatedStore:
    """A store whose calls wait at gates, and may find the database away. It knows what became of each change."""

    def __init__(self, world: "World", store: Any) -> None:
        self._world = world
        self._store = store

    async def read(self, keys: Sequence[tuple[str, str]], *, newest: bool = False) -> Sequence[Stored | None]:
        found: Sequence[Stored | None] = await self._passing(lambda: self._store.read(keys, newest=newest))
        return found

    async def integrations(self, org_id: str) -> Any:
        return await self._passing(lambda: self._store.integrations(org_id))

    async def change(self, org_id: str, decide: Decide, origin: Origin, **where: Any) -> int | None:
        made: list[Change] = []

        async def noted(held: Held) -> Change | None:
            change = await decide(held)
            made[:] = [change] if change else []
            return change

        generation = await self._passing(
            lambda: self._store.change(org_id, noted, origin, **where), done=lambda: self._world.happened(made)
        )
        return generation if generation is None else int(generation)

    async def _passing(self, call: Callable[[], Awaitable[Any]], *, done: Callable[[], None] = lambda: None) -> Any:
        await self._world.gate()
        if self._world.away:
            raise VaultUnavailable
        self._world.in_store += 1
        try:
            result = await call()
            done()
        finally:
            self._world.in_store -= 1
        await self._world.gate()
        return result


@dataclass
class Ear:
    """A vault's place in the fleet: what it has heard, and what is on its way to it."""

    clock: Callable[[], float]
    hearing: bool = True
    lost_at: float = 0.0
    away: bool = False
    waiting: list[tuple[str, int]] = field(default_factory=list)
    heard: int = 0

    @property
    def synced_at(self) -> float:
        return self.clock() if self.hearing else self.lost_at

    @property
    def fresh_until(self) -> float:
        return float("inf") if self.hearing else self.lost_at


class OneVault:
    def __init__(self, world: "World", number: int, store: GatedStore, ring: Keyring) -> None:
        self.world = world
        self.number = number
        self.ear = Ear(world.clock)
        self.cache: Cache[Any] = Cache(
            ttl_seconds=300, absent_seconds=2, max_staleness=BOUND, freshness=self.ear, timer=world.clock
        )
        envelope = Envelope(ring)
        directory: Cache[Any] = Cache(owned=False, freshness=self.ear, timer=world.clock)
        self.reader = Reader(
            store=store,  # type: ignore[arg-type]  # nothing is resolved here
            envelope=envelope,
            credentials=self.cache,
            directory=directory,
            log=NoLog(),
            unreadable=Unreadable,
        )
        self.keeper = Keeper(
            store=store,
            envelope=envelope,
            vaults=self,
            forget=self.cache.forget,
            unreadable=Unreadable,
            overlap=timedelta(0),
        )

    async def settled(self, org_id: str, generation: int) -> None:
        """As the fleet does it: every other vault has heard of the change, or knows that it does not hear."""
        others = [vault.ear for vault in self.world.vaults if vault is not self]
        while any(ear.hearing and ear.heard < generation for ear in others):
            await self.world.something_heard.wait()


class World:
    def __init__(
        self, open_store: Callable[[], Coroutine[Any, Any, tuple[Any, Callable[[], Awaitable[None]]]]]
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.org = f"org-{uuid.uuid4().hex[:12]}"
        self.now = 1000.0
        self.tick = 0
        self.away = False
        self.in_store = 0
        self.gates: list[asyncio.Future[None]] = []
        self.something_heard = asyncio.Event()
        self.history: dict[str, list[Truth]] = {provider: [Truth(0, 0, 0, 0)] for provider in PROVIDERS}
        self.latest: dict[str, int] = dict.fromkeys(PROVIDERS, 0)
        self.made_by: dict[int, int] = {}
        self.vaults: list[OneVault] = []
        self.store, self.close_store = self.loop.run_until_complete(open_store())
        for provider in PROVIDERS:
            self.loop.run_until_complete(self.store.acquire_lease(self.org, provider, "worker", 3600))
        ring = Keyring([LocalKey("exam", bytes(32))])
        gated = GatedStore(self, self.store)
        self.vaults = [OneVault(self, number, gated, ring) for number in range(2)]

    def clock(self) -> float:
        return self.now

    def step(self) -> int:
        self.tick += 1
        return self.tick

    async def gate(self) -> None:
        if not gated.get():
            return
        gate = self.loop.create_future()
        self.gates.append(gate)
        await gate

    def happened(self, made: list[Change]) -> None:
        """A change was committed: what is readable from now on, and the messages about it."""
        for change in made:
            org = change.changed.org
            self.made_by[calling.get()] = org.generation
            for provider in PROVIDERS:
                pointer = org.pointers.get(provider)
                readable = pointer is not None and pointer.is_active and org.state is OrgState.ACTIVE
                self.latest[provider] = pointer.latest_version if pointer else 0
                self.history[provider].append(Truth(org.generation, pointer.version if pointer and readable else 0))
                self.history[provider].sort(key=lambda truth: truth.generation)
            for vault in self.vaults:
                if vault.ear.hearing:
                    vault.ear.waiting.append((org.org_id, org.generation))

    def run(self) -> None:
        """Go on until everything waits for a gate, a message or another call."""

        async def settle() -> None:
            quiet = 0
            while quiet < 25:
                await asyncio.sleep(0.0005 if self.in_store else 0)
                quiet = 0 if self.in_store else quiet + 1

        self.loop.run_until_complete(settle())


class Interleavings(RuleBasedStateMachine):
    """Subclassed with `open_store`, which opens a store on the machine's loop and gives what closes it."""

    open_store: Callable[[], Coroutine[Any, Any, tuple[Any, Callable[[], Awaitable[None]]]]]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(type(self).open_store)
        self.calls: list[Calling] = []
        self.number = 0
        self.changed = False

    @initialize()
    def connect(self) -> None:
        """Two versions of each, and both in both caches."""
        for provider in PROVIDERS:
            for _ in range(2):
                self.put(0, provider, waits=False)
                self.activate(0, provider, waits=False)
                self.hear(1)
        self.look()
        assert not self.calls

    def begin(self, call: Coroutine[Any, Any, Any], check: Callable[[int, Any], None], *, waits: bool) -> None:
        self.number += 1
        tokens = calling.set(self.number), gated.set(waits)
        task = self.world.loop.create_task(call)
        calling.reset(tokens[0])
        gated.reset(tokens[1])
        number = self.number
        self.calls.append(Calling(task, lambda result: check(number, result)))
        self.settle()

    def settle(self) -> None:
        self.world.run()
        for done in [each for each in self.calls if each.task.done()]:
            self.calls.remove(done)
            error = done.task.exception()
            assert error is None or isinstance(error, TenantVaultError), repr(error)
            done.check(error or done.task.result())
        if self.changed:
            # What has just come into force is what a vault that missed it would not know.
            self.changed = False
            self.look()

    def change(self, call: Coroutine[Any, Any, Any], *, waits: bool) -> None:
        """Begin a change. When it has returned, it is in force."""
        self.begin(call, self.returned, waits=waits)

    def returned(self, number: int, _: Any) -> None:
        world = self.world
        generation, tick = world.made_by.get(number), world.step()
        for history in world.history.values():
            for truth in history:
                if truth.generation == generation:
                    truth.in_force, truth.in_force_at = tick, world.now
        self.changed = True

    @rule()
    def look(self) -> None:
        """Read everything everywhere, at once."""
        for vault in range(len(self.world.vaults)):
            for provider in PROVIDERS:
                self.get(vault, provider, None, waits=False)

    @rule(vault=VAULTS, provider=PROVIDER, staleness=st.sampled_from([None, None, None, 0.0, 5.0]), waits=WAITS)
    def get(self, vault: int, provider: str, staleness: float | None, waits: bool) -> None:
        world = self.world
        begun, at = world.step(), world.now
        allowed = BOUND if staleness is None else min(staleness, BOUND)

        def check(_: int, result: Any) -> None:
            if isinstance(result, VaultUnavailable):
                return
            version, stale = 0, False
            if isinstance(result, Plaintext):
                version, stale = result.label.name.version, result.served_stale
                assert f"payload {provider} {version}".encode() == result.payload
            else:
                assert isinstance(result, (CredentialNotFound, OrgFrozen)), repr(result)
            history = world.history[provider]
            for place, truth in enumerate(history):
                later = history[place + 1 :]
                # It ended when any change behind it was in force.
                ended = min((other.in_force for other in later), default=float("inf"))
                ended_at = min((other.in_force_at for other in later), default=float("inf"))
                if truth.version == version and (ended >= begun or (stale and ended_at >= at - allowed)):
                    return
            raise AssertionError(f"{version} (stale: {stale}) was not current after {begun}: {history}")

        self.begin(
            world.vaults[vault].reader.get(world.org, provider, ORIGIN, max_staleness=staleness), check, waits=waits
        )

    @rule(vault=VAULTS, provider=PROVIDER, waits=WAITS)
    def put(self, vault: int, provider: str, waits: bool) -> None:
        world, expected = self.world, self.world.latest[provider]
        payload = f"payload {provider} {expected + 1}".encode()
        keeper = world.vaults[vault].keeper
        call = keeper.put(world.org, provider, payload, "", expected_version=expected, origin=ORIGIN)
        self.change(call, waits=waits)

    @rule(vault=VAULTS, provider=PROVIDER, waits=WAITS)
    def activate(self, vault: int, provider: str, waits: bool) -> None:
        world = self.world
        call = world.vaults[vault].keeper.activate(world.org, provider, world.latest[provider], [], ORIGIN)
        self.change(call, waits=waits)

    @rule(vault=VAULTS, provider=PROVIDER, waits=WAITS)
    def disconnect(self, vault: int, provider: str, waits: bool) -> None:
        self.change(self.world.vaults[vault].keeper.disconnect(self.world.org, provider, ORIGIN), waits=waits)

    @rule(vault=VAULTS, provider=PROVIDER, waits=WAITS)
    def reconnect(self, vault: int, provider: str, waits: bool) -> None:
        self.change(self.world.vaults[vault].keeper.reconnect(self.world.org, provider, ORIGIN), waits=waits)

    @rule(vault=VAULTS, provider=PROVIDER, back=st.integers(1, 2), waits=WAITS)
    def roll_back(self, vault: int, provider: str, back: int, waits: bool) -> None:
        world = self.world
        current = world.history[provider][-1].version
        if current > back:
            call = world.vaults[vault].keeper.roll_back(
                world.org, provider, current - back, expected_version=current, origin=ORIGIN
            )
            self.change(call, waits=waits)

    @rule(vault=VAULTS, provider=PROVIDER, waits=WAITS)
    def refresh(self, vault: int, provider: str, waits: bool) -> None:
        """The same value is sealed anew under the same version: nobody may be left with what was there before."""
        world = self.world
        version = world.history[provider][-1].version
        if version:
            call = world.vaults[vault].keeper.refresh(
                world.org,
                provider,
                f"payload {provider} {version}".encode(),
                version,
                may_replace=bytes.__eq__,
                lease_owner="worker",
                origin=ORIGIN,
            )
            self.change(call, waits=waits)

    @rule(vault=VAULTS, frozen=st.booleans(), waits=WAITS)
    def freeze(self, vault: int, frozen: bool, waits: bool) -> None:
        keeper = self.world.vaults[vault].keeper
        self.change((keeper.freeze if frozen else keeper.unfreeze)(self.world.org, ORIGIN), waits=waits)

    @rule(vault=VAULTS, waits=WAITS)
    def rotate_key(self, vault: int, waits: bool) -> None:
        self.change(self.world.vaults[vault].keeper.rotate_key(self.world.org, ORIGIN), waits=waits)

    @precondition(lambda self: self.world.gates)
    @rule(data=st.data(), number=st.integers(1, 6))
    def open_gates(self, data: st.DataObject, number: int) -> None:
        """What waits goes on, one after the other, in any order."""
        for _ in range(number):
            if self.world.gates:
                gate = self.world.gates.pop(data.draw(st.integers(0, len(self.world.gates) - 1)))
                gate.set_result(None)
                self.settle()

    @rule(vault=VAULTS)
    def hear(self, vault: int) -> None:
        """The messages that are on their way to a vault arrive."""
        ear = self.world.vaults[vault].ear
        for org_id, generation in ear.waiting:
            self.world.vaults[vault].cache.forget(org_id)
            ear.heard = max(ear.heard, generation)
        ear.waiting.clear()
        self.told()

    @rule(vault=VAULTS, provider=PROVIDER)
    def read_slowly(self, vault: int, provider: str) -> None:
        """What is remembered is pushed out, and then read again: the answer is on its way and does not arrive."""
        self.world.vaults[vault].cache._values.clear()
        before = len(self.world.gates)
        self.get(vault, provider, None, waits=True)
        if len(self.world.gates) > before:
            self.world.gates.pop().set_result(None)
            self.settle()

    @rule(vault=VAULTS)
    def lose(self, vault: int) -> None:
        """A vault's listening connection is lost, and with it what was on its way."""
        ear = self.world.vaults[vault].ear
        if ear.hearing:
            ear.hearing, ear.lost_at = False, self.world.now
            ear.waiting.clear()
            self.told()

    @precondition(lambda self: not self.world.away)
    @rule(vault=VAULTS)
    def find(self, vault: int) -> None:
        """It listens again, and looks at what moved on meanwhile."""
        one = self.world.vaults[vault]
        if one.ear.hearing:
            return
        one.cache.distrust_reads()
        remembered = one.cache.generations()
        now = self.world.loop.run_until_complete(self.world.store.generations([self.world.org]))
        for org_id, generation in now.items():
            if generation > remembered.get(org_id, generation):
                one.cache.forget(org_id)
            # Whoever waits for it need not: it knows all up to here.
            one.ear.heard = generation
        one.ear.hearing, one.ear.away = True, False
        self.told()

    @rule(away=st.booleans())
    def database(self, away: bool) -> None:
        """The database goes away, which every vault notices sooner or later, or comes back."""
        self.world.away = away
        for vault in range(len(self.world.vaults)):
            if away:
                self.lose(vault)
            self.world.vaults[vault].ear.away = away

    @rule(seconds=st.sampled_from([0.5, 4.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds

    def told(self) -> None:
        # Whoever waits is woken by this, although it is not set any more when they look again.
        self.world.something_heard.set()
        self.world.something_heard.clear()
        self.settle()

    def teardown(self) -> None:
        world = self.world
        world.away = False
        for _ in range(200):
            if not self.calls:
                break
            gates, world.gates = world.gates, []
            for gate in gates:
                gate.set_result(None)
            self.settle()
            for vault in range(len(world.vaults)):
                self.hear(vault)
        assert not self.calls, "something waits for ever"
        world.loop.run_until_complete(world.close_store())
        world.loop.close()
