"""A mixed load that keeps books: what was acknowledged, what arrived in the open, and whether each answer was right.

Each org has one writer, which makes one change after the other and repeats a change until the answer is definite, as a
client does that gets a retryable error. So it is known at every moment what a read may give: what was so when the read
began, or what a change under way at that time makes of it.
"""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tenantvault.errors import (
    BY_REASON,
    CredentialNotFound,
    OrgFrozen,
    ResourceNotFound,
    TenantVaultError,
    VersionConflict,
)
from tenantvault.v1 import credential_pb2 as pb
from tests.chaos.harness import Vault
from tests.chaos.peers import NAMES, TWILIO, VAPI, Peer, seen

PROVIDERS: Final = (VAPI, TWILIO)

_DEFINITE_WITHIN: Final = 60.0
"""Seconds in which a change that is repeated must get a definite answer."""

_EXAMPLES: Final = 10

ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class _State:
    answer: str
    since: float
    until: float = math.inf


@dataclass(slots=True)
class Timeline:
    """What may be read of one org and provider, and when."""

    states: list[_State]

    @classmethod
    def empty(cls) -> "Timeline":
        """Nothing was ever there."""
        return cls([_State(CredentialNotFound.reason, -math.inf)])

    @property
    def now(self) -> str:
        """What is read when no change is under way."""
        return self.states[-1].answer

    def begin(self, answer: str) -> None:
        """A change is sent: from now on its outcome may be read too."""
        if answer != self.now:
            self.states.append(_State(answer, time.monotonic()))

    def end(self) -> None:
        """It is acknowledged: what was before must not be read any more."""
        now = time.monotonic()
        for state in self.states[:-1]:
            state.until = min(state.until, now)

    def allows(self, answer: str, began: float, ended: float) -> bool:
        """Whether a read between two moments may give an answer."""
        return any(
            state.answer == answer and state.since <= ended and began <= state.until for state in reversed(self.states)
        )


@dataclass(slots=True)
class Integration:
    """One provider of one org, as its writer knows it."""

    timeline: Timeline = field(default_factory=Timeline.empty)
    version: int = 0
    latest: int = 0
    is_active: bool = False
    were_active: set[int] = field(default_factory=set)

    @property
    def answer(self) -> str:
        """What a read gives, when the org is not frozen."""
        return f"v{self.version}" if self.is_active else CredentialNotFound.reason


@dataclass(slots=True)
class Org:
    """An org, as its writer knows it."""

    name: str
    integrations: dict[int, Integration] = field(default_factory=lambda: {p: Integration() for p in PROVIDERS})
    is_frozen: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A change that was acknowledged, as its event must tell it."""

    org: str
    action: str
    provider: str = ""
    version: int = 0


@dataclass(slots=True)
class Books:
    """What the load has seen."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    plaintexts: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    refused_reads: Counter[str] = field(default_factory=Counter)
    refused_changes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    wrongs: int = 0
    indefinite: list[str] = field(default_factory=list)

    def note_wrong(self, what: str) -> None:
        """Count a wrong answer; the first few are kept."""
        self.wrongs += 1
        if len(self.wrong) < _EXAMPLES:
            self.wrong.append(what)


