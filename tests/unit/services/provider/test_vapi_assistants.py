"""One assistant for each role, never two."""

import json
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.sandbox.vapi_assistant import problems
from services.provider.outbound import AnswerTooLarge, Outbound, new_client
from services.provider.provider import MayComeAbout, pass_by
from services.provider.providers.vapi import Vapi
from services.provider.providers.vapi.body import assistant
from services.provider.providers.vapi.templates import standard
from tenantvault.credentials import Resource, ResourceKind, VapiCredential
from tenantvault.errors import (
    InvalidCredentials,
    ProviderConflict,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderUnreachable,
    ProviderValidation,
    RateLimited,
)
from tenantvault.secret import Secret
from tests.unit.services.provider.fake_vapi import (
    BASE,
    KEY,
    FakeVapi,
    Fault,
    failed_after,
    failed_before,
    lost_after,
    lost_before,
)

WEBHOOK = "https://hooks.test/vapi"
CREDENTIAL = VapiCredential(api_key=Secret(KEY), webhook_secret=Secret("hook-secret-1"))
NEW_SECRET = replace(CREDENTIAL, webhook_secret=Secret("hook-secret-2"))


def spec(
    org_id: str, role: str, *, url: str = WEBHOOK, secret: str = "hook-secret-1", mark: str = "tenantvault"
) -> dict[str, Any]:
    credential = replace(CREDENTIAL, webhook_secret=Secret(secret))
    return assistant(org_id, role, mark=mark, url=url, credential=credential, templates=standard())


SPEC = {role: spec("acme", role) for role in ("inbound", "outbound")}


class Desk:
    """A provider at a fake Vapi, with the sleeps and the checkpoints noted."""

    def __init__(self, fake: FakeVapi, *, mark: str = "") -> None:
        self.fake = fake
        self.slept: list[float] = []
        self.steps: list[str] = []
        self.left: tuple[str, ...] = ()
        outbound = Outbound(new_client(fake.client()), sleep=self._pass)
        urls = {"us": BASE, "eu": BASE}
        vapi = partial(Vapi, outbound, urls=urls, webhook_url=WEBHOOK, sleep=self._sleep)
        self.vapi = vapi(mark=mark) if mark else vapi()

    async def provision(
        self, *known: Resource, org_id: str = "acme", credential: VapiCredential = CREDENTIAL
    ) -> dict[str, str]:
        made = await self.vapi.provision(org_id, credential, known=known, checkpoint=self._checkpoint)
        assert all(resource.kind is ResourceKind.VAPI_ASSISTANT for resource in made.resources)
        assert () == made.warnings
        self.left = await made.finish(None) if made.finish else ()
        return {resource.role: resource.resource_id for resource in made.resources}

    async def inspect(self, *known: Resource) -> tuple[str, ...]:
        return await self.vapi.inspect("acme", CREDENTIAL, known=known)

    async def release(self, *known: Resource) -> tuple[str, ...]:
        return await self.vapi.release("acme", CREDENTIAL, known=known)

    async def _pass(self, seconds: float) -> None:
        del seconds

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def _checkpoint(self, step: str) -> None:
        self.steps.append(step)


@pytest.fixture
def fake() -> FakeVapi:
    return FakeVapi()


@pytest.fixture
def desk(fake: FakeVapi) -> Desk:
    return Desk(fake)


def on_record(ids: dict[str, str]) -> list[Resource]:
    return [Resource(ResourceKind.VAPI_ASSISTANT, assistant_id, role) for role, assistant_id in ids.items()]


def the_ids(fake: FakeVapi, tenant: str = "acme") -> dict[str, str]:
    found = fake.of(tenant)
    assert {"inbound": 1, "outbound": 1} == {role: len(assistants) for role, assistants in found.items()}
    return {role: assistants[0]["id"] for role, assistants in found.items()}


async def test_a_new_org_gets_one_of_each(fake: FakeVapi, desk: Desk) -> None:
    ids = await desk.provision()
    assert the_ids(fake) == ids
    assert ["assistant_inbound", "assistant_outbound"] == desk.steps
    assert (1, 2, 0) == (fake.count("GET"), fake.count("POST"), fake.count("PATCH"))


