"""Secrets planted in every field of every provider are found nowhere in the browser once they were sent."""

import base64
import json
import secrets
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.async_api import Page, expect

from tests.e2e.conftest import Product
from tests.e2e.eavesdropper import Eavesdropper
from tests.e2e.test_browser import hand_over, until_state
from tests.e2e.test_connect import new_org, twilio_account, vapi_key
from tests.e2e.test_isolation import everything_written
from tests.e2e.test_providers import elevenlabs_key, resend_key

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("dashboard"),
]


def found_in(text: str, looked_for: Iterable[str]) -> list[str]:
    """Those that stand in the text, as they are or as an address or JSON writes them."""
    spellings = {secret: (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]) for secret in looked_for}
    return [secret for secret, spelled in spellings.items() if any(each in text for each in spelled)]


def canary() -> str:
    return f"canary-{uuid.uuid4().hex}"


class Planter:
    """Types secrets into the dialogs, and remembers which. `typed` has those that were sent, by provider."""

    def __init__(self, page: Page, spy: Eavesdropper) -> None:
        self.typed: dict[str, set[str]] = {}
        self._page = page
        self._spy = spy

    async def open(self, provider: str, action: str = "connect") -> None:
        await self._page.locator(f'[data-provider="{provider}"] [data-action="{action}"]').first.click()
        self._provider = provider

    async def fill(self, *, secret: dict[str, str], **plain: str) -> None:
        dialog = self._page.locator("dialog[open]")
        self.typed.setdefault(self._provider, set()).update(secret.values())
        for name, value in {**plain, **secret}.items():
            box = dialog.locator(f"#{name}")
            if not await box.is_visible():
                await dialog.locator("summary").click()
            await box.fill(value)

    async def is_refused(self) -> None:
        """Send it. What was typed is gone from the page when the refusal is there."""
        dialog = self._page.locator("dialog[open]")
        await dialog.locator('[data-action="submit"]').press("Enter")
        await expect(dialog.locator('[aria-invalid="true"]')).to_have_value("")
        await self.check()

    async def is_tried(self) -> None:
        """Have it tested and not stored: until it is sent, it stays in its field."""
        dialog = self._page.locator("dialog[open]")
        await dialog.locator('[data-action="test"]').click()
        await expect(dialog.locator('[data-said="good"]')).to_be_visible()

    async def is_accepted(self) -> None:
        """Send it, and close the dialog."""
        dialog = self._page.locator("dialog[open]")
        await dialog.locator('[data-action="submit"]').press("Enter")
        await expect(dialog).to_have_attribute("data-state", "success")
        await self.check()
        await dialog.locator('[data-action="done"]').click()
        works = ':is([data-state="connected"], [data-state="limited"])'
        await expect(self._page.locator(f'[data-provider="{self._provider}"]{works}')).to_have_count(1)
        await self.check()

    async def check(self, *others: str) -> None:
        """Nothing that was sent, nor any of the others, is in the page or kept by the browser."""
        kept = await self._spy.kept(self._page)
        assert [] == found_in(kept, {*self.secrets, *others})

    @property
    def secrets(self) -> set[str]:
        return {secret for of_provider in self.typed.values() for secret in of_provider}


async def plant_vapi(planter: Planter, page: Page) -> None:
    await planter.open("vapi")
    await planter.fill(secret={"apiKey": canary(), "webhookSecret": canary()})
    await planter.is_refused()
    await planter.fill(secret={"apiKey": vapi_key(), "webhookSecret": canary()})
    await planter.is_tried()
    await page.locator('[data-action="generate"]').click()
    made_up = await page.locator("#webhookSecret").input_value()
    assert 43 == len(made_up)
    planter.typed["vapi"].add(made_up)
    await planter.is_accepted()


