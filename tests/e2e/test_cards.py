"""The integrations page: what each card says and offers, and how it stays true without anybody's doing."""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.e2e.conftest import Product
from tests.e2e.test_browser import hand_over, sign_in, until_state
from tests.e2e.test_connect import assistants, new_org, twilio_account, vapi_key
from tests.e2e.test_providers import elevenlabs_key, resend_key

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("dashboard"),
]

API = "/api/integrations"
STATUS = f"**{API}/status"
EVENTS = f"**{API}/events"
POLL = 15_000
"""Milliseconds between two looks of a page that gets no events."""

SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const { hadRecentInput, value } of list.getEntries()) if (!hadRecentInput) window.shift += value;
}).observe({ type: "layout-shift", buffered: true });
"""


def card(page: Page, provider: str) -> Locator:
    return page.locator(f'integration-card[data-provider="{provider}"]')


def action(page: Page, provider: str, name: str) -> Locator:
    return card(page, provider).locator(f'[data-action="{name}"]')


async def actions(page: Page, provider: str) -> list[str]:
    return await card(page, provider).locator("button").all_inner_texts()


async def connect(api: httpx.AsyncClient, **credentials: dict[str, str]) -> None:
    for provider, body in credentials.items():
        (await api.post(f"{API}/{provider}", json=body)).raise_for_status()


async def make_due(product: Product, org: str, provider: str, days: int) -> None:
    await product.sql(
        "UPDATE tasks SET due_at = now() + make_interval(days => $3), by_hand = true"
        " WHERE org_id = $1 AND provider = $2 AND task = 'rotate'",
        org,
        provider,
        days,
    )


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[Route], Awaitable[None]]:
    """Lets an answer come with a change."""

    async def handler(route: Route) -> None:
        answer = await route.fetch()
        content = await answer.json()
        change(content)
        await route.fulfill(response=answer, body=json.dumps(content))

    return handler


async def stand_still(page: Page) -> None:
    """Lets the page's clock go on only by `run_for`."""
    now = datetime.now(UTC)
    await page.clock.install(time=now)
    await page.clock.pause_at(now + timedelta(seconds=1))


async def hold(page: Page, pattern: str) -> asyncio.Event:
    """Keeps requests on their way until the event is set."""
    passes = asyncio.Event()

    async def handler(route: Route) -> None:
        await passes.wait()
        await route.continue_()

    await page.route(pattern, handler)
    return passes


async def cut_off(page: Page, pattern: str) -> None:
    await page.route(pattern, lambda route: route.abort())


async def test_each_state_is_told_by_an_icon_and_words_and_has_its_actions(page: Page, product: Product) -> None:
    org = new_org()
    trial = f"ACf2ee{uuid.uuid4().hex[:18]}{'2' + str(uuid.uuid4().int)[:9]}"
    twilio = {"accountSid": trial, "authToken": trial[2:][::-1], "phoneNumber": f"+1{trial[-10:]}"}
    async with product.api(org) as api:
        await connect(
            api,
            vapi={"apiKey": vapi_key()},
            twilio=twilio,
            resend={"apiKey": resend_key()},
            elevenlabs={"apiKey": elevenlabs_key()},
        )
        await product.sandbox("POST", "faults", {"provider": "vapi", "method": "GET", "status": 401})
        assert not (await api.post(f"{API}/vapi/verify")).json()["connected"]
        (await api.delete(f"{API}/elevenlabs")).raise_for_status()
    await make_due(product, org, "resend", 3)
    await hand_over(page, product, org)
    shown = {
        "vapi": ("error", "Needs attention", ["Reconfigure", "Test connection", "Disconnect"]),
        "twilio": ("limited", "Limited", ["Test connection", "Configure", "Reconnect", "Rotate now", "Disconnect"]),
        "googleCalendar": ("empty", "Not connected", ["Connect"]),
        "resend": ("rotation-due", "Replacement due", ["Replace the credential", "Test connection", "Disconnect"]),
        "elevenlabs": ("disconnected", "Disconnected", ["Reconnect", "Reconfigure"]),
    }
    for provider, (state, words, offered) in shown.items():
        await until_state(page, provider, state)
        await expect(card(page, provider).locator(".badge:has(svg)")).to_have_text(words)
        assert offered == await actions(page, provider)
    # What the provider said, what to do about it, and where.
    error = card(page, "vapi").locator("[data-error]")
    await expect(error).to_contain_text("Vapi does not recognise this API key")
    await expect(error.locator("[data-next]")).to_contain_text("make a new one there")
    await expect(error.get_by_role("link", name="Open Vapi")).to_have_attribute("href", re.compile("vapi.ai"))
    await expect(card(page, "twilio").locator("[data-warnings] li")).to_have_text([re.compile("trial account")])
    await expect(card(page, "twilio").locator("[data-hint]")).to_have_text(f"••••{twilio['authToken'][-4:]}")
    await expect(card(page, "resend").locator("[data-due]")).to_contain_text(re.compile(r"by .*20\d\d.* \(in 3 days\)"))
    await make_due(product, org, "resend", -1)
    await page.locator('[data-action="refresh"]').click()
    await expect(card(page, "resend").locator("[data-due]")).to_contain_text("should have been replaced")
    # The provider takes the key again: the verdict is over.
    await action(page, "vapi", "verify").click()
    await until_state(page, "vapi", "connected")
    assert ["Test connection", "Configure", "Disconnect"] == await actions(page, "vapi")
    await expect(page.locator("#announcer")).to_have_text("Vapi accepts the credential.")


