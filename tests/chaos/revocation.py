"""What was taken away is served by no vault any more when the call that took it away returns.

Three vaults on one database remember an org's credential, under reads in tight loops on all three. Through one of them
it is taken away: by a disconnect, a freeze, a shred, a roll-back or a new version. No read that begins after that call
has returned may give what was there before. So it is while connections that listen are cut, when the call is made twice
at the same time, and when a vault stands still (SIGSTOP) meanwhile: then the call takes the reconcile period, and where
that vault holds rows in the middle of a transaction, as long again as PostgreSQL bears that.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from services.vault.database import IDLE_SECONDS
from tenantvault.errors import TenantVaultError
from tests.chaos.harness import RECONCILE_SECONDS, Ground, Report, Tell, Vault, silent, spread, vaults
from tests.chaos.peers import VAPI, Peer
from tests.chaos.readers import Reading, reading

_SLACK: Final = 2.0
"""Seconds beyond the bound of a call, for a machine that is loaded."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How often: disconnects, every other kind, with a listener cut, with a vault that stands still, made twice."""

    rounds: int = 500
    others: int = 100
    cuts: int = 60
    pauses: int = 40
    beats: int = 10
    twice: int = 100
    tasks: int = 2
    seed: int = 1


@dataclass(frozen=True, slots=True)
class _Kind:
    """A way to take something away: what is read before it and after it, and how it is made ready and done."""

    old: str
    new: str
    ready: Callable[[Peer, str], Awaitable[Any]]
    take: Callable[[Peer, str], Awaitable[Any]]


async def _one_version(peer: Peer, org: str) -> None:
    await peer.connect(org, VAPI, 1)


async def _two_versions(peer: Peer, org: str) -> None:
    await peer.connect(org, VAPI, 1)
    await peer.connect(org, VAPI, 2)


async def _another_waits(peer: Peer, org: str) -> None:
    await peer.connect(org, VAPI, 1)
    await peer.put(org, VAPI, 2)


_KINDS: Final[Mapping[str, _Kind]] = {
    "disconnect": _Kind("v1", "CREDENTIAL_NOT_FOUND", _one_version, lambda peer, org: peer.disconnect(org, VAPI)),
    "freeze": _Kind("v1", "ORG_FROZEN", _one_version, lambda peer, org: peer.freeze(org)),
    "shred": _Kind("v1", "ORG_SHREDDED", _one_version, lambda peer, org: peer.shred(org)),
    "roll_back": _Kind("v2", "v1", _two_versions, lambda peer, org: peer.roll_back(org, VAPI, 1, 2)),
    "replace": _Kind("v1", "v2", _another_waits, lambda peer, org: peer.register(org, VAPI, 2)),
}

_REPEATABLE: Final = ("disconnect", "freeze", "shred", "roll_back")

_BOUNDS: Final = {
    "cut": RECONCILE_SECONDS,
    "paused": RECONCILE_SECONDS + IDLE_SECONDS,
    "paused_in_a_beat": RECONCILE_SECONDS + IDLE_SECONDS,
}
"""How long a call may take, in seconds, by phase."""


