"""One call: from memory, from the database, at once and one after another, against a call that does nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

from tests.bench.figure import Figure
from tests.bench.ground import PAUSE, WHOLE_CACHE, Load, at_rest, cpu_seconds, loading, percentile, running, store
from tests.bench.load import Result
from tests.chaos.harness import Ground, Tell, Vault

AT_ONCE: Final = 32
_CHANNELS: Final = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: rounds of each kind in turn, their length in seconds, stored orgs, and how long a vault then rests."""

    rounds: int = 5
    seconds: float = 4.0
    orgs: int = 500
    pause: float = PAUSE


@dataclass(frozen=True, slots=True)
class Measured:
    """A round, with the processor time that the vault took for it."""

    result: Result
    vault_seconds: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.result.calls / self.result.seconds

    @property
    def cost(self) -> float:
        """The vault's processor time a call, in seconds."""
        return self.vault_seconds / self.result.calls

    @property
    def busy(self) -> float:
        """How much of one processor the vault took, for each second of the round."""
        return self.vault_seconds / self.result.seconds


async def measured(
    load: Load,
    vault: Vault,
    method: str,
    keys: Sequence[str] = (),
    *,
    concurrency: int,
    seconds: float,
    pause: float = PAUSE,
) -> Measured:
    """A round, measured on both sides; the vault's side until it rests again."""
    before = cpu_seconds(vault.pid)
    result = await load.round(
        vault, method, keys, concurrency=concurrency, seconds=seconds, channels=min(_CHANNELS, concurrency)
    )
    await at_rest(vault.pid, for_seconds=pause)
    return Measured(result, cpu_seconds(vault.pid) - before)


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Measure, the kinds of rounds in turn so that what slows the machine slows them all."""
    async with (
        running(ground, "calls", **WHOLE_CACHE) as vault,
        running(ground, "forgetful", TENANTVAULT_CACHE_ENTRIES="1") as forgetful,
        loading(ground) as load,
    ):
        stored = await store(vault, plan.orgs)
        orgs = [each.org for each in stored]
        for warm in (vault, forgetful):
            await load.round(warm, "get", orgs, concurrency=AT_ONCE, calls=plan.orgs * 2, channels=_CHANNELS)
        many = partial(measured, load, concurrency=AT_ONCE, seconds=plan.seconds, pause=plan.pause)
        one = partial(measured, load, concurrency=1, seconds=plan.seconds / 2, pause=plan.pause)
        noop, hit, noop_alone, hit_alone, miss_alone, noop_before = [], [], [], [], [], []
        for number in range(plan.rounds):
            tell(f"calls: round {number + 1} of {plan.rounds}")
            noop.append(await many(vault, "noop"))
            hit.append(await many(vault, "get", orgs))
            noop_alone.append(await one(vault, "noop"))
            hit_alone.append(await one(vault, "get", orgs))
            noop_before.append(await one(forgetful, "noop"))
            miss_alone.append(await one(forgetful, "get", orgs))
    return _figures(noop, hit, noop_alone, hit_alone, noop_before, miss_alone)


def _figures(
    noop: list[Measured],
    hit: list[Measured],
    noop_alone: list[Measured],
    hit_alone: list[Measured],
    noop_before: list[Measured],
    miss_alone: list[Measured],
) -> list[Figure]:
    def middle(rounds: list[Measured], share: float = 0.5) -> float:
        return median(percentile(each.result.latencies, share) * 1000 for each in rounds)

    noop_rate, hit_rate = median(each.rate for each in noop), median(each.rate for each in hit)
    noop_cost, hit_cost = median(each.cost for each in noop) * 1e6, median(each.cost for each in hit) * 1e6
    busy = median(each.busy for each in hit)
    return [
        Figure(
            name="get, from the vault's memory: calls/s ÷ no-op",
            value=hit_rate / noop_rate,
            unit="",
            reference=f"{hit_rate:.0f}/s, no-op {noop_rate:.0f}/s; the vault took {busy:.0%} of a core",
            goal="≥ 0.95",
        ),
        Figure(
            name="get, from the vault's memory: processor time a call ÷ no-op",
            value=hit_cost / noop_cost,
            unit="",
            reference=f"{hit_cost:.0f} µs, no-op {noop_cost:.0f} µs",
        ),
        Figure(
            name="get, from the vault's memory, one at a time: p50 ÷ no-op p50",
            value=middle(hit_alone) / middle(noop_alone),
            unit="",
            reference=f"{middle(hit_alone):.3f} ms, no-op {middle(noop_alone):.3f} ms",
            goal="≤ 1.05",
        ),
        Figure(
            name="get, from the vault's memory: p50",
            value=middle(hit_alone),
            unit="ms",
            reference=f"p99 {middle(hit_alone, 0.99):.2f} ms",
            goal="< 1",
        ),
        Figure(
            name="get, from the database: p50 less no-op p50",
            value=middle(miss_alone) - middle(noop_before),
            unit="ms",
            reference=f"{middle(miss_alone):.3f} ms, no-op {middle(noop_before):.3f} ms",
            goal="≤ 0.5",
        ),
        Figure(
            name="get, from the database: p99",
            value=middle(miss_alone, 0.99),
            unit="ms",
            reference=f"p50 {middle(miss_alone):.2f} ms",
            goal="< 100",
        ),
    ]
