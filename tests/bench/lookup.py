"""Looking up whose an assistant is: from the vault's memory and from the database, one after another."""

from dataclasses import dataclass
from statistics import median

from tests.bench.figure import Figure
from tests.bench.ground import WHOLE_CACHE, loading, percentile, running, store
from tests.bench.load import Result
from tests.chaos.harness import Ground, Tell


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: rounds of each kind in turn, their length in seconds, and stored orgs."""

    rounds: int = 5
    seconds: float = 2.0
    orgs: int = 500


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Measure `ResolveOrg`."""
    async with (
        running(ground, "lookup", **WHOLE_CACHE) as vault,
        running(ground, "forgetful", TENANTVAULT_CACHE_ENTRIES="1") as forgetful,
        loading(ground, "webhook-processor") as load,
    ):
        assistants = [each.assistant for each in await store(vault, plan.orgs)]
        await load.round(vault, "resolve", assistants, calls=plan.orgs)
        taken: dict[str, list[Result]] = {"the vault's memory": [], "the database": []}
        for number in range(plan.rounds):
            tell(f"lookup: round {number + 1} of {plan.rounds}")
            for asked, results in zip((vault, forgetful), taken.values(), strict=True):
                results.append(await load.round(asked, "resolve", assistants, seconds=plan.seconds))
    return [_figure(where, results) for where, results in taken.items()]


def _figure(where: str, results: list[Result]) -> Figure:
    half, most = (median(percentile(each.latencies, share) * 1000 for each in results) for share in (0.5, 0.99))
    return Figure(
        name=f"look-up of an assistant, from {where}: p99",
        value=most,
        unit="ms",
        reference=f"p50 {half:.2f} ms",
        goal="< 10",
    )
