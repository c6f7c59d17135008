"""PostgreSQL is killed and started again, under a mixed load.

No answer is wrong: a read gives what is current, or what was so within the bound and is flagged `served_stale`, or an
error that says to try again. What was acknowledged is there. When PostgreSQL takes connections again, every vault reads
and changes by itself within seconds.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from tenantvault.errors import TenantVaultError
from tests.chaos.harness import Ground, Report, Server, Tell, Vault, eventually, silent, spread, vaults
from tests.chaos.load import Load
from tests.chaos.peers import VAPI, Peer
from tests.chaos.proof import prove_books

_RECOVERED_WITHIN: Final = 5.0
_GIVEN_UP_AFTER: Final = 60.0
_AGAIN: Final = 0.02
_KINDS: Final = ("kill", "immediate", "backend")


@dataclass(frozen=True, slots=True)
class Plan:
    """How many outages, on how many vaults, under what load; `away` is the longest, and all times are in seconds."""

    outages: int = 21
    vaults: int = 3
    orgs: int = 12
    readers: int = 8
    pause: float = 0.1
    away: float = 6.0
    between: float = 3.0
    max_staleness: float = 3.0
    seed: int = 1


@dataclass(slots=True)
class _Recovery:
    """How long after PostgreSQL took connections each vault did what again, in milliseconds."""

    read: list[float] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    hear: list[float] = field(default_factory=list)
    late: list[str] = field(default_factory=list)


async def run(server: Server, ground: Ground, plan: Plan, tell: Tell = silent) -> Report:
    """Take the database away, again and again."""
    report, chance, recovery = Report("postgres"), random.Random(plan.seed), _Recovery()
    settings = {"TENANTVAULT_MAX_STALENESS_SECONDS": str(plan.max_staleness)}
    async with vaults(ground, plan.vaults, settings) as made:
        probes = [f"probe-{vault.name}" for vault in made]
        for vault, org in zip(made, probes, strict=True):
            await Peer(vault.channel).connect(org, VAPI, 1)
        load = Load(made, orgs=plan.orgs, readers=plan.readers, pause=plan.pause, seed=plan.seed)
        load.staleness = plan.max_staleness
        await load.begin()
        for number in range(plan.outages):
            kind = _KINDS[number % len(_KINDS)]
            tell(f"outage {number} ({kind}): {len(load.books.acknowledged)} changes, {dict(load.books.reads)}")
            await asyncio.sleep(chance.uniform(0.5, plan.between))
            load.trouble()
            # No vault has heard of everything since.
            load.stale_until = time.monotonic() + plan.max_staleness
            await _take_away(server, ground, kind, chance.uniform(0, plan.away))
            accepting = time.monotonic()
            await asyncio.gather(
                *(_recover(vault, org, accepting, recovery) for vault, org in zip(made, probes, strict=True))
            )
        await load.end()
        tell("the load has ended: proving")
        await prove_books(report, ground, made, load)
    stale = load.books.reads["served_stale"]
    report.figures |= {
        "outages": plan.outages,
        "served_stale": stale,
        "first_read_ms": spread(recovery.read),
        "first_change_ms": spread(recovery.change),
        "hears_the_others_again_ms": spread(recovery.hear),
    }
    report.claim(f"every vault was itself again within {_RECOVERED_WITHIN:g} s", not recovery.late, recovery.late[:5])
    return report


async def _take_away(server: Server, ground: Ground, kind: str, away: float) -> None:
    """Return when PostgreSQL takes connections again."""
    if kind == "backend":
        # The postmaster throws everybody out and starts again by itself.
        [row] = await ground.database.admin(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'tenantvault-vault' ORDER BY random() LIMIT 1"
        )
        os.kill(row["pid"], signal.SIGKILL)
        await eventually(lambda: _refuses(server), within=2.0)
        if not await eventually(server.accepts):
            raise AssertionError("PostgreSQL did not start again by itself")
        return
    await (server.kill() if kind == "kill" else server.stop_at_once())
    await asyncio.sleep(away)
    await server.start()


async def _refuses(server: Server) -> bool:
    return not await server.accepts()


async def _recover(vault: Vault, org: str, accepting: float, recovery: _Recovery) -> None:
    """Ask a vault again and again until it does everything that it did before."""

    async def hear() -> bool:
        return await Peer(vault.channel).hears(_RECOVERED_WITHIN)

    async def read() -> bool:
        return bool((await Peer(vault.channel).get(org, VAPI, at_once=True)).version)

    async def change() -> bool:
        await Peer(vault.channel).verify(org, VAPI, 1)
        return True

    async def until(name: str, work: Callable[[], Awaitable[bool]], took: list[float]) -> None:
        while True:
            try:
                done = await work()
            except TenantVaultError as error:
                if not error.retryable:
                    raise
                done = False
            elapsed = time.monotonic() - accepting
            if done or elapsed > _GIVEN_UP_AFTER:
                break
            await asyncio.sleep(_AGAIN)
        took.append(elapsed * 1000)
        if elapsed > _RECOVERED_WITHIN:
            recovery.late.append(f"{name} on vault {vault.name}: {elapsed:.1f} s")

    await asyncio.gather(
        until("a read", read, recovery.read),
        until("a change", change, recovery.change),
        until("hearing the others", hear, recovery.hear),
    )
