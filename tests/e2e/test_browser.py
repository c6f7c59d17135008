"""A person connects Vapi and Twilio in a real browser; an internal service then fetches both."""

import asyncio
import json
import os
import subprocess
import sys

import pytest
from playwright.async_api import Page, expect

from tests.e2e.conftest import Product
from tests.e2e.test_connect import new_org, vapi_key
from tests.e2e.test_providers import elevenlabs_key, resend_key

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("stack"),
]

VAPI_KEY = "ac3e0000-0000-4000-8000-000000000001"
TWILIO = {
    "accountSid": "ACac3e0000000000000000002025550100",
    "authToken": "0010555202000000000000000000e3ca",
    "phoneNumber": "+12025550100",
}

# Run by an interpreter of its own, as an internal service would: nothing but the client library and its certificate.
FETCH = """
import json, sys
from tenantvault import Client, ResourceKind
with Client.from_env() as vault:
    vapi = vault.vapi("acme")
    twilio = vault.twilio("acme")
    org = vault.resolve_org(ResourceKind.VAPI_ASSISTANT, sys.argv[1])
    print(json.dumps({
        "apiKey": vapi.credential.api_key.reveal(),
        "webhookSecret": len(vapi.credential.webhook_secret.reveal()),
        "authToken": twilio.credential.auth_token.reveal(),
        "accountSid": twilio.credential.account_sid,
        "org": org.org_id,
        "role": org.role,
    }))
"""


async def sign_in(page: Page, org: str) -> None:
    await page.goto("/")
    await page.get_by_role("button", name=org).click()
    await expect(page.locator("#org")).to_have_text(org)


async def hand_over(page: Page, product: Product, org: str) -> None:
    """Come in as the host application sends people in: with a token of its own."""
    await page.goto("/sign-in")
    async with product.api(org) as api:
        authorization = api.headers["Authorization"]
    exchange = (
        "authorization => fetch('/session', {method: 'POST', headers: {authorization}}).then(answer => answer.ok)"
    )
    assert await page.evaluate(exchange, authorization)
    await page.goto("/")
    await expect(page.locator("#org")).to_have_text(org)


async def until_state(page: Page, provider: str, state: str) -> None:
    await expect(page.locator(f'integration-card[data-provider="{provider}"]')).to_have_attribute(
        "data-state", state, timeout=15_000
    )


async def test_a_person_connects_and_a_service_fetches(page: Page, product: Product) -> None:
    await sign_in(page, "acme")
    await expect(page.locator("integration-card")).to_have_count(5)
    await expect(page.locator("#sandbox-label")).to_be_visible()
    await until_state(page, "vapi", "empty")

    await page.locator('[data-provider="vapi"] [data-action="connect"]').click()
    await page.locator("#apiKey").fill(VAPI_KEY)
    await page.locator('[data-action="submit"]').click()
    assistant = await page.locator('code[data-result="inboundAssistantId"]').inner_text()
    await page.locator('[data-action="done"]').click()
    await until_state(page, "vapi", "connected")

    await page.locator('[data-provider="twilio"] [data-action="connect"]').click()
    for name, value in TWILIO.items():
        await page.locator(f"#{name}").fill(value)
    await page.locator('[data-action="submit"]').click()
    shown = await page.locator('code[data-result="phoneNumber"]').inner_text()
    await page.locator('[data-action="done"]').click()
    await until_state(page, "twilio", "connected")
    assert shown.endswith("0100")
    assert TWILIO["phoneNumber"] != shown
    content = await page.content()
    assert VAPI_KEY not in content
    assert TWILIO["authToken"] not in content

    tls = product.stack.tls("voice-agent")
    environ = {
        "PATH": os.environ["PATH"],
        "TENANTVAULT_VAULT_TARGET": product.stack.vault_target,
        "TENANTVAULT_TLS_CERT": str(tls.certificate),
        "TENANTVAULT_TLS_KEY": str(tls.key),
        "TENANTVAULT_TLS_CA": str(tls.authorities),
    }
    command = [sys.executable, "-c", FETCH, assistant]
    fetched = await asyncio.to_thread(
        subprocess.run, command, env=environ, capture_output=True, text=True, check=True, timeout=30
    )
    assert {
        "apiKey": VAPI_KEY,
        "webhookSecret": 43,
        "authToken": TWILIO["authToken"],
        "accountSid": TWILIO["accountSid"],
        "org": "acme",
        "role": "inbound",
    } == json.loads(fetched.stdout)

    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/sign-in")
    await sign_in(page, "globex")
    await until_state(page, "vapi", "empty")
    await until_state(page, "twilio", "empty")
    assert assistant not in await page.content()


