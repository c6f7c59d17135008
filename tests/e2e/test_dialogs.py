"""The dialogs that connect a provider, in a real browser: what they ask, how they fail, and how they end."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.e2e.conftest import Product
from tests.e2e.test_browser import hand_over, until_state
from tests.e2e.test_connect import new_org, twilio_account, vapi_key
from tests.e2e.test_providers import TYPED_IN, body_of, elevenlabs_key, stored

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("dashboard"),
]

REFUSED = "fa110401-0000-4000-8000-000000000000"
CONNECT = "**/api/integrations/vapi"

# What people type, the country of their browser, the number that is meant and its country.
NUMBERS = [
    ("(202) 555-0100", "US", "+12025550100", "US"),
    ("1-202-555-0100", "US", "+12025550100", "US"),
    ("416 555 0100", "US", "+14165550100", "CA"),
    ("833 555 0100", "US", "+18335550100", ""),
    ("011 44 20 7946 0000", "US", "+442079460000", "GB"),
    ("0044 20 7946 0000", "DE", "+442079460000", "GB"),
    ("0044 20 7946 0000", "US", "+442079460000", "GB"),
    ("00 44 20 7946 0000", "AU", "+442079460000", "GB"),
    ("0011 44 20 7946 0000", "AU", "+442079460000", "GB"),
    ("00 44 20 7946 0000", "JP", "+442079460000", "GB"),
    ("020 7946 0000", "GB", "+442079460000", "GB"),
    ("+44 (0)20 7946 0000", "US", "+442079460000", "GB"),
    ("(0)20 \u201c7946\u201d\u20130000", "GB", "+442079460000", "GB"),
    ("06 1234 5678", "IT", "+390612345678", "IT"),
    ("0039 (0)6 1234 5678", "DE", "+390612345678", "IT"),
    ("011 39 (0)6 1234 5678", "US", "+390612345678", "IT"),
    ("+225 (0)7 12 34 56 78", "US", "+2250712345678", "CI"),
    ("80012345", "LT", "+37080012345", "LT"),
    ("8 612 34567", "LT", "+37061234567", "LT"),
    ("(0 612) 34567", "LT", "+37061234567", "LT"),
    ("8 (912) 345-67-89", "RU", "+79123456789", "RU"),
    ("+7 701 234 56 78", "US", "+77012345678", "KZ"),
    ("whatsapp:+4915112345678", "", "+4915112345678", "DE"),
    ("+999 123", "US", "+999123", ""),
    ("2025550100", "", "", ""),
    ("1-800-FLOWERS", "US", "", ""),
    ("+1234567890123456", "US", "", ""),
    ("+", "US", "", ""),
]
# The languages of a browser, and the country that they tell.
HOMES = [
    (["de", "en-US", "en"], "DE"),
    (["en"], "US"),
    (["en-US@posix", "fr-CA"], "CA"),
    (["en-US@posix"], ""),
    ([], ""),
]
READ_HOMES = """async (rows) => {
  Object.defineProperty(navigator, "languages", {value: ["en-US@posix"]});
  await import("/static/moment.js");
  const {homeCountry} = await import("/static/phone-number.js");
  return rows.map(homeCountry);
}"""
READ_NUMBERS = """async (rows) => {
  const {toE164, countryOf} = await import("/static/phone-number.js");
  return rows.map(([typed, home]) => [toE164(typed, home), countryOf(toE164(typed, home))]);
}"""


def part(page: Page, name: str) -> Locator:
    return page.locator(f'#connect-dialog [data-action="{name}"]')


def said(page: Page, kind: str) -> Locator:
    return page.locator(f'#connect-dialog [data-said="{kind}"]')


def trouble(page: Page, field: str) -> Locator:
    return page.locator(f'[data-field-problem="{field}"]')


async def open_form(page: Page, provider: str, action: str = "connect") -> None:
    await page.locator(f'integration-card[data-provider="{provider}"] [data-action="{action}"]').click()
    await expect(page.locator("#connect-dialog")).to_be_visible()


async def begin(page: Page, product: Product, provider: str) -> str:
    """A form of an org that has nothing yet."""
    org = new_org()
    await hand_over(page, product, org)
    await open_form(page, provider)
    return org


@asynccontextmanager
async def held(page: Page, pattern: str) -> AsyncIterator[list[str]]:
    """Let no request of this pattern go on meanwhile. Gives their bodies."""
    release, bodies = asyncio.Event(), list[str]()

    async def hold(route: Route) -> None:
        bodies.append(route.request.post_data or "")
        await release.wait()
        await route.continue_()

    await page.route(pattern, hold)
    try:
        yield bodies
    finally:
        release.set()
        await page.unroute_all(behavior="wait")


async def test_a_secret_that_was_made_up_can_be_copied_and_the_dialog_closes_by_itself(
    page: Page, product: Product
) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.clock.install()
    org, key = await begin(page, product, "vapi"), vapi_key()
    secret = page.locator("#webhookSecret")
    await part(page, "generate").click()
    made = await secret.input_value()
    assert 43 == len(made)
    await expect(secret).to_have_attribute("type", "text")
    await part(page, "copy").click()
    await expect(page.locator("#connect-dialog").get_by_text("Copied")).to_be_visible()
    assert made == await page.evaluate("navigator.clipboard.readText()")
    # Typed over, it is somebody's own.
    await secret.fill("my-own-secret")
    await expect(part(page, "copy")).to_be_hidden()
    await part(page, "generate").click()
    assert made != (made := await secret.input_value())
    await page.locator("#apiKey").fill(key)
    await part(page, "reveal").first.click()
    await expect(page.locator("#apiKey")).to_have_attribute("type", "text")
    await part(page, "submit").click()
    await expect(page.locator("copy-code code")).to_have_count(2)
    await expect(page.locator("#connect-title")).to_be_focused()
    shown = await page.locator('code[data-result="outboundAssistantId"]').inner_text()
    content = await page.content()
    assert key not in content
    assert made not in content
    await page.clock.fast_forward(2_500)
    await expect(page.locator("#connect-dialog")).to_be_hidden()
    await expect(page.locator('integration-card[data-provider="vapi"] :focus')).to_have_count(1)
    async with product.vault() as vault:
        got = await vault.vapi(org)
    assert made == got.credential.webhook_secret.reveal()
    assert shown == got.resource("outbound")


async def test_a_dialog_that_is_in_use_stays_open_and_a_refused_clipboard_gets_the_text_selected(
    page: Page, product: Product
) -> None:
    await page.clock.install()
    await begin(page, product, "vapi")
    await page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()) }")
    await page.locator("#apiKey").fill(vapi_key())
    await part(page, "submit").click()
    note = page.locator("closing-note")
    await expect(note).to_contain_text("closes by itself")
    await page.locator("copy-code code").first.hover()
    await expect(note).to_have_count(0)
    await part(page, "copy").first.click()
    await expect(page.locator("copy-code").first).to_contain_text("Selected")
    chosen = await page.evaluate("getSelection().toString()")
    assert chosen.strip() == await page.locator("copy-code code").first.inner_text()
    await page.clock.fast_forward(60_000)
    await expect(page.locator("#connect-dialog")).to_be_visible()
    await part(page, "done").click()

    # Whoever works with keys alone is never hurried.
    await open_form(page, "vapi", "configure")
    await page.locator("#apiKey").fill(vapi_key())
    await page.keyboard.press("Enter")
    await expect(part(page, "done")).to_be_focused()
    await expect(note).to_have_count(0)


async def test_twilio_takes_a_number_as_people_write_it_and_either_way_to_sign_in(page: Page, product: Product) -> None:
    account, org = twilio_account(), await begin(page, product, "twilio")
    digits, number = account["accountSid"][2:], account["phoneNumber"]
    field, used = page.locator("#phoneNumber"), page.locator('[data-used="phoneNumber"]')
    await expect(used).to_contain_text("United States (+1)")
    await field.press_sequentially(f"({number[2:5]}) {number[5:8]}-{number[8:]}")
    # What is typed stays as it is, and so does the cursor, until the field is left.
    await expect(field).to_have_value(f"({number[2:5]}) {number[5:8]}-{number[8:]}")
    await expect(used).to_contain_text(f"Will be used as {number}")
    await field.evaluate("field => field.setSelectionRange(1, 2)")
    await page.keyboard.press(number[2])
    assert 2 == await field.evaluate("field => field.selectionStart")
    await page.keyboard.press("Tab")
    await expect(field).to_have_value(number)

    await expect(page.locator("#apiKeySid")).to_be_hidden()
    await page.locator("#accountSid").fill(account["accountSid"])
    await page.locator("#authToken").fill(account["authToken"])
    await page.get_by_role("radio", name="API key").check()
    await expect(page.locator("#authToken")).to_be_hidden()
    await part(page, "submit").click()
    await expect(page.locator("#apiKeySid")).to_be_focused()
    key = f"SK{digits}"
    await page.locator("#apiKeySid").fill(key)
    await page.locator("#apiKeySecret").fill(digits[::-1])
    await part(page, "submit").click()
    masked = page.locator('code[data-result="phoneNumber"]')
    await expect(masked).to_contain_text(f"••••{number[-4:]}")
    assert number not in await page.locator("#connect-dialog").inner_html()
    await part(page, "done").click()
    await until_state(page, "twilio", "connected")
    async with product.vault() as vault:
        credential = (await vault.twilio(org)).credential
    assert (key, "", number) == (credential.api_key_sid, credential.auth_token.reveal(), credential.phone_number)


async def test_numbers_are_read_as_people_of_each_country_write_them(page: Page) -> None:
    await page.goto("/sign-in")
    read = await page.evaluate(READ_NUMBERS, [row[:2] for row in NUMBERS])
    assert [list(row[2:]) for row in NUMBERS] == read


async def test_the_first_language_tells_the_country_and_one_that_is_none_stops_nothing(page: Page) -> None:
    await page.goto("/sign-in")
    assert [home for _, home in HOMES] == await page.evaluate(READ_HOMES, [languages for languages, _ in HOMES])


async def test_a_key_that_can_do_less_is_connected_and_what_is_good_to_know_is_there_to_be_read(
    page: Page, product: Product
) -> None:
    await begin(page, product, "resend")
    await page.locator("#apiKey").fill(f"re_send{uuid.uuid4().hex[:4]}_{uuid.uuid4().hex[:24]}")
    await part(page, "test").click()
    await expect(said(page, "good")).to_contain_text("Good to know")
    await part(page, "submit").click()
    await expect(page.locator("#connect-dialog .warn")).to_contain_text("may only send")
    # Asked once: a dialog that has closed by itself has none either.
    assert 0 == await page.locator("closing-note").count()
    await page.keyboard.press("Escape")
    await until_state(page, "resend", "limited")
    # It can make no other key, and so is not offered to be rotated.
    offered = page.locator('integration-card[data-provider="resend"] button')
    await expect(offered).to_have_text(["Test connection", "Configure", "Reconnect", "Disconnect"])


@pytest.mark.parametrize("provider", TYPED_IN)
async def test_what_is_wrong_with_a_field_is_told_once_and_heard(page: Page, product: Product, provider: str) -> None:
    async def fill_in() -> None:
        for name, value in body_of(provider).items():
            await page.locator(f"#{name}").fill(value)

    await begin(page, product, provider)
    await product.sandbox("POST", "faults", {"provider": provider, "status": 401, "times": 9})
    dialog, alert = page.locator("#connect-dialog"), page.locator('#connect-dialog form [role="alert"]')
    wrong = dialog.locator('[aria-invalid="true"]')
    for name in ("test", "submit"):
        await fill_in()
        await part(page, name).click()
        await expect(wrong).to_be_focused()
        [sentence] = filter(None, await dialog.locator(".field-problem").all_inner_texts())
        await expect(wrong).to_have_accessible_description(re.compile(re.escape(sentence)))
        assert 1 == (await dialog.inner_text()).count(sentence)
        await expect(alert).to_be_empty()
    # A focus that stays where it is says nothing.
    await fill_in()
    await wrong.or_(dialog.locator('[type="password"]')).first.focus()
    await page.keyboard.press("Enter")
    await expect(alert).to_have_text(sentence)
    await expect(alert.locator(":not(.unseen)")).to_have_count(0)
    await product.sandbox("DELETE", "faults")


async def test_a_test_without_saving_stores_nothing_and_takes_away_only_what_was_refused(
    page: Page, product: Product
) -> None:
    org, key = await begin(page, product, "vapi"), vapi_key()
    field, secret = page.locator("#apiKey"), page.locator("#webhookSecret")
    await secret.fill("a-webhook-secret")
    await field.fill(REFUSED)
    await part(page, "test").click()
    await expect(trouble(page, "apiKey")).to_contain_text("does not recognise")
    await expect(field).to_be_focused()
    await expect(field).to_have_value("")
    await expect(secret).to_have_value("a-webhook-secret")
    # What is about no field stands above the buttons.
    await field.fill(key)
    await expect(trouble(page, "apiKey")).to_be_empty()
    await product.sandbox("POST", "faults", {"provider": "vapi", "status": 400})
    await part(page, "test").click()
    await expect(said(page, "bad")).to_contain_text("Nothing was saved")
    await expect(said(page, "bad")).to_be_focused()
    await field.fill("fa110500-0000-4000-8000-000000000000")
    await expect(said(page, "bad")).to_have_count(0)
    await part(page, "test").click()
    # Nobody refused it: it can be tried again as it stands.
    await expect(said(page, "bad")).to_be_focused()
    await expect(field).not_to_have_value("")
    await field.fill(key)
    await part(page, "test").click()
    await expect(said(page, "good")).to_contain_text("Nothing is saved yet")
    await expect(field).to_have_value(key)
    await expect(secret).to_have_value("a-webhook-secret")
    assert 0 == await stored(product, org)
    await part(page, "submit").click()
    await part(page, "done").click()
    async with product.vault() as vault:
        assert "a-webhook-secret" == (await vault.vapi(org)).credential.webhook_secret.reveal()


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("fa110429-0000-4000-8000-000000000000", "slow"),
        ("fa110502-0000-4000-8000-000000000000", "could not be reached"),
    ],
)
async def test_a_connect_that_failed_keeps_what_was_typed_but_for_secrets(
    page: Page, product: Product, key: str, sentence: str
) -> None:
    org = await begin(page, product, "vapi")
    await page.locator("#region").select_option("eu")
    await page.locator("#webhookSecret").fill("a-webhook-secret")
    await page.locator("#apiKey").fill(key)
    await part(page, "submit").click()
    await expect(said(page, "bad")).to_contain_text("Request id")
    await expect(page.locator("#connect-dialog")).to_contain_text(sentence)
    assert "eu" == await page.locator("#region").input_value()
    for secret in ("#apiKey", "#webhookSecret"):
        await expect(page.locator(secret)).to_have_value("")
    await expect(trouble(page, "webhookSecret")).to_contain_text("Emptied")
    assert 0 == await stored(product, org)
    await page.locator("#region").select_option("us")
    await page.locator("#apiKey").fill(vapi_key())
    await page.keyboard.press("Enter")
    await part(page, "done").click()
    await until_state(page, "vapi", "connected")


async def test_a_number_of_another_org_is_said_above_the_buttons(page: Page, product: Product) -> None:
    account = twilio_account()
    async with product.api(new_org()) as api:
        (await api.post("/api/integrations/twilio", json=account)).raise_for_status()
    await begin(page, product, "twilio")
    for name, value in account.items():
        await page.locator(f"#{name}").fill(value)
    await page.keyboard.press("Enter")
    await expect(said(page, "bad")).to_be_focused()
    await expect(page.locator("#accountSid")).to_have_value(account["accountSid"])


async def test_what_is_sent_twice_is_one_connect_that_nothing_closes_and_that_is_said_to_take_long(
    page: Page, product: Product
) -> None:
    await page.clock.install()
    org = await begin(page, product, "vapi")
    dialog = page.locator("#connect-dialog")
    await page.locator("#apiKey").fill(vapi_key())
    async with held(page, CONNECT) as bodies:
        await page.evaluate("for (const _ of [1, 2]) document.querySelector('#connect-dialog form').requestSubmit()")
        await expect(dialog).to_have_attribute("data-state", "sending")
        for name in ("submit", "test", "cancel"):
            await part(page, name).click(force=True)
        await until_state(page, "vapi", "configuring")
        for _ in range(3):
            await page.keyboard.press("Escape")
        await page.evaluate("new Promise(done => (addEventListener('popstate', done), history.back()))")
        await expect(said(page, "busy")).to_contain_text("Testing with the provider")
        await page.clock.fast_forward(8_000)
        await expect(said(page, "busy")).to_contain_text("Still working")
    await expect(part(page, "done")).to_be_visible()
    assert 1 == len(bodies)
    assert 1 == await stored(product, org)
    await part(page, "done").click()
    await until_state(page, "vapi", "connected")


async def test_a_connect_without_an_answer_ends_and_says_what_that_means(page: Page, product: Product) -> None:
    await begin(page, product, "vapi")
    await page.evaluate("() => { AbortSignal.timeout = () => AbortSignal.abort(new DOMException('', 'TimeoutError')) }")
    await page.locator("#apiKey").fill(vapi_key())
    await part(page, "submit").click()
    await expect(said(page, "bad")).to_contain_text("It may have worked all the same")
    await expect(page.locator("#connect-dialog")).to_have_attribute("data-state", "form")


async def test_a_session_that_ends_in_mid_form_costs_only_the_secrets(page: Page, product: Product) -> None:
    account, org = twilio_account(), await begin(page, product, "twilio")
    for name, value in account.items():
        await page.locator(f"#{name}").fill(value)
    await page.context.clear_cookies()
    await part(page, "test").click()
    await expect(said(page, "bad")).to_contain_text("Your session has ended")
    await expect(page.locator("#authToken")).to_have_value("")
    # Nobody has signed in yet.
    async with page.expect_response("**/api/integrations/status"):
        await page.evaluate("dispatchEvent(new Event('focus'))")
    await expect(said(page, "bad")).to_be_visible()
    other = await page.context.new_page()
    await hand_over(other, product, org)
    await other.close()
    await page.evaluate("dispatchEvent(new Event('focus'))")
    await expect(said(page, "good")).to_contain_text("signed in again")
    await expect(page.locator("#authToken")).to_be_focused()
    await page.keyboard.type(account["authToken"])
    await page.keyboard.press("Enter")
    await part(page, "done").click()
    await until_state(page, "twilio", "connected")


async def test_back_and_the_space_beside_close_a_dialog_without_leaving_the_page_or_losing_what_was_typed(
    page: Page, product: Product
) -> None:
    await begin(page, product, "elevenlabs")
    dialog, url = page.locator("#connect-dialog"), page.url
    await page.locator("#apiKey").fill(elevenlabs_key())
    await page.mouse.click(5, 5)
    await expect(dialog).to_be_visible()
    await page.go_back()
    await expect(dialog).to_be_hidden()
    await expect(page.locator("#connect-dialog input")).to_have_count(0)
    assert url == page.url
    await open_form(page, "elevenlabs")
    await expect(page.locator("#apiKey")).to_have_value("")
    await page.mouse.click(5, 5)
    await expect(dialog).to_be_hidden()
    # No entry is left in the history that goes nowhere.
    await page.wait_for_function("() => !history.state?.opened")
    await open_form(page, "elevenlabs")
    await page.locator("#apiKey").fill(elevenlabs_key())
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await page.wait_for_function("() => !history.state?.opened")
    await page.go_back()
    await expect(page).to_have_url(f"{url}sign-in")


async def test_secrets_are_gone_when_the_page_is_left_and_password_managers_are_kept_out(
    page: Page, product: Product
) -> None:
    await begin(page, product, "twilio")
    await page.locator("#accountSid").fill("AC")
    await page.locator("#authToken").fill("a-token")
    private = "input => [input.autocomplete, input.name, input.spellcheck, 'bwignore' in input.dataset]"
    assert ["one-time-code", "", False, True] == await page.locator("#authToken").evaluate(private)
    assert ["off", "", False, True] == await page.locator("#accountSid").evaluate(private)
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    await expect(page.locator("#authToken")).to_have_value("")
    await expect(page.locator("#accountSid")).to_have_value("AC")
