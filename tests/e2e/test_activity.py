"""An admin finds out who was given which credential, who changed what, and what needs attention."""

import asyncio
import contextlib
import csv
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, Route, expect

from tenantvault import AsyncClient
from tests.e2e.conftest import Product
from tests.e2e.scene import Scene, scene_of
from tests.e2e.test_cards import EVENTS, POLL, STATUS, changed, cut_off, stand_still
from tests.e2e.test_connect import twilio_account, vapi_key

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("dashboard"),
]

PAGE = 50
READS = 61
AUDIT = "/api/integrations/audit"
KEY_REFUSED = {"provider": "vapi", "status": 401, "times": 9}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(product: Product, browser: Browser, suffix: str) -> AsyncIterator[Scene]:
    async with scene_of(product, browser, suffix=f"-activity{suffix}") as scene:
        yield scene
        assert [] == scene.complaints


async def read_often(scene: Scene, org: str) -> None:
    """Vapi is connected and read more often than a page is long; Twilio is read by another service, once."""
    async with scene.product.api(org) as api:
        (await api.post("/api/integrations/vapi", json={"apiKey": vapi_key()})).raise_for_status()
        (await api.post("/api/integrations/twilio", json=twilio_account())).raise_for_status()
        async with (
            asks_each_time(scene.product, "voice-agent") as agent,
            scene.product.vault("webhook-processor") as processor,
        ):
            await asyncio.gather(*(agent.vapi(org) for _ in range(READS)))
            await processor.twilio(org)
        await until_told(api, {"action": "credential.get", "service": "voice-agent", "limit": "200"}, READS)
        await until_told(api, {"service": "webhook-processor"}, 1)


def asks_each_time(product: Product, peer: str) -> AsyncClient:
    return AsyncClient.connect(product.stack.vault_target, product.stack.tls(peer), cache=None)


async def until_told(api: httpx.AsyncClient, which: dict[str, str], count: int) -> None:
    """A read is in the history a moment later, one of many about a second later."""
    ask = partial(api.get, AUDIT, params=which)
    async with asyncio.timeout(10):
        while len((await ask()).json()["events"]) < count:  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.02)


def rows(page: Page) -> Locator:
    return page.locator("audit-table [data-sequence]")


async def sequences(page: Page) -> list[int]:
    found: list[int] = await rows(page).evaluate_all("rows => rows.map((row) => Number(row.dataset.sequence))")
    return found


async def exported(page: Page) -> list[dict[str, str]]:
    """What the link gives that stands beside the filters."""
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Export CSV").click()
    file = await download.value
    assert file.suggested_filename.startswith("tenantvault-audit-")
    return list(csv.DictReader(io.StringIO((await file.path()).read_text("utf-8"))))


async def test_it_says_in_words_who_was_given_a_credential_and_who_changed_it(scene: Scene) -> None:
    org, page = await scene.world(read_often), scene.page
    await scene.enter(org, "/activity?service=webhook-processor")
    read = rows(page).filter(has_text="webhook-processor was given the Twilio credential")
    await expect(read).to_have_count(1)
    await expect(read).to_contain_text("credential.get")
    request_id = read.locator('[data-detail="requestId"]')
    await expect(request_id).not_to_be_visible()
    await read.locator("summary").focus()
    await page.keyboard.press("Enter")
    async with scene.product.api(org) as api:
        [event] = (await api.get(AUDIT, params={"service": "webhook-processor"})).json()["events"]
    await expect(request_id).to_have_text(event["requestId"])

    await page.get_by_label("Service").select_option("provider")
    await page.get_by_label("Kind of event").select_option("credential.activate")
    await expect(rows(page)).to_have_count(2)
    person = (await rows(page).first.locator("td").nth(2).inner_text()).partition("for ")[2]
    await expect(rows(page).first).to_contain_text(f"{person} put the Twilio credential into use")

    chart = page.locator("access-chart")
    await expect(chart.get_by_role("img", name=f"voice-agent: Vapi {READS}")).to_be_visible()
    await expect(chart.get_by_role("img", name="webhook-processor: Twilio 1")).to_be_visible()
    await chart.locator("summary").click()
    await expect(chart.get_by_role("row", name=f"voice-agent Vapi {READS}")).to_be_visible()
    await expect(page.locator("due-dates li").filter(has_text="Vapi")).to_contain_text("in 90 days")


async def test_another_org_sees_nothing_of_it(scene: Scene) -> None:
    await scene.world(read_often)
    await scene.enter(scene.fresh("another"), "/activity")
    await expect(scene.page.locator("audit-table")).to_contain_text("Nothing has happened yet")
    await expect(scene.page.locator("access-chart")).to_contain_text("No service has read a credential")
    await expect(scene.page.locator("failure-list")).to_contain_text("No provider has refused a credential.")
    await expect(scene.page.locator("due-dates")).not_to_contain_text("in 90 days")
    assert [] == await exported(scene.page)


