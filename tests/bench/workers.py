"""Two workers on one port against one: the processor time of a call, of all processes of the vault together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.bench.figure import Figure
from tests.bench.ground import PAUSE, WHOLE_CACHE, Load, at_rest, children, cpu_seconds, loading, running, store
from tests.chaos.harness import Ground, Tell, Vault

_AT_ONCE: Final = 32
_CHANNELS: Final = 16
"""Each connection goes to one worker, by the kernel's choice: with so many, both have some."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: rounds of each kind in turn, their length in seconds, and stored orgs."""

    rounds: int = 5
    seconds: float = 2.0
    orgs: int = 200


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Measure reads from memory. AssertionError when a worker got no call."""
    async with (
        running(ground, "one", **WHOLE_CACHE) as one,
        running(ground, "two", TENANTVAULT_WORKERS="2", **WHOLE_CACHE) as two,
        _ending(two),
        loading(ground) as load,
    ):
        await two.said("ready to serve")
        orgs = [each.org for each in await store(one, plan.orgs)]
        costs: dict[Vault, list[float]] = {one: [], two: []}
        shares: list[float] = []
        for vault in costs:
            await load.round(vault, "get", orgs, concurrency=_AT_ONCE, calls=plan.orgs * 20, channels=_CHANNELS)
        for number in range(plan.rounds):
            tell(f"workers: round {number + 1} of {plan.rounds}")
            for vault, taken in costs.items():
                cost, share = await _cost(load, vault, orgs, plan.seconds)
                taken.append(cost)
                if vault is two:
                    shares.append(share)
    assert min(shares) > 0.05, shares
    alone, shared = median(costs[one]) * 1e6, median(costs[two]) * 1e6
    return [
        Figure(
            name="get, 2 workers ÷ 1: processor time a call",
            value=shared / alone,
            unit="",
            reference=f"{shared:.0f} µs, {alone:.0f} µs; the less busy worker took {median(shares):.0%}",
            goal="≤ 1.1",
        )
    ]


@asynccontextmanager
async def _ending(vault: Vault) -> AsyncIterator[None]:
    """End it in order when the body has ended, while the database is there: so its workers end before it does."""
    try:
        yield
    finally:
        await vault.stop()


async def _cost(load: Load, vault: Vault, orgs: list[str], seconds: float) -> tuple[float, float]:
    """Processor time a call in seconds, and the share of it of the process that took least."""
    working = children(vault.pid) or [vault.pid]
    before = [cpu_seconds(pid) for pid in working]
    result = await load.round(vault, "get", orgs, concurrency=_AT_ONCE, seconds=seconds, channels=_CHANNELS)
    await at_rest(*working, for_seconds=PAUSE)
    taken = [cpu_seconds(pid) - then for pid, then in zip(working, before, strict=True)]
    return sum(taken) / result.calls, min(taken) / sum(taken)
