"""An Auth Token is replaced without a moment in which none works, wherever it is cut off."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox.app import create_app
from deploy.sandbox.twilio_account import secret_of
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Refused, Rotation
from services.provider.providers.twilio import Twilio
from tenantvault.credentials import TwilioCredential
from tenantvault.errors import InsufficientScope, InvalidCredentials, ProviderUnavailable, ProviderUnknownAnswer
from tenantvault.secret import Secret

SID = "ACac3e0000000000000000002025550100"
FIRST = TwilioCredential(account_sid=SID, auth_token=Secret(secret_of(SID)), phone_number="+12025550100")
KEY_SID = f"SK1234{'0' * 18}2025550100"


async def no_sleep(seconds: float) -> None:
    del seconds


class Desk:
    """A rotation at the stand-in."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        outbound = Outbound(client, sleep=no_sleep)
        twilio = Twilio(outbound, url="http://sandbox/twilio", accounts_url="http://sandbox/twilio")
        self.rotation: Rotation[TwilioCredential] = twilio.rotation

    async def works(self, credential: TwilioCredential) -> bool:
        path = f"http://sandbox/twilio/2010-04-01/Accounts/{SID}.json"
        return 200 == (await self.client.get(path, auth=(SID, credential.auth_token.reveal()))).status_code

    async def issue(self, current: TwilioCredential = FIRST) -> TwilioCredential:
        issued = await self.rotation.issue("acme", current)
        assert isinstance(issued, TwilioCredential)
        return issued

    async def fail(self, **fault: Any) -> None:
        order = {"provider": "twilio", "status": 502, "after_effect": True} | fault
        assert 201 == (await self.client.post("http://sandbox/_sandbox/faults", json=order)).status_code


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with new_client(httpx.ASGITransport(create_app())) as client:
        yield Desk(client)


@pytest.mark.parametrize(
    ("credential", "possible"),
    [
        (FIRST, True),
        (replace(FIRST, api_key_sid=KEY_SID, api_key_secret=Secret("s")), True),
        (replace(FIRST, auth_token=Secret(""), api_key_sid=KEY_SID, api_key_secret=Secret("s")), False),
    ],
)
def test_only_an_auth_token_can_be_replaced(credential: TwilioCredential, possible: bool) -> None:
    outbound = Outbound(new_client(httpx.MockTransport(lambda _: httpx.Response(500))))
    twilio = Twilio(outbound, url="https://twilio.test", accounts_url="https://accounts.test")
    assert possible == twilio.rotation.possible(credential)
    assert "" == twilio.rotation.trace(credential)


async def test_a_successor_works_beside_the_current_one_until_that_is_retired(desk: Desk) -> None:
    second = await desk.issue()
    assert replace(FIRST, auth_token=second.auth_token) == second
    assert [True, True] == [await desk.works(FIRST), await desk.works(second)]
    assert () == await desk.rotation.retire(second, desk.rotation.trace(FIRST))
    assert [False, True] == [await desk.works(FIRST), await desk.works(second)]


async def test_every_part_of_the_credential_but_the_token_stays(desk: Desk) -> None:
    both = replace(
        FIRST, api_key_sid=KEY_SID, api_key_secret=Secret(secret_of(KEY_SID)), whatsapp_number="+13125550100"
    )
    second = await desk.issue(both)
    assert both == replace(second, auth_token=both.auth_token)
    assert second.auth_token != both.auth_token


async def test_the_token_makes_its_successor_itself_whatever_api_key_is_beside_it() -> None:
    users = []

    def handle(request: httpx.Request) -> httpx.Response:
        users.append((request.method, request.headers["Authorization"]))
        if request.method == "POST":
            return httpx.Response(201, json={"secondary_auth_token": "f" * 32})
        return httpx.Response(200, json={"status": "active", "auth_token": FIRST.auth_token.reveal()})

    outbound = Outbound(new_client(httpx.MockTransport(handle)), sleep=no_sleep)
    twilio = Twilio(outbound, url="https://twilio.test", accounts_url="https://accounts.test")
    both = replace(FIRST, api_key_sid=KEY_SID, api_key_secret=Secret("s"))
    assert replace(both, auth_token=Secret("f" * 32)) == await twilio.rotation.issue("acme", both)
    login = b64encode(f"{SID}:{FIRST.auth_token.reveal()}".encode()).decode()
    by_token = f"Basic {login}"
    assert [("GET", by_token), ("DELETE", by_token), ("POST", by_token)] == users


