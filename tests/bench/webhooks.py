"""Webhooks: what finding the org and verifying adds until a handler has the event.

A hundred senders at once send Vapi's reports of ended calls to the client library's ASGI application, for a thousand
orgs, of which few have most calls (Zipf). They send without a pause, and the application is called in the senders'
process, without a server for HTTP: what is measured is ours alone, on a processor that is never idle.
"""

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantvault import AsyncClient, Provider, ResourceKind
from tenantvault.errors import NotFound
from tenantvault.webhooks import Event, Webhooks
from tests.bench.figure import Figure
from tests.bench.ground import WHOLE_CACHE, Stored, percentile, running, store
from tests.chaos.harness import Ground, Tell

_TRANSCRIPT: Final = "User: Can I come on Tuesday?\nAI: At ten there is a place left.\n" * 40
_STATUS_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: orgs, senders at once, webhooks until it is warm, and webhooks that count."""

    orgs: int = 1000
    senders: int = 100
    warm_up: int = 20_000
    counted: int = 20_000
    seed: int = 1


class _Senders:
    """The senders, and the handler to which the events are to come."""

    def __init__(self, client: AsyncClient, stored: Sequence[Stored], plan: Plan) -> None:
        self._hooks = Webhooks(client, public_url="https://hooks.example.com")
        self._hooks.on(Provider.VAPI)(self._handle)
        self._stored = stored
        self._weights = [1 / rank for rank in range(1, len(stored) + 1)]
        self._chance = random.Random(plan.seed)
        self._senders = plan.senders
        self._handled: dict[str, float] = {}

    async def send(self, count: int) -> list[float]:
        """Send so many webhooks; how long each took to the handler. AssertionError when one was not accepted."""
        left = iter(self._chance.choices(self._stored, self._weights, k=count))
        added: list[float] = []
        await asyncio.gather(*(self._sender(left, added) for _ in range(self._senders)))
        assert len(added) == count
        return added

    async def _sender(self, left: Iterator[Stored], added: list[float]) -> None:
        for whose in left:
            call_id = str(uuid.uuid4())
            scope, body = _report(whose, call_id)
            statuses: list[int] = []

            async def receive(body: bytes = body) -> dict[str, Any]:
                return {"type": "http.request", "body": body}

            async def send(message: Any, statuses: list[int] = statuses) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            began = time.perf_counter()
            await self._hooks(scope, receive, send)
            assert statuses == [_STATUS_OK], statuses
            added.append(self._handled.pop(call_id) - began)
            # The others are as fast.
            await asyncio.sleep(0)

    async def _handle(self, event: Event) -> None:
        self._handled[event.payload["message"]["call"]["id"]] = time.perf_counter()


def _report(whose: Stored, call_id: str) -> tuple[dict[str, Any], bytes]:
    message = {
        "type": "end-of-call-report",
        "call": {"id": call_id, "assistantId": whose.assistant},
        "artifact": {"transcript": _TRANSCRIPT},
    }
    body = json.dumps({"message": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-vapi-secret", whose.secret.encode()),
    ]
    scope = {"type": "http", "method": "POST", "path": "/vapi", "raw_path": b"/vapi", "headers": headers}
    return scope, body


async def run(ground: Ground, plan: Plan, tell: Tell) -> list[Figure]:
    """Measure; first with an empty memory, then with what the same traffic has filled it with."""
    tls = ground.authority.issue("webhook-processor", server=False)
    async with (
        running(ground, "webhooks", **WHOLE_CACHE) as vault,
        AsyncClient.connect(vault.target, tls) as client,
    ):
        senders = _Senders(client, await store(vault, plan.orgs), plan)
        # No webhooks are sent to a processor before it is ready: before its vault answers, as the example has it.
        with contextlib.suppress(NotFound):
            await client.resolve_org(ResourceKind.VAPI_ASSISTANT, "nobody's")
        tell(f"webhooks: {plan.warm_up} to warm up")
        cold = await senders.send(plan.warm_up)
        before = client.cache_statistics
        tell(f"webhooks: {plan.counted} that count")
        began = time.perf_counter()
        warm = await senders.send(plan.counted)
        seconds = time.perf_counter() - began
        after = client.cache_statistics
    hits, misses = after.hits - before.hits, after.misses - before.misses
    return [
        Figure(
            name="webhook, found and verified: p99",
            value=percentile(warm, 0.99) * 1000,
            unit="ms",
            reference=f"p50 {percentile(warm, 0.5) * 1000:.3f} ms; {plan.counted / seconds:.0f}/s from"
            f" {plan.senders} senders",
            goal="≤ 5",
        ),
        Figure(
            name="webhook, found and verified, while the memory fills: p99",
            value=percentile(cold, 0.99) * 1000,
            unit="ms",
            reference=f"p50 {percentile(cold, 0.5) * 1000:.3f} ms; the first {plan.warm_up}",
            goal="< 100",
        ),
        Figure(
            name="webhook, share whose org and secret were in the client's memory",
            value=100 * hits / (hits + misses),
            unit="%",
            reference=f"{plan.orgs} orgs, Zipf, after {plan.warm_up}",
            goal="≥ 99",
        ),
    ]
