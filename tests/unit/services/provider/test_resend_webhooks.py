"""One webhook for each org at Resend, at the stand-in for it."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import httpx
import pytest

from deploy.sandbox.resend import Resend as Sandbox
from services.provider.outbound import Outbound, new_client
from services.provider.provider import MayComeAbout
from services.provider.providers.resend import Resend
from tenantvault.credentials import Credential, ResendCredential
from tenantvault.errors import (
    InvalidCredentials,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    RateLimited,
)
from tenantvault.secret import Secret
from tests.unit.services.provider.losing_line import LosingLine

TEAM = "x" * 24
KEY = f"re_first111_{TEAM}"
SENDING = f"re_send1111_{TEAM}"
HOOKS = "https://hooks.test/resend"
ENDPOINT = f"{HOOKS}/acme"


async def no_checkpoint(step: str) -> None:
    raise AssertionError(step)


class Desk:
    """A provider at a sandbox."""

    def __init__(self) -> None:
        numbers = count(1)
        self.sandbox = Sandbox(
            now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            new_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012}",
            sleep=self._sleep,
        )
        self.slept: list[float] = []
        self.line = LosingLine(self.sandbox.app())
        self.resend = self.at(HOOKS)

    def at(self, webhook_url: str, *, mark: str = "") -> Resend:
        outbound = Outbound(new_client(self.line), sleep=self._pass)
        resend = partial(Resend, outbound, url="http://sandbox", webhook_url=webhook_url, sleep=self._sleep)
        return resend(mark=mark) if mark else resend()

    async def complete(
        self, key: str = KEY, *, before: Credential | None = None, org_id: str = "acme"
    ) -> ResendCredential:
        async def newest() -> Credential | None:
            return before

        return await self.resend.complete(org_id, ResendCredential(api_key=Secret(key)), newest)

    def webhooks(self) -> list[dict[str, Any]]:
        return [each for team in self.sandbox.state()["teams"].values() for each in team["webhooks"]]

    async def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        async with httpx.AsyncClient(transport=self.line, base_url="http://sandbox") as client:
            return await client.request(method, path, json=body, headers={"Authorization": f"Bearer {KEY}"})

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def _pass(self, seconds: float) -> None:
        del seconds


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_webhook_is_made_and_its_secret_is_kept(desk: Desk) -> None:
    made = await desk.complete()
    (webhook,) = desk.webhooks()
    assert (ENDPOINT, "enabled", made.webhook_id) == (webhook["endpoint"], webhook["status"], webhook["id"])
    shown = await desk.call("GET", f"/webhooks/{made.webhook_id}")
    assert shown.json()["signing_secret"] == made.webhook_secret.reveal()
    assert made == desk.resend.normalise(made)


async def test_a_second_connect_finds_the_webhook(desk: Desk) -> None:
    made = await desk.complete()
    assert made == await desk.complete()
    assert made == await desk.complete(before=made)
    assert ["POST /webhooks"] == desk.line.writes()


async def test_another_key_of_the_account_finds_the_webhook_too(desk: Desk) -> None:
    made = await desk.complete()
    other = f"re_second11_{TEAM}"
    assert replace(made, api_key=Secret(other)) == await desk.complete(other, before=made)


async def test_each_org_has_a_webhook_of_its_own(desk: Desk) -> None:
    made = [await desk.complete(org_id=org_id) for org_id in ("acme", "acme-2")]
    assert 2 == len({one.webhook_id for one in made})
    assert 2 == len({one.webhook_secret.reveal() for one in made})


async def test_the_webhook_is_found_behind_many_others(desk: Desk) -> None:
    made = await desk.complete()
    for number in range(101):
        body = {"endpoint": f"https://x.test/{number}", "events": ["email.sent"]}
        assert 201 == (await desk.call("POST", "/webhooks", body)).status_code
    desk.line.asked.clear()
    assert made == await desk.complete()
    assert ["GET /webhooks", "GET /webhooks", f"GET /webhooks/{made.webhook_id}"] == desk.line.asked


async def test_a_key_that_may_only_send_gets_no_webhook_and_no_error(desk: Desk) -> None:
    assert ResendCredential(api_key=Secret(SENDING)) == await desk.complete(SENDING)
    assert [] == desk.webhooks()


async def test_a_key_that_may_only_send_keeps_what_was_stored_with_it(desk: Desk) -> None:
    before = ResendCredential(api_key=Secret(SENDING), webhook_secret=Secret("whsec_x"), webhook_id="w")
    assert before == await desk.complete(SENDING, before=before)


async def test_a_key_that_is_unknown_by_now_is_an_error(desk: Desk) -> None:
    with pytest.raises(InvalidCredentials):
        await desk.complete("re_fa110401_" + TEAM)


async def test_a_secret_of_the_customers_own_is_left_alone(desk: Desk) -> None:
    before = ResendCredential(api_key=Secret(KEY), webhook_secret=Secret("whsec_own"))
    assert before == await desk.complete(before=before)
    assert [] == desk.line.asked


async def test_an_answer_that_was_lost_is_looked_for(desk: Desk) -> None:
    desk.line.unanswered.append("POST /webhooks")
    made = await desk.complete()
    assert [made.webhook_id] == [webhook["id"] for webhook in desk.webhooks()]
    assert ["POST /webhooks"] == desk.line.writes()
    assert [0.5] == desk.slept


async def test_what_cannot_be_found_may_come_about_and_is_not_made_twice(desk: Desk) -> None:
    desk.line.unheard.append("POST /webhooks")
    with pytest.raises(MayComeAbout):
        await desk.complete()
    assert ["POST /webhooks"] == desk.line.writes()
    assert [0.5, 1.0, 2.0] == desk.slept


async def test_a_silence_that_goes_on_leaves_the_same_doubt(desk: Desk) -> None:
    desk.line.answered["POST /webhooks"] = httpx.Response(504, json={})
    answers = iter([httpx.Response(200, json={"data": []})])
    desk.line.answering["GET /webhooks"] = lambda: next(answers, httpx.Response(503, json={}))
    with pytest.raises(MayComeAbout):
        await desk.complete()
    assert [0.5, 1.0, 2.0] == desk.slept


async def test_a_rate_limit_at_the_making_is_no_doubt_about_it(desk: Desk) -> None:
    desk.line.answered["POST /webhooks"] = httpx.Response(429, json={"name": "rate_limit_exceeded"})
    with pytest.raises(RateLimited):
        await desk.complete()
    assert [] == desk.slept


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(403, json={"name": "validation_error", "message": "The limit of webhooks is reached."}),
        httpx.Response(429, json={"name": "monthly_quota_exceeded"}),
        httpx.Response(403, json={"name": "invalid_permission"}),
    ],
)
async def test_a_webhook_that_is_refused_does_not_stand_in_the_way(desk: Desk, response: httpx.Response) -> None:
    desk.line.answered["POST /webhooks"] = response
    assert ResendCredential(api_key=Secret(KEY)) == await desk.complete()


async def test_a_webhook_without_a_secret_is_not_believed(desk: Desk) -> None:
    made = await desk.complete()
    desk.line.answered[f"GET /webhooks/{made.webhook_id}"] = httpx.Response(
        200, json={"id": made.webhook_id, "status": "enabled"}
    )
    with pytest.raises(ProviderUnknownAnswer):
        await desk.complete()


@pytest.mark.parametrize("change", [{"status": "disabled"}, {"events": ["email.sent"]}])
async def test_a_webhook_that_was_changed_is_mended_by_the_next_connect(desk: Desk, change: dict[str, Any]) -> None:
    made = await desk.complete()
    before = desk.webhooks()
    await desk.call("PATCH", f"/webhooks/{made.webhook_id}", change)
    assert before != desk.webhooks()
    assert made == await desk.complete(before=made)
    assert before == desk.webhooks()


async def test_a_webhook_moves_along_with_our_address(desk: Desk) -> None:
    made = await desk.complete()
    desk.resend = desk.at("https://elsewhere.test")
    assert made == await desk.complete(before=made)
    assert ["https://elsewhere.test/acme"] == [webhook["endpoint"] for webhook in desk.webhooks()]


async def test_of_two_webhooks_every_worker_chooses_the_older(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    made = await desk.complete()
    await desk.call("POST", "/webhooks", {"endpoint": ENDPOINT, "events": ["email.sent"]})
    assert made == await desk.complete()
    assert "more than one webhook" in caplog.text


async def test_a_list_without_an_end_is_no_answer(desk: Desk) -> None:
    page = {"data": [{"id": "w", "endpoint": "https://x.test"}], "has_more": True}
    desk.line.answered["GET /webhooks"] = httpx.Response(200, json=page)
    with pytest.raises(ProviderUnknownAnswer):
        await desk.complete()
    assert len(desk.line.asked) <= 100


async def test_a_webhook_that_went_between_two_looks_is_no_answer(desk: Desk) -> None:
    made = await desk.complete()
    desk.line.answered[f"GET /webhooks/{made.webhook_id}"] = httpx.Response(404, json={"name": "not_found"})
    with pytest.raises(ProviderUnknownAnswer):
        await desk.complete()


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_webhook_that_cannot_be_taken_is_none(desk: Desk, method: str) -> None:
    made = await desk.complete()
    await desk.call("PATCH", f"/webhooks/{made.webhook_id}", {"status": "disabled"})
    refused = httpx.Response(403, json={"name": "invalid_permission"})
    desk.line.answered[f"{method} /webhooks/{made.webhook_id}"] = refused
    assert ResendCredential(api_key=Secret(KEY)) == await desk.complete()


async def test_a_webhook_as_it_was_made_is_fine(desk: Desk) -> None:
    made = await desk.complete()
    assert () == await desk.resend.inspect("acme", made, known=())


@pytest.mark.parametrize(
    ("method", "body", "word"),
    [
        ("DELETE", None, "gone"),
        ("PATCH", {"status": "disabled"}, "disabled"),
        ("PATCH", {"endpoint": "https://x.test"}, "another address"),
    ],
)
async def test_what_became_of_a_webhook_is_told(desk: Desk, method: str, body: object, word: str) -> None:
    made = await desk.complete()
    await desk.call(method, f"/webhooks/{made.webhook_id}", body)
    (sentence,) = await desk.resend.inspect("acme", made, known=())
    assert word in sentence
    assert "connect Resend again" in sentence
    again = await desk.complete(before=made)
    assert () == await desk.resend.inspect("acme", again, known=())


async def test_nothing_is_said_of_a_webhook_that_is_not_ours_or_cannot_be_seen(desk: Desk) -> None:
    own = ResendCredential(api_key=Secret(KEY), webhook_secret=Secret("whsec_own"))
    assert () == await desk.resend.inspect("acme", own, known=())
    unseen = ResendCredential(api_key=Secret(SENDING), webhook_secret=Secret("whsec_own"), webhook_id="w")
    assert () == await desk.resend.inspect("acme", unseen, known=())


async def test_what_was_said_of_a_missing_secret_is_said_again(desk: Desk) -> None:
    without = ResendCredential(api_key=Secret(KEY))
    made = await desk.resend.provision("acme", without, known=(), checkpoint=no_checkpoint)
    assert 1 == len(made.warnings)
    assert made.warnings == await desk.resend.inspect("acme", without, known=())


async def test_an_inspection_without_an_answer_says_so(desk: Desk) -> None:
    made = await desk.complete()
    desk.line.answered[f"GET /webhooks/{made.webhook_id}"] = httpx.Response(503, json={})
    with pytest.raises(ProviderUnavailable):
        await desk.resend.inspect("acme", made, known=())


async def test_a_disconnect_deletes_the_webhook_and_not_the_key(desk: Desk) -> None:
    made = await desk.complete()
    for _ in range(2):
        assert () == await desk.resend.release("acme", made, known=())
        assert [] == desk.webhooks()
    assert not [line for line in desk.line.asked if "api-keys" in line]


async def test_a_disconnect_leaves_a_webhook_of_the_customers_own(desk: Desk) -> None:
    own = ResendCredential(api_key=Secret(KEY), webhook_secret=Secret("whsec_own"))
    assert () == await desk.resend.release("acme", own, known=())
    assert [] == desk.line.asked


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_what_a_disconnect_could_not_delete_is_told(desk: Desk, status: int) -> None:
    made = await desk.complete()
    name = {401: "restricted_api_key", 403: "a_name_of_tomorrow", 500: "application_error"}[status]
    desk.line.answered[f"DELETE /webhooks/{made.webhook_id}"] = httpx.Response(status, json={"name": name})
    (sentence,) = await desk.resend.release("acme", made, known=())
    assert "delete it there" in sentence


async def test_provisioning_makes_nothing_more(desk: Desk) -> None:
    made = await desk.complete()
    desk.line.asked.clear()
    told = await desk.resend.provision("acme", made, known=(), checkpoint=no_checkpoint)
    assert ((), (), []) == (told.resources, told.warnings, desk.line.asked)


@pytest.mark.parametrize(
    ("head", "warning"), [("first111", ""), ("send1111", "may only send"), ("bare1111", "no domain")]
)
async def test_the_test_of_a_key_at_the_stand_in(desk: Desk, head: str, warning: str) -> None:
    verdict = await desk.resend.test(ResendCredential(api_key=Secret(f"re_{head}_{TEAM}")))
    assert warning in "".join(getattr(verdict, "warnings", ("refused",)))
    assert bool(warning) == bool(getattr(verdict, "warnings", ()))