async def test_doing_it_again_by_the_record_only_looks(fake: FakeVapi, desk: Desk) -> None:
    ids = await desk.provision()
    fake.requests.clear()
    assert ids == await desk.provision(*on_record(ids))
    assert [f"/assistant/{assistant_id}" for assistant_id in ids.values()] == [
        request.url.path for request in fake.requests
    ]


async def test_doing_it_again_without_a_record_finds_them_by_their_metadata(fake: FakeVapi, desk: Desk) -> None:
    ids = await desk.provision()
    assert ids == await desk.provision()
    assert ids == the_ids(fake)
    assert (2, 0) == (fake.count("POST"), fake.count("PATCH"))


@pytest.mark.parametrize("role", ["inbound", "outbound"])
async def test_the_one_that_is_missing_is_made(fake: FakeVapi, desk: Desk, role: str) -> None:
    ids = await desk.provision()
    fake.assistants = [each for each in fake.assistants if each["id"] != ids[role]]
    again = await desk.provision(*on_record(ids))
    assert the_ids(fake) == again
    assert 3 == fake.count("POST")


async def test_a_changed_spec_is_one_patch_for_each(fake: FakeVapi, desk: Desk) -> None:
    ids = await desk.provision()
    changed = VapiCredential(api_key=Secret(KEY), webhook_secret=Secret("hook-secret-2"))
    assert ids == await desk.provision(*on_record(ids), credential=changed)
    assert 2 == fake.count("PATCH")
    assert {"hook-secret-2"} == {each["server"]["headers"]["X-Vapi-Secret"] for each in fake.assistants}
    assert ids == await desk.provision(*on_record(ids), credential=changed)
    assert 2 == fake.count("PATCH")


async def test_a_patch_carries_whole_sub_objects(fake: FakeVapi, desk: Desk) -> None:
    fake.add(tenant="acme", role="inbound")
    await desk.provision()
    patch = next(json.loads(request.content) for request in fake.requests if request.method == "PATCH")
    assert SPEC["inbound"] == patch


async def test_what_the_customer_changed_in_it_stays_while_the_spec_stays(fake: FakeVapi, desk: Desk) -> None:
    ids = await desk.provision()
    fake.assistants[0]["firstMessage"] = "Acme, good morning!"
    await desk.provision(*on_record(ids))
    assert "Acme, good morning!" == fake.assistants[0]["firstMessage"]


async def test_two_deployments_at_one_account_keep_to_their_own_assistants(fake: FakeVapi, desk: Desk) -> None:
    other = Desk(fake, mark="tenantvault-eu")
    theirs = await other.provision()
    before = json.dumps(fake.assistants)
    ours = await desk.provision()
    assert not set(ours.values()) & set(theirs.values())
    assert (ours, theirs) == (await desk.provision(*on_record(theirs)), await other.provision(*on_record(ours)))
    assert ["tenantvault-eu", "tenantvault-eu", "tenantvault", "tenantvault"] == [
        each["metadata"]["managed_by"] for each in fake.assistants
    ]
    assert () == await desk.release(*on_record(theirs))
    assert before == json.dumps(fake.assistants)
    assert all("lost its mark" in sentence for sentence in await desk.inspect(*on_record(theirs)))
    assert () == await other.inspect(*on_record(theirs))


async def test_a_lost_answer_is_not_made_good_by_another_deployments_assistant(fake: FakeVapi, desk: Desk) -> None:
    await Desk(fake, mark="staging").provision()
    fake.faults["POST"] = deque([lost_before] * 3)
    with pytest.raises(MayComeAbout):
        await desk.provision()


@pytest.mark.parametrize(
    "metadata",
    [
        {"tenant_id": "globex", "role": "inbound", "managed_by": "tenantvault"},
        {"tenant_id": "acme", "role": "inbound", "managed_by": "somebody"},
        {"tenant_id": "acme", "role": "mascot", "managed_by": "tenantvault"},
        {"tenant_id": "acme", "role": ["inbound"], "managed_by": "tenantvault"},
        {},
        None,
        "acme",
    ],
)
async def test_an_assistant_on_record_that_is_not_ours_is_not_touched(
    fake: FakeVapi, desk: Desk, metadata: object
) -> None:
    foreign = fake.add(tenant="x", role="x", metadata=metadata, name="hands off")
    before = json.dumps(foreign)
    ids = await desk.provision(Resource(ResourceKind.VAPI_ASSISTANT, foreign["id"], "inbound"))
    assert ids["inbound"] != foreign["id"]
    assert before == json.dumps(foreign)


