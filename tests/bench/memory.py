"""The vault's resident memory when its cache is full."""

from dataclasses import dataclass

from tests.bench.figure import Figure
from tests.bench.ground import loading, resident_mib, running, store
from tests.chaos.harness import Ground, Tell


@dataclass(frozen=True, slots=True)
class Plan:
    """How many credentials the vault remembers."""

    entries: int = 1000


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Measure the vault that stored all of it too, after it has given each by org and by resource, twice."""
    tell("memory")
    async with running(ground, "memory", TENANTVAULT_CACHE_ENTRIES=str(plan.entries)) as vault, loading(ground) as load:
        empty = resident_mib(vault.pid)
        stored = await store(vault, plan.entries)
        for method, keys in (
            ("get", [each.org for each in stored]),
            ("resolve_credential", [each.assistant for each in stored]),
        ):
            await load.round(vault, method, keys, concurrency=16, calls=plan.entries * 2)
        return [
            Figure(
                name="vault's resident memory, its cache full",
                value=resident_mib(vault.pid),
                unit="MiB",
                reference=f"{plan.entries} credentials remembered; {empty:.1f} MiB when it had just started",
                goal="≤ 120",
            )
        ]
