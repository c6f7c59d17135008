"""The numbers' webhooks: pointed here while connected, and put back afterwards."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from deploy.sandbox.app import create_app
from deploy.sandbox.twilio_account import secret_of
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Accepted, pass_by
from services.provider.providers.twilio import Twilio
from tenantvault.credentials import Credential, Resource, ResourceKind, TwilioCredential, TwilioWebhook, VapiCredential
from tenantvault.errors import InvalidCredentials, ProviderResourceMissing, ProviderUnavailable, ProviderUnknownAnswer
from tenantvault.secret import Secret

SID = "ACac3e0000000000000000002025550100"
NUMBERS = [f"PNac3e0000000000000000002025550{100 + index}" for index in range(3)]
CREDENTIAL = TwilioCredential(account_sid=SID, auth_token=Secret(secret_of(SID)), phone_number="+12025550100")
WITH_WHATSAPP = replace(CREDENTIAL, whatsapp_number="+12025550101")
VOICE, SMS = "https://hooks.test/voice", "https://hooks.test/sms"
OURS = {"voice_url": VOICE, "voice_method": "POST", "sms_url": SMS, "sms_method": "POST"}
THEIRS = {
    "voice_url": "https://user:pw@own.test/voice",
    "voice_method": "GET",
    "sms_url": "https://own.test/sms",
    "sms_method": "GET",
}
FRESH = {"voice_url": "", "voice_method": "POST", "sms_url": "", "sms_method": "POST"}
KNOWN = (
    Resource(ResourceKind.TWILIO_ACCOUNT, SID, "account"),
    Resource(ResourceKind.PHONE_NUMBER, "+12025550100", "voice"),
    Resource(ResourceKind.PHONE_NUMBER, "+12025550101", "whatsapp"),
)


async def no_sleep(seconds: float) -> None:
    del seconds


def saved(sid: str, values: Mapping[str, str]) -> TwilioWebhook:
    return TwilioWebhook(
        number_sid=sid,
        voice_url=Secret(values["voice_url"]),
        voice_method=values["voice_method"],
        sms_url=Secret(values["sms_url"]),
        sms_method=values["sms_method"],
    )


class Desk:
    """A provider at the stand-in. `newest` is what the vault has."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.newest: Credential | None = None
        self.steps: list[str] = []
        self.twilio = self.provider()

    def provider(self, *, voice: str = VOICE, sms: str = SMS) -> Twilio:
        return Twilio(
            Outbound(self.client, sleep=no_sleep),
            url="http://sandbox/twilio",
            accounts_url="http://sandbox/twilio",
            voice_webhook_url=voice,
            sms_webhook_url=sms,
        )

    async def complete(self, credential: TwilioCredential = CREDENTIAL) -> TwilioCredential:
        async def newest() -> Credential | None:
            return self.newest

        return await self.twilio.complete("acme", credential, newest)

    async def provision(self, credential: TwilioCredential) -> tuple[str, ...]:
        made = await self.twilio.provision("acme", credential, known=(), checkpoint=self._note)
        return made.warnings + (await made.finish(None) if made.finish else ())

    async def connect(self, credential: TwilioCredential = CREDENTIAL, *, left: int = 0) -> TwilioCredential:
        self.newest = completed = await self.complete(credential)
        assert left == len(await self.provision(completed))
        return completed

    async def release(self, credential: TwilioCredential) -> tuple[str, ...]:
        return await self.twilio.release("acme", credential, known=KNOWN)

    async def inspect(self, credential: TwilioCredential = CREDENTIAL) -> tuple[str, ...]:
        return await self.twilio.inspect("acme", credential, known=KNOWN[:2])

    async def set(self, values: Mapping[str, str], *, number: int = 0) -> None:
        form = {"".join(part.title() for part in name.split("_")): value for name, value in values.items()}
        response = await self.client.post(self._path(number), data=form, auth=(SID, secret_of(SID)))
        assert 200 == response.status_code

    async def get(self, *, number: int = 0) -> dict[str, Any]:
        body = (await self.client.get(self._path(number), auth=(SID, secret_of(SID)))).json()
        return {name: body[name] for name in OURS}

    async def fail(self, **fault: Any) -> None:
        order = {"provider": "twilio", "status": 502} | fault
        assert 201 == (await self.client.post("http://sandbox/_sandbox/faults", json=order)).status_code

    async def posts(self) -> int:
        entries = (await self.client.get("http://sandbox/_sandbox/requests")).json()["requests"]
        return sum(entry["count"] for entry in entries if entry["method"] == "POST")

    def _path(self, number: int) -> str:
        return f"http://sandbox/twilio/2010-04-01/Accounts/{SID}/IncomingPhoneNumbers/{NUMBERS[number]}.json"

    async def _note(self, step: str) -> None:
        self.steps.append(step)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with new_client(httpx.ASGITransport(create_app())) as client:
        yield Desk(client)