@pytest.mark.parametrize("voice_webhook_url", ["", "https://hooks.test/voice"])
def test_the_form_says_that_the_token_will_be_replaced(voice_webhook_url: str) -> None:
    outbound = Outbound(new_client(httpx.MockTransport(lambda _: httpx.Response(500))))
    urls = {"url": "https://twilio.test", "accounts_url": "https://accounts.test"}
    said = Twilio(outbound, **urls, voice_webhook_url=voice_webhook_url).description.next
    assert "the Auth Token is replaced" in said
    assert "secondary token that is there is removed" in said
    assert "give only an API key." in said
    assert ("webhooks of your numbers" in said) == bool(voice_webhook_url)


async def test_retiring_again_changes_nothing(desk: Desk) -> None:
    second = await desk.issue()
    for _ in range(3):
        assert () == await desk.rotation.retire(second, "")
    assert await desk.works(second)


async def test_retiring_again_does_not_promote_what_the_customer_made_meanwhile(desk: Desk) -> None:
    second = await desk.issue()
    await desk.rotation.retire(second, "")
    path = "http://sandbox/twilio/v1/AuthTokens/Secondary"
    await desk.client.post(path, auth=(SID, second.auth_token.reveal()))
    assert () == await desk.rotation.retire(second, "")
    assert await desk.works(second)


async def test_a_promotion_whose_answer_was_lost_is_done_the_next_time(desk: Desk) -> None:
    second = await desk.issue()
    await desk.fail(path="*/Promote")
    with pytest.raises(ProviderUnavailable):
        await desk.rotation.retire(second, "")
    assert () == await desk.rotation.retire(second, "")
    assert [False, True] == [await desk.works(FIRST), await desk.works(second)]


async def test_a_promotion_that_did_not_happen_is_made_the_next_time(desk: Desk) -> None:
    second = await desk.issue()
    await desk.fail(path="*/Promote", after_effect=False)
    with pytest.raises(ProviderUnavailable):
        await desk.rotation.retire(second, "")
    assert [True, True] == [await desk.works(FIRST), await desk.works(second)]
    assert () == await desk.rotation.retire(second, "")
    assert not await desk.works(FIRST)


@pytest.mark.parametrize("after_effect", [True, False])
async def test_a_token_whose_answer_was_lost_is_replaced_by_the_next_attempt(desk: Desk, after_effect: bool) -> None:
    await desk.fail(method="POST", path="*/Secondary", after_effect=after_effect)
    with pytest.raises(ProviderUnavailable):
        await desk.issue()
    assert await desk.works(FIRST)
    second = await desk.issue()
    assert [True, True] == [await desk.works(FIRST), await desk.works(second)]


async def test_issuing_again_takes_the_one_before_away(desk: Desk) -> None:
    second, third = await desk.issue(), await desk.issue()
    assert [True, False, True] == [await desk.works(each) for each in (FIRST, second, third)]


async def test_a_successor_that_was_never_promoted_does_not_take_itself_away(desk: Desk) -> None:
    second = await desk.issue()
    third = await desk.issue(second)
    assert [False, True, True] == [await desk.works(each) for each in (FIRST, second, third)]


async def test_a_discarded_successor_is_dead_and_discarding_again_is_no_error(desk: Desk) -> None:
    second = await desk.issue()
    for _ in range(2):
        await desk.rotation.discard(FIRST, second)
    assert [True, False] == [await desk.works(FIRST), await desk.works(second)]


@pytest.mark.parametrize("issued", [FIRST, None, replace(FIRST, auth_token=Secret("0" * 32))])
async def test_the_current_token_is_never_discarded(desk: Desk, issued: TwilioCredential | None) -> None:
    second = await desk.issue()
    await desk.rotation.discard(second, issued or second)
    assert await desk.works(second)


