"""A Resend key replaces itself, and leaves no key behind."""

import hashlib
from dataclasses import replace
from typing import Any

import httpx
import pytest

from services.provider.provider import Accepted, MayComeAbout, Refused
from services.provider.providers.resend.keys import key_name
from tenantvault.credentials import ResendCredential
from tenantvault.errors import (
    InsufficientScope,
    InvalidCredentials,
    ProviderUnavailable,
    ProviderUnknownAnswer,
)
from tenantvault.secret import Secret
from tests.unit.services.provider.test_resend_webhooks import HOOKS, KEY, SENDING, Desk

CURRENT = ResendCredential(api_key=Secret(KEY), webhook_secret=Secret("whsec_x"), webhook_id="w")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def keys(desk: Desk) -> list[dict[str, Any]]:
    return [each for team in desk.sandbox.state()["teams"].values() for each in team["api_keys"]]


def made_keys(desk: Desk) -> list[str]:
    return [key["id"] for key in keys(desk) if key["name"] != "Onboarding"]


async def issued(desk: Desk, current: ResendCredential = CURRENT, org_id: str = "acme") -> ResendCredential:
    successor = await desk.resend.rotation.issue(org_id, current)
    assert isinstance(successor, ResendCredential)
    return successor


async def works(desk: Desk, credential: ResendCredential) -> bool:
    return await desk.resend.test(credential) == Accepted()


def test_a_key_of_resends_may_be_able_to_do_it(desk: Desk) -> None:
    assert desk.resend.rotation.possible(CURRENT)
    assert not desk.resend.rotation.possible(ResendCredential(api_key=Secret("sk_1")))


async def test_a_successor_works_beside_the_current_key(desk: Desk) -> None:
    successor = await issued(desk)
    assert replace(CURRENT, api_key=successor.api_key, api_key_id=successor.api_key_id) == successor
    assert successor.api_key != CURRENT.api_key
    assert await works(desk, successor)
    assert await works(desk, CURRENT)
    assert [("tenantvault-acme", "full_access")] == [
        (key["name"], key["permission"]) for key in keys(desk) if key["id"] == successor.api_key_id
    ]
    assert successor.api_key == desk.resend.normalise(replace(successor, webhook_secret=Secret(""))).api_key


async def test_a_second_issue_takes_away_what_the_first_left(desk: Desk) -> None:
    first = await issued(desk)
    second = await issued(desk)
    assert [second.api_key_id] == made_keys(desk)
    assert not isinstance(await desk.resend.test(first), Accepted)


async def test_a_lost_answer_leaves_a_key_that_the_next_issue_deletes(desk: Desk) -> None:
    desk.line.unanswered.append("POST /api-keys")
    with pytest.raises(MayComeAbout):
        await issued(desk)
    assert 1 == len(made_keys(desk))
    successor = await issued(desk)
    assert [successor.api_key_id] == made_keys(desk)


async def test_the_key_that_is_in_use_is_never_deleted(desk: Desk) -> None:
    active = await issued(desk)
    left = await issued(desk, active)
    successor = await issued(desk, active)
    assert {active.api_key_id, successor.api_key_id} == set(made_keys(desk))
    assert left.api_key_id not in made_keys(desk)
    assert await works(desk, active)
    await desk.resend.rotation.discard(active, active)
    assert () == await desk.resend.rotation.retire(active, active.api_key_id)
    assert await works(desk, active)


async def test_the_keys_of_another_org_in_the_same_account_stay(desk: Desk) -> None:
    other = await issued(desk, org_id="acme-2")
    await issued(desk, org_id="acme")
    await issued(desk, org_id="acme")
    assert other.api_key_id in made_keys(desk)


async def test_the_keys_of_another_deployment_for_the_same_org_stay(desk: Desk) -> None:
    theirs = await desk.at(HOOKS, mark="staging").rotation.issue("acme", CURRENT)
    assert isinstance(theirs, ResendCredential)
    ours = await issued(desk)
    again = await desk.at(HOOKS, mark="staging").rotation.issue("acme", theirs)
    assert isinstance(again, ResendCredential)
    assert [True] * 3 == [await works(desk, each) for each in (theirs, ours, again)]
    assert {"staging-acme", "tenantvault-acme", "Onboarding"} == {key["name"] for key in keys(desk)}