async def test_signing_in_again_leads_back_to_where_somebody_was(page: Page, product: Product) -> None:
    await sign_in(page, "acme")
    await page.goto("/activity?provider=resend")
    await page.context.clear_cookies()
    await page.locator('[data-action="refresh"]').click()
    again = page.get_by_role("link", name="Sign in again")
    await expect(again).to_be_visible()
    # As when somebody chooses something else meanwhile.
    await page.evaluate("history.pushState(null, '', '?provider=vapi&failed=true')")
    await again.click()
    # Its buttons do nothing before its script has run.
    await page.wait_for_url("**/sign-in?**")
    await page.get_by_role("button", name="acme").click()
    await expect(page).to_have_url(f"{product.stack.gateway_url}/activity?provider=vapi&failed=true")
    await expect(page.locator("#org")).to_have_text("acme")


async def test_signing_in_leads_to_no_other_site(page: Page, product: Product) -> None:
    for elsewhere in (
        "//evil.example",
        "/%5Cevil.example",
        "%2F%2Fevil.example",
        "/%09/evil.example",
        "https://evil.example/",
        "javascript:document.title=1",
    ):
        await page.context.clear_cookies()
        await page.goto(f"/sign-in?next={elsewhere}")
        await page.get_by_role("button", name="acme").click()
        await expect(page.locator("#org")).to_have_text("acme")
        assert f"{product.stack.gateway_url}/" == page.url


async def test_a_refused_key_is_explained_beside_its_field_and_leaves_the_page(page: Page, product: Product) -> None:
    refused = "fa110401-0000-4000-8000-000000000000"
    await hand_over(page, product, new_org())
    await page.locator('[data-provider="vapi"] [data-action="connect"]').click()
    field = page.locator("#apiKey")
    await field.fill("short")
    await page.keyboard.press("Enter")
    await expect(field).to_have_attribute("aria-invalid", "true")
    await field.fill(refused)
    await page.keyboard.press("Enter")
    problem = page.locator('[data-field-problem="apiKey"]')
    await expect(problem).to_be_visible()
    await expect(problem).not_to_be_empty()
    await expect(field).to_have_value("")
    await expect(field).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("#connect-dialog")).not_to_be_visible()
    await until_state(page, "vapi", "empty")
    assert refused not in await page.content()


async def test_the_keyboard_alone_disconnects_and_reconnects(page: Page, product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        (await api.post("/api/integrations/vapi", json={"apiKey": vapi_key()})).raise_for_status()
    await hand_over(page, product, org)
    await until_state(page, "vapi", "connected")
    await page.locator('[data-provider="vapi"] [data-action="disconnect"]').focus()
    await page.keyboard.press("Enter")
    dialog = page.locator("#disconnect-dialog")
    await expect(dialog).to_be_visible()
    await dialog.locator('[data-action="confirm-disconnect"]').focus()
    await page.keyboard.press("Enter")
    await until_state(page, "vapi", "disconnected")
    await page.locator('[data-provider="vapi"] [data-action="reconnect"]').focus()
    await page.keyboard.press("Enter")
    await until_state(page, "vapi", "connected")


@pytest.mark.parametrize("provider", ["resend", "elevenlabs"])
async def test_a_form_is_what_the_server_describes(page: Page, product: Product, provider: str) -> None:
    key = resend_key() if provider == "resend" else elevenlabs_key()
    await hand_over(page, product, new_org())
    await page.locator(f'[data-provider="{provider}"] [data-action="connect"]').click()
    await page.locator('[data-action="submit"]').click()
    await expect(page.locator("#apiKey")).to_be_focused()
    await expect(page.locator('[data-field-problem="apiKey"]')).not_to_be_empty()
    await page.locator("#apiKey").fill(f'  "Bearer {key}" ')
    # What few people need stands aside, and comes forth when something is wrong with it.
    hidden = page.locator("#webhookSecret")
    await expect(hidden).not_to_be_visible()
    await page.locator("summary").click()
    await hidden.fill("short")
    await page.locator("summary").click()
    await page.locator('[data-action="submit"]').click()
    await expect(hidden).to_be_focused()
    await expect(hidden).to_have_attribute("aria-invalid", "true")
    await hidden.fill("")
    await page.locator('[data-action="submit"]').click()
    await page.locator('[data-action="done"]').click()
    await until_state(page, provider, "limited")
    assert key not in await page.content()
