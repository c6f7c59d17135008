"""Clients that remember are under load while their vault is killed, hangs, refuses, or drops what they hear it by.

Each client reaches its vault through a relay of its own. In every outage a credential is replaced and another taken
away, through a second vault on the same database. No call may outlive its deadline; nothing that was taken away may be
given for longer than the client's settings say; connecting and watching again is bounded by the backoff, and repeating
calls by the budget; and when the vault can be heard again, reads and memory come back within the longest pause.

What answers UNAVAILABLE is a server in the vault's place: a vault whose database is away goes on from its own memory.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tenantvault import AsyncClient, CacheSettings, Client
from tenantvault.errors import VaultUnavailable
from tests.chaos.callers import REPORTED, Caller, Kind, Org, calling, lateness
from tests.chaos.harness import Ground, Report, Tell, Vault, eventually, silent, vaults
from tests.chaos.outages import HEARD, LONG, OUTAGES, Counts, Outage, Stage
from tests.chaos.peers import VAPI, Peer
from tests.chaos.stand_in import StandIn
from tests.chaos.verdict import is_good, judge, judge_deadlines

_GIVEN_UP_AFTER: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Which outages, how often, and what the clients are like; times in seconds.

    An outage lasts `away`, one in which connections die without a word `hang`: until the keep-alive notices. `every` is
    between two cuts. Each client is called by `tasks`, which rest for `pause` after each call; a call may outlive its
    `deadline` by `late`, and by what this process itself was late meanwhile. Without `hedge_after` no client hedges.
    """

    outages: str = "killed stopped hangs stalls strands refuses ends cuts"
    rounds: int = 2
    away: float = 9.0
    hang: float = 25.0
    every: float = 0.3
    deadline: float = 1.0
    late: float = 0.4
    lease: float = 3.0
    max_stale: float = 6.0
    hedge_after: float = 0.6
    reconcile: float = 2.0
    tasks: int = 2
    pause: float = 0.05


async def run(ground: Ground, plan: Plan, tell: Tell = silent) -> Report:
    """Take the vault away from its clients, in every way, again and again."""
    report = Report("clients")
    tls = ground.authority.issue("voice-agent", server=False)
    async with contextlib.AsyncExitStack() as stack:
        settings = {"TENANTVAULT_RECONCILE_SECONDS": f"{plan.reconcile:g}"}
        vault, second = await stack.enter_async_context(vaults(ground, 2, settings))
        stand_in = await stack.enter_async_context(
            StandIn.served(ground.authority, lambda: vault.channel("voice-agent"))
        )
        first = await _org(second, REPORTED)
        made = calling(_kinds(plan), tls, vault.port, first, deadline=plan.deadline, tasks=plan.tasks, pause=plan.pause)
        callers = await stack.enter_async_context(made)
        delays = await stack.enter_async_context(lateness())
        stage = Stage(vault, second, callers, stand_in, plan.every)
        outages = []
        for number, kind in enumerate(plan.outages.split() * plan.rounds):
            tell(f"{kind}: {sum(len(caller.given) for caller in callers)} calls so far")
            outages.append(await _play(report, stage, plan, kind, number))
        failures = vault.failures() + second.failures()
    report.claim("no handler failed", not failures, failures[:3])
    judge_deadlines(report, callers, deadline=plan.deadline, late=plan.late, delays=delays)
    judge(report, callers, outages)
    return report


async def _play(report: Report, stage: Stage, plan: Plan, kind: str, number: int) -> Outage:
    """One outage, from memory to memory."""
    callers = stage.callers
    replaced, revoked = [await _org(stage.second, f"{name}-{number}") for name in ("replaced", "revoked")]
    for caller in callers:
        caller.orgs = (replaced, revoked)

    async def all_remember() -> bool:
        return all(caller.remembers(org, 1) for caller in callers for org in (replaced, revoked))

    warm = await eventually(all_remember)
    report.claim(f"{number} ({kind}): all clients remembered what was to be taken away", warm)
    counted = {caller.name: Counts.of(caller) for caller in callers}
    arrived, began = Counter(stage.stand_in.arrived), time.monotonic()
    async with OUTAGES[kind](stage):
        lost = time.monotonic()
        peer = Peer(stage.second.channel)
        await asyncio.gather(
            _certainly(lambda: peer.put(replaced.org_id, VAPI, 2)),
            _certainly(lambda: peer.disconnect(revoked.org_id, VAPI)),
        )
        await _certainly(lambda: peer.register(replaced.org_id, VAPI, 2))
        taken = time.monotonic()
        lasts = plan.hang if kind in LONG else plan.away
        await asyncio.sleep(max(lost + lasts - taken, 0))
    back = time.monotonic()
    arrived = Counter(stage.stand_in.arrived) - arrived
    remembered: dict[str, float] = {}

    def reads_again(caller: Caller) -> bool:
        since = itertools.takewhile(lambda given: given.ended > back, reversed(caller.given))
        return any(is_good(given, {replaced.org_id}) for given in since)

    async def all_are_themselves_again() -> bool:
        for caller in callers:
            if caller.remembers(replaced, 2):
                remembered.setdefault(caller.name, time.monotonic() - back)
        return len(remembered) == len(callers) and all(map(reads_again, callers))

    await eventually(all_are_themselves_again, within=_GIVEN_UP_AFTER)
    return Outage(
        kind=kind,
        orgs=frozenset({replaced.org_id, revoked.org_id}),
        began=began,
        silent=taken if kind in HEARD else lost,
        taken=taken,
        back=back,
        counts={caller.name: Counts.of(caller).since(counted[caller.name]) for caller in callers},
        remembered=remembered,
        arrived=arrived,
        over=time.monotonic(),
    )


async def _certainly(change: Callable[[], Awaitable[Any]]) -> None:
    """Make a change through the vault that is there, once more when it says to try again.

    One that stands still in a transaction holds an org's rows until PostgreSQL ends it, which a loaded machine may do
    late.
    """
    try:
        await change()
    except VaultUnavailable:
        await change()


def _kinds(plan: Plan) -> Iterator[Kind]:
    plain = CacheSettings(lease=plan.lease)
    patient = CacheSettings(lease=plan.lease, max_stale=plan.max_stale)
    for name, made in (("async", AsyncClient), ("blocking", Client)):
        yield Kind(name, made, plain)
        yield Kind(f"{name}, max_stale", made, patient)
        if plan.hedge_after:
            yield Kind(f"{name}, hedges", made, plain, plan.hedge_after)


async def _org(vault: Vault, org_id: str) -> Org:
    """Connect an org and say at which generation it is."""
    peer = Peer(vault.channel)
    await peer.connect(org_id, VAPI, 1)
    return Org(org_id, (await peer.get(org_id, VAPI)).generation)