@pytest.mark.parametrize("before", [FRESH, THEIRS])
async def test_a_number_comes_here_and_goes_back_as_it_was(desk: Desk, before: dict[str, str]) -> None:
    await desk.set(before)
    connected = await desk.connect()
    assert (saved(NUMBERS[0], before),) == connected.saved_webhooks
    assert OURS == await desk.get()
    assert ["webhooks_voice"] == desk.steps
    assert () == await desk.release(connected)
    assert before == await desk.get()


async def test_both_numbers_come_here_and_go_back(desk: Desk) -> None:
    await desk.set(THEIRS, number=1)
    connected = await desk.connect(WITH_WHATSAPP)
    assert (saved(NUMBERS[0], FRESH), saved(NUMBERS[1], THEIRS)) == connected.saved_webhooks
    assert [OURS, OURS, FRESH] == [await desk.get(number=number) for number in range(3)]
    assert ["webhooks_voice", "webhooks_whatsapp"] == desk.steps
    assert () == await desk.release(connected)
    assert [FRESH, THEIRS] == [await desk.get(number=number) for number in range(2)]


async def test_a_whatsapp_number_of_another_account_is_left_alone(desk: Desk) -> None:
    connected = await desk.connect(replace(CREDENTIAL, whatsapp_number="+13125550100"))
    assert [NUMBERS[0]] == [webhook.number_sid for webhook in connected.saved_webhooks]


async def test_doing_it_again_changes_nothing_and_remembers_the_same(desk: Desk) -> None:
    await desk.set(THEIRS)
    connected = await desk.connect()
    before = await desk.posts()
    assert connected == await desk.connect()
    assert before == await desk.posts()
    await desk.release(connected)
    assert THEIRS == await desk.get()
    after = await desk.posts()
    assert () == await desk.release(connected)
    assert after == await desk.posts()


async def test_only_what_differs_is_changed(desk: Desk) -> None:
    await desk.set(OURS | {"sms_url": "https://own.test/sms"})
    sent: list[bytes] = []

    async def note(request: httpx.Request) -> None:
        if request.method == "POST":
            sent.append(request.content)

    desk.client.event_hooks["request"] = [note]
    await desk.provision(CREDENTIAL)
    assert [b"SmsUrl=https%3A%2F%2Fhooks.test%2Fsms"] == sent
    assert OURS == await desk.get()


@pytest.mark.parametrize(
    ("voice", "sms", "expected"),
    [
        (VOICE, "", THEIRS | {"voice_url": VOICE, "voice_method": "POST"}),
        ("", SMS, THEIRS | {"sms_url": SMS, "sms_method": "POST"}),
        ("", "", THEIRS),
    ],
)
async def test_what_is_not_set_up_stays_the_customers(
    desk: Desk, voice: str, sms: str, expected: dict[str, str]
) -> None:
    await desk.set(THEIRS)
    desk.twilio = desk.provider(voice=voice, sms=sms)
    connected = await desk.connect()
    assert expected == await desk.get()
    assert () == await desk.inspect(connected)
    assert () == await desk.release(connected)
    assert THEIRS == await desk.get()


async def test_what_pointed_here_already_is_cleared_in_the_end(desk: Desk) -> None:
    await desk.set(OURS)
    connected = await desk.connect()
    assert "hooks.test" not in "".join(webhook.voice_url.reveal() for webhook in connected.saved_webhooks)
    await desk.release(connected)
    assert FRESH == await desk.get()


@pytest.mark.parametrize(
    "newest",
    [
        replace(CREDENTIAL, account_sid="AC" + "0" * 32, saved_webhooks=(saved(NUMBERS[0], FRESH),)),
        VapiCredential(api_key=Secret("k")),
        CREDENTIAL,
        None,
    ],
)
async def test_what_a_number_has_now_is_what_is_remembered_of_it(desk: Desk, newest: Credential | None) -> None:
    await desk.set(THEIRS)
    desk.newest = newest
    assert (saved(NUMBERS[0], THEIRS),) == (await desk.complete()).saved_webhooks


async def test_what_the_customer_set_after_a_disconnect_is_what_is_put_back_next_time(desk: Desk) -> None:
    connected = await desk.connect()
    await desk.release(connected)
    await desk.set(THEIRS)
    await desk.release(await desk.connect())
    assert THEIRS == await desk.get()


