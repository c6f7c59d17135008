"""Whose a Twilio account is: two orgs that type the same one, and one org that changes from one to another."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from deploy.sandbox.app import create_app
from deploy.sandbox.twilio_account import secret_of
from services.provider.connect import Connect
from services.provider.integration import Report, State
from services.provider.lease import Leases
from services.provider.lifecycle import Lifecycle
from services.provider.outbound import Outbound, new_client
from services.provider.provider import Checkpoint, pass_by
from services.provider.providers.twilio import Twilio
from services.provider.work import Timetable
from tenantvault.credentials import Provider, TwilioCredential
from tenantvault.errors import ResourceConflict, VaultUnavailable, VersionConflict
from tenantvault.secret import Secret
from tests.unit.services.provider.fake_vault import FakeVault

SIDS = ["ACac3e0000000000000000002025550100", "AC" + "b" * 16 + "0000002025550200"]
PHONES = ["+12025550100", "+12025550200"]
ONE, OTHER = (
    TwilioCredential(account_sid=sid, auth_token=Secret(secret_of(sid)), phone_number=phone)
    for sid, phone in zip(SIDS, PHONES, strict=True)
)
SECOND = "+12025550101"
"""Another number of the first account."""

OURS, THEIRS = "https://hooks.test/voice", "https://user:pw@own.test/voice"


async def no_sleep(seconds: float) -> None:
    del seconds


async def forever(seconds: float) -> None:
    del seconds
    await asyncio.Event().wait()


class Town:
    """Orgs at one vault and one stand-in of Twilio."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.vault = FakeVault()
        outbound = Outbound(client, sleep=no_sleep)
        url = "http://sandbox/twilio"
        self.twilio = Twilio(outbound, url=url, accounts_url=url, voice_webhook_url=OURS)

    def saga(self, checkpoint: Checkpoint = pass_by) -> Connect:
        leases = Leases(self.vault, seconds=15.0, sleep=forever)
        return Connect(self.vault, (self.twilio,), leases, Timetable(), checkpoint=checkpoint)

    async def connect(self, org: str, credential: TwilioCredential) -> Report:
        return await self.saga()(org, credential)

    async def disconnect(self, org: str) -> Report:
        leases = Leases(self.vault, seconds=15.0, sleep=forever)
        return await Lifecycle(self.vault, (self.twilio,), leases, self.saga()).disconnect(org, Provider.TWILIO)

    async def killed(self, org: str, credential: TwilioCredential, *, after: str) -> None:
        async def die(step: str) -> None:
            if step == after:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await self.saga(die)(org, credential)
        self.vault.time += 15.0

    async def set(self, url: str, credential: TwilioCredential = ONE) -> None:
        path, _ = await self._number(credential)
        await self.client.post(path, data={"VoiceUrl": url}, auth=_auth(credential))

    async def get(self, credential: TwilioCredential = ONE) -> str:
        _, number = await self._number(credential)
        return str(number["voice_url"])

    async def fail(self, **fault: Any) -> None:
        order = {"provider": "twilio", "status": 502} | fault
        assert 201 == (await self.client.post("http://sandbox/_sandbox/faults", json=order)).status_code

    async def _number(self, credential: TwilioCredential) -> tuple[str, dict[str, Any]]:
        base = f"http://sandbox/twilio/2010-04-01/Accounts/{credential.account_sid}/IncomingPhoneNumbers"
        query = {"PhoneNumber": credential.phone_number}
        answer = await self.client.get(f"{base}.json", params=query, auth=_auth(credential))
        (number,) = answer.json()["incoming_phone_numbers"]
        return f"{base}/{number['sid']}.json", number


def _auth(credential: TwilioCredential) -> tuple[str, str]:
    return credential.account_sid, credential.auth_token.reveal()


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with new_client(httpx.ASGITransport(create_app())) as client:
        yield Town(client)


@pytest.mark.parametrize("own", [THEIRS, ""])
async def test_an_org_that_types_anothers_account_changes_nothing_there(town: Town, own: str) -> None:
    await town.set(own)
    await town.connect("acme", ONE)
    with pytest.raises(ResourceConflict):
        await town.connect("globex", ONE)
    assert OURS == await town.get()
    await town.disconnect("acme")
    assert own == await town.get()


@pytest.mark.parametrize("after", ["stored", "provisioned"])
async def test_an_attempt_on_anothers_account_that_is_killed_and_tried_again_changes_nothing(
    town: Town, after: str
) -> None:
    await town.set(THEIRS)
    await town.killed("globex", ONE, after=after)
    assert THEIRS == await town.get()
    await town.connect("acme", ONE)
    with pytest.raises(ResourceConflict):
        await town.connect("globex", ONE)
    assert OURS == await town.get()
    await town.disconnect("acme")
    assert THEIRS == await town.get()


