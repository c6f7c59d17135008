"""GET /api/integrations/status, as the dashboard asks it: gateway, vault and PostgreSQL of a whole local stack."""

import time
from dataclasses import dataclass
from statistics import median

import httpx

from deploy.local.bearer import bearer_token
from deploy.local.stack import Stack
from tenantvault.channel import open_channel
from tests.bench.figure import Figure
from tests.bench.ground import percentile
from tests.chaos.harness import Ground, Tell
from tests.chaos.peers import TWILIO, VAPI, Peer

_ORG = "bench"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: rounds of each kind in turn, and requests of a round."""

    rounds: int = 5
    requests: int = 300


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Measure, one request after another over one connection. AssertionError when one is not answered by 200."""
    async with Stack(ground.folder / "stack") as stack:
        await _connect(stack)
        token = bearer_token(stack.jwt_secret.read_text("utf-8"), _ORG, role="admin")
        headers = {"Authorization": f"Bearer {token}"}
        status: list[list[float]] = []
        noop: list[list[float]] = []
        async with httpx.AsyncClient(base_url=stack.gateway_url, headers=headers) as client:
            answer = (await client.get("/api/integrations/status")).json()
            assert [name for name, shown in answer.items() if shown["connected"]] == ["vapi", "twilio"], answer
            for number in range(plan.rounds):
                tell(f"status: round {number + 1} of {plan.rounds}")
                noop.append(await _round(client, "/healthz", plan.requests))
                status.append(await _round(client, "/api/integrations/status", plan.requests))

    def middle(rounds: list[list[float]], share: float) -> float:
        return median(percentile(each, share) * 1000 for each in rounds)

    return [
        Figure(
            name="GET /api/integrations/status: p50",
            value=middle(status, 0.5),
            unit="ms",
            reference=f"/healthz {middle(noop, 0.5):.2f} ms",
            goal="≤ 5",
        ),
        Figure(
            name="GET /api/integrations/status: p99",
            value=middle(status, 0.99),
            unit="ms",
            reference=f"/healthz {middle(noop, 0.99):.2f} ms",
            goal="< 100",
        ),
    ]


async def _connect(stack: Stack) -> None:
    channel = open_channel(stack.vault_target, stack.tls("provider"))
    peer = Peer(lambda _: channel)
    for provider in (VAPI, TWILIO):
        await peer.connect(_ORG, provider, 1)
    await channel.close()


async def _round(client: httpx.AsyncClient, path: str, requests: int) -> list[float]:
    taken = []
    for _ in range(requests):
        began = time.perf_counter()
        answer = await client.get(path)
        taken.append(time.perf_counter() - began)
        assert answer.status_code == httpx.codes.OK, answer.status_code
    return taken