async def test_keys_of_the_customers_own_stay(desk: Desk) -> None:
    assert 201 == (await desk.call("POST", "/api-keys", {"name": "tenantvault-acme-mine"})).status_code
    await issued(desk)
    assert 2 == len(made_keys(desk))


async def test_a_successor_is_found_behind_many_keys(desk: Desk) -> None:
    await issued(desk)
    for number in range(120):
        await desk.call("POST", "/api-keys", {"name": f"key {number}"})
    successor = await issued(desk)
    assert ["tenantvault-acme"] == [key["name"] for key in keys(desk) if key["name"].startswith("tenantvault")]
    assert successor.api_key_id in made_keys(desk)


async def test_a_key_that_may_only_send_is_refused(desk: Desk) -> None:
    refused = await desk.resend.rotation.issue("acme", replace(CURRENT, api_key=Secret(SENDING)))
    assert isinstance(refused, Refused)
    assert InsufficientScope is refused.kind


async def test_a_refusal_at_the_making_is_a_value_too(desk: Desk) -> None:
    desk.line.answered["POST /api-keys"] = httpx.Response(401, json={"name": "restricted_api_key"})
    assert isinstance(await desk.resend.rotation.issue("acme", CURRENT), Refused)


async def test_a_leftover_that_cannot_be_deleted_stops_it(desk: Desk) -> None:
    left = await issued(desk)
    desk.line.answered[f"DELETE /api-keys/{left.api_key_id}"] = httpx.Response(401, json={"name": "restricted_api_key"})
    assert isinstance(await desk.resend.rotation.issue("acme", CURRENT), Refused)
    assert [left.api_key_id] == made_keys(desk)


async def test_a_key_without_a_token_is_no_successor(desk: Desk) -> None:
    desk.line.answered["POST /api-keys"] = httpx.Response(201, json={"id": "k"})
    with pytest.raises(ProviderUnknownAnswer):
        await issued(desk)


async def test_a_successor_that_is_not_used_is_taken_back(desk: Desk) -> None:
    successor = await issued(desk)
    for _ in range(2):
        await desk.resend.rotation.discard(CURRENT, successor)
        assert [] == made_keys(desk)
    assert await works(desk, CURRENT)


async def test_a_key_that_was_made_here_is_ended_by_its_successor(desk: Desk) -> None:
    old = await issued(desk)
    new = await issued(desk, old)
    trace = desk.resend.rotation.trace(old)
    assert old.api_key_id == trace
    for _ in range(2):
        assert () == await desk.resend.rotation.retire(new, trace)
        assert [new.api_key_id] == made_keys(desk)
    assert await works(desk, new)
    assert not await works(desk, old)


async def test_a_key_that_the_customer_made_is_left_for_the_customer_to_delete(desk: Desk) -> None:
    successor = await issued(desk)
    assert "" == desk.resend.rotation.trace(CURRENT)
    (sentence,) = await desk.resend.rotation.retire(successor, "")
    assert "Delete the API key that was replaced" in sentence
    assert await works(desk, CURRENT)


async def test_an_end_that_is_refused_or_unanswered_is_an_error(desk: Desk) -> None:
    old = await issued(desk)
    new = await issued(desk, old)
    path = f"DELETE /api-keys/{old.api_key_id}"
    desk.line.unheard.append(path)
    with pytest.raises(ProviderUnavailable):
        await desk.resend.rotation.retire(new, old.api_key_id)
    desk.line.answered[path] = httpx.Response(401, json={"name": "invalid_api_key"})
    with pytest.raises(InvalidCredentials):
        await desk.resend.rotation.discard(new, old)


@pytest.mark.parametrize("mark", ["tenantvault", "a", "m" * 20])
@pytest.mark.parametrize("org_id", ["a", "acme", "0d1b7a34-6f0e-4a52-9f53-1c0f5b0e2a77", "x" * 38, "x" * 39, "x" * 63])
def test_the_name_of_a_key_is_the_orgs_and_fits(mark: str, org_id: str) -> None:
    name = key_name(mark, org_id)
    assert name.startswith(f"{mark}-")
    assert len(name) <= 50
    assert name != key_name(mark, org_id[:-1] + "y")
    assert (name == f"{mark}-{org_id}") == (len(mark) + len(org_id) < 50)


def test_the_name_of_a_long_orgs_key_stays_what_it_was() -> None:
    digest = hashlib.sha256(b"x" * 39).hexdigest()
    assert f"tenantvault-{digest[:32]}" == key_name("tenantvault", "x" * 39)