async def test_two_that_connect_the_same_account_at_once_leave_it_to_the_one_who_got_it(town: Town) -> None:
    await town.set(THEIRS)

    async def acme_is_first(step: str) -> None:
        if step == "provisioned":
            await town.connect("acme", ONE)

    with pytest.raises(ResourceConflict):
        await town.saga(acme_is_first)("globex", ONE)
    assert OURS == await town.get()


async def test_a_number_of_anothers_account_that_they_do_not_use_stays_as_it_is(town: Town) -> None:
    second = replace(ONE, phone_number=SECOND)
    await town.set(THEIRS, second)
    await town.connect("acme", ONE)
    with pytest.raises(ResourceConflict):
        await town.connect("globex", second)
    assert THEIRS == await town.get(second)


async def test_who_is_connected_and_types_anothers_account_keeps_the_number_that_works(town: Town) -> None:
    await town.connect("acme", ONE)
    await town.set(THEIRS, OTHER)
    await town.connect("globex", OTHER)
    with pytest.raises(ResourceConflict):
        await town.connect("globex", ONE)
    assert [OURS, OURS] == [await town.get(each) for each in (ONE, OTHER)]
    assert OTHER.account_sid == town.vault.integrations["globex", Provider.TWILIO].resources[0].resource_id


async def test_what_was_typed_of_anothers_account_does_no_harm_at_the_next_connect(town: Town) -> None:
    await town.connect("acme", ONE)
    with pytest.raises(ResourceConflict):
        await town.connect("globex", ONE)
    await town.connect("globex", OTHER)
    await town.disconnect("globex")
    assert OURS == await town.get()


async def test_a_connect_that_was_passed_over_leaves_anothers_number_alone(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def passed(*_: object, **__: object) -> None:
        raise VersionConflict

    await town.connect("acme", ONE)
    monkeypatch.setattr(town.vault, "register", passed)
    with pytest.raises(VersionConflict):
        await town.connect("globex", ONE)
    assert OURS == await town.get()


async def test_a_look_at_another_account_that_failed_forgets_nothing(town: Town) -> None:
    await town.set(THEIRS)
    await town.connect("acme", ONE)
    await town.killed("acme", OTHER, after="stored")
    await town.connect("acme", ONE)
    await town.disconnect("acme")
    assert THEIRS == await town.get()


async def test_who_changes_the_account_gets_the_numbers_of_the_one_before_back(town: Town) -> None:
    await town.set(THEIRS)
    await town.set(f"{THEIRS}/2", OTHER)
    await town.connect("acme", ONE)
    report = await town.connect("acme", OTHER)
    assert () == report.warnings
    assert [THEIRS, OURS] == [await town.get(each) for each in (ONE, OTHER)]
    await town.connect("acme", ONE)
    assert [OURS, f"{THEIRS}/2"] == [await town.get(each) for each in (ONE, OTHER)]
    await town.disconnect("acme")
    assert [THEIRS, f"{THEIRS}/2"] == [await town.get(each) for each in (ONE, OTHER)]


async def test_an_account_before_that_cannot_be_put_back_is_told_and_stays_on_the_card(town: Town) -> None:
    await town.connect("acme", ONE)
    await town.fail(method="GET", path=f"*/{ONE.account_sid}/*", times=5)
    report = await town.connect("acme", OTHER)
    (sentence,) = report.warnings
    assert "account used before" in sentence
    assert (sentence,) == report.integration.warnings
    assert (sentence,) == (await town.vault.integration("acme", Provider.TWILIO)).warnings


async def test_a_number_that_could_not_be_pointed_here_is_told_and_the_next_connect_does_it(town: Town) -> None:
    await town.set(THEIRS)
    await town.fail(method="POST")
    report = await town.connect("acme", ONE)
    (sentence,) = report.integration.warnings
    assert "do not come here yet" in sentence
    assert THEIRS == await town.get()
    assert () == (await town.connect("acme", ONE)).integration.warnings
    assert OURS == await town.get()


async def test_killed_right_after_it_was_registered_a_retry_points_the_number_here(town: Town) -> None:
    await town.set(THEIRS)
    await town.killed("acme", ONE, after="registered")
    assert State.CONNECTED is town.vault.integrations["acme", Provider.TWILIO].state
    await town.connect("acme", ONE)
    assert OURS == await town.get()
    await town.disconnect("acme")
    assert THEIRS == await town.get()


async def test_a_vault_that_is_away_before_it_is_registered_leaves_the_account_alone(town: Town) -> None:
    await town.set(THEIRS)
    town.vault.faults["register"] = deque(["before"])
    with pytest.raises(VaultUnavailable):
        await town.connect("acme", ONE)
    assert THEIRS == await town.get()
