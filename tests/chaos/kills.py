"""Vaults are killed (SIGKILL) at random moments under a mixed load, and started again on the same spool folders.

What was acknowledged is in the database with its audit event; what left in the open has its event; every chain is
proved; nothing was served that was not current.
"""

import asyncio
import random
import time
from dataclasses import dataclass

from tests.chaos.harness import Ground, Report, Tell, silent, spread, vaults
from tests.chaos.load import Load
from tests.chaos.proof import prove_books


@dataclass(frozen=True, slots=True)
class Plan:
    """How many kills, of how many vaults, under what load, all times in seconds.

    `pause` is the longest rest of a writer, `between` the longest one between two kills. A change waits `reconcile` for
    a vault that is dead: a short one leaves more changes to be killed.
    """

    kills: int = 200
    vaults: int = 3
    orgs: int = 16
    readers: int = 8
    pause: float = 0.1
    between: float = 1.5
    reconcile: float = 0.5
    seed: int = 1


async def run(ground: Ground, plan: Plan, tell: Tell = silent) -> Report:
    """Kill, again and again."""
    report, chance = Report("kills"), random.Random(plan.seed)
    restarts: list[float] = []
    async with vaults(ground, plan.vaults, {"TENANTVAULT_RECONCILE_SECONDS": str(plan.reconcile)}) as made:
        load = Load(made, orgs=plan.orgs, readers=plan.readers, pause=plan.pause, seed=plan.seed)
        await load.begin()
        for number in range(plan.kills):
            if number % 10 == 0:
                books = load.books
                tell(f"kill {number}: {len(books.acknowledged)} changes, {books.plaintexts.total()} plaintexts")
            await asyncio.sleep(chance.uniform(0, plan.between))
            load.trouble()
            victim = chance.choice(made)
            await victim.kill()
            began = time.monotonic()
            await victim.start()
            restarts.append((time.monotonic() - began) * 1000)
        await load.end()
        tell("the load has ended: proving")
        await prove_books(report, ground, made, load)
        report.figures |= {"kills": plan.kills, "restart_ms": spread(restarts)}
    return report
