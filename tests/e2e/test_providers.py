"""What all five providers have in common, through every process: tried, connected, released, connected again."""

import asyncio
import uuid
from typing import Any

import pytest

from tenantvault import Provider
from tenantvault.errors import CredentialNotFound
from tests.e2e.conftest import Product
from tests.e2e.test_connect import assistants, new_org, twilio_account, vapi_key

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("stack")]

API = "/api/integrations"


def resend_key() -> str:
    return f"re_a{uuid.uuid4().hex[:7]}_{uuid.uuid4().hex[:24]}"


def elevenlabs_key() -> str:
    return f"sk_a{uuid.uuid4().hex[:15]}{uuid.uuid4().hex}"


def body_of(provider: str) -> dict[str, str]:
    match provider:
        case "vapi":
            return {"apiKey": vapi_key()}
        case "twilio":
            return twilio_account()
        case "resend":
            return {"apiKey": resend_key()}
        case _:
            return {"apiKey": elevenlabs_key()}


TYPED_IN = ["vapi", "twilio", "resend", "elevenlabs"]
REFUSED = [
    ("vapi", "fa110401-0000-4000-8000-000000000000"),
    ("resend", "re_fa110401_000000000000000000000000"),
    ("elevenlabs", "sk_fa110401" + "0" * 40),
]


async def stored(product: Product, org: str) -> int:
    rows = await product.sql("SELECT count(*) FROM credential_versions WHERE org_id = $1", org)
    return int(rows[0]["count"])


async def state_of(api: Any, provider: str) -> str:
    return str((await api.get(f"{API}/status")).raise_for_status().json()[provider]["state"])


@pytest.mark.parametrize("provider", ["resend", "elevenlabs"])
async def test_a_key_is_connected_and_served_over_grpc(product: Product, provider: str) -> None:
    org, body = new_org(), body_of(provider)
    async with product.api(org) as api:
        answer = await api.post(f"{API}/{provider}", json=body)
        assert 200 == answer.status_code, answer.text
        assert answer.json()["success"]
        assert "connected" == await state_of(api, provider)
    async with product.vault() as vault:
        got = await (vault.resend(org) if provider == "resend" else vault.elevenlabs(org))
    assert body["apiKey"] == got.credential.api_key.reveal()


@pytest.mark.parametrize("provider", TYPED_IN)
async def test_a_credential_is_tried_and_nothing_is_stored(product: Product, provider: str) -> None:
    org = new_org()
    async with product.api(org) as api:
        answer = await api.post(f"{API}/{provider}/test", json=body_of(provider))
        assert 200 == answer.status_code, answer.text
        assert (True, True) == (answer.json()["success"], answer.json()["accepted"])
        assert "empty" == await state_of(api, provider)
    assert 0 == await stored(product, org)
    assert [] == await assistants(product, org)


@pytest.mark.parametrize(("provider", "key"), REFUSED)
async def test_a_key_that_is_refused_stores_nothing_and_names_the_field(
    product: Product, provider: str, key: str
) -> None:
    org = new_org()
    async with product.api(org) as api:
        answer = await api.post(f"{API}/{provider}", json={"apiKey": key})
        assert (422, "INVALID_CREDENTIALS") == (answer.status_code, answer.json()["code"])
        assert ["apiKey"] == list(answer.json()["fields"])
        assert "empty" == await state_of(api, provider)
    assert 0 == await stored(product, org)


async def test_a_key_that_may_only_send_is_connected_and_the_card_says_so(product: Product) -> None:
    org, key = new_org(), f"re_send{uuid.uuid4().hex[:4]}_{uuid.uuid4().hex[:24]}"
    async with product.api(org) as api:
        made = (await api.post(f"{API}/resend", json={"apiKey": key})).raise_for_status().json()
        shown = (await api.get(f"{API}/status")).json()["resend"]
    assert made["warnings"]
    assert shown["connected"]
    assert set(shown["warnings"]) <= set(made["warnings"])
    assert not shown["rotatesByItself"]


@pytest.mark.parametrize(("provider", "key"), REFUSED)
async def test_a_tried_credential_that_is_refused_names_the_field(product: Product, provider: str, key: str) -> None:
    org = new_org()
    async with product.api(org) as api:
        refused = (await api.post(f"{API}/{provider}/test", json={"apiKey": key})).json()
        assert (True, False) == (refused["success"], refused["accepted"])
        assert ("INVALID_CREDENTIALS", "apiKey") == (refused["code"], refused["field"])
        assert refused["error"].endswith(".")
        assert "empty" == await state_of(api, provider)
    assert 0 == await stored(product, org)


async def test_a_tried_credential_leaves_the_connected_one_alone(product: Product) -> None:
    org, key = new_org(), vapi_key()
    async with product.api(org) as api, product.vault() as vault:
        await api.post(f"{API}/vapi", json={"apiKey": key})
        before = (await api.get(f"{API}/status")).json()["vapi"]
        for other in (vapi_key(), "fa110401-0000-4000-8000-000000000000"):
            (await api.post(f"{API}/vapi/test", json={"apiKey": other})).raise_for_status()
        assert before == (await api.get(f"{API}/status")).json()["vapi"]
        assert key == (await vault.vapi(org)).credential.api_key.reveal()