@dataclass(slots=True)
class _Found:
    """What the rounds of one phase found, in milliseconds where it is a time."""

    rounds: int = 0
    reads: int = 0
    took: list[float] = field(default_factory=list)
    after_return: list[float] = field(default_factory=list)
    after_sent: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class _Rounds:
    def __init__(self, made: list[Vault], readers: Reading, plan: Plan, tell: Tell) -> None:
        self._vaults = made
        self._readers = readers
        self._plan = plan
        self._tell = tell
        self._chance = random.Random(plan.seed)
        self.found: dict[str, _Found] = defaultdict(_Found)

    async def play(self, phase: str, name: str, around: "_Around") -> None:
        """One round: make an org, warm all vaults, take it away through one of them, look."""
        kind, found = _KINDS[name], self.found[phase]
        found.rounds += 1
        if found.rounds % 25 == 1:
            self._tell(f"{phase}: round {found.rounds}")
        org = f"{phase.replace('_', '-')}-{name.replace('_', '-')}-{found.rounds}"
        chosen = self._chance.choice(self._vaults)
        peer = Peer(chosen.channel)
        await kind.ready(peer, org)
        await self._readers.do("follow", org=org, old=kind.old, warm=2 * self._plan.tasks + 1, tasks=self._plan.tasks)
        await around.before(chosen)
        sent = time.monotonic()
        try:
            await around.take(kind, chosen, org)
        except TenantVaultError as error:
            found.refused.append(f"{org} by {chosen.name} after {time.monotonic() - sent:.1f} s: {error.reason}")
            await around.after()
            await kind.take(peer, org)
            returned = time.monotonic()
        else:
            returned = time.monotonic()
            await self._readers.do("probe", org=org, each=3)
            await around.after()
        seen = await self._readers.do("finish", sent=sent, since=returned, old=kind.old, new=kind.new, more=5)
        found.took.append((returned - sent) * 1000)
        last = max(vault["last_old"] for vault in seen["vaults"].values())
        found.after_return.append(max(last - returned, 0) * 1000)
        found.after_sent.append(max(last - sent, 0) * 1000)
        for vault, told in seen["vaults"].items():
            found.reads += told["reads"]
            if told["violations"]:
                found.violations.append(f"{org} on {vault} by {chosen.name}: {told['violations'][:3]}")
            if strange := (told["before"].keys() - {kind.old}) | (told["after"].keys() - {kind.old, kind.new}):
                found.unexpected.append(f"{org} on {vault}: {sorted(strange)}")


class _Around:
    """What happens around a round. Here: nothing."""

    async def before(self, chosen: Vault) -> None:
        """Before the call is sent through the chosen vault."""

    async def take(self, kind: _Kind, chosen: Vault, org: str) -> None:
        """The call."""
        await kind.take(Peer(chosen.channel), org)

    async def after(self) -> None:
        """After it has returned."""