@pytest.mark.parametrize("moved", [f"{VOICE}/v2", "https://HOOKS.test/x"])
async def test_another_path_of_ours_is_not_taken_for_the_customers(desk: Desk, moved: str) -> None:
    await desk.set(THEIRS)
    await desk.connect()
    desk.twilio = desk.provider(voice=moved)
    connected = await desk.connect()
    assert (saved(NUMBERS[0], THEIRS),) == connected.saved_webhooks
    assert moved == (await desk.get())["voice_url"]
    desk.twilio = desk.provider()
    await desk.release(connected)
    assert THEIRS == await desk.get()


@pytest.mark.parametrize(
    "theirs", ["https://hooks.test.evil.example/voice", "https://hooks.test:8443/", "https://[", "x"]
)
async def test_a_host_that_only_looks_like_ours_is_the_customers(desk: Desk, theirs: str) -> None:
    await desk.set({"voice_url": theirs})
    connected = await desk.connect()
    assert theirs == connected.saved_webhooks[0].voice_url.reveal()
    await desk.release(connected)
    assert theirs == (await desk.get())["voice_url"]


@pytest.mark.parametrize("account_sid", [SID, "AC" + "0" * 32])
async def test_what_a_number_had_is_kept_by_the_number_whatever_account_was_typed_last(
    desk: Desk, account_sid: str
) -> None:
    await desk.set(OURS)
    remembered = (saved(NUMBERS[0], THEIRS), saved("PN" + "0" * 32, THEIRS))
    desk.newest = replace(CREDENTIAL, account_sid=account_sid, saved_webhooks=remembered)
    assert remembered == (await desk.complete()).saved_webhooks


async def test_a_number_that_is_not_used_any_more_goes_back_when_another_is_connected(desk: Desk) -> None:
    await desk.set(THEIRS)
    await desk.connect()
    connected = await desk.connect(replace(CREDENTIAL, phone_number="+12025550101"))
    assert [THEIRS, OURS] == [await desk.get(number=number) for number in range(2)]
    assert () == await desk.release(connected)
    assert [THEIRS, FRESH] == [await desk.get(number=number) for number in range(2)]


async def test_what_the_customer_changed_meanwhile_stays(desk: Desk) -> None:
    connected = await desk.connect()
    await desk.set({"voice_url": "https://new.test/voice"})
    await desk.release(connected)
    assert FRESH | {"voice_url": "https://new.test/voice"} == await desk.get()


async def test_a_number_that_is_gone_is_none_to_put_back(desk: Desk) -> None:
    connected = replace(CREDENTIAL, saved_webhooks=(saved("PN" + "0" * 32, THEIRS),))
    assert () == await desk.release(connected)


async def test_an_odd_sid_on_record_cannot_reach_another_path() -> None:
    paths: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path)
        return httpx.Response(404, json={"code": 20404})

    async with new_client(httpx.MockTransport(handle)) as client:
        await Desk(client).release(replace(CREDENTIAL, saved_webhooks=(saved("../x?y#", THEIRS),)))
    assert [f"/2010-04-01/Accounts/{SID}/IncomingPhoneNumbers/..%2Fx%3Fy%23.json".encode()] == [
        path.removeprefix(b"/twilio") for path in paths
    ]


@pytest.mark.parametrize("after_effect", [True, False])
async def test_a_change_without_an_answer_is_finished_by_the_next_attempt(desk: Desk, after_effect: bool) -> None:
    await desk.set(THEIRS)
    await desk.fail(method="POST", after_effect=after_effect)
    await desk.connect(left=1)
    connected = await desk.connect()
    assert OURS == await desk.get()
    await desk.release(connected)
    assert THEIRS == await desk.get()


async def test_a_release_without_an_answer_is_told_and_can_be_repeated(desk: Desk) -> None:
    await desk.set(THEIRS)
    connected = await desk.connect(WITH_WHATSAPP)
    await desk.fail(method="POST", times=2)
    (sentence,) = await desk.release(connected)
    assert "set them yourself" in sentence
    assert () == await desk.release(connected)
    assert THEIRS == await desk.get()


async def test_a_release_that_is_refused_is_told(desk: Desk) -> None:
    connected = await desk.connect()
    (sentence,) = await desk.release(replace(connected, auth_token=Secret("0" * 32)))
    assert "did not let us" in sentence


async def test_a_dead_credential_completes_and_provisions_nothing(desk: Desk) -> None:
    dead = replace(CREDENTIAL, auth_token=Secret("0" * 32))
    with pytest.raises(InvalidCredentials):
        await desk.complete(dead)
    with pytest.raises(InvalidCredentials):
        await desk.provision(dead)


