"""One webhook for each org at ElevenLabs, at the stand-in for it."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest

from deploy.sandbox.elevenlabs import ElevenLabs as Sandbox
from services.provider.outbound import Outbound, new_client
from services.provider.provider import MayComeAbout
from services.provider.providers.elevenlabs import ElevenLabs
from tenantvault.credentials import Credential, ElevenLabsCredential
from tenantvault.errors import InvalidCredentials, ProviderUnavailable, RateLimited
from tenantvault.secret import Secret
from tests.unit.services.provider.losing_line import LosingLine

WORKSPACE = "0123456789abcdef" * 2
KEY = f"sk_{'1' * 16}{WORKSPACE}"
OTHER_KEY = f"sk_{'2' * 16}{WORKSPACE}"
WITHOUT_WEBHOOKS = f"sk_deaf0001{'0' * 8}{WORKSPACE}"
HOOKS = "https://hooks.test/elevenlabs"
ENDPOINT = f"{HOOKS}/acme"
LIST = "GET /v1/workspace/webhooks"
MAKE = "POST /v1/workspace/webhooks"
SETTINGS = "/v1/convai/settings"


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
        self.elevenlabs = self.at(HOOKS)

    def at(self, webhook_url: str) -> ElevenLabs:
        outbound = Outbound(new_client(self.line), sleep=self._pass)
        urls = {"global": "http://sandbox", "eu": "http://sandbox"}
        return ElevenLabs(outbound, urls=urls, webhook_url=webhook_url, sleep=self._sleep)

    async def complete(
        self, key: str = KEY, *, before: Credential | None = None, org_id: str = "acme"
    ) -> ElevenLabsCredential:
        async def newest() -> Credential | None:
            return before

        return await self.elevenlabs.complete(org_id, ElevenLabsCredential(api_key=Secret(key)), newest)

    async def provision(self, credential: ElevenLabsCredential) -> tuple[str, ...]:
        told = await self.elevenlabs.provision("acme", credential, known=(), checkpoint=no_checkpoint)
        assert () == told.resources
        return told.warnings

    async def connect(self, *, before: Credential | None = None) -> ElevenLabsCredential:
        made = await self.complete(before=before)
        assert () == await self.provision(made)
        return made

    def webhooks(self) -> list[dict[str, Any]]:
        return [each for workspace in self.sandbox.state()["webhooks"].values() for each in workspace]

    def ids(self) -> list[str]:
        return [webhook["webhook_id"] for webhook in self.webhooks()]

    def calls(self) -> dict[str, Any]:
        return next(iter(self.sandbox.state()["calls"].values()), {})

    async def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        async with httpx.AsyncClient(transport=self.line, base_url="http://sandbox") as client:
            response = await client.request(method, path, json=body, headers={"xi-api-key": KEY})
        assert 200 == response.status_code
        answer: dict[str, Any] = response.json()
        return answer

    async def make_by_hand(self, url: str = "https://x.test") -> str:
        settings = {"auth_type": "hmac", "name": "mine", "webhook_url": url}
        return str((await self.call("POST", "/v1/workspace/webhooks", {"settings": settings}))["webhook_id"])

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
    assert (ENDPOINT, "hmac", made.webhook_id) == (webhook["webhook_url"], webhook["auth_type"], webhook["webhook_id"])
    assert made.webhook_secret.reveal().startswith("wsec_")
    assert made == desk.elevenlabs.normalise(made)


async def test_a_second_connect_keeps_the_webhook(desk: Desk) -> None:
    made = await desk.complete()
    assert made == await desk.complete(before=made)
    assert [MAKE] == desk.line.writes()


async def test_another_key_of_the_workspace_keeps_the_webhook_too(desk: Desk) -> None:
    made = await desk.complete()
    assert replace(made, api_key=Secret(OTHER_KEY)) == await desk.complete(OTHER_KEY, before=made)
    assert [MAKE] == desk.line.writes()


async def test_the_secret_does_not_go_along_into_another_workspace(desk: Desk) -> None:
    made = await desk.complete()
    other = await desk.complete(f"sk_{'1' * 16}{'f' * 32}", before=made)
    assert made.webhook_id != other.webhook_id
    assert made.webhook_secret != other.webhook_secret


async def test_each_org_has_a_webhook_of_its_own(desk: Desk) -> None:
    made = [await desk.complete(org_id=org_id) for org_id in ("acme", "acme-2")]
    assert [one.webhook_id for one in made] == desk.ids()


async def test_a_webhook_whose_secret_nobody_stored_is_made_anew(desk: Desk) -> None:
    lost = await desk.connect()
    theirs = await desk.make_by_hand()
    made = await desk.connect()
    assert [theirs, made.webhook_id] == desk.ids()
    assert lost.webhook_id != made.webhook_id
    assert made.webhook_id == desk.calls()["post_call_webhook_id"]


async def test_a_webhook_that_cannot_be_deleted_does_not_stand_in_the_way(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    lost = await desk.complete()
    refused = httpx.Response(400, json={"detail": {"status": "webhook_in_use"}})
    desk.line.answered[f"DELETE /v1/workspace/webhooks/{lost.webhook_id}"] = refused
    made = await desk.complete()
    assert [lost.webhook_id, made.webhook_id] == desk.ids()
    assert "a webhook stays" in caplog.text


async def test_a_webhook_without_a_secret_is_none(desk: Desk) -> None:
    desk.line.answered[MAKE] = httpx.Response(200, json={"webhook_id": "w"})
    assert ElevenLabsCredential(api_key=Secret(KEY)) == await desk.complete()
    assert "DELETE /v1/workspace/webhooks/w" in desk.line.asked


async def test_a_key_without_the_permission_gets_no_webhook_and_no_error(desk: Desk) -> None:
    made = await desk.complete(WITHOUT_WEBHOOKS)
    assert ElevenLabsCredential(api_key=Secret(WITHOUT_WEBHOOKS)) == made
    assert "let the API key manage webhooks" in (await desk.provision(made))[0]


async def test_a_key_without_the_permission_keeps_what_was_stored_with_it(desk: Desk) -> None:
    before = ElevenLabsCredential(
        api_key=Secret(WITHOUT_WEBHOOKS), webhook_secret=Secret("hook-secret"), webhook_id="w"
    )
    assert before == await desk.complete(WITHOUT_WEBHOOKS, before=before)


async def test_a_key_that_is_unknown_by_now_is_an_error(desk: Desk) -> None:
    with pytest.raises(InvalidCredentials):
        await desk.complete(f"sk_fa110401{'0' * 8}{WORKSPACE}")


async def test_a_secret_of_the_customers_own_is_left_alone(desk: Desk) -> None:
    before = ElevenLabsCredential(api_key=Secret(KEY), webhook_secret=Secret("customers-own"))
    assert before == await desk.complete(before=before)
    assert [] == desk.line.asked


async def test_after_a_lost_answer_the_webhook_is_found_deleted_and_made_again(desk: Desk) -> None:
    desk.line.unanswered.append(MAKE)
    made = await desk.complete()
    assert [made.webhook_id] == desk.ids()
    assert 2 == desk.line.asked.count(MAKE)
    assert [0.5] == desk.slept


async def test_two_lost_answers_are_enough(desk: Desk) -> None:
    desk.line.unanswered += [MAKE, MAKE]
    with pytest.raises(MayComeAbout):
        await desk.complete()
    assert 2 == desk.line.asked.count(MAKE)
    made = await desk.complete()
    assert [made.webhook_id] == desk.ids()


async def test_what_cannot_be_found_may_come_about_and_is_not_made_twice(desk: Desk) -> None:
    desk.line.unheard.append(MAKE)
    with pytest.raises(MayComeAbout):
        await desk.complete()
    assert [MAKE] == desk.line.writes()
    assert [0.5, 1.0, 2.0] == desk.slept


async def test_one_that_stays_is_not_taken_for_the_one_that_was_lost(desk: Desk) -> None:
    lost = await desk.complete()
    refused = httpx.Response(400, json={"detail": {"status": "webhook_in_use"}})
    desk.line.answered[f"DELETE /v1/workspace/webhooks/{lost.webhook_id}"] = refused
    desk.line.unheard.append(MAKE)
    with pytest.raises(MayComeAbout):
        await desk.complete()
    assert 2 == desk.line.asked.count(MAKE)


@pytest.mark.parametrize(
    "answer", [httpx.Response(503, json={}), httpx.Response(401, json={"detail": {"code": "missing_permissions"}})]
)
async def test_a_silence_that_goes_on_leaves_the_same_doubt(desk: Desk, answer: httpx.Response) -> None:
    desk.line.answered[MAKE] = httpx.Response(504, json={})
    answers = iter([httpx.Response(200, json={"webhooks": []})])
    desk.line.answering[LIST] = lambda: next(answers, answer)
    with pytest.raises(MayComeAbout):
        await desk.complete()
    assert [0.5, 1.0, 2.0] == desk.slept


async def test_a_rate_limit_at_the_making_is_no_doubt_about_it(desk: Desk) -> None:
    desk.line.answered[MAKE] = httpx.Response(429, json={"detail": {"code": "system_busy"}})
    with pytest.raises(RateLimited):
        await desk.complete()
    assert [] == desk.slept


async def test_a_webhook_that_was_disabled_is_enabled_by_the_next_connect(desk: Desk) -> None:
    made = await desk.complete()
    before = desk.webhooks()
    await desk.call("PATCH", f"/v1/workspace/webhooks/{made.webhook_id}", {"is_disabled": True, "name": "x"})
    (sentence,) = await desk.elevenlabs.inspect("acme", made, known=())
    assert "disabled" in sentence
    assert made == await desk.complete(before=made)
    assert before == desk.webhooks()


async def test_a_webhook_for_an_address_of_before_is_replaced(desk: Desk) -> None:
    old = await desk.connect()
    desk.elevenlabs = desk.at("https://elsewhere.test")
    new = await desk.connect(before=old)
    assert ["https://elsewhere.test/acme"] == [webhook["webhook_url"] for webhook in desk.webhooks()]
    assert [new.webhook_id] == desk.ids()


async def test_the_webhook_is_told_of_calls(desk: Desk) -> None:
    made = await desk.complete()
    for _ in range(2):
        assert () == await desk.provision(made)
        calls = {"post_call_webhook_id": made.webhook_id, "events": ["transcript", "call_initiation_failure"]}
        assert calls == desk.calls()
    assert 1 == desk.line.asked.count(f"PATCH {SETTINGS}")


async def test_events_that_were_chosen_stay_chosen(desk: Desk) -> None:
    await desk.call("PATCH", SETTINGS, {"webhooks": {"events": ["audio"]}})
    made = await desk.connect()
    assert {"post_call_webhook_id": made.webhook_id, "events": ["audio"]} == desk.calls()


async def test_another_webhook_that_is_told_of_calls_stays_and_the_customer_hears_of_it(desk: Desk) -> None:
    theirs = await desk.make_by_hand()
    await desk.call("PATCH", SETTINGS, {"webhooks": {"post_call_webhook_id": theirs}})
    made = await desk.complete()
    (warning,) = await desk.provision(made)
    assert "Post-call webhook" in warning
    assert theirs == desk.calls()["post_call_webhook_id"]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(401, json={"detail": {"code": "missing_permissions"}}),
        httpx.Response(418, json={}),
        httpx.Response(503, json={}),
        httpx.Response(200, html="?"),
    ],
)
async def test_settings_out_of_reach_are_a_warning_and_no_error(
    desk: Desk, method: str, response: httpx.Response
) -> None:
    made = await desk.complete()
    desk.line.answered[f"{method} {SETTINGS}"] = response
    assert "Post-call webhook" in (await desk.provision(made))[0]


async def test_a_webhook_as_it_was_made_is_fine(desk: Desk) -> None:
    assert () == await desk.elevenlabs.inspect("acme", await desk.connect(), known=())


async def test_calls_that_go_elsewhere_are_told_for_as_long_as_they_do(desk: Desk) -> None:
    theirs = await desk.make_by_hand()
    await desk.call("PATCH", SETTINGS, {"webhooks": {"post_call_webhook_id": theirs}})
    made = await desk.complete()
    said = await desk.provision(made)
    assert 1 == len(said)
    assert said == await desk.elevenlabs.inspect("acme", made, known=())
    await desk.call("PATCH", SETTINGS, {"webhooks": {"post_call_webhook_id": made.webhook_id}})
    assert () == await desk.elevenlabs.inspect("acme", made, known=())


async def test_a_webhook_that_is_gone_is_told_and_made_anew(desk: Desk) -> None:
    made = await desk.complete()
    await desk.call("DELETE", f"/v1/workspace/webhooks/{made.webhook_id}")
    (sentence,) = await desk.elevenlabs.inspect("acme", made, known=())
    assert "gone" in sentence
    again = await desk.connect(before=made)
    assert made.webhook_id != again.webhook_id
    assert () == await desk.elevenlabs.inspect("acme", again, known=())


async def test_a_webhook_that_its_failures_disabled_is_told(desk: Desk) -> None:
    made = await desk.complete()
    webhook = {"webhook_id": made.webhook_id, "is_disabled": False, "is_auto_disabled": True}
    desk.line.answered[LIST] = httpx.Response(200, json={"webhooks": [webhook]})
    (sentence,) = await desk.elevenlabs.inspect("acme", made, known=())
    assert "disabled" in sentence


async def test_nothing_is_said_of_a_webhook_that_is_not_ours_or_cannot_be_seen(desk: Desk) -> None:
    own = ElevenLabsCredential(api_key=Secret(KEY), webhook_secret=Secret("customers-own"))
    assert () == await desk.elevenlabs.inspect("acme", own, known=())
    unseen = ElevenLabsCredential(
        api_key=Secret(WITHOUT_WEBHOOKS), webhook_secret=Secret("customers-own"), webhook_id="w"
    )
    assert () == await desk.elevenlabs.inspect("acme", unseen, known=())


async def test_what_was_said_of_a_missing_secret_is_said_again(desk: Desk) -> None:
    without = ElevenLabsCredential(api_key=Secret(KEY))
    made = await desk.elevenlabs.provision("acme", without, known=(), checkpoint=no_checkpoint)
    assert 1 == len(made.warnings)
    assert made.warnings == await desk.elevenlabs.inspect("acme", without, known=())


@pytest.mark.parametrize("body", [{}, {"webhooks": {}}, {"webhooks": [{"name": "no id"}]}, []])
async def test_a_list_that_is_none_is_no_answer(desk: Desk, body: object) -> None:
    made = await desk.complete()
    desk.line.answered[LIST] = httpx.Response(200, json=body)
    with pytest.raises(Exception, match="unexpected answer"):
        await desk.elevenlabs.inspect("acme", made, known=())


async def test_an_inspection_without_an_answer_says_so(desk: Desk) -> None:
    made = await desk.complete()
    desk.line.answered[LIST] = httpx.Response(503, json={})
    with pytest.raises(ProviderUnavailable):
        await desk.elevenlabs.inspect("acme", made, known=())


async def test_a_disconnect_takes_the_webhook_out_of_use_and_deletes_it(desk: Desk) -> None:
    made = await desk.connect()
    theirs = await desk.make_by_hand()
    for _ in range(2):
        assert () == await desk.elevenlabs.release("acme", made, known=())
        assert [theirs] == desk.ids()
    assert desk.calls()["post_call_webhook_id"] is None


async def test_a_disconnect_leaves_what_is_the_customers_own(desk: Desk) -> None:
    own = ElevenLabsCredential(api_key=Secret(KEY), webhook_secret=Secret("customers-own"))
    assert () == await desk.elevenlabs.release("acme", own, known=())
    assert [] == desk.line.asked


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(401, json={"detail": {"code": "missing_permissions"}}),
        httpx.Response(400, json={"detail": {"status": "webhook_in_use"}}),
        httpx.Response(500, json={}),
    ],
)
async def test_what_a_disconnect_could_not_delete_is_told(desk: Desk, response: httpx.Response) -> None:
    made = await desk.connect()
    desk.line.answered[f"DELETE /v1/workspace/webhooks/{made.webhook_id}"] = response
    (sentence,) = await desk.elevenlabs.release("acme", made, known=())
    assert "delete it there" in sentence


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("1" * 8, ()),
        ("50b50003", ("overdue",)),
        ("deaf1000", ("the permission user_read:",)),
        ("deaf1110", ("user_read and models_read and voices_read:",)),
        ("deaf0001", ()),
    ],
)
async def test_the_test_of_a_key_at_the_stand_in(desk: Desk, head: str, said: tuple[str, ...]) -> None:
    verdict = await desk.elevenlabs.test(ElevenLabsCredential(api_key=Secret(f"sk_{head}{'0' * 8}{WORKSPACE}")))
    warnings = getattr(verdict, "warnings", ("refused",))
    assert len(said) == len(warnings)
    assert all(word in warning for word, warning in zip(said, warnings, strict=True))