async def plant_twilio(planter: Planter, page: Page) -> None:
    account = twilio_account()
    sid, number = account["accountSid"], account["phoneNumber"]
    digits = f"{uuid.uuid4().hex[:22]}{sid[-10:]}"
    await planter.open("twilio")
    await planter.fill(secret={"authToken": uuid.uuid4().hex}, accountSid=sid, phoneNumber=number)
    await planter.is_refused()
    await page.get_by_role("radio", name="API key").check()
    await planter.fill(secret={"apiKeySecret": digits[::-1], "webhookSharedKey": canary()}, apiKeySid=f"SK{digits}")
    await planter.is_accepted()
    await planter.open("twilio", "configure")
    await planter.fill(secret={"authToken": account["authToken"]}, accountSid=sid, phoneNumber=number)
    await planter.is_accepted()


async def plant_resend(planter: Planter) -> None:
    hook = f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"
    await planter.open("resend")
    await planter.fill(secret={"apiKey": f"re_fa110401_{uuid.uuid4().hex[:24]}", "webhookSecret": hook})
    await planter.is_refused()
    await planter.fill(secret={"apiKey": resend_key(), "webhookSecret": hook})
    await planter.is_accepted()


async def plant_elevenlabs(planter: Planter) -> None:
    await planter.open("elevenlabs")
    await planter.fill(secret={"apiKey": f"sk_fa110401{uuid.uuid4().hex}{uuid.uuid4().hex[:8]}"})
    await planter.is_refused()
    # Without a secret for the webhooks: ElevenLabs makes one.
    await planter.fill(secret={"apiKey": elevenlabs_key()})
    await planter.is_accepted()


async def consent_to_google(page: Page, product: Product, spy: Eavesdropper) -> str:
    """Let Google's page send the browser back; what it came back with, which is good for one use."""
    await page.locator('[data-provider="googleCalendar"] [data-action="connect"]').click()
    await page.locator('dialog[open] [data-action="submit"]').press("Enter")
    await page.wait_for_url(f"{product.stack.sandbox_url}/google/**")
    await spy.settle()
    async with page.expect_request("**/oauth/google-calendar?*") as came:
        await page.get_by_role("button", name="Allow").click()
    await expect(page.locator("body:not([data-state=working])")).to_be_visible()
    query = parse_qs(urlsplit((await came.value).url).query)
    return query["code"][0]


async def of_vault(product: Product, org: str) -> set[str]:
    """Every secret of the org that nobody typed: tokens, and what was made up or issued for webhooks."""
    async with product.vault() as vault:
        google = (await vault.google_calendar(org)).credential
        hooks: list[Any] = [(await read(org)).credential.webhook_secret for read in (vault.vapi, vault.elevenlabs)]
    found = {secret.reveal() for secret in (google.access_token, google.refresh_token, google.channel_token, *hooks)}
    return found - {""}


async def test_no_secret_stays_in_the_browser(page: Page, product: Product) -> None:
    org, spy = new_org(), Eavesdropper()
    planter = Planter(page, spy)
    await spy.listen(page)
    await hand_over(page, product, org)
    await plant_vapi(planter, page)
    await plant_twilio(planter, page)
    await plant_resend(planter)
    await plant_elevenlabs(planter)
    await spy.settle()
    code = await consent_to_google(page, product, spy)
    made = await of_vault(product, org)
    # How the page itself was loaded is the browser's to know, until it is left.
    await planter.check(*made)
    await page.get_by_role("link", name="Back to the integrations").click()
    await until_state(page, "googleCalendar", "connected")
    await planter.check(code, *made)
    await page.go_back()
    await expect(page).to_have_url(f"{product.stack.gateway_url}/oauth/google-calendar")
    await planter.check(code, *made)
    await spy.settle()

    # It was there: each secret went out once at least, to its own endpoint and to no other.
    for provider, typed in planter.typed.items():
        for secret in typed:
            carried = {where for where, body in spy.posted if found_in(body, [secret])}
            assert carried, provider
            assert carried <= {f"POST /api/integrations/{provider}", f"POST /api/integrations/{provider}/test"}
    assert {"POST /api/auth/google-calendar/callback"} == {
        where for where, body in spy.posted if found_in(body, [code])
    }
    overheard = "\n".join([*spy.sent, *spy.received, *spy.said])
    assert '"connected":true' in overheard.replace(" ", "")
    assert [] == found_in(overheard, planter.secrets | made)
    assert [] == found_in(await everything_written(product), {*planter.secrets, *made, code})