async def test_what_cannot_be_done_or_known_is_told_and_nothing_is_offered(page: Page, product: Product) -> None:
    def unavailable(content: dict[str, Any]) -> None:
        for each in content["providers"]:
            each["available"] = each["provider"] != "googleCalendar"

    await page.route(f"**{API}/providers", changed(unavailable))
    passes = await hold(page, STATUS)
    await hand_over(page, product, new_org())
    await until_state(page, "vapi", "loading")
    assert [] == await actions(page, "vapi")
    await cut_off(page, STATUS)
    async with page.expect_response(STATUS):
        passes.set()
    await page.reload()
    await until_state(page, "vapi", "unknown")
    assert [] == await actions(page, "vapi")
    await page.route(STATUS, changed(lambda content: content["resend"].update(state="connecting")))
    await page.locator('[data-action="retry"]').click()
    await until_state(page, "googleCalendar", "unavailable")
    assert [] == await actions(page, "googleCalendar")
    await until_state(page, "resend", "configuring")
    assert ["Finish setup", "Disconnect"] == await actions(page, "resend")


async def test_a_setup_that_was_cut_off_can_be_given_up_and_taken_up_again(page: Page, product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        settings = {"TENANTVAULT_PROVIDER_ROLE": "serve", "TENANTVAULT_CHECKPOINT_KILL": "assistant_outbound"}
        await product.restart_provider(settings)
        assert 503 == (await api.post(f"{API}/vapi", json={"apiKey": vapi_key()})).status_code
        await product.restart_provider()
    assert 2 == len(await assistants(product, org))
    await hand_over(page, product, org)
    await until_state(page, "vapi", "configuring")
    await action(page, "vapi", "disconnect").click()
    await page.locator('[data-action="confirm-disconnect"]').click()
    await until_state(page, "vapi", "disconnected")
    assert [] == await assistants(product, org)
    # The provider is away: the card says what is missing, and offers what mends it.
    await product.sandbox("POST", "faults", {"provider": "vapi", "status": 503, "times": 3})
    await action(page, "vapi", "reconnect").click()
    await until_state(page, "vapi", "limited")
    await expect(card(page, "vapi").locator("[data-warnings] li")).to_have_text([re.compile("reconnect once more")])
    await action(page, "vapi", "reconnect").click()
    await until_state(page, "vapi", "connected")
    assert 2 == len(await assistants(product, org))


async def test_a_card_is_being_set_up_while_its_dialog_sends(page: Page, product: Product) -> None:
    await hand_over(page, product, new_org())
    await action(page, "vapi", "connect").click()
    await page.locator("#apiKey").fill(vapi_key())
    passes = await hold(page, f"**{API}/vapi")
    await page.locator('[data-action="submit"]').click()
    await until_state(page, "vapi", "configuring")
    await expect(card(page, "vapi").locator(".badge")).to_have_text("Setting up…")
    passes.set()
    await until_state(page, "vapi", "connected")


async def test_what_others_do_shows_by_an_event(page: Page, product: Product) -> None:
    """The page's clock stands still, so that it is no poll."""
    org = new_org()
    await stand_still(page)
    async with page.expect_response(EVENTS):
        await hand_over(page, product, org)
    await until_state(page, "vapi", "empty")
    async with product.api(org) as api:
        await connect(api, vapi={"apiKey": vapi_key()})
        await until_state(page, "vapi", "connected")
        (await api.delete(f"{API}/vapi")).raise_for_status()
        await until_state(page, "vapi", "disconnected")
    await expect(page.locator("#summary")).to_have_text("0 of 5 connected")
    await expect(page.locator("#announcer")).to_be_empty()


async def test_a_page_without_events_asks_for_itself_and_when_it_is_seen_again(page: Page, product: Product) -> None:
    org = new_org()
    await cut_off(page, EVENTS)
    await stand_still(page)
    await hand_over(page, product, org)
    await until_state(page, "vapi", "empty")
    async with product.api(org) as api:
        await connect(api, vapi={"apiKey": vapi_key()})
        await page.clock.run_for(POLL)
        await until_state(page, "vapi", "connected")
        see = "state => Object.defineProperty(document, 'visibilityState', {value: state, configurable: true})"
        await page.evaluate(see, "hidden")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        (await api.delete(f"{API}/vapi")).raise_for_status()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.clock.run_for(4 * POLL)
        assert [] == asked
        await page.evaluate(see, "visible")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await until_state(page, "vapi", "disconnected")
        # On the way back the browser shows the page just as it was left.
        (await api.post(f"{API}/vapi/reconnect")).raise_for_status()
        await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
        await until_state(page, "vapi", "connected")


async def test_requests_that_come_together_are_one(page: Page, product: Product) -> None:
    await cut_off(page, EVENTS)
    await hand_over(page, product, new_org())
    await until_state(page, "vapi", "empty")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    passes = await hold(page, STATUS)
    await page.locator('[data-action="refresh"]').click()
    for _ in range(5):
        await page.evaluate("dispatchEvent(new Event('online'))")
    passes.set()
    await expect(page.locator("#announcer")).to_have_text("The integrations are up to date.")
    assert 2 == len([url for url in asked if url.endswith("/status")])


async def test_an_answer_that_breaks_off_is_none_and_the_page_asks_again(page: Page, product: Product) -> None:
    await page.add_init_script("""
      const ask = window.fetch;
      let broken = 1;
      const breaks = {start: (body) => body.error(new DOMException("signal timed out", "TimeoutError"))};
      window.fetch = (path, ...how) => path.endsWith("/status") && broken-- > 0
        ? Promise.resolve(new Response(new ReadableStream(breaks)))
        : ask(path, ...how);
    """)
    await hand_over(page, product, new_org())
    problem = page.locator("#page-problem")
    await expect(problem).to_contain_text("The server cannot be reached")
    await expect(problem).to_be_hidden()
    await until_state(page, "vapi", "empty")


async def test_a_gateway_that_is_away_is_told_once_and_the_page_heals_by_itself(page: Page, product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        await connect(api, vapi={"apiKey": vapi_key()})
    await stand_still(page)
    await hand_over(page, product, org)
    await until_state(page, "vapi", "connected")
    problem = page.locator("#page-problem")
    await expect(problem).to_be_hidden()
    await cut_off(page, "**/api/**")
    await page.locator('[data-action="refresh"]').click()
    await expect(problem).to_contain_text("The server cannot be reached")
    await expect(problem.locator("[data-stale]")).to_contain_text(re.compile(r"true at .*\d:\d\d"))
    await until_state(page, "vapi", "connected")
    # It is the same box while it goes on, so that nothing is read out again, and the focus stays.
    await problem.evaluate("box => box.firstChild.dataset.same = ''")
    await page.locator('[data-action="retry"]').focus()
    failed: list[object] = []
    page.on("requestfailed", lambda request: failed.append(request))  # noqa: PLW0108 - it wants a function of Python
    # The page may not have set its clock yet when it has told the problem.
    while not failed:
        await page.clock.run_for(1_000)
    await expect(problem.locator("[data-same]")).to_be_visible()
    await expect(page.locator('[data-action="retry"]')).to_be_focused()
    await page.unroute("**/api/**")
    while await problem.is_visible():
        await page.clock.run_for(1_000)
    await expect(page.locator("#announcer")).to_have_text("Everything is up to date again.")
    await expect(page.locator("main")).to_be_focused()


async def test_a_sign_out_that_did_not_get_through_is_not_forgotten(page: Page, product: Product) -> None:
    """The page's clock stands still, so that it is no try by itself."""
    await stand_still(page)
    await hand_over(page, product, new_org())
    await until_state(page, "vapi", "empty")
    await cut_off(page, "**/session")
    problem, refresh = page.locator("#page-problem"), page.locator('[data-action="refresh"]')
    await page.get_by_role("button", name="Sign out").click()
    await expect(problem).to_contain_text("The server cannot be reached")
    # What can be loaded is no sign that nobody wants to leave any more.
    async with page.expect_event("requestfailed"):
        await refresh.click()
    await expect(problem).to_be_visible()
    await page.unroute("**/session")
    await refresh.click()
    await page.wait_for_url("**/sign-in")


async def test_days_are_those_of_the_calendar(page: Page) -> None:
    await page.goto("/sign-in")
    late_tomorrow = """async () => {
      const then = new Date();
      then.setDate(then.getDate() + 1);
      then.setHours(23, 59, 59);
      return (await import("/static/moment.js")).untilDay(then);
    }"""
    assert "tomorrow" == await page.evaluate(late_tomorrow)


async def test_an_update_takes_neither_focus_nor_tooltip_away(page: Page, product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        await connect(api, vapi={"apiKey": vapi_key()}, resend={"apiKey": resend_key()})
        # What the cards are described by changes them once more.
        async with page.expect_response("**/api/integrations/providers"):
            await hand_over(page, product, org)
        await until_state(page, "vapi", "connected")
        time = card(page, "resend").locator("time")
        await time.focus()
        await expect(time.locator(".tip")).to_be_visible()
        await time.evaluate("time => time.dataset.same = ''")
        (await api.delete(f"{API}/vapi")).raise_for_status()
        await until_state(page, "vapi", "disconnected")
        await expect(time).to_have_attribute("data-same", "")
        await expect(time).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(time.locator(".tip")).to_be_hidden()
        verify = action(page, "resend", "verify")
        await verify.focus()
        before = await time.get_attribute("datetime")
        (await api.post(f"{API}/resend/verify")).raise_for_status()
        await expect(time).not_to_have_attribute("datetime", str(before))
        await expect(verify).to_be_focused()
        # The button goes away: Enter must not press the one in its place.
        await action(page, "resend", "disconnect").focus()
        (await api.delete(f"{API}/resend")).raise_for_status()
        await until_state(page, "resend", "disconnected")
        await expect(card(page, "resend").get_by_role("heading")).to_be_focused()


async def test_a_disconnect_says_what_stops_and_escape_changes_nothing(page: Page, product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        await connect(api, twilio=twilio_account())
    await hand_over(page, product, org)
    await action(page, "twilio", "disconnect").click()
    dialog = page.get_by_role("dialog", name="Disconnect Twilio?")
    await expect(dialog.get_by_role("listitem").first).to_contain_text("no longer call")
    await expect(dialog.locator('[data-action="cancel"]')).to_be_focused()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(action(page, "twilio", "disconnect")).to_be_focused()
    await until_state(page, "twilio", "connected")
    assert "DELETE" not in asked
    await action(page, "twilio", "disconnect").click()
    await dialog.locator('[data-action="confirm-disconnect"]').click()
    await until_state(page, "twilio", "disconnected")
    await expect(page.locator("#announcer")).to_have_text("Twilio is disconnected.")
    await action(page, "twilio", "reconnect").click()
    await until_state(page, "twilio", "connected")


async def test_an_action_that_fails_is_told_on_its_card_and_can_be_repeated(page: Page, product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        await connect(api, vapi={"apiKey": vapi_key()})
    await hand_over(page, product, org)
    said = {"status": 503, "code": "PROVIDER_UNAVAILABLE", "detail": "Vapi cannot be reached now."}
    await page.route(f"**{API}/vapi/verify", lambda route: route.fulfill(status=503, json=said))
    await action(page, "vapi", "verify").click()
    notice = card(page, "vapi").locator("[data-notice]")
    await expect(notice).to_have_text("Vapi cannot be reached now.")
    # No answer is no verdict.
    await until_state(page, "vapi", "connected")
    await page.locator('[data-action="refresh"]').click()
    await expect(page.locator("#announcer")).to_have_text("The integrations are up to date.")
    await expect(notice).to_be_visible()
    await page.unroute(f"**{API}/vapi/verify")
    await action(page, "vapi", "verify").click()
    await expect(page.locator("#announcer")).to_have_text("Vapi accepts the credential.")
    await expect(notice).to_be_hidden()


async def test_a_rotation_is_confirmed_first_and_gives_the_services_another_key(page: Page, product: Product) -> None:
    org, key = new_org(), resend_key()
    async with product.api(org) as api:
        await connect(api, resend={"apiKey": key})
    await hand_over(page, product, org)
    hint = card(page, "resend").locator("[data-hint]")
    await expect(hint).to_have_text(f"••••{key[-4:]}")
    await action(page, "resend", "rotate").click()
    dialog = page.get_by_role("dialog", name="Rotate the Resend credential now?")
    await expect(dialog).to_contain_text("cannot be brought back")
    await dialog.locator('[data-action="confirm-rotate"]').click()
    await expect(page.locator("#announcer")).to_contain_text("on its way")
    # The work is done in the background, and the page learns of it.
    await expect(hint).not_to_have_text(f"••••{key[-4:]}", timeout=20_000)
    async with product.vault() as vault:
        assert key != (await vault.resend(org)).credential.api_key.reveal()


async def test_two_tabs_show_the_same_and_sign_out_together(page: Page, product: Product) -> None:
    org = new_org()
    async with product.api(org) as api:
        await connect(api, vapi={"apiKey": vapi_key()})
    await hand_over(page, product, org)
    other = await page.context.new_page()
    await other.goto("/")
    await until_state(other, "vapi", "connected")
    await action(page, "vapi", "disconnect").click()
    await page.locator('[data-action="confirm-disconnect"]').click()
    await until_state(other, "vapi", "disconnected")
    await other.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/sign-in")
    await other.wait_for_url("**/sign-in")


async def test_a_session_that_ended_is_told_and_a_sign_in_elsewhere_heals_it(page: Page, product: Product) -> None:
    await sign_in(page, "acme")
    await until_state(page, "resend", "empty")
    await page.context.clear_cookies()
    await page.locator('[data-action="refresh"]').click()
    problem = page.get_by_role("alert")
    await expect(problem).to_contain_text("Your session has ended.")
    await expect(problem.get_by_role("link", name="Sign in again")).to_be_visible()
    await until_state(page, "resend", "empty")
    other = await page.context.new_page()
    await sign_in(other, "acme")
    await expect(problem).to_be_hidden()
    await page.context.clear_cookies()
    await sign_in(other, "globex")
    await page.locator('[data-action="refresh"]').click()
    await expect(problem).to_contain_text("another organisation")
    await page.locator('[data-action="reload"]').click()
    await expect(page.locator("#org")).to_have_text("globex")


async def test_the_back_button_comes_back_to_what_is_true(page: Page, product: Product) -> None:
    org = new_org()
    await hand_over(page, product, org)
    await until_state(page, "vapi", "empty")
    await page.goto("/sign-in")
    async with product.api(org) as api:
        await connect(api, vapi={"apiKey": vapi_key()})
    await page.go_back()
    await until_state(page, "vapi", "connected")


@pytest.mark.parametrize("width", [320, 1280])
async def test_cards_are_there_before_the_answer_and_nothing_moves_when_it_comes(
    page: Page, product: Product, width: int
) -> None:
    """320 px are what is left of 1280 at a zoom of 400 %, 640 of it at 200 %."""
    org = new_org()
    async with product.api(org) as api:
        await connect(api, vapi={"apiKey": vapi_key()})
    await page.set_viewport_size({"width": width, "height": 900})
    await page.add_init_script(SHIFTS)
    passes = await hold(page, STATUS)
    await hand_over(page, product, org)
    await expect(card(page, "elevenlabs").get_by_role("heading")).to_have_text("ElevenLabs")
    await expect(card(page, "elevenlabs").locator(".bone").first).to_be_attached()
    assert width >= await page.evaluate("document.documentElement.scrollWidth")
    passes.set()
    await until_state(page, "vapi", "connected")
    await expect(card(page, "twilio").locator(".remark")).to_be_visible()
    frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(window.shift))))"
    assert await page.evaluate(frames) < 0.02
    for zoomed in (640, width):
        await page.set_viewport_size({"width": zoomed, "height": 900})
        assert zoomed >= await page.evaluate("document.documentElement.scrollWidth")
