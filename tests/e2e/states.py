"""Every state that a person can meet in the dashboard, by name, and how to get there on the running product.

Only what the server cannot be brought to say is made by routing: that it does not answer, and that an operator has not
set Google Calendar up.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping

from playwright.async_api import Route, expect

from tests.e2e.scene import STATUS, Scene
from tests.e2e.test_connect import vapi_key
from tests.e2e.test_consent import CALENDARS, EVENTS
from tests.e2e.test_providers import body_of
from tests.e2e.worlds import all_connected, busy, mixed, nothing, refused, troubled

State = Callable[[Scene], Awaitable[None]]

REFUSED_KEY = "fa110401-0000-4000-8000-000000000000"
"""A key that the stand-in for Vapi does not know."""


async def sign_in(scene: Scene) -> None:
    await scene.leave()
    await scene.page.goto("/sign-in")
    await expect(scene.page.locator('[data-action="sign-in"]').first).to_be_visible()


async def sign_in_host(scene: Scene) -> None:
    """As where there are no demo orgs: the page is the same but for this attribute."""
    await sign_in(scene)
    await scene.page.evaluate("document.body.dataset.signIn = 'host'")


async def integrations_loading(scene: Scene) -> None:
    org = await scene.world(nothing)
    await scene.enter(org, "/sign-in")
    await scene.hold(STATUS)
    await scene.page.goto("/")
    await expect(scene.page.locator('integration-card[data-state="loading"]')).to_have_count(5)


async def integrations_unknown(scene: Scene) -> None:
    org = await scene.world(all_connected)
    await scene.enter(org, "/sign-in")
    await scene.cut_off(STATUS)
    await scene.page.goto("/")
    await expect(scene.page.locator('integration-card[data-state="unknown"]')).to_have_count(5)
    await expect(scene.page.locator("#page-problem")).to_be_visible()


async def integrations_unreachable(scene: Scene) -> None:
    await integrations_connected(scene)
    await scene.cut_off(STATUS)
    await scene.page.locator('[data-action="refresh"]').click()
    await expect(scene.page.locator("#page-problem")).to_be_visible()


async def integrations_session_ended(scene: Scene) -> None:
    await integrations_connected(scene)
    await scene.end_session()
    await scene.page.locator('[data-action="refresh"]').click()
    await expect(scene.page.locator('[data-action="sign-in-again"]')).to_be_visible()


async def integrations_empty(scene: Scene) -> None:
    await scene.open(await scene.world(nothing))


async def integrations_connected(scene: Scene) -> None:
    await scene.open(await scene.world(all_connected))


async def integrations_mixed(scene: Scene) -> None:
    await scene.open(await scene.world(mixed))


async def integrations_troubled(scene: Scene) -> None:
    await scene.open(await scene.world(troubled))


async def integrations_refused(scene: Scene) -> None:
    await scene.open(await scene.world(refused))


async def integrations_unavailable(scene: Scene) -> None:
    org = await scene.world(nothing)
    await scene.enter(org, "/sign-in")

    async def without_google(route: Route) -> None:
        answer = await route.fetch()
        body = await answer.json()
        for description in body["providers"]:
            description["available"] = description["provider"] != "googleCalendar"
        await route.fulfill(response=answer, json=body)

    await scene.page.route("**/api/integrations/providers", without_google)
    await scene.page.goto("/")
    await expect(scene.page.locator('integration-card[data-state="unavailable"]')).to_have_count(1)


async def integrations_read_only(scene: Scene) -> None:
    await scene.open(await scene.world(mixed), role="member")
    await expect(scene.page.locator("#read-only-note")).to_be_visible()


async def integrations_testing(scene: Scene) -> None:
    await integrations_connected(scene)
    await scene.product.sandbox("POST", "faults", {"provider": "vapi", "delay": 10})
    await scene.act("vapi", "verify")
    await expect(scene.page.locator('integration-card[data-state="connected"][aria-busy="true"]')).to_have_count(1)


async def integrations_not_tested(scene: Scene) -> None:
    await integrations_connected(scene)
    await scene.product.sandbox("POST", "faults", {"provider": "elevenlabs", "status": 422, "times": 9})
    await scene.act("elevenlabs", "verify")
    await expect(scene.page.locator("[data-notice]")).to_be_visible()


async def integrations_exact_time(scene: Scene) -> None:
    await integrations_connected(scene)
    await scene.page.locator("[data-last-verified] time").first.focus()
    await expect(scene.page.locator(".tip").first).to_be_visible()


async def disconnect_vapi(scene: Scene) -> None:
    await integrations_connected(scene)
    await scene.act("vapi", "disconnect")
    await expect(scene.dialog).to_be_visible()


async def rotate_resend(scene: Scene) -> None:
    await integrations_connected(scene)
    await scene.act("resend", "rotate")
    await expect(scene.dialog).to_be_visible()


async def vapi_form(scene: Scene) -> None:
    await scene.form("vapi", await scene.world(nothing))


async def twilio_form(scene: Scene) -> None:
    await scene.form("twilio", await scene.world(nothing))


async def google_form(scene: Scene) -> None:
    await scene.form("googleCalendar", await scene.world(nothing))


async def resend_form(scene: Scene) -> None:
    await scene.form("resend", await scene.world(nothing))


async def elevenlabs_form(scene: Scene) -> None:
    await scene.form("elevenlabs", await scene.world(nothing))


async def vapi_more_settings(scene: Scene) -> None:
    await vapi_form(scene)
    await scene.dialog.locator("summary").click()


async def vapi_another(scene: Scene) -> None:
    await scene.form("vapi", await scene.world(all_connected), "configure")


async def vapi_bad_field(scene: Scene) -> None:
    await vapi_form(scene)
    await scene.send(apiKey="short")
    await expect(scene.dialog.locator('[data-field-problem="apiKey"]')).not_to_be_empty()


async def vapi_refused(scene: Scene) -> None:
    await vapi_form(scene)
    await scene.send(apiKey=REFUSED_KEY)
    await expect(scene.dialog.locator('[data-field-problem="apiKey"]')).not_to_be_empty()


async def vapi_unreachable(scene: Scene) -> None:
    await vapi_form(scene)
    await scene.send(apiKey="fa110502-0000-4000-8000-000000000000")
    await expect(scene.dialog.locator('[data-said="bad"]')).to_be_visible()


async def vapi_session_ended(scene: Scene) -> None:
    await vapi_form(scene)
    await scene.end_session()
    await scene.send(apiKey=vapi_key())
    await expect(scene.dialog.get_by_role("link", name="Sign in again")).to_be_visible()


async def vapi_sending(scene: Scene) -> None:
    await vapi_form(scene)
    await scene.product.sandbox("POST", "faults", {"provider": "vapi", "delay": 10})
    await scene.send(apiKey=vapi_key())
    await expect(scene.dialog).to_have_attribute("data-state", "sending")


async def vapi_signed_in_again(scene: Scene) -> None:
    await vapi_session_ended(scene)
    await scene.admit(scene.page.context, await scene.world(nothing))
    await scene.page.evaluate("dispatchEvent(new Event('focus'))")
    await expect(scene.dialog.locator('[data-said="good"]')).to_be_visible()


async def vapi_tested(scene: Scene) -> None:
    await vapi_form(scene)
    await _test(scene, apiKey=vapi_key())
    await expect(scene.dialog.locator('[data-said="good"]')).to_be_visible()


async def vapi_test_refused(scene: Scene) -> None:
    """For what is about no field."""
    await vapi_form(scene)
    await scene.product.sandbox("POST", "faults", {"provider": "vapi", "status": 400})
    await _test(scene, apiKey=vapi_key())
    await expect(scene.dialog.locator('[data-said="bad"]')).to_be_visible()


async def vapi_secret_made_up(scene: Scene) -> None:
    await vapi_form(scene)
    await scene.dialog.locator('[data-action="generate"]').click()
    await expect(scene.dialog.locator("#webhookSecret")).not_to_have_value("")


async def twilio_api_key(scene: Scene) -> None:
    await twilio_form(scene)
    await scene.dialog.get_by_role("radio", name="API key").check()
    await expect(scene.dialog.locator("#apiKeySecret")).to_be_visible()


async def twilio_number_typed(scene: Scene) -> None:
    await twilio_form(scene)
    await scene.dialog.locator("#phoneNumber").fill("+1 (202) 555-0100")


async def vapi_success_closing(scene: Scene) -> None:
    await scene.form("vapi", scene.fresh(f"new-{uuid.uuid4().hex[:6]}"))
    # In a tab that nobody sees it does not close.
    await scene.page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    await scene.fill(apiKey=vapi_key())
    await scene.dialog.locator('[data-action="submit"]').click()
    await expect(scene.dialog.locator("closing-note")).to_be_visible()


async def vapi_success(scene: Scene) -> None:
    await scene.form("vapi", scene.fresh(f"new-{uuid.uuid4().hex[:6]}"))
    await scene.send(apiKey=vapi_key())
    await expect(scene.dialog).to_have_attribute("data-state", "success")


async def twilio_success(scene: Scene) -> None:
    await scene.form("twilio", scene.fresh(f"new-{uuid.uuid4().hex[:6]}"))
    await scene.send(**body_of("twilio"))
    await expect(scene.dialog).to_have_attribute("data-state", "success")


async def resend_warnings(scene: Scene) -> None:
    await scene.form("resend", scene.fresh(f"new-{uuid.uuid4().hex[:6]}"))
    await scene.send(apiKey=f"re_send{uuid.uuid4().hex[:4]}_{uuid.uuid4().hex[:24]}")
    await expect(scene.dialog).to_have_attribute("data-state", "success")


async def consent_nothing(scene: Scene) -> None:
    await scene.leave()
    await scene.page.goto("/oauth/google-calendar")
    await expect(scene.page.locator('body[data-state="bad"]')).to_be_visible()


async def consent_session_ended(scene: Scene) -> None:
    await scene.leave()
    await scene.page.goto("/oauth/google-calendar?code=x&state=y")
    await expect(scene.page.locator('body[data-state="bad"]')).to_be_visible()


async def consent_given(scene: Scene) -> None:
    await _at_google(scene)
    await _answer(scene, "Allow")


async def consent_limited(scene: Scene) -> None:
    await _at_google(scene)
    await scene.page.locator(f'input[value="{CALENDARS}"]').uncheck()
    await _answer(scene, "Allow")


async def consent_not_enough(scene: Scene) -> None:
    await _at_google(scene)
    await scene.page.locator(f'input[value="{EVENTS}"]').uncheck()
    await _answer(scene, "Allow")


async def consent_denied(scene: Scene) -> None:
    await _at_google(scene)
    await _answer(scene, "Deny")


async def activity_loading(scene: Scene) -> None:
    await scene.enter(await scene.world(nothing), "/sign-in")
    await scene.hold("**/api/integrations/**")
    await scene.page.goto("/activity")
    await expect(scene.page.locator("audit-table")).to_have_attribute("aria-busy", "true")


async def activity_empty(scene: Scene) -> None:
    await _activity(scene, await scene.world(nothing))


async def activity_full(scene: Scene) -> None:
    await _activity(scene, await scene.world(busy))
    await expect(scene.page.locator("access-chart svg:not(.patterns)").first).to_be_visible()


async def activity_filtered(scene: Scene) -> None:
    await _activity(scene, await scene.world(busy), "?provider=resend&failed=true")


async def activity_no_match(scene: Scene) -> None:
    await _activity(scene, await scene.world(busy), "?provider=googleCalendar&failed=true")


async def activity_unreachable(scene: Scene) -> None:
    await _activity(scene, await scene.world(busy), "?failed=true")
    await scene.cut_off("**/api/integrations/**")
    await scene.page.locator('[data-action="refresh"]').click()
    await expect(scene.page.locator("#page-problem")).to_be_visible()


async def _activity(scene: Scene, org: str, query: str = "") -> None:
    await scene.enter(org, f"/activity{query}")
    await expect(scene.page.locator("audit-table")).to_have_attribute("aria-busy", "false")


async def _test(scene: Scene, **values: str) -> None:
    await scene.fill(**values)
    await scene.dialog.locator('[data-action="test"]').click()


async def _at_google(scene: Scene) -> None:
    await scene.form("googleCalendar", scene.fresh(f"new-{uuid.uuid4().hex[:6]}"))
    await scene.send()
    await scene.page.wait_for_url(f"{scene.product.stack.sandbox_url}/google/**")


async def _answer(scene: Scene, word: str) -> None:
    await scene.page.get_by_role("button", name=word).click()
    await expect(scene.page.locator("body:not([data-state=working])")).to_be_visible()


GROUPS: Mapping[str, tuple[State, ...]] = {
    "integrations": (
        sign_in,
        sign_in_host,
        integrations_loading,
        integrations_unknown,
        integrations_unreachable,
        integrations_session_ended,
        integrations_empty,
        integrations_connected,
        integrations_mixed,
        integrations_troubled,
        integrations_refused,
        integrations_unavailable,
        integrations_read_only,
        integrations_testing,
        integrations_not_tested,
        integrations_exact_time,
        disconnect_vapi,
        rotate_resend,
    ),
    "forms": (
        vapi_form,
        vapi_more_settings,
        vapi_secret_made_up,
        vapi_another,
        twilio_form,
        twilio_api_key,
        twilio_number_typed,
        google_form,
        resend_form,
        elevenlabs_form,
    ),
    "answers": (
        vapi_bad_field,
        vapi_refused,
        vapi_unreachable,
        vapi_session_ended,
        vapi_signed_in_again,
        vapi_tested,
        vapi_test_refused,
        vapi_sending,
        vapi_success_closing,
        vapi_success,
        twilio_success,
        resend_warnings,
    ),
    "consent": (
        consent_nothing,
        consent_session_ended,
        consent_given,
        consent_limited,
        consent_not_enough,
        consent_denied,
    ),
    "activity": (
        activity_loading,
        activity_empty,
        activity_full,
        activity_filtered,
        activity_no_match,
        activity_unreachable,
    ),
}
"""All of them, by what they show."""


def name_of(state: State) -> str:
    """As in the name of a picture."""
    return state.__name__.replace("_", "-")
