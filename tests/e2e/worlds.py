"""Orgs whose integrations are as a card can show them, arranged through REST, the sandbox's faults and SQL."""

import asyncio
import uuid
from typing import Any

import httpx

from tenantvault import AsyncClient
from tests.e2e.conftest import Product
from tests.e2e.scene import Scene
from tests.e2e.test_consent import CALLBACK, consent
from tests.e2e.test_providers import API, TYPED_IN, body_of


async def nothing(_: Scene, __: str) -> None:
    """Nothing is connected."""


async def all_connected(scene: Scene, org: str) -> None:
    """Everything works, and was tested some time ago."""
    async with scene.product.api(org) as api:
        await asyncio.gather(*(_connect(api, provider) for provider in TYPED_IN), _allow(api, org))
    await _tested_ago(scene.product, org)


async def mixed(scene: Scene, org: str) -> None:
    """Connected, due to be replaced, limited, never connected, refused."""
    product = scene.product
    async with product.api(org) as api:
        await asyncio.gather(
            *(_connect(api, provider) for provider in ("vapi", "twilio", "elevenlabs")),
            _allow(api, org, sandbox_untick="calendar.calendarlist.readonly"),
        )
        await _refuse(product, api, "elevenlabs")
    await _due(product, org, "twilio", "3 days")
    await _tested_ago(product, org)


async def troubled(scene: Scene, org: str) -> None:
    """A setup that did not finish, one overdue to be replaced, a consent that is over, limited, disconnected."""
    product = scene.product
    bare = f"re_send{uuid.uuid4().hex[:4]}_{uuid.uuid4().hex[:24]}"
    async with product.api(org) as api:
        await product.sandbox("POST", "faults", _fault("vapi", 400, method="POST", path="/assistant"))
        assert not (await api.post(f"{API}/vapi", json=body_of("vapi"))).is_success
        await asyncio.gather(
            *(_connect(api, provider) for provider in ("twilio", "elevenlabs")),
            _connect(api, "resend", {"apiKey": bare}),
            _allow(api, org),
        )
        for provider in ("googleCalendar", "elevenlabs"):
            (await api.delete(f"{API}/{provider}")).raise_for_status()
    await _due(product, org, "twilio", "-2 days")
    await _tested_ago(product, org)


async def refused(scene: Scene, org: str) -> None:
    """Every provider has taken its yes back."""
    product = scene.product
    async with product.api(org) as api:
        await asyncio.gather(*(_connect(api, provider) for provider in TYPED_IN), _allow(api, org))
        for provider in (*TYPED_IN, "googleCalendar"):
            await _refuse(product, api, provider)


async def busy(scene: Scene, org: str) -> None:
    """Services read at different paces, a provider refused a key for a while, and somebody disconnected another."""
    product = scene.product
    await all_connected(scene, org)
    async with product.api(org) as api:
        await _refuse(product, api, "resend")
        (await api.post(f"{API}/resend/verify")).raise_for_status()
        await _refuse(product, api, "elevenlabs")
        (await api.delete(f"{API}/twilio")).raise_for_status()
        (await api.post(f"{API}/twilio/reconnect")).raise_for_status()
    async with _reader(product, "voice-agent") as agent, _reader(product, "webhook-processor") as processor:
        for often, read in (
            (34, agent.vapi),
            (21, agent.twilio),
            (13, agent.google_calendar),
            (8, processor.vapi),
            (5, processor.resend),
        ):
            for _ in range(often):
                await read(org)
    await _due(product, org, "vapi", "4 days")
    await _due(product, org, "elevenlabs", "-1 day")


def _reader(product: Product, peer: str) -> AsyncClient:
    # Without a memory: every read is one that the vault knows of.
    stack = product.stack
    return AsyncClient.connect(stack.vault_target, stack.tls(peer), provider_target=stack.provider_target, cache=None)


async def _connect(api: httpx.AsyncClient, provider: str, body: dict[str, str] | None = None) -> None:
    # Without a secret for their webhooks, these two work with a limit.
    hooks = {"resend": {"webhookSecret": f"whsec_{'A' * 32}"}, "elevenlabs": {"webhookSecret": uuid.uuid4().hex}}
    body = body or body_of(provider) | hooks.get(provider, {})
    (await api.post(f"{API}/{provider}", json=body)).raise_for_status()


async def _allow(api: httpx.AsyncClient, org: str, **how: str) -> None:
    came = await consent(api, f"calendar@{org}.example", **how)
    (await api.post(CALLBACK, json=came)).raise_for_status()


async def _refuse(product: Product, api: httpx.AsyncClient, provider: str) -> None:
    google = provider == "googleCalendar"
    fault = _fault("google", 401, path="/calendar/*") if google else _fault(provider, 401)
    await product.sandbox("POST", "faults", fault)
    (await api.post(f"{API}/{provider}/verify")).raise_for_status()
    await product.sandbox("DELETE", "faults")


async def _due(product: Product, org: str, provider: str, when: str) -> None:
    statement = "UPDATE tasks SET due_at = now() + $3::text::interval, by_hand = true WHERE org_id = $1"
    await product.sql(f"{statement} AND provider = $2 AND task = 'rotate'", org, provider, when)


async def _tested_ago(product: Product, org: str) -> None:
    statement = "UPDATE org_credentials SET last_verified_at = now() - interval '5 minutes' WHERE org_id = $1"
    await product.sql(statement, org)


def _fault(provider: str, status: int, **which: str) -> dict[str, Any]:
    return {"provider": provider, "status": status, "times": 9, **which}
