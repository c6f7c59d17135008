"""The client: an answer from its own memory, for tasks and for threads, against the vault's over the network."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import median

from tenantvault import AsyncClient, Client, Provider
from tests.bench.figure import Figure
from tests.bench.ground import WHOLE_CACHE, percentile, running, store
from tests.chaos.harness import Ground, Tell


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: rounds of each kind in turn, calls of a round from memory and over the network, and stored orgs."""

    rounds: int = 7
    calls: int = 100_000
    network_calls: int = 1000
    orgs: int = 500


@dataclass(slots=True)
class _Measured:
    """Of each round: the median and the 99th percentile of a call in seconds, and calls per second of processor."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)

    def note(self, taken: Sequence[float], rate: float) -> None:
        self.p50.append(percentile(taken, 0.5))
        self.p99.append(percentile(taken, 0.99))
        self.rate.append(rate)


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Measure in this process; only the vault is another. AssertionError when a call missed the memory."""
    tls = ground.authority.issue("voice-agent", server=False)
    tasks, threads, network = _Measured(), _Measured(), _Measured()
    async with running(ground, "client", **WHOLE_CACHE) as vault:
        orgs = [each.org for each in await store(vault, plan.orgs)]
        async with (
            AsyncClient.connect(vault.target, tls) as client,
            AsyncClient.connect(vault.target, tls, cache=None) as forgetful,
        ):
            with Client.connect(vault.target, tls) as blocking:
                await _warm(client, orgs)
                await asyncio.to_thread(_warm_blocking, blocking, orgs)
                before = _misses(client, blocking)
                for number in range(plan.rounds):
                    tell(f"client: round {number + 1} of {plan.rounds}")
                    tasks.note(*await _round(client, _some(orgs, plan.calls)))
                    threads.note(*await asyncio.to_thread(_round_blocking, blocking, _some(orgs, plan.calls)))
                    network.note(*await _round(forgetful, _some(orgs, plan.network_calls)))
                assert _misses(client, blocking) == before
    return _figures(tasks, threads, network)


def _some(orgs: Sequence[str], count: int) -> list[str]:
    return list(islice(cycle(orgs), count))


def _misses(*clients: AsyncClient | Client) -> int:
    return sum(client.cache_statistics.misses for client in clients)


# An answer is kept once the watch was heard: until then it is asked for again.


async def _warm(client: AsyncClient, orgs: Iterable[str]) -> None:
    for org in orgs:
        while client.remembered(org, Provider.VAPI) is None:
            await client.vapi(org)


def _warm_blocking(client: Client, orgs: Iterable[str]) -> None:
    for org in orgs:
        while client.remembered(org, Provider.VAPI) is None:
            client.vapi(org)


async def _round(client: AsyncClient, orgs: Sequence[str]) -> tuple[list[float], float]:
    taken = []
    for org in orgs:
        began = time.perf_counter()
        await client.vapi(org)
        taken.append(time.perf_counter() - began)
    began = time.thread_time()
    for org in orgs:
        await client.vapi(org)
    return taken, len(orgs) / (time.thread_time() - began)


def _round_blocking(client: Client, orgs: Sequence[str]) -> tuple[list[float], float]:
    taken = []
    for org in orgs:
        began = time.perf_counter()
        client.vapi(org)
        taken.append(time.perf_counter() - began)
    began = time.thread_time()
    for org in orgs:
        client.vapi(org)
    return taken, len(orgs) / (time.thread_time() - began)


def _figures(tasks: _Measured, threads: _Measured, network: _Measured) -> list[Figure]:
    figures = []
    for kind, measured in (("asyncio", tasks), ("threads", threads)):
        figures += [
            Figure(
                name=f"client's memory, {kind}: p50",
                value=median(measured.p50) * 1e6,
                unit="µs",
                reference=f"p99 {median(measured.p99) * 1e6:.2f} µs, the clock's own time included",
                goal="≤ 3",
            ),
            Figure(
                name=f"client's memory, {kind}: calls per second of processor",
                value=median(measured.rate),
                unit="/s",
                reference="several orgs in turn, one caller",
                goal="≥ 200000",
            ),
        ]
    ratio = median(network.p50) / median(tasks.p50)
    figures.append(
        Figure(
            name="vault's memory over the network ÷ client's memory: p50",
            value=ratio,
            unit="",
            reference=f"{median(network.p50) * 1e3:.3f} ms, {median(tasks.p50) * 1e6:.2f} µs, both by asyncio",
            goal="≥ 100",
        )
    )
    return figures
