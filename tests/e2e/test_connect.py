"""Connecting through every process: happy, refused, interrupted, crowded."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from tenantvault import Provider, ResourceKind
from tenantvault.errors import CredentialNotFound
from tests.e2e.conftest import Product

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("stack")]

STEPS = ["leased", "tested", "stored", "assistant_inbound", "assistant_outbound", "provisioned", "registered"]


def new_org() -> str:
    return f"org-{uuid.uuid4().hex[:12]}"


def vapi_key() -> str:
    return f"aaaaaaaa-{uuid.uuid4().hex[:4]}-4000-8000-{uuid.uuid4().hex[:12]}"


def twilio_account() -> dict[str, str]:
    digits = f"ab{uuid.uuid4().hex[:20]}{'2' + str(uuid.uuid4().int)[:9]}"
    return {"accountSid": f"AC{digits}", "authToken": digits[::-1], "phoneNumber": f"+1{digits[-10:]}"}


async def assistants(product: Product, org: str) -> list[dict[str, Any]]:
    accounts = (await product.sandbox("GET", "state"))["vapi"]["assistants"]
    return [
        assistant
        for held in accounts.values()
        for assistant in held
        if assistant.get("metadata", {}).get("tenant_id") == org
    ]


async def active_versions(product: Product, org: str) -> list[int]:
    rows = await product.sql("SELECT version FROM org_credentials WHERE org_id = $1 AND is_active", org)
    return [row["version"] for row in rows]


async def test_a_connected_org_is_served_over_grpc(product: Product) -> None:
    org, key, account = new_org(), vapi_key(), twilio_account()
    async with product.api(org) as api:
        vapi = (await api.post("/api/integrations/vapi", json={"apiKey": key})).raise_for_status().json()
        twilio = (await api.post("/api/integrations/twilio", json=account)).raise_for_status().json()
        status = (await api.get("/api/integrations/status")).raise_for_status().json()
    assert (True, True) == (vapi["success"], twilio["success"])
    assert [True, True, False, False, False] == [
        status[name]["connected"] for name in ("vapi", "twilio", "googleCalendar", "resend", "elevenlabs")
    ]
    async with product.vault() as vault:
        got = await vault.vapi(org)
        assert key == got.credential.api_key.reveal()
        assert got.credential.webhook_secret
        assert vapi["inboundAssistantId"] == got.resource("inbound")
        assert vapi["outboundAssistantId"] == got.resource("outbound")
        assert account["authToken"] == (await vault.twilio(org)).credential.auth_token.reveal()
    async with product.vault("webhook-processor") as vault:
        found = await vault.resolve_org(ResourceKind.VAPI_ASSISTANT, vapi["inboundAssistantId"])
        assert (org, "inbound") == (found.org_id, found.role)
        resolved = await vault.resolve_credential(ResourceKind.PHONE_NUMBER, account["phoneNumber"], Provider.TWILIO)
        assert (org, account["accountSid"]) == (resolved.org_id, resolved.credential.account_sid)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as vendor:
        made = await vendor.get(f"{product.stack.sandbox_url}/vapi/assistant/{vapi['inboundAssistantId']}")
    assert {"X-Vapi-Secret": got.credential.webhook_secret.reveal()} == made.json()["server"]["headers"]


async def test_verify_disconnect_and_reconnect(product: Product) -> None:
    org, key = new_org(), vapi_key()
    async with product.api(org) as api, product.vault() as vault:
        await api.post("/api/integrations/vapi", json={"apiKey": key})
        verified = (await api.post("/api/integrations/vapi/verify")).raise_for_status().json()
        assert (True, None) == (verified["connected"], verified["error"])
        assert (await api.delete("/api/integrations/vapi")).raise_for_status().json()["success"]
        with pytest.raises(CredentialNotFound):
            await vault.vapi(org)
        assert "disconnected" == (await api.get("/api/integrations/status")).json()["vapi"]["state"]
        assert (await api.post("/api/integrations/vapi/reconnect")).raise_for_status().json()["connected"]
        assert key == (await vault.vapi(org)).credential.api_key.reveal()


async def test_a_refused_key_stores_nothing_and_names_the_field(product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        answer = await api.post("/api/integrations/vapi", json={"apiKey": "fa110401-0000-4000-8000-000000000000"})
        status = (await api.get("/api/integrations/status")).json()
    problem = answer.json()
    assert (422, "INVALID_CREDENTIALS", False) == (answer.status_code, problem["code"], problem["success"])
    assert ["apiKey"] == list(problem["fields"])
    assert problem["fields"]["apiKey"].endswith(".")
    assert "empty" == status["vapi"]["state"]
    assert [] == await product.sql("SELECT 1 FROM credential_versions WHERE org_id = $1", org)


async def test_a_refused_twilio_token_stores_nothing_and_names_the_field(product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        answer = await api.post("/api/integrations/twilio", json={**twilio_account(), "authToken": "0" * 32})
    assert (422, "INVALID_CREDENTIALS") == (answer.status_code, answer.json()["code"])
    assert "authToken" in answer.json()["fields"]
    assert [] == await product.sql("SELECT 1 FROM credential_versions WHERE org_id = $1", org)


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("fa110429-0000-4000-8000-000000000000", 429, "RATE_LIMITED"),
        ("fa110500-0000-4000-8000-000000000000", 503, "PROVIDER_UNAVAILABLE"),
        ("fa110502-0000-4000-8000-000000000000", 503, "PROVIDER_UNAVAILABLE"),
        ("fa110504-0000-4000-8000-000000000000", 503, "PROVIDER_UNAVAILABLE"),
    ],
)
async def test_a_provider_that_gives_no_answer_leaves_the_connection_as_it_was(
    product: Product, key: str, status: int, code: str
) -> None:
    org, good = new_org(), vapi_key()
    async with product.api(org) as api, product.vault() as vault:
        await api.post("/api/integrations/vapi", json={"apiKey": good})
        before = (await api.get("/api/integrations/status")).json()["vapi"]
        answer = await api.post("/api/integrations/vapi", json={"apiKey": key})
        after = (await api.get("/api/integrations/status")).json()["vapi"]
        assert good == (await vault.vapi(org)).credential.api_key.reveal()
    assert (status, code) == (answer.status_code, answer.json()["code"])
    assert int(answer.headers["Retry-After"]) >= 1
    assert before == after


async def test_a_failed_verification_that_is_no_refusal_changes_nothing(product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        await api.post("/api/integrations/vapi", json={"apiKey": vapi_key()})
        before = (await api.get("/api/integrations/status")).json()["vapi"]
        fault = {"provider": "vapi", "method": "GET", "path": "/assistant", "status": 503, "times": 3}
        await product.sandbox("POST", "faults", fault)
        answer = await api.post("/api/integrations/vapi/verify")
        await product.sandbox("DELETE", "faults")
        after = (await api.get("/api/integrations/status")).json()["vapi"]
    assert 503 == answer.status_code
    assert before == after


@pytest.mark.parametrize("step", STEPS)
async def test_a_connect_killed_after_any_step_is_finished_by_a_retry(product: Product, step: str) -> None:
    org, key = new_org(), vapi_key()
    async with product.api(org) as api, product.vault() as vault:
        # Work in the background has steps of these names too.
        settings = {"TENANTVAULT_PROVIDER_ROLE": "serve", "TENANTVAULT_CHECKPOINT_KILL": step}
        settings |= {"TENANTVAULT_CONNECT_LEASE_SECONDS": "1"}
        await product.restart_provider(settings)
        killed = await api.post("/api/integrations/vapi", json={"apiKey": key})
        assert 503 == killed.status_code, killed.text
        if step != "registered":
            with pytest.raises(CredentialNotFound):
                await vault.vapi(org)
        await product.restart_provider()
        retried = await api.post("/api/integrations/vapi", json={"apiKey": key})
        assert 200 == retried.status_code, retried.text
        got = await vault.vapi(org)
    made = await assistants(product, org)
    assert {"inbound": 1, "outbound": 1} == {
        role: sum(assistant["metadata"]["role"] == role for assistant in made) for role in ("inbound", "outbound")
    }
    assert 2 == len(made)
    assert [1] == await active_versions(product, org)
    assert key == got.credential.api_key.reveal()
    assert retried.json()["inboundAssistantId"] == got.resource("inbound")


async def test_a_connect_killed_while_the_provider_creates_is_finished_by_a_retry(product: Product) -> None:
    org, key = new_org(), vapi_key()
    async with product.api(org) as api:
        await product.restart_provider({"TENANTVAULT_CONNECT_LEASE_SECONDS": "1"})
        fault = {"provider": "vapi", "method": "POST", "path": "/assistant", "delay": 20, "after_effect": True}
        await product.sandbox("POST", "faults", fault)
        connect = asyncio.create_task(api.post("/api/integrations/vapi", json={"apiKey": key}))
        async with asyncio.timeout(20):
            while not await assistants(product, org):  # noqa: ASYNC110 - another process makes it so
                await asyncio.sleep(0.02)
        await product.stack.kill("provider")
        assert 503 == (await connect).status_code
        await product.restart_provider()
        retried = await api.post("/api/integrations/vapi", json={"apiKey": key})
        assert 200 == retried.status_code, retried.text
    assert 2 == len(await assistants(product, org))
    assert [1] == await active_versions(product, org)


async def test_a_create_that_times_out_after_its_effect_makes_no_twin(product: Product) -> None:
    org = new_org()
    fault = {"provider": "vapi", "method": "POST", "path": "/assistant", "drop": True, "after_effect": True, "times": 2}
    await product.sandbox("POST", "faults", fault)
    async with product.api(org) as api:
        answer = await api.post("/api/integrations/vapi", json={"apiKey": vapi_key()})
    assert 200 == answer.status_code, answer.text
    assert 2 == len(await assistants(product, org))


async def test_fifty_concurrent_connects_end_with_one_active_version_and_no_duplicate(product: Product) -> None:
    org, key = new_org(), vapi_key()
    async with product.api(org) as api:
        answers = await asyncio.gather(*(api.post("/api/integrations/vapi", json={"apiKey": key}) for _ in range(50)))
    assert {200} == {answer.status_code for answer in answers}
    assert 1 == len({answer.json()["inboundAssistantId"] for answer in answers})
    assert 2 == len(await assistants(product, org))
    assert [1] == await active_versions(product, org)
    rows = await product.sql("SELECT count(*) FROM credential_versions WHERE org_id = $1", org)
    assert 1 == rows[0]["count"]


async def test_a_number_of_another_org_is_refused_without_telling_whose_it_is(product: Product) -> None:
    account, first, second = twilio_account(), new_org(), new_org()
    async with product.api(first) as api:
        assert 200 == (await api.post("/api/integrations/twilio", json=account)).status_code
    async with product.api(second) as api:
        answer = await api.post("/api/integrations/twilio", json=account)
        status = (await api.get("/api/integrations/status")).json()["twilio"]
    assert (409, "RESOURCE_CONFLICT") == (answer.status_code, answer.json()["code"])
    assert first not in answer.text
    assert not status["connected"]