@pytest.mark.parametrize("provider", TYPED_IN)
async def test_a_disconnect_makes_it_unreadable_and_a_reconnect_readable_again(product: Product, provider: str) -> None:
    org = new_org()
    async with product.api(org) as api, product.vault() as vault:
        (await api.post(f"{API}/{provider}", json=body_of(provider))).raise_for_status()
        before = await vault.get(org, Provider(provider))
        gone = (await api.delete(f"{API}/{provider}")).raise_for_status().json()
        assert "unreleased" not in gone
        with pytest.raises(CredentialNotFound):
            await vault.get(org, Provider(provider))
        assert "disconnected" == await state_of(api, provider)
        back = (await api.post(f"{API}/{provider}/reconnect")).raise_for_status().json()
        assert back["connected"], back
        assert before.org_id == (await vault.get(org, Provider(provider))).org_id


async def test_a_disconnect_releases_the_assistants_and_a_reconnect_makes_them_again(product: Product) -> None:
    org = new_org()
    async with product.api(org) as api, product.vault() as vault:
        made = (await api.post(f"{API}/vapi", json={"apiKey": vapi_key()})).raise_for_status().json()
        assert {made["inboundAssistantId"], made["outboundAssistantId"]} == {
            assistant["id"] for assistant in await assistants(product, org)
        }
        (await api.delete(f"{API}/vapi")).raise_for_status()
        assert [] == await assistants(product, org)
        back = (await api.post(f"{API}/vapi/reconnect")).raise_for_status().json()
        again = await assistants(product, org)
        assert {back["inboundAssistantId"], back["outboundAssistantId"]} == {assistant["id"] for assistant in again}
        assert back["inboundAssistantId"] == (await vault.vapi(org)).resource("inbound")


async def test_what_cannot_be_released_is_named_and_the_disconnect_stands(product: Product) -> None:
    org = new_org()
    async with product.api(org) as api, product.vault() as vault:
        (await api.post(f"{API}/vapi", json={"apiKey": vapi_key()})).raise_for_status()
        fault = {"provider": "vapi", "method": "DELETE", "path": "/assistant/*", "status": 503, "times": 20}
        await product.sandbox("POST", "faults", fault)
        gone = (await api.delete(f"{API}/vapi")).raise_for_status().json()
        await product.sandbox("DELETE", "faults")
        assert gone["unreleased"]
        with pytest.raises(CredentialNotFound):
            await vault.vapi(org)


async def test_the_forms_ask_for_what_a_connect_takes(product: Product) -> None:
    async with product.api(new_org(), role="viewer") as api:
        providers = (await api.get(f"{API}/providers")).raise_for_status().json()["providers"]
    assert [*TYPED_IN[:2], "googleCalendar", *TYPED_IN[2:]] == [each["provider"] for each in providers]
    for each in providers:
        assert each["available"], each
        fields = {field["name"]: field for field in each["fields"]}
        if each["byConsent"]:
            assert (True, {}) == (bool(each["asksFor"]), fields)
            continue
        body = body_of(each["provider"])
        assert {name for name, field in fields.items() if field["required"]} <= set(body) <= set(fields)
        # Each of them is a field that the gateway takes: a wrong value is complained about, and not its name.
        async with product.api(new_org()) as api:
            answer = await api.post(f"{API}/{each['provider']}", json=dict.fromkeys(fields, "\u2603"))
        assert 422 == answer.status_code
        assert set(answer.json()["fields"]) <= set(fields)
        assert not [what for what in answer.json()["fields"].values() if "not known here" in what]


async def test_a_rotation_gives_the_services_another_key(product: Product) -> None:
    org, key = new_org(), resend_key()
    async with product.api(org) as api, product.vault() as vault:
        (await api.post(f"{API}/resend", json={"apiKey": key})).raise_for_status()
        begun = (await api.post(f"{API}/resend/rotate")).raise_for_status().json()
        assert (True, True) == (begun["success"], begun["connected"])
        async with asyncio.timeout(20):
            while key == (await vault.resend(org)).credential.api_key.reveal():  # noqa: ASYNC110 - another process makes it so
                await asyncio.sleep(0.1)
        assert "connected" == await state_of(api, "resend")
        again = await api.post(f"{API}/resend/rotate")
        assert "A rotation is under way" in again.json()["detail"]


async def test_what_cannot_be_rotated_says_so(product: Product) -> None:
    async with product.api(new_org()) as api:
        (await api.post(f"{API}/vapi", json={"apiKey": vapi_key()})).raise_for_status()
        answer = await api.post(f"{API}/vapi/rotate")
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["detail"].endswith(".")