async def test_an_assistant_on_record_in_the_wrong_role_keeps_its_own(fake: FakeVapi, desk: Desk) -> None:
    outbound = fake.add(tenant="acme", role="outbound")["id"]
    ids = await desk.provision(Resource(ResourceKind.VAPI_ASSISTANT, outbound, "inbound"))
    assert the_ids(fake) == ids
    assert outbound == ids["outbound"]


async def test_another_org_in_the_same_account_keeps_its_own(fake: FakeVapi, desk: Desk) -> None:
    globex = await desk.provision(org_id="globex")
    before = [json.dumps(each) for each in fake.assistants]
    acme = await desk.provision()
    assert not set(acme.values()) & set(globex.values())
    assert before == [json.dumps(each) for each in fake.assistants[:2]]


async def test_records_of_other_kinds_and_roles_are_passed_by(fake: FakeVapi, desk: Desk) -> None:
    stranger = Resource(ResourceKind.PHONE_NUMBER, "+14155550100", "inbound")
    ids = await desk.provision(stranger, Resource(ResourceKind.VAPI_ASSISTANT, "x", "mascot"))
    assert the_ids(fake) == ids
    assert not [request for request in fake.requests if request.url.path.endswith("x")]


async def test_an_odd_id_on_record_cannot_reach_another_path(fake: FakeVapi, desk: Desk) -> None:
    await desk.provision(Resource(ResourceKind.VAPI_ASSISTANT, "../call?x=1#y", "inbound"))
    assert b"/assistant/..%2Fcall%3Fx%3D1%23y" == fake.requests[0].url.raw_path


