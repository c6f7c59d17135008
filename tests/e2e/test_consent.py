"""Google Calendar by consent: over REST, and by a person in a real browser at the stand-in's page."""

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.async_api import Page, expect

from tenantvault.errors import CredentialNotFound, ProviderUnreachable
from tests.e2e.conftest import Product
from tests.e2e.test_browser import hand_over, until_state
from tests.e2e.test_connect import new_org

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("stack")]

START = "/api/auth/google-calendar/start"
CALLBACK = "/api/auth/google-calendar/callback"
EVENTS = "https://www.googleapis.com/auth/calendar.events"
CALENDARS = "https://www.googleapis.com/auth/calendar.calendarlist.readonly"


def account() -> str:
    return f"{new_org()}@acme.example"


async def consent(api: httpx.AsyncClient, email: str, **how: str) -> dict[str, str]:
    """What Google's page sends back, without a browser."""
    url = (await api.post(START)).raise_for_status().json()["authorizationUrl"]
    async with httpx.AsyncClient() as browser:
        answer = await browser.get(
            httpx.URL(url).copy_merge_params({"login_hint": email, "sandbox_consent": "allow"} | how)
        )
    assert 302 <= answer.status_code <= 303, answer.text
    came: Mapping[str, list[str]] = parse_qs(urlsplit(answer.headers["Location"]).query)
    return {name: came[name][0] for name in ("code", "state", "error") if name in came}


async def test_a_consent_is_connected_and_served_over_grpc(product: Product) -> None:
    org, email = new_org(), account()
    async with product.api(org) as api:
        answer = await api.post(CALLBACK, json=await consent(api, email))
        assert 200 == answer.status_code, answer.text
        assert (True, email) == (answer.json()["success"], answer.json()["email"])
        assert {EVENTS, CALENDARS} <= set(answer.json()["scopes"])
        status = (await api.get("/api/integrations/status")).json()["googleCalendar"]
    assert (True, email) == (status["connected"], status["email"])
    async with product.vault() as vault:
        got = await vault.google_calendar(org)
    assert email == got.credential.email
    assert got.credential.access_token


async def test_a_token_that_lasts_too_short_is_renewed_when_a_service_asks(product: Product) -> None:
    """This account's tokens last a minute: a new one is got, which is too short for this service again."""
    org = new_org()
    async with product.api(org) as api:
        (await api.post(CALLBACK, json=await consent(api, f"short+{org}@acme.example"))).raise_for_status()
    async with product.vault() as vault:
        before = (await vault.google_calendar(org, min_life=1)).credential
        with pytest.raises(ProviderUnreachable):
            await vault.google_calendar(org, min_life=600)
        after = (await vault.google_calendar(org, min_life=1)).credential
    assert before.access_token != after.access_token
    assert before.refresh_token == after.refresh_token


async def test_what_came_back_is_good_once_and_in_its_own_session(product: Product) -> None:
    org = new_org()
    async with product.api(org) as api, product.api(new_org()) as other:
        came = await consent(api, account())
        assert 400 == (await other.post(CALLBACK, json=came)).status_code
        came = await consent(api, account())
        assert 200 == (await api.post(CALLBACK, json=came)).status_code
        again = await api.post(CALLBACK, json=came)
        assert (400, "OAUTH_STATE_INVALID") == (again.status_code, again.json()["code"])


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"sandbox_untick": "calendar.events"}, "INSUFFICIENT_SCOPE"),
        ({"sandbox_consent": "deny"}, "CONSENT_DENIED"),
    ],
)
async def test_a_consent_that_is_not_enough_connects_nothing(product: Product, how: dict[str, str], code: str) -> None:
    org = new_org()
    async with product.api(org) as api, product.vault() as vault:
        answer = await api.post(CALLBACK, json=await consent(api, account(), **how))
        assert (422, code) == (answer.status_code, answer.json()["code"])
        assert not (await api.get("/api/integrations/status")).json()["googleCalendar"]["connected"]
        with pytest.raises(CredentialNotFound):
            await vault.google_calendar(org)


async def test_a_disconnect_ends_the_consent_at_google(product: Product) -> None:
    org, email = new_org(), account()
    async with product.api(org) as api, product.vault() as vault:
        (await api.post(CALLBACK, json=await consent(api, email))).raise_for_status()
        gone = (await api.delete("/api/integrations/googleCalendar")).raise_for_status().json()
        assert "unreleased" not in gone
        with pytest.raises(CredentialNotFound):
            await vault.google_calendar(org)
        given = (await product.sandbox("GET", "state"))["google"]["consents"]
        assert [1] == [each["revoked"] for each in given if each["email"] == email]
        back = (await api.post("/api/integrations/googleCalendar/reconnect")).json()
        assert not back.get("connected")
        assert 200 == (await api.post(CALLBACK, json=await consent(api, email))).status_code


async def test_google_calendar_takes_no_typed_in_credential(product: Product) -> None:
    async with product.api(new_org()) as api:
        answer = await api.post("/api/integrations/googleCalendar", json={"apiKey": "x"})
    assert (409, "CONSENT_REQUIRED") == (answer.status_code, answer.json()["code"])