async def test_a_discard_without_an_answer_says_so(desk: Desk) -> None:
    second = await desk.issue()
    await desk.fail(method="DELETE", after_effect=False)
    with pytest.raises(ProviderUnavailable):
        await desk.rotation.discard(FIRST, second)
    await desk.rotation.discard(FIRST, second)
    assert not await desk.works(second)


async def test_a_dead_token_issues_nothing_and_retires_nothing(desk: Desk) -> None:
    dead = replace(FIRST, auth_token=Secret("0" * 32))
    refused = await desk.rotation.issue("acme", dead)
    assert isinstance(refused, Refused)
    assert (InvalidCredentials, "authToken") == (refused.kind, refused.field)
    with pytest.raises(InvalidCredentials):
        await desk.rotation.retire(dead, "")
    with pytest.raises(InvalidCredentials):
        await desk.rotation.discard(dead, FIRST)


async def test_an_account_that_may_not_have_a_second_token_is_told(desk: Desk) -> None:
    sid = "AC011e0000000000000000002025550100"
    single = replace(FIRST, account_sid=sid, auth_token=Secret(secret_of(sid)))
    refused = await desk.rotation.issue("acme", single)
    assert isinstance(refused, Refused)
    assert refused.kind is InsufficientScope
    assert "by hand" in refused.sentence


def answering(*, shown: str, promote: httpx.Response, made: httpx.Response | None = None) -> Rotation[TwilioCredential]:
    """A rotation at a Twilio that shows this as the account's token and answers so."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("Promote"):
            return promote
        if request.url.path.endswith("Secondary"):
            return made or httpx.Response(204)
        return httpx.Response(200, json={"status": "active", "auth_token": shown})

    outbound = Outbound(new_client(httpx.MockTransport(handle)), sleep=no_sleep)
    return Twilio(outbound, url="https://twilio.test", accounts_url="https://accounts.test").rotation


@pytest.mark.parametrize("status", [404, 400, 409])
async def test_nothing_to_promote_is_done_where_twilio_does_not_show_the_token(status: int) -> None:
    rotation = answering(shown="", promote=httpx.Response(status, json={"code": 0}))
    assert () == await rotation.retire(FIRST, "")


async def test_a_promotion_that_is_refused_while_the_other_token_is_first_is_not_done() -> None:
    rotation = answering(shown="f" * 32, promote=httpx.Response(403, json={"code": 20403}))
    with pytest.raises(InsufficientScope):
        await rotation.retire(FIRST, "")


@pytest.mark.parametrize("body", [{}, {"secondary_auth_token": ""}, {"secondary_auth_token": None}, ["x"]])
async def test_a_made_token_that_cannot_be_read_is_no_successor(body: object) -> None:
    rotation = answering(shown="", promote=httpx.Response(404), made=httpx.Response(201, json=body))
    with pytest.raises(ProviderUnknownAnswer):
        await rotation.issue("acme", FIRST)


STEPS = st.tuples(
    st.sampled_from(["issue", "discard", "switch", "retire"]), st.sampled_from(["", "lost before", "lost after"])
)


@given(st.lists(STEPS, max_size=12))
def test_the_token_in_use_works_whatever_is_done_and_cut_off(steps: list[tuple[str, str]]) -> None:
    async def play() -> None:
        async with new_client(httpx.ASGITransport(create_app())) as client:
            desk = Desk(client)
            active, issued, first_issued = FIRST, FIRST, FIRST
            for step, fault in steps:
                if fault:
                    paths = {"retire": "*/Promote", "issue": "*/Secondary", "discard": "*/Secondary"}
                    await desk.fail(path=paths.get(step, "none"), after_effect=fault == "lost after")
                with suppress(ProviderUnavailable):
                    if step == "issue":
                        issued = await desk.issue(active)
                        first_issued = issued if first_issued is FIRST else first_issued
                    elif step == "discard":
                        await desk.rotation.discard(active, first_issued)
                    elif step == "retire":
                        await desk.rotation.retire(active, "")
                    elif await desk.works(issued):  # a successor is tested before it is used
                        active = issued
                await client.delete("http://sandbox/_sandbox/faults")
                assert await desk.works(active), step

    asyncio.run(play())