async def test_filters_are_in_the_address_and_older_events_come_below(scene: Scene) -> None:
    org, page = await scene.world(read_often), scene.page
    await scene.enter(org, "/activity")
    await expect(rows(page)).to_have_count(PAGE)
    newest = await sequences(page)
    older = page.get_by_role("button", name="Show older events")
    await older.focus()
    await page.keyboard.press("Enter")
    await expect(rows(page).nth(PAGE)).to_be_focused()
    await expect(older).not_to_be_visible()
    # Every event once, the newest first, down to the very first.
    everything = await sequences(page)
    assert newest == everything[:PAGE]
    assert list(range(everything[0], 0, -1)) == everything
    await expect(page.locator("#announcer")).to_have_text(
        f"{len(everything) - PAGE} events more, {len(everything)} in all"
    )
    assert everything == [int(line["sequence"]) for line in await exported(page)]

    await page.get_by_label("Service").select_option("voice-agent")
    await page.get_by_label("Provider").select_option("twilio")
    await expect(page.locator("audit-table")).to_contain_text("No event matches these filters.")
    await page.get_by_label("Provider").select_option("vapi")
    await expect(rows(page)).to_have_count(PAGE)
    assert f"{scene.product.stack.gateway_url}/activity?provider=vapi&service=voice-agent" == page.url
    assert [("voice-agent", "vapi")] * READS == [(line["service"], line["provider"]) for line in await exported(page)]
    await page.reload()
    await expect(page.get_by_label("Service")).to_have_value("voice-agent")
    await expect(page.locator("#shown")).to_contain_text(f"The newest {PAGE} events, back to ")
    await page.go_back()
    await expect(page.get_by_label("Provider")).to_have_value("twilio")
    await expect(page.locator("audit-table")).to_contain_text("No event matches these filters.")
    await page.get_by_role("button", name="Clear filters").press("Enter")
    await expect(page.get_by_label("Provider")).to_be_focused()
    await expect(rows(page)).to_have_count(PAGE)
    assert page.url.endswith("/activity")


async def test_a_refusal_stands_out_and_new_events_are_offered(scene: Scene) -> None:
    org, page = scene.fresh("refusal"), scene.page
    async with scene.product.api(org) as api:
        (await api.post("/api/integrations/vapi", json={"apiKey": vapi_key()})).raise_for_status()
        await scene.enter(org, "/activity")
        await expect(rows(page).first).to_be_visible()
        before = await sequences(page)
        await scene.product.sandbox("POST", "faults", KEY_REFUSED)
        assert not (await api.post("/api/integrations/vapi/verify")).raise_for_status().json()["connected"]
        await scene.product.sandbox("DELETE", "faults")
    # Told by the stream of events, without a word from the person; what they read does not move.
    offer = page.get_by_role("button", name="new event")
    await expect(offer).to_be_visible()
    await expect(page.locator("failure-list")).to_contain_text("Vapi refused the credential")
    assert before == await sequences(page)
    await offer.press("Enter")
    await expect(rows(page).first).to_be_focused()
    await expect(offer).not_to_be_visible()
    await page.get_by_role("link", name="Show all in the history").click()
    await expect(page.get_by_label("Only failures")).to_be_checked()
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page)).to_contain_text("Vapi refused the credential")
    await expect(rows(page).locator('[data-outcome="refused"]')).to_have_text("Refused")


async def test_what_cannot_be_asked_heals_and_an_ended_session_says_so(scene: Scene) -> None:
    org, page = await scene.world(read_often), scene.page
    problem = page.locator("#page-problem")
    await scene.enter(org, "/sign-in")
    await scene.cut_off(f"**{AUDIT}?**")
    await page.goto("/activity")
    await expect(problem).to_contain_text("cannot be reached")
    await expect(page.locator("audit-table")).to_contain_text("The history cannot be shown now")
    await expect(page.locator("due-dates")).to_contain_text("in 90 days")
    await page.unroute_all()
    await expect(problem).not_to_be_visible()
    await expect(rows(page)).to_have_count(PAGE)

    await page.context.clear_cookies()
    await page.get_by_label("Only failures").press("Space")
    await expect(problem).to_contain_text("Your session has ended")
    await expect(rows(page)).to_have_count(0)
    await expect(page.get_by_role("link", name="Sign in again")).to_be_visible()


async def in_time(page: Page, holds: Callable[..., Awaitable[None]]) -> None:
    """Let the page's clock strike until that holds.

    Each time, what the page asks for has a while of the real clock: its patience ends by its own.
    """
    for _ in range(10):
        await page.clock.run_for(POLL)
        with contextlib.suppress(AssertionError):
            return await holds(timeout=2_000)
    return await holds(timeout=1)


