"""A revocation: how long after it was asked for a client's memory still gives what it took away.

Three vaults on one database, ten clients on connections of their own at each, all of which remember the credential.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tenantvault import AsyncClient, Provider
from tenantvault.channel import open_channel
from tests.bench.figure import Figure
from tests.bench.ground import percentile, store
from tests.chaos.harness import Ground, Tell, Vault, vaults
from tests.chaos.peers import VAPI, Peer

_LOOK_EVERY: Final = 0.001
"""Seconds. Clients that read without a pause would take the processor from the vaults that are to tell them."""

_WITHIN: Final = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: revocations, vaults, and clients at each."""

    rounds: int = 200
    vaults: int = 3
    clients: int = 10


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Revoke, through one vault after the other. AssertionError when a client goes on serving."""
    last, returned = [], []
    async with vaults(ground, plan.vaults) as made, _clients(ground, made, plan.clients) as clients:
        stored = await store(made[0], plan.rounds)
        for number, (each, vault) in enumerate(zip(stored, itertools.cycle(made), strict=False)):
            if number % 50 == 0:
                tell(f"revocation: round {number + 1} of {plan.rounds}")
            await asyncio.gather(*(_remember(client, each.org) for client in clients))
            serving = asyncio.create_task(_last_serve(clients, each.org))
            began = time.perf_counter()
            await Peer(vault.channel).disconnect(each.org, VAPI)
            returned.append(time.perf_counter() - began)
            last.append(max(await serving - began, 0.0))

    def by_rank(times: list[float], share: float) -> float:
        return percentile(times, share) * 1000

    return [
        Figure(
            name="a revocation is asked for → last serve by any client's memory: p99",
            value=by_rank(last, 0.99),
            unit="ms",
            reference=f"p50 {by_rank(last, 0.5):.1f} ms, longest {max(last) * 1000:.1f} ms;"
            f" the call itself p50 {by_rank(returned, 0.5):.1f} ms, p99 {by_rank(returned, 0.99):.1f} ms",
            goal="≤ 50",
        )
    ]


@asynccontextmanager
async def _clients(ground: Ground, made: Sequence[Vault], each: int) -> AsyncIterator[list[AsyncClient]]:
    tls = ground.authority.issue("voice-agent", server=False)
    async with AsyncExitStack() as stack:
        opened = [open_channel(vault.target, tls, own_connection=True) for vault in made for _ in range(each)]
        yield [await stack.enter_async_context(AsyncClient(channel)) for channel in opened]


async def _remember(client: AsyncClient, org: str) -> None:
    # An answer is kept once the watch was heard.
    while client.remembered(org, Provider.VAPI) is None:
        await client.vapi(org)


async def _last_serve(clients: Sequence[AsyncClient], org: str) -> float:
    """The moment at which a client gave it from memory for the last time, by the performance counter."""
    serving, last = list(clients), time.perf_counter()
    async with asyncio.timeout(_WITHIN):
        while serving := [client for client in serving if client.remembered(org, Provider.VAPI) is not None]:
            last = time.perf_counter()
            await asyncio.sleep(_LOOK_EVERY)
    return last