class Load:
    """Writers and readers on vaults, of which some may be dead.

    `staleness` is the vaults' bound in seconds. A served_stale answer to a read that began after `stale_until`, by the
    monotonic clock, is beyond it.
    """

    def __init__(self, vaults: Sequence[Vault], *, orgs: int, readers: int, pause: float, seed: int) -> None:
        self.orgs = [Org(f"org-{number}") for number in range(orgs)]
        self.books = Books()
        self.staleness = 0.0
        self.stale_until = -math.inf
        self._vaults = vaults
        self._readers = readers
        self._pause = pause
        self._chance = random.Random(seed)
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Connect every org to every provider, then go on changing and reading."""
        await asyncio.gather(*(self._connect_all(org) for org in self.orgs))
        writers = [self._write(org) for org in self.orgs]
        readers = [self._read() for _ in range(self._readers)]
        self._tasks = [asyncio.ensure_future(work) for work in (*writers, *readers)]

    async def end(self) -> None:
        """Let every change under way come to its definite end, then stop."""
        self._ending = True
        await asyncio.gather(*self._tasks)

    def trouble(self) -> None:
        """Raise what a task has failed with, if one has."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def read_all(self, vault: Vault, org: Org) -> None:
        """Read an org once at one vault, with the books kept."""
        for provider in PROVIDERS:
            await self._get(Peer(vault.channel), org, provider)

    async def _connect_all(self, org: Org) -> None:
        for provider in PROVIDERS:
            await self._replace(org, provider)

    async def _write(self, org: Org) -> None:
        while not self._ending:
            await asyncio.sleep(self._chance.uniform(0, self._pause))
            provider = self._chance.choice(PROVIDERS)
            await self._chance.choice(self._possible(org, provider))()

    def _possible(self, org: Org, provider: int) -> list[Callable[[], Awaitable[None]]]:
        if org.is_frozen:
            return [lambda: self._freeze(org, frozen=False)]
        integration = org.integrations[provider]
        if not integration.is_active:
            return [lambda: self._reconnect(org, provider), lambda: self._replace(org, provider)]
        older = sorted(integration.were_active - {integration.version})
        return [
            lambda: self._disconnect(org, provider),
            lambda: self._disconnect(org, provider),
            lambda: self._replace(org, provider),
            lambda: self._verify(org, provider),
            lambda: self._rotate(org),
            lambda: self._freeze(org, frozen=True),
            *([lambda: self._roll_back(org, provider, self._chance.choice(older))] * 2 if older else ()),
        ]

    async def _replace(self, org: Org, provider: int) -> None:
        integration, version = org.integrations[provider], org.integrations[provider].latest + 1
        expected = version - 1

        async def put(peer: Peer) -> None:
            nonlocal expected
            try:
                if await peer.put(org.name, provider, version, expected=expected) != version:
                    self.books.note_wrong(f"{org.name}: a put of version {version} made another")
            except VersionConflict:
                # An earlier attempt has come about: the same value, put again, is that version.
                if expected == version:
                    raise
                expected = version
                await put(peer)

        await self._definitely(put)
        integration.latest = version
        self._note(org, "credential.put", provider, version)
        integration.timeline.begin(f"v{version}")
        await self._definitely(lambda peer: peer.register(org.name, provider, version))
        integration.timeline.end()
        integration.version, integration.is_active = version, True
        integration.were_active.add(version)
        self._note(org, "credential.activate", provider, version)

    async def _disconnect(self, org: Org, provider: int) -> None:
        integration = org.integrations[provider]
        integration.timeline.begin(CredentialNotFound.reason)
        # A number that seems to wait for its activation is passed over.
        integration.latest = await self._definitely(lambda peer: peer.disconnect(org.name, provider))
        integration.timeline.end()
        integration.is_active = False
        self._note(org, "credential.disconnect", provider, integration.version)

    async def _reconnect(self, org: Org, provider: int) -> None:
        integration = org.integrations[provider]
        integration.timeline.begin(f"v{integration.version}")
        await self._definitely(lambda peer: peer.reconnect(org.name, provider))
        integration.timeline.end()
        integration.is_active = True
        self._note(org, "credential.reconnect", provider, integration.version)

    async def _roll_back(self, org: Org, provider: int, version: int) -> None:
        integration = org.integrations[provider]
        expected = integration.version
        integration.timeline.begin(f"v{version}")
        await self._definitely(lambda peer: peer.roll_back(org.name, provider, version, expected))
        integration.timeline.end()
        integration.version = version
        self._note(org, "credential.roll_back", provider, version)

    async def _verify(self, org: Org, provider: int) -> None:
        version = org.integrations[provider].version
        await self._definitely(lambda peer: peer.verify(org.name, provider, version))
        self._note(org, "credential.verify", provider, version)

    async def _rotate(self, org: Org) -> None:
        await self._definitely(lambda peer: peer.rotate_org_key(org.name))
        self.books.acknowledged.append(Acknowledged(org.name, "org.rotate_key"))

    async def _freeze(self, org: Org, *, frozen: bool) -> None:
        for integration in org.integrations.values():
            integration.timeline.begin(OrgFrozen.reason if frozen else integration.answer)
        change: Callable[[Peer], Awaitable[Any]] = (
            (lambda peer: peer.freeze(org.name)) if frozen else (lambda peer: peer.unfreeze(org.name))
        )
        await self._definitely(change)
        for integration in org.integrations.values():
            integration.timeline.end()
        org.is_frozen = frozen
        self.books.acknowledged.append(Acknowledged(org.name, "org.freeze" if frozen else "org.unfreeze"))

    async def _definitely(self, change: Callable[[Peer], Awaitable[ResultT]]) -> ResultT:
        """Make a change through any vault, again and again until it is acknowledged."""
        end = time.monotonic() + _DEFINITE_WITHIN
        while True:
            vault = self._chance.choice(self._vaults)
            try:
                return await change(Peer(vault.channel))
            except TenantVaultError as error:
                self.books.refused_changes[error.reason] += 1
                if not error.retryable or time.monotonic() > end:
                    self.books.indefinite.append(f"{error.reason} from vault {vault.name}")
                    raise
                await asyncio.sleep(self._chance.uniform(0, 0.05))

    def _note(self, org: Org, action: str, provider: int, version: int) -> None:
        self.books.acknowledged.append(Acknowledged(org.name, action, NAMES[provider], version))

    async def _read(self) -> None:
        while not self._ending:
            await asyncio.sleep(self._chance.uniform(0, self._pause / 4))
            peer, org = Peer(self._chance.choice(self._vaults).channel), self._chance.choice(self.orgs)
            provider, other = self._chance.choice(PROVIDERS), self._chance.choice(PROVIDERS)
            match self._chance.randrange(5):
                case 0:
                    await self._batch(peer)
                case 1 | 2:
                    await self._resolve(peer, org, provider, other)
                case _:
                    await self._get(peer, org, provider)

    async def _get(self, peer: Peer, org: Org, provider: int) -> None:
        await self._ask(org, provider, peer.get(org.name, provider))

    async def _resolve(self, peer: Peer, org: Org, provider: int, wanted: int) -> None:
        await self._ask(org, wanted, peer.resolve(org.name, provider, wanted))

    async def _ask(self, org: Org, provider: int, asking: Awaitable[pb.ActiveCredential]) -> None:
        began = time.monotonic()
        try:
            active = await asking
        except TenantVaultError as error:
            self._refused(org, provider, error, began)
        else:
            self._arrived(org, provider, active, began)

    async def _batch(self, peer: Peer) -> None:
        keys = [(org.name, provider) for org in self.orgs for provider in PROVIDERS]
        asked = [(org, provider) for org in self.orgs for provider in PROVIDERS]
        began = time.monotonic()
        try:
            outcomes = await peer.batch(keys)
        except TenantVaultError as error:
            self._count(error)
            return
        for (org, provider), outcome in zip(asked, outcomes, strict=True):
            if outcome.HasField("failure"):
                self._refused(org, provider, BY_REASON[outcome.failure.reason](), began)
            else:
                self._arrived(org, provider, outcome.credential, began)

    def _arrived(self, org: Org, provider: int, active: pb.ActiveCredential, began: float) -> None:
        answer, ended = seen(active), time.monotonic()
        self.books.plaintexts[org.name, NAMES[provider], active.version] += 1
        self.books.reads["current" if not active.served_stale else "served_stale"] += 1
        if active.org_id != org.name or active.provider != provider:
            self.books.note_wrong(f"{org.name}: the answer is {active.org_id}'s")
        if active.served_stale:
            if began > self.stale_until:
                self.books.note_wrong(f"{org.name}: served_stale {began - self.stale_until:.3f} s after its bound")
            began -= self.staleness
        self._demand(org, provider, answer, began, ended)

    def _refused(self, org: Org, provider: int, error: TenantVaultError, began: float) -> None:
        reason = CredentialNotFound.reason if isinstance(error, ResourceNotFound) else error.reason
        if error.retryable:
            self._count(error)
        else:
            self.books.reads["definite no"] += 1
            self._demand(org, provider, reason, began, time.monotonic())

    def _count(self, error: TenantVaultError) -> None:
        self.books.refused_reads[error.reason] += 1
        if not error.retryable:
            self.books.note_wrong(f"a read was refused for good: {error.reason}")

    def _demand(self, org: Org, provider: int, answer: str, began: float, ended: float) -> None:
        timeline = org.integrations[provider].timeline
        if not timeline.allows(answer, began, ended):
            states = [
                f"{state.answer} from {(state.since - began) * 1000:.1f} to {(state.until - began) * 1000:.1f} ms"
                for state in timeline.states[-4:]
            ]
            self.books.note_wrong(
                f"{org.name} {NAMES[provider]}: {answer} in a read of {(ended - began) * 1000:.1f} ms; {states}"
            )