async def test_another_try_takes_nothing_away_that_is_read_and_the_page_stays_true(scene: Scene, page: Page) -> None:
    """The page's clock goes on only when it is told to."""
    org = await scene.world(read_often)
    await cut_off(page, EVENTS)
    await stand_still(page)
    await scene.admit(page.context, org)
    await page.goto("/activity")
    await page.get_by_role("button", name="Show older events").press("Enter")
    await expect(rows(page).nth(PAGE)).to_be_focused()
    everything, problem = await sequences(page), page.locator("#page-problem")
    await cut_off(page, STATUS)
    await cut_off(page, f"**{AUDIT}?**")
    await page.clock.run_for(POLL)
    await expect(problem).to_contain_text("cannot be reached")
    refresh = page.locator('[data-action="refresh"]')
    await refresh.evaluate("button => button.click()")
    await expect(refresh).not_to_have_attribute("data-busy", "")
    await page.unroute(f"**{AUDIT}?**")
    await page.unroute(STATUS)
    await in_time(page, expect(problem).to_be_hidden)
    assert everything == await sequences(page)
    await expect(rows(page).nth(PAGE)).to_be_focused()
    # Without events from the server it asks again and again, as before.
    async with scene.product.api(org) as api:
        verified = {"action": "credential.verify"}
        before = len((await api.get(AUDIT, params=verified)).json()["events"])
        (await api.post("/api/integrations/vapi/verify")).raise_for_status()
        await until_told(api, verified, before + 1)
    # One or more: reads come into the history a moment after they were made.
    await in_time(page, expect(page.get_by_role("button", name=re.compile(r"Show \d+ new event"))).to_be_visible)


async def test_what_is_not_counted_to_the_end_is_said(scene: Scene, page: Page) -> None:
    def none_yet(content: dict[str, Any]) -> None:
        content.update(events=[], next=None)

    def counted_since_now(content: dict[str, Any]) -> None:
        content["since"] = datetime.now(UTC).isoformat()

    org = await scene.world(read_often)
    await page.route(f"**{AUDIT}?**", changed(none_yet))
    await scene.admit(page.context, org)
    await page.goto("/activity")
    await expect(page.locator("audit-table")).to_contain_text("Nothing has happened yet")
    await expect(page.get_by_role("img", name="webhook-processor")).to_be_visible()
    await expect(page.locator("[data-cut]")).to_have_count(0)
    await page.unroute_all(behavior="wait")
    await page.route("**/api/integrations/access?**", changed(counted_since_now))
    await page.evaluate("dispatchEvent(new Event('online'))")
    await expect(page.get_by_role("button", name=f"Show {PAGE} or more new events")).to_be_visible()
    await expect(page.locator("[data-cut]")).to_contain_text("Only reads since")
    await page.unroute_all(behavior="wait")


def look_back(route: Route) -> Awaitable[None]:
    """Answers as for a history of many pages, most of them empty."""
    asked = parse_qs(urlsplit(route.request.url).query)
    page = int(asked.get("before", ["100"])[0])
    end = 95 if "service" in asked else 80
    since = f"2026-11-23T10:{page % 60:02}:00.000Z"
    event = {
        "id": f"00000000-0000-4000-8000-{page:012}",
        "sequence": page,
        "at": since,
        "service": "provider",
        "action": "credential.verify",
        "provider": "vapi",
        "outcome": "refused",
    }
    content = {
        "events": [event] if page in (84, 85) and "limit" not in asked else [],
        "next": page - 1 if page > end else None,
        "since": since if page > end else None,
    }
    return route.fulfill(json=content)


async def test_an_empty_page_is_not_taken_for_the_end_of_the_history(scene: Scene, page: Page) -> None:
    await page.route(f"**{AUDIT}?**", look_back)
    await scene.admit(page.context, scene.fresh("empty-pages"))
    await page.goto("/activity?failed=true")
    table, older = page.locator("audit-table"), page.get_by_role("button", name="Show older events")
    # It has looked at ten pages by itself.
    await expect(table).to_contain_text(re.compile("No event matches these filters back to .*2026.*:31:00.*yet"))
    await expect(page.locator("failure-list")).to_contain_text(re.compile("has refused a credential since .*:31:00"))
    await expect(page.get_by_role("link", name="Show all in the history")).to_be_visible()

    for count, last in ((1, "25"), (2, "24")):
        await older.press("Enter")
        await expect(rows(page)).to_have_count(count)
        await expect(rows(page).last).to_be_focused()
        await expect(page.locator("#shown")).to_contain_text(
            re.compile(f"newest {count} events?, back to .*:{last}:00")
        )
    await expect(table).not_to_contain_text("No event matches")
    await older.press("Enter")
    await expect(older).to_be_hidden()
    await expect(page.locator("#history")).to_be_focused()
    await expect(page.locator("#announcer")).to_have_text("2 events")
    assert [85, 84] == await sequences(page)

    await page.get_by_label("Service").select_option("provider")
    await expect(table.get_by_text("No event matches these filters.", exact=True)).to_be_visible()
    await expect(older).to_be_hidden()