async def begin(page: Page, product: Product) -> None:
    """Sign in, and go to Google's page."""
    await hand_over(page, product, new_org())
    await page.locator('[data-provider="googleCalendar"] [data-action="connect"]').click()
    await page.get_by_role("button", name="Connect with Google").click()
    await page.wait_for_url(f"{product.stack.sandbox_url}/google/**")


@pytest.mark.browser
async def test_a_person_consents_and_the_address_keeps_nothing(page: Page, product: Product) -> None:
    email = account()
    await begin(page, product)
    await page.get_by_label("Account").fill(email)
    await page.get_by_role("button", name="Allow").click()
    await expect(page.locator("h1")).to_contain_text(email)
    await expect(page.locator("h1")).to_be_focused()
    assert f"{product.stack.gateway_url}/oauth/google-calendar" == page.url
    assert 0 == await page.locator(".bad:visible").count()
    await page.get_by_role("link", name="Back to the integrations").click()
    await until_state(page, "googleCalendar", "connected")
    await expect(page.locator('[data-provider="googleCalendar"]')).to_contain_text(email)


@pytest.mark.browser
async def test_a_page_that_the_browser_kept_can_be_used_again_on_the_way_back(page: Page, product: Product) -> None:
    """An answer without content leaves the browser where it is, as a page that was kept comes back."""
    await hand_over(page, product, new_org())
    await page.route(f"{product.stack.sandbox_url}/google/**", lambda route: route.fulfill(status=204))
    await page.locator('[data-provider="googleCalendar"] [data-action="connect"]').click()
    async with page.expect_request(f"{product.stack.sandbox_url}/google/**"):
        await page.get_by_role("button", name="Connect with Google").click()
    dialog = page.locator("#connect-dialog")
    await expect(dialog).to_have_attribute("data-state", "sending")
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    await expect(dialog).to_have_attribute("data-state", "form")
    await expect(page.get_by_role("button", name="Connect with Google")).to_have_attribute("aria-disabled", "false")
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()


@pytest.mark.browser
async def test_a_person_who_leaves_out_the_list_of_calendars_is_connected_and_warned(
    page: Page, product: Product
) -> None:
    await hand_over(page, product, new_org())
    await page.locator('[data-provider="googleCalendar"] [data-action="connect"]').click()
    dialog = page.locator("#connect-dialog")
    await expect(dialog.locator(".asks.check")).to_contain_text("See and change events")
    await expect(dialog.locator(".asks.close")).to_contain_text("Read your mail")
    await page.get_by_role("button", name="Connect with Google").click()
    await page.wait_for_url(f"{product.stack.sandbox_url}/google/**")
    await page.locator(f'input[value="{CALENDARS}"]').uncheck()
    await page.get_by_role("button", name="Allow").click()
    await expect(page.locator("#outcome.warn")).to_contain_text("list your calendars")
    await page.get_by_role("link", name="Back to the integrations").click()
    await until_state(page, "googleCalendar", "limited")
    # Only another consent adds to this one.
    await expect(page.locator('[data-provider="googleCalendar"] [data-action="reconnect"]')).to_have_count(0)
    await expect(page.locator('[data-provider="googleCalendar"] [data-warnings]')).to_be_visible()


@pytest.mark.browser
async def test_a_person_who_leaves_out_what_is_needed_is_told_which_box_to_tick(page: Page, product: Product) -> None:
    await begin(page, product)
    await page.locator(f'input[value="{EVENTS}"]').uncheck()
    await page.get_by_role("button", name="Allow").click()
    await expect(page.locator("h1")).to_have_text("A permission is missing")
    await expect(page.get_by_role("alert")).to_contain_text("see and change events")
    await expect(page.get_by_role("alert")).to_contain_text("no appointment can be booked")
    async with page.context.expect_page() as other:
        await page.evaluate("open('/')")
    await until_state(await other.value, "googleCalendar", "empty")
    # The consent begins anew: what came back before is used up.
    await page.get_by_role("button", name="Try again with Google").click()
    await page.wait_for_url(f"{product.stack.sandbox_url}/google/**")
    await page.get_by_label("Account").fill(account())
    await page.get_by_role("button", name="Allow").click()
    await page.get_by_role("link", name="Back to the integrations").click()
    await until_state(page, "googleCalendar", "connected")


@pytest.mark.browser
async def test_a_person_who_denies_is_told_that_nothing_was_connected(page: Page, product: Product) -> None:
    await begin(page, product)
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("alert")).to_contain_text("nothing was connected")
    assert f"{product.stack.gateway_url}/oauth/google-calendar" == page.url
    await page.get_by_role("button", name="Try again with Google").click()
    await page.wait_for_url(f"{product.stack.sandbox_url}/google/**")
    await page.get_by_role("button", name="Deny").click()
    await page.get_by_role("link", name="Back to the integrations").click()
    await until_state(page, "googleCalendar", "empty")