async def test_a_change_that_is_refused_is_told_for_each_number(desk: Desk) -> None:
    await desk.fail(method="POST", status=401, times=2)
    for sentence, called in zip(await desk.provision(WITH_WHATSAPP), ("phone", "WhatsApp"), strict=True):
        assert sentence.startswith(
            f"Calls and messages to the {called} number do not come here yet: Twilio did not let"
        )
        assert "key that may" in sentence


async def test_a_provisioning_that_nobody_finishes_changes_nothing(desk: Desk) -> None:
    await desk.set(THEIRS)
    await desk.twilio.provision("acme", await desk.complete(), known=(), checkpoint=pass_by)
    assert THEIRS == await desk.get()


async def test_an_account_that_is_not_on_record_is_not_put_back(desk: Desk) -> None:
    connected = await desk.connect()
    assert () == await desk.twilio.release("acme", connected, known=KNOWN[1:])
    assert OURS == await desk.get()


async def test_a_number_that_was_sold_is_not_completed(desk: Desk) -> None:
    with pytest.raises(ProviderResourceMissing):
        await desk.complete(replace(CREDENTIAL, phone_number="+13125550100"))


@pytest.mark.parametrize("sid", ["voice_application_sid", "trunk_sid", "sms_application_sid"])
async def test_what_overrides_a_webhook_is_a_warning_for_either_number(desk: Desk, sid: str) -> None:
    await desk.set({sid: "AP1"})
    await desk.set({sid: "AP1"}, number=1)
    verdict = await desk.twilio.test(WITH_WHATSAPP)
    assert isinstance(verdict, Accepted)
    assert ["the phone number", "the WhatsApp number"] == [
        called
        for warning in verdict.warnings
        for called in ("the phone number", "the WhatsApp number")
        if called in warning
    ]
    assert all("no effect" in warning for warning in verdict.warnings)


async def test_what_is_as_it_was_made_is_not_worth_a_word(desk: Desk) -> None:
    await desk.connect()
    assert () == await desk.inspect()


@pytest.mark.parametrize(("field", "word"), [("voice_url", "calls"), ("sms_url", "messages")])
async def test_a_webhook_that_was_changed_is_told(desk: Desk, field: str, word: str) -> None:
    await desk.connect()
    await desk.set({field: "https://new.test/"})
    (sentence,) = await desk.inspect()
    assert sentence.startswith(f"The {word} to the phone number go elsewhere")
    assert "econnect" in sentence


async def test_a_number_that_left_the_account_is_told(desk: Desk) -> None:
    known = (Resource(ResourceKind.PHONE_NUMBER, "+13125550100", "whatsapp"),)
    (sentence,) = await desk.twilio.inspect("acme", CREDENTIAL, known=known)
    assert "The WhatsApp number is not in the Twilio account any more" in sentence


async def test_a_look_that_is_refused_says_why(desk: Desk) -> None:
    (sentence,) = await desk.inspect(replace(CREDENTIAL, auth_token=Secret("0" * 32)))
    assert "does not accept" in sentence


async def test_a_look_without_an_answer_is_no_finding(desk: Desk) -> None:
    await desk.fail(times=3)
    with pytest.raises(ProviderUnavailable):
        await desk.inspect()


async def test_numbers_are_looked_for_on_every_page_and_at_no_other_host() -> None:
    hosts: set[str] = set()
    key = "incoming_phone_numbers"

    def handle(request: httpx.Request) -> httpx.Response:
        hosts.add(request.url.host)
        if request.url.params.get("Page") == "1":
            return httpx.Response(200, json={key: [{"sid": "PN1", "phone_number": "+12025550100"}]})
        if "Numbers" in request.url.path:
            return httpx.Response(200, json={key: [], "next_page_uri": "https://evil.test/x.json?Page=1&PageToken=t"})
        return httpx.Response(200, json={"status": "active"})

    async with new_client(httpx.MockTransport(handle)) as client:
        assert Accepted() == await Desk(client).twilio.test(CREDENTIAL)
    assert {"sandbox"} == hosts


async def test_pages_without_an_end_are_an_error() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        body = {"status": "active", "incoming_phone_numbers": [], "next_page_uri": f"{request.url.path}?Page=1"}
        return httpx.Response(200, json=body)

    async with new_client(httpx.MockTransport(handle)) as client:
        with pytest.raises(ProviderUnknownAnswer):
            await Desk(client).twilio.test(CREDENTIAL)
