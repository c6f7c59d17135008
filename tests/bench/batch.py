"""A batch: which orgs a thousand resources belong to, from the vault's memory."""

from dataclasses import dataclass
from statistics import median

from tenantvault.channel import call
from tenantvault.v1 import credential_pb2 as pb
from tenantvault.v1 import directory_service_pb2 as directory
from tenantvault.v1.directory_service_pb2_grpc import OrgDirectoryServiceStub
from tests.bench.calls import measured
from tests.bench.figure import Figure
from tests.bench.ground import WHOLE_CACHE, loading, percentile, running, store
from tests.chaos.harness import Ground, Tell, Vault

_AT_ONCE = 2
"""So that the vault never waits for the load."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: rounds, their length in seconds, and the keys of a batch."""

    rounds: int = 5
    seconds: float = 2.0
    keys: int = 1000


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Measure. AssertionError when a key leads nowhere."""
    async with running(ground, "batch", **WHOLE_CACHE) as vault, loading(ground) as load:
        keys = [each.assistant for each in await store(vault, plan.keys)]
        await _all_found(vault, keys)
        rounds = []
        for number in range(plan.rounds):
            tell(f"batch: round {number + 1} of {plan.rounds}")
            rounds.append(
                await measured(load, vault, "batch_resolve", keys, concurrency=_AT_ONCE, seconds=plan.seconds)
            )
    latency = median(percentile(each.result.latencies, 0.5) for each in rounds)
    return [
        Figure(
            name="BatchResolveOrgs, from the vault's memory: keys per second of the vault's processor",
            value=plan.keys / median(each.cost for each in rounds),
            unit="/s",
            reference=f"{plan.keys} keys a call, {_AT_ONCE} calls at once, p50 {latency * 1000:.1f} ms",
            goal="≥ 100000",
        )
    ]


async def _all_found(vault: Vault, keys: list[str]) -> None:
    """Ask once, so that the vault remembers all of them."""
    every = [directory.ResourceKey(kind=pb.RESOURCE_KIND_VAPI_ASSISTANT, resource_id=key) for key in keys]
    stub = OrgDirectoryServiceStub(vault.channel("voice-agent"))
    answer = await call(stub.BatchResolveOrgs, directory.BatchResolveOrgsRequest(keys=every), deadline=30)
    assert all(outcome.HasField("org") for outcome in answer.outcomes)
