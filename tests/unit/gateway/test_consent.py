import io

import pytest

from gateway.identity import Identity
from tenantvault.errors import ConsentDenied, InsufficientScope, ProviderMisconfigured, ReauthRequired
from tenantvault.v1 import credential_pb2 as pb
from tests.unit.gateway.fakes import OWN_PAGE, Gateway, bearer

START = "/api/auth/google-calendar/start"
CALLBACK = "/api/auth/google-calendar/callback"
PAGE = "/oauth/google-calendar"
CANARY = "canary-4-0AVG7fiQ5Tz"


async def begin(gateway: Gateway, headers: dict[str, str]) -> str:
    answer = await gateway.client.post(START, headers=headers)
    assert answer.status_code == 200
    return str(answer.json()["authorizationUrl"]).partition("state=")[2]


async def test_a_consent_begins_with_the_address_of_the_providers_page(gateway: Gateway) -> None:
    answer = await gateway.client.post(START, headers=bearer())
    assert answer.json() == {
        "success": True,
        "authorizationUrl": "https://accounts.google.example/auth?state=state-0",
    }
    asked = gateway.services.asked[0]
    assert (asked.org_id, asked.provider) == ("acme", pb.PROVIDER_GOOGLE_CALENDAR)
    assert asked.origin.on_behalf_of == "ada@acme.example"
    assert gateway.services.metadata[0]["timeout"] == 10


async def test_it_ends_with_the_account_and_the_scopes(gateway: Gateway) -> None:
    gateway.services.warnings = ("You left something out.",)
    await gateway.sign_in()
    state = await begin(gateway, OWN_PAGE)
    answer = await gateway.client.post(CALLBACK, json={"code": "4/0A", "state": state}, headers=OWN_PAGE)
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "success": True,
            "email": "ada@acme.example",
            "scopes": ["openid", "email"],
            "warnings": ["You left something out."],
        },
    )
    asked = gateway.services.asked[1]
    assert (asked.org_id, asked.provider, asked.code, asked.state, asked.error) == (
        "acme",
        pb.PROVIDER_GOOGLE_CALENDAR,
        "4/0A",
        state,
        "",
    )
    assert asked.origin.on_behalf_of == "ada@acme.example"
    assert gateway.services.metadata[1]["timeout"] == 60


async def test_what_came_back_instead_of_a_code_is_handed_on(gateway: Gateway) -> None:
    state = await begin(gateway, bearer())
    gateway.services.failure = ConsentDenied()
    answer = await gateway.client.post(CALLBACK, json={"error": "access_denied", "state": state}, headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (422, "CONSENT_DENIED")
    assert gateway.services.asked[1].error == "access_denied"


@pytest.mark.parametrize("failure", [InsufficientScope(), ReauthRequired(), ProviderMisconfigured()])
async def test_why_it_did_not_end_well_is_said_in_the_services_sentence(
    gateway: Gateway, failure: InsufficientScope
) -> None:
    gateway.services.failure = failure
    answer = await gateway.client.post(CALLBACK, json={"code": "c", "state": "s"}, headers=bearer())
    assert (answer.json()["code"], answer.json()["detail"]) == (failure.reason, failure.message)


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        (START, {"orgId": "globex"}, ["orgId"]),
        (CALLBACK, {"code": 7, "state": "s"}, ["code"]),
        (CALLBACK, {"code": "c", "state": "s", "session": "mine"}, ["session"]),
        (CALLBACK, {"code": "c" * 5000, "state": "s"}, ["code"]),
    ],
)
async def test_a_body_has_what_belongs_there_and_nothing_else(
    gateway: Gateway, path: str, body: dict[str, object], fields: list[str]
) -> None:
    answer = await gateway.client.post(path, json=body, headers=bearer())
    assert (answer.status_code, list(answer.json()["fields"])) == (422, fields)
    assert gateway.services.asked == []


@pytest.mark.parametrize("path", [START, CALLBACK])
async def test_a_consent_is_for_administrators(gateway: Gateway, path: str) -> None:
    answer = await gateway.client.post(path, headers=bearer(role="viewer"))
    assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")
    assert gateway.services.asked == []


@pytest.mark.parametrize("path", [START, CALLBACK])
async def test_another_sites_page_can_neither_begin_nor_end_one(gateway: Gateway, path: str) -> None:
    await gateway.sign_in()
    answer = await gateway.client.post(path, json={}, headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "CROSS_SITE_REQUEST")
    assert gateway.services.asked == []


async def test_a_session_has_one_name_and_that_is_not_its_cookie(gateway: Gateway) -> None:
    await gateway.sign_in()
    await begin(gateway, OWN_PAGE)
    await begin(gateway, OWN_PAGE)
    first, second = (request.session for request in gateway.services.asked)
    assert first == second
    assert len(first) == 64
    assert first not in str(gateway.client.cookies)


async def test_another_session_of_the_same_person_cannot_end_it(gateway: Gateway) -> None:
    await gateway.sign_in()
    state = await begin(gateway, OWN_PAGE)
    gateway.client.cookies.clear()
    await gateway.sign_in()
    answer = await gateway.client.post(CALLBACK, json={"code": "c", "state": state}, headers=OWN_PAGE)
    assert (answer.status_code, answer.json()["code"]) == (400, "OAUTH_STATE_INVALID")


async def test_a_token_stands_for_its_person_however_often_it_is_renewed(gateway: Gateway) -> None:
    state = await begin(gateway, bearer())
    renewed = bearer(exp=4102444800, jti="another")
    answer = await gateway.client.post(CALLBACK, json={"code": "c", "state": state}, headers=renewed)
    assert answer.status_code == 200


@pytest.mark.parametrize("changes", [{"sub": "eve@acme.example"}, {"sub": None}, {"org_id": "globex"}])
async def test_another_person_or_org_cannot_end_it(gateway: Gateway, changes: dict[str, object]) -> None:
    state = await begin(gateway, bearer())
    answer = await gateway.client.post(CALLBACK, json={"code": "c", "state": state}, headers=bearer(**changes))
    assert (answer.status_code, answer.json()["code"]) == (400, "OAUTH_STATE_INVALID")


def test_no_person_is_named_as_another_ones_session() -> None:
    def name(**changes: str) -> str:
        return Identity(**({"org_id": "acme", "person": "ada", "roles": frozenset()} | changes)).session  # type: ignore[arg-type]

    names = [name(), name(person="adaa"), name(org_id="acm", person="eada"), name(session_id="s"), name(session_id="t")]
    assert len(set(names)) == len(names)
    assert name(session_id="s") == name(session_id="s", person="eve")


async def test_the_page_that_the_browser_comes_back_to_needs_no_cookie_and_says_nothing_of_what_came(
    gateway: Gateway, log: io.StringIO
) -> None:
    answer = await gateway.client.get(PAGE, params={"code": CANARY, "state": CANARY, "error": f"<b>{CANARY}</b>"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert CANARY not in answer.text + str(answer.headers)
    # The test's own client logs the addresses that it asks for.
    assert not [line for line in log.getvalue().splitlines() if CANARY in line and '"logger": "httpx"' not in line]
    assert PAGE in log.getvalue()
    assert gateway.services.asked == []


async def test_what_came_back_stands_in_no_log(gateway: Gateway, log: io.StringIO) -> None:
    for body in ({"code": CANARY, "state": CANARY}, {"error": CANARY, "state": CANARY}, {CANARY: 1}):
        answer = await gateway.client.post(CALLBACK, json=body, headers=bearer())
        assert CANARY not in answer.text
    assert CANARY not in log.getvalue()