class _Cut(_Around):
    """Listeners, one or all, are cut at about the moment of the call."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self._url = url
        self._chance = chance
        self._cutting: asyncio.Task[None] | None = None
        self.cut = 0

    async def before(self, chosen: Vault) -> None:
        self._cutting = asyncio.ensure_future(self._cut(self._chance.choice((1, 3))))
        await asyncio.sleep(self._chance.uniform(0, 0.04))

    async def after(self) -> None:
        if self._cutting is not None:
            await self._cutting

    async def _cut(self, most: int) -> None:
        db = await asyncpg.connect(self._url)
        try:
            await asyncio.sleep(self._chance.uniform(0, 0.03))
            rows = await db.fetch(
                "SELECT pg_terminate_backend(pid) AS ended FROM (SELECT pid FROM pg_stat_activity"
                " WHERE application_name = 'tenantvault-listener' AND datname = current_database()"
                " ORDER BY random() LIMIT $1) AS listeners",
                most,
            )
            self.cut += sum(row["ended"] for row in rows)
        finally:
            await db.close()


class _Pause(_Around):
    """Another vault than the chosen one stands still, from before the call until after it."""

    def __init__(self, made: list[Vault], chance: random.Random) -> None:
        self._vaults = made
        self._chance = chance
        self._at_most = RECONCILE_SECONDS / 4
        self._paused: Vault | None = None

    async def before(self, chosen: Vault) -> None:
        # At any moment between two beats.
        await asyncio.sleep(self._chance.uniform(0, self._at_most))
        self._paused = self._chance.choice([vault for vault in self._vaults if vault is not chosen])
        self._paused.pause()

    async def after(self) -> None:
        # The probes wait in its socket by now: they are the first that it sees.
        await asyncio.sleep(0.05)
        if self._paused is not None:
            self._paused.resume()


class _PauseInBeat(_Pause):
    """The same, and it is in the middle of renewing its lease."""

    def __init__(self, made: list[Vault], chance: random.Random, url: str) -> None:
        super().__init__(made, chance)
        self._at_most = 0.1
        self._url = url

    async def before(self, chosen: Vault) -> None:
        db = await asyncpg.connect(self._url)
        try:
            async with db.transaction():
                await db.execute("LOCK TABLE vaults IN ACCESS EXCLUSIVE MODE")
                # Every vault has begun a beat by then, and waits.
                await asyncio.sleep(RECONCILE_SECONDS / 4 + 0.1)
                await super().before(chosen)
        finally:
            await db.close()


class _Twice(_Around):
    """The call is made through two vaults at the same time, and the first that returns counts.

    One of them finds that there is nothing left to do, and must mean it no less.
    """

    def __init__(self, made: list[Vault]) -> None:
        self._vaults = made
        self._calls: set[asyncio.Task[None]] = set()

    async def take(self, kind: _Kind, chosen: Vault, org: str) -> None:
        other = next(vault for vault in self._vaults if vault is not chosen)

        async def call(vault: Vault) -> None:
            await kind.take(Peer(vault.channel), org)

        calls = [asyncio.create_task(call(vault)) for vault in (chosen, other)]
        done, self._calls = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            ended.result()

    async def after(self) -> None:
        await asyncio.gather(*self._calls)


async def run(ground: Ground, plan: Plan, tell: Tell = silent) -> Report:
    """Take away, again and again."""
    report, chance = Report("revocation"), random.Random(plan.seed)
    tls = ground.authority.issue("voice-agent", server=False)
    async with vaults(ground, 3) as made, reading(ground.folder, tls, made) as readers:
        rounds = _Rounds(made, readers, plan, tell)
        for _ in range(plan.rounds):
            await rounds.play("disconnect", "disconnect", _Around())
        for name in sorted(_KINDS.keys() - {"disconnect"}):
            for _ in range(plan.others):
                await rounds.play(name, name, _Around())
        cut = _Cut(ground.database.admin_url, chance)
        for number in range(plan.cuts):
            await rounds.play("cut", sorted(_KINDS)[number % len(_KINDS)], cut)
        pause = _Pause(made, chance)
        for number in range(plan.pauses):
            await rounds.play("paused", sorted(_KINDS)[number % len(_KINDS)], pause)
        pause_in_beat = _PauseInBeat(made, chance, ground.database.admin_url)
        for number in range(plan.beats):
            await rounds.play("paused_in_a_beat", sorted(_KINDS)[number % len(_KINDS)], pause_in_beat)
        twice = _Twice(made)
        for number in range(plan.twice):
            await rounds.play("twice", _REPEATABLE[number % len(_REPEATABLE)], twice)
        failures = [failure for vault in made for failure in vault.failures()]
        report.figures["errors_nobody_waited_for"] = sum(vault.left_over() for vault in made)
    _judge(report, rounds.found)
    report.figures["listeners_cut"] = cut.cut
    report.claim("no handler failed", not failures, failures[:3])
    violations = await ground.database.admin("SELECT count(*) FROM audit_events WHERE action = 'integrity.violation'")
    report.claim("no row was taken for forged", violations[0]["count"] == 0, violations)
    return report


def _judge(report: Report, phases: Mapping[str, _Found]) -> None:
    for phase, found in sorted(phases.items()):
        report.figures[phase] = {
            "rounds": found.rounds,
            "reads": found.reads,
            "call_ms": spread(found.took),
            "last_serve_after_return_ms": spread(found.after_return),
            "last_serve_after_sent_ms": spread(found.after_sent),
        }
        report.claim(
            f"{phase}: no read that began after the call returned gave what it took away",
            not found.violations,
            f"{len(found.violations)} rounds, e.g. {found.violations[:3]}",
        )
        strange = found.unexpected
        report.claim(f"{phase}: no read failed, and none gave anything else", not strange, strange[:5])
        report.claim(f"{phase}: no call failed", not found.refused, found.refused[:5])
    for phase, bound in _BOUNDS.items():
        if phase in phases:
            took = phases[phase].took
            beyond = sum(one > RECONCILE_SECONDS * 1000 + 100 for one in took)
            report.figures[phase]["calls_beyond_the_reconcile_period"] = beyond
            report.claim(
                f"{phase}: no call took longer than {bound:g} s",
                max(took) <= (bound + _SLACK) * 1000,
                f"{max(took):.0f} ms",
            )