async def test_the_oldest_twin_is_adopted_and_the_others_are_reported(
    fake: FakeVapi, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    oldest, younger, youngest = (fake.add(tenant="acme", role="inbound") for _ in range(3))
    ids = await desk.provision()
    assert oldest["id"] == ids["inbound"]
    (warning,) = [record for record in caplog.records if record.message == "more than one assistant"]
    assert {younger["id"], youngest["id"]} == set(warning.surplus)  # type: ignore[attr-defined]
    assert 1 == fake.count("PATCH")


async def test_the_one_on_record_is_kept_although_an_older_twin_is_there(fake: FakeVapi, desk: Desk) -> None:
    fake.add(tenant="acme", role="inbound")
    on_the_record = fake.add(tenant="acme", role="inbound")["id"]
    ids = await desk.provision(Resource(ResourceKind.VAPI_ASSISTANT, on_the_record, "inbound"))
    assert on_the_record == ids["inbound"]


@pytest.mark.parametrize("others", [999, 1000, 1001, 2500])
async def test_all_pages_are_searched(fake: FakeVapi, desk: Desk, others: int) -> None:
    ours = {role: fake.add(tenant="acme", role=role)["id"] for role in ("inbound", "outbound")}
    for _ in range(others):
        fake.add(tenant="globex", role="inbound")
    assert ours == await desk.provision()
    assert 0 == fake.count("POST")
    assert (others + 2) // 1000 + 1 == fake.count("GET")


async def test_a_cursor_that_is_not_heeded_ends_the_search_with_an_error(fake: FakeVapi, desk: Desk) -> None:
    fake.heeds_cursor = False
    for _ in range(1000):
        fake.add(tenant="globex", role="inbound")
    with pytest.raises(ProviderUnknownAnswer):
        await desk.provision()
    assert (2, 0) == (fake.count("GET"), fake.count("POST"))


async def test_pages_that_are_too_large_are_asked_for_in_smaller_parts(fake: FakeVapi, desk: Desk) -> None:
    ours = {role: fake.add(tenant="acme", role=role)["id"] for role in ("inbound", "outbound")}
    for _ in range(30):
        fake.add(tenant="globex", role="inbound", firstMessage="x" * 200_000)
    assert ours == await desk.provision()
    limits = [int(request.url.params["limit"]) for request in fake.requests if "limit" in request.url.params]
    assert [1000, 250, 62, 15, 3] == limits[:5]
    assert {3} == set(limits[5:])


async def test_one_assistant_that_is_too_large_is_an_error(fake: FakeVapi, desk: Desk) -> None:
    fake.add(tenant="globex", role="inbound", firstMessage="x" * 2_000_000)
    with pytest.raises(AnswerTooLarge):
        await desk.provision()
    assert 0 == fake.count("POST")


@pytest.mark.parametrize("fault", [lost_after, failed_after])
@pytest.mark.parametrize("role", [0, 1])
async def test_a_create_that_happened_without_an_answer_is_found_again(
    fake: FakeVapi, desk: Desk, fault: Fault, role: int
) -> None:
    fake.faults["POST"] = deque([None] * role + [fault])
    ids = await desk.provision()
    assert the_ids(fake) == ids
    assert (2, 0) == (fake.count("POST"), fake.count("PATCH"))
    assert [0.5] == desk.slept


@pytest.mark.parametrize("fault", [lost_before, failed_before])
async def test_a_create_that_did_not_happen_is_looked_for_and_then_left_to_the_next_attempt(
    fake: FakeVapi, desk: Desk, fault: Fault
) -> None:
    fake.faults["POST"] = deque([fault])
    with pytest.raises(ProviderUnavailable):
        await desk.provision()
    assert 1 == fake.count("POST")
    assert [0.5, 1.0, 2.0] == desk.slept
    ids = await desk.provision()
    assert the_ids(fake) == ids


async def test_a_create_that_shows_late_is_still_found(fake: FakeVapi, desk: Desk) -> None:
    late: list[dict[str, Any]] = []

    def hide(request: httpx.Request, carry_out: Any) -> httpx.Response:
        carry_out()
        late.append(fake.assistants.pop())
        raise httpx.ReadTimeout("slow", request=request)

    def show(request: httpx.Request, carry_out: Any) -> httpx.Response:
        fake.assistants.extend(late)
        answer: httpx.Response = carry_out()
        return answer

    fake.faults = {"POST": deque([hide]), "GET": deque([None, None, show])}
    ids = await desk.provision()
    assert the_ids(fake) == ids
    assert [0.5, 1.0] == desk.slept


async def test_an_answer_without_an_id_counts_as_lost(fake: FakeVapi, desk: Desk) -> None:
    def mumble(request: httpx.Request, carry_out: Any) -> httpx.Response:
        carry_out()
        return httpx.Response(201, json={"ok": True})

    fake.faults["POST"] = deque([mumble])
    ids = await desk.provision()
    assert the_ids(fake) == ids


@pytest.mark.parametrize(
    ("status", "error", "looks"),
    [
        (401, InvalidCredentials, 0),
        (400, ProviderValidation, 0),
        (429, RateLimited, 0),
        (409, ProviderConflict, 0),
        (418, MayComeAbout, 3),
    ],
)
async def test_a_create_that_is_refused_is_not_looked_for(
    fake: FakeVapi, desk: Desk, status: int, error: type[ProviderRefused | ProviderUnreachable], looks: int
) -> None:
    fake.faults["POST"] = deque([lambda *_: httpx.Response(status, json={"message": ["name must be shorter"]})])
    with pytest.raises(error):
        await desk.provision()
    assert 1 == fake.count("POST")
    assert looks == len(desk.slept)


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_look_or_a_change_that_is_refused_says_so(fake: FakeVapi, desk: Desk, method: str) -> None:
    fake.add(tenant="acme", role="inbound")
    fake.faults[method] = deque([lambda *_: httpx.Response(401, json={"message": "Invalid Key."})])
    with pytest.raises(InvalidCredentials) as caught:
        await desk.provision()
    assert {"apiKey"} == set(caught.value.fields)
    assert 0 == fake.count("POST")


async def test_a_look_at_the_record_that_is_refused_makes_nothing(fake: FakeVapi, desk: Desk) -> None:
    fake.faults["GET"] = deque([lambda *_: httpx.Response(401, json={"message": "Invalid Key."})])
    with pytest.raises(InvalidCredentials):
        await desk.provision(Resource(ResourceKind.VAPI_ASSISTANT, "x", "inbound"))
    assert 0 == fake.count("POST")


async def test_a_change_that_stays_a_draft_is_logged(
    fake: FakeVapi, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    stale = fake.add(tenant="acme", role="inbound")
    fake.faults["PATCH"] = deque([lambda *_: httpx.Response(200, json=stale)])
    await desk.provision()
    assert "did not take a change" in caplog.text


async def test_the_assistants_differ_in_what_they_say(fake: FakeVapi, desk: Desk) -> None:
    await desk.provision()
    inbound, outbound = fake.assistants
    assert inbound["firstMessage"] != outbound["firstMessage"]
    assert inbound["model"]["messages"] != outbound["model"]["messages"]
    assert ("inbound", "outbound") == (inbound["metadata"]["role"], outbound["metadata"]["role"])


@given(org_id=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True), role=st.sampled_from(["inbound", "outbound"]))
def test_a_body_keeps_to_the_vendors_limits(org_id: str, role: str) -> None:
    body = spec(org_id, role)
    assert len(body["name"]) <= 40
    assert 10 <= body.get("maxDurationSeconds", 600) <= 43200
    assert {"url": WEBHOOK, "timeoutSeconds": 20, "headers": {"X-Vapi-Secret": "hook-secret-1"}} == body["server"]
    assert {
        "tenant_id": org_id,
        "role": role,
        "managed_by": "tenantvault",
        "spec_hash": "",
    } == body["metadata"] | {"spec_hash": ""}
    assert {"provider", "model"} <= set(body["model"])
    assert {"provider", "voiceId"} <= set(body["voice"])
    assert "serverUrl" not in body


def test_orgs_whose_names_begin_alike_get_different_names() -> None:
    long = "a" * 40
    bodies = [spec(org_id, "inbound") for org_id in (long, long + "b")]
    assert bodies[0]["name"] != bodies[1]["name"]


@pytest.mark.parametrize(
    "other",
    [
        spec("acme", "inbound", url=f"{WEBHOOK}/2"),
        spec("acme", "inbound", secret="hook-secret-2"),
        spec("acme", "outbound"),
    ],
)
def test_the_hash_changes_with_the_spec(other: dict[str, Any]) -> None:
    assert SPEC["inbound"]["metadata"]["spec_hash"] == spec("acme", "inbound")["metadata"]["spec_hash"]
    assert other["metadata"]["spec_hash"] != SPEC["inbound"]["metadata"]["spec_hash"]


def test_the_hash_stays_whatever_the_mark_is() -> None:
    marked = spec("acme", "inbound", mark="staging")
    assert SPEC["inbound"]["metadata"] | {"managed_by": "staging"} == marked["metadata"]


HELD = "4fc1f6ad-1c35-4d0b-9d0f-6a8f1d3f0b11"


@pytest.mark.parametrize(
    ("scheme", "proof"),
    [
        ("header", {"headers": {"X-Vapi-Secret": "hook-secret-1"}}),
        ("bearer", {"headers": {"Authorization": "Bearer hook-secret-1"}}),
        ("hmac-sha256", {"credentialId": HELD}),
        ("hmac-sha512", {"credentialId": HELD}),
        ("hmac-sha1", {"credentialId": HELD}),
    ],
)
async def test_the_webhooks_prove_themselves_by_the_scheme(
    fake: FakeVapi, desk: Desk, scheme: str, proof: dict[str, Any]
) -> None:
    await desk.provision(credential=replace(CREDENTIAL, webhook_scheme=scheme, webhook_credential_id=HELD))
    assert [{"url": WEBHOOK, "timeoutSeconds": 20, **proof}] * 2 == [each["server"] for each in fake.assistants]
    assert ("hook-secret-1" in json.dumps(fake.assistants)) == ("headers" in proof)
    assert [] == [
        problem for request in fake.requests if request.content for problem in problems(json.loads(request.content))
    ]


async def test_what_is_there_as_it_was_made_is_not_worth_a_word(fake: FakeVapi, desk: Desk) -> None:
    known = on_record(await desk.provision())
    fake.requests.clear()
    assert () == await desk.inspect(*known)
    assert ["GET", "GET"] == [request.method for request in fake.requests]


async def test_nothing_on_record_is_nothing_to_look_at(fake: FakeVapi, desk: Desk) -> None:
    assert () == await desk.inspect(Resource(ResourceKind.PHONE_NUMBER, "+14155550100", "inbound"))
    assert [] == fake.requests


async def test_a_deleted_assistant_is_told(fake: FakeVapi, desk: Desk) -> None:
    known = on_record(await desk.provision())
    del fake.assistants[0]
    (sentence,) = await desk.inspect(*known)
    assert "inbound assistant was deleted" in sentence
    assert "reconnect" in sentence


async def test_an_assistant_without_our_mark_is_told(fake: FakeVapi, desk: Desk) -> None:
    known = on_record(await desk.provision())
    fake.assistants[1]["metadata"] = {}
    (sentence,) = await desk.inspect(*known)
    assert "outbound assistant lost its mark" in sentence


@pytest.mark.parametrize("server", [{"url": "https://elsewhere.test"}, {}, None, "x"])
async def test_webhooks_that_go_elsewhere_are_told(fake: FakeVapi, desk: Desk, server: object) -> None:
    known = on_record(await desk.provision())
    fake.assistants[0]["server"] = server
    (sentence,) = await desk.inspect(*known)
    assert "inbound assistant sends its webhooks elsewhere" in sentence
    assert WEBHOOK in sentence


@pytest.mark.parametrize(
    ("scheme", "drifted"),
    [
        ("header", {"headers": {"X-Vapi-Secret": "hook-secret-2"}}),
        ("header", {"headers": {"Authorization": "Bearer hook-secret-1"}}),
        ("header", {"credentialId": HELD}),
        ("header", {"headers": "x"}),
        ("bearer", {"headers": {"X-Vapi-Secret": "hook-secret-1"}}),
        ("hmac-sha256", {"credentialId": "another"}),
    ],
)
async def test_webhooks_that_prove_themselves_by_something_else_are_told(
    fake: FakeVapi, desk: Desk, scheme: str, drifted: dict[str, Any]
) -> None:
    credential = replace(CREDENTIAL, webhook_scheme=scheme, webhook_credential_id=HELD)
    known = tuple(on_record(await desk.provision(credential=credential)))
    assert () == await desk.vapi.inspect("acme", credential, known=known)
    fake.assistants[0]["server"] = {"url": WEBHOOK, **drifted}
    (sentence,) = await desk.vapi.inspect("acme", credential, known=known)
    assert sentence.startswith("The inbound assistant does not prove its webhooks by the stored secret")
    assert "hook-secret" not in sentence
    fake.assistants[0]["firstMessage"] = "Acme, good morning!"
    await desk.provision(*known, credential=credential)
    assert () == await desk.vapi.inspect("acme", credential, known=known)
    assert "Acme, good morning!" == fake.assistants[0]["firstMessage"]


async def test_webhooks_that_the_customer_sent_elsewhere_stay_there(fake: FakeVapi, desk: Desk) -> None:
    known = on_record(await desk.provision())
    fake.assistants[0]["server"] = theirs = {"url": "https://elsewhere.test", "headers": {"X-Own": "1"}}
    await desk.provision(*known)
    assert theirs == fake.assistants[0]["server"]


async def test_headers_that_the_customer_added_are_not_worth_a_word(fake: FakeVapi, desk: Desk) -> None:
    known = on_record(await desk.provision())
    fake.assistants[0]["server"]["headers"]["X-Tenant"] = "acme"
    assert () == await desk.inspect(*known)


async def test_what_works_now_is_changed_only_in_the_end(fake: FakeVapi, desk: Desk) -> None:
    known = tuple(on_record(await desk.provision()))
    before = json.dumps(fake.assistants)
    made = await desk.vapi.provision("acme", NEW_SECRET, known=known, checkpoint=pass_by)
    assert (before, known) == (json.dumps(fake.assistants), made.resources)
    assert made.finish is not None
    assert () == await made.finish(CREDENTIAL)
    assert {"hook-secret-2"} == {each["server"]["headers"]["X-Vapi-Secret"] for each in fake.assistants}


@pytest.mark.parametrize(
    ("fault", "word"), [(failed_before, "did not answer"), (lambda *_: httpx.Response(403, json={}), "did not let us")]
)
async def test_a_change_that_could_not_be_made_is_told_and_the_next_attempt_makes_it(
    fake: FakeVapi, desk: Desk, fault: Fault, word: str
) -> None:
    known = on_record(await desk.provision())
    fake.faults["PATCH"] = deque([fault])
    await desk.provision(*known, credential=NEW_SECRET)
    (sentence,) = desk.left
    assert sentence.startswith("The inbound assistant still has the webhook secret and settings of before")
    assert word in sentence
    await desk.provision(*known, credential=NEW_SECRET)
    assert () == desk.left
    assert () == await desk.vapi.inspect("acme", NEW_SECRET, known=tuple(known))


async def test_a_look_that_is_refused_says_why(fake: FakeVapi, desk: Desk) -> None:
    known = on_record(await desk.provision())
    fake.faults["GET"] = deque([lambda *_: httpx.Response(401, json={"message": "Invalid Key."})])
    (sentence,) = await desk.inspect(*known)
    assert "does not recognise" in sentence


async def test_a_look_without_an_answer_is_no_finding(fake: FakeVapi, desk: Desk) -> None:
    known = on_record(await desk.provision())
    fake.faults["GET"] = deque([failed_before] * 3)
    with pytest.raises(ProviderUnavailable):
        await desk.inspect(*known)


async def test_a_release_deletes_what_is_ours_and_nothing_else(fake: FakeVapi, desk: Desk) -> None:
    globex = await desk.provision(org_id="globex")
    await desk.provision()
    fake.add(tenant="acme", role="inbound")
    own = fake.add(tenant="acme", role="inbound", managed_by="the customer")
    assert () == await desk.release()
    assert [*globex.values(), own["id"]] == [each["id"] for each in fake.assistants]
    assert () == await desk.release()


async def test_an_assistant_that_a_phone_number_uses_stays_and_is_told(fake: FakeVapi, desk: Desk) -> None:
    ids = await desk.provision()
    fake.pinned.add(ids["inbound"])
    (sentence,) = await desk.release(*on_record(ids))
    assert "The inbound assistant is in use by a phone number at Vapi: remove it there." == sentence
    assert [ids["inbound"]] == [each["id"] for each in fake.assistants]


async def test_an_assistant_that_is_gone_meanwhile_is_none_to_delete(fake: FakeVapi, desk: Desk) -> None:
    await desk.provision()
    fake.faults["DELETE"] = deque([lambda *_: httpx.Response(404, json={"message": "Not Found"})])
    assert () == await desk.release()


@pytest.mark.parametrize("fault", [lost_before, lost_after, failed_before, failed_after])
async def test_a_deletion_without_an_answer_does_not_hold_up_the_other(
    fake: FakeVapi, desk: Desk, fault: Fault
) -> None:
    ids = await desk.provision()
    fake.faults["DELETE"] = deque([fault])
    (sentence,) = await desk.release()
    assert "did not confirm" in sentence
    assert "outbound" in sentence
    assert ids["inbound"] not in [each["id"] for each in fake.assistants]
    assert () == await desk.release()
    assert [] == fake.assistants


async def test_a_release_that_is_refused_says_what_is_left(fake: FakeVapi, desk: Desk) -> None:
    await desk.provision()
    fake.faults["DELETE"] = deque([lambda *_: httpx.Response(403, json={"message": "No."})])
    (sentence,) = await desk.release()
    assert "delete it there" in sentence
    fake.faults["GET"] = deque([lambda *_: httpx.Response(401, json={"message": "Invalid Key."})])
    (sentence,) = await desk.release()
    assert "delete the ones of this connection there" in sentence
