import time
from http.cookies import SimpleCookie

import jwt
import pytest

from tenantvault.secret import Secret
from tests.unit.gateway.fakes import OWN_PAGE, SESSION_SECRET, Gateway, MakeGateway, bearer, token

STATUS = "/api/integrations/status"
NAME = "__Host-tenantvault"


async def test_a_token_is_exchanged_for_a_cookie_that_scripts_cannot_read(gateway: Gateway) -> None:
    answer = await gateway.client.post("/session", headers=bearer())
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    cookie = SimpleCookie(answer.headers["set-cookie"])[NAME]
    assert cookie["httponly"]
    assert cookie["secure"]
    assert (cookie["samesite"], cookie["path"], cookie["domain"], cookie["max-age"]) == ("strict", "/", "", "28800")
    assert (await gateway.client.get(STATUS)).status_code == 200
    assert gateway.services.asked[0].org_id == "acme"


async def test_plain_http_on_ones_own_machine_has_a_plain_cookie(local_gateway: Gateway) -> None:
    answer = await local_gateway.client.post("/session", headers=bearer())
    cookie = SimpleCookie(answer.headers["set-cookie"])["tenantvault"]
    assert cookie["httponly"]
    assert not cookie["secure"]
    assert cookie["samesite"] == "strict"


async def test_a_session_is_opened_with_a_token_and_nothing_else(gateway: Gateway) -> None:
    assert (await gateway.client.post("/session", headers=OWN_PAGE)).status_code == 401
    await gateway.sign_in()
    assert (await gateway.client.post("/session", headers=OWN_PAGE)).status_code == 401
    body = {"orgId": "globex"}
    assert (await gateway.client.post("/session", json=body, headers=bearer())).status_code == 422


async def test_signing_out_ends_the_session_for_whoever_kept_the_cookie(gateway: Gateway) -> None:
    await gateway.sign_in()
    kept = gateway.client.cookies[NAME]
    answer = await gateway.client.delete("/session", headers=OWN_PAGE)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert NAME not in gateway.client.cookies
    cookie = {"Cookie": f"{NAME}={kept}"}
    assert (await gateway.client.get(STATUS, headers=cookie)).status_code == 401
    assert (await gateway.client.delete("/session", headers=OWN_PAGE | cookie)).status_code == 401


async def test_signing_out_leaves_other_sessions_alone(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    await gateway.sign_in()
    other = gateway.client.cookies[NAME]
    gateway.client.cookies.clear()
    await gateway.sign_in()
    await gateway.client.delete("/session", headers=OWN_PAGE)
    assert (await gateway.client.get(STATUS, headers={"Cookie": f"{NAME}={other}"})).status_code == 200


def session(**changes: object) -> str:
    claims = {
        "aud": "tenantvault-session",
        "jti": "a" * 32,
        "exp": int(time.time()) + 60,
        "org": "acme",
        "sub": "ada",
        "role": ["admin"],
    }
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(claims, SESSION_SECRET.reveal(), "HS256")


async def test_the_example_session_is_good(gateway: Gateway) -> None:
    answer = await gateway.client.get(STATUS, headers={"Cookie": f"{NAME}={session()}"})
    assert answer.status_code == 200


async def test_a_session_keeps_its_name_though_its_cookie_changes(gateway: Gateway) -> None:
    for cookie in (session(), session(exp=int(time.time()) + 600), session(jti="b" * 32)):
        headers = OWN_PAGE | {"Cookie": f"{NAME}={cookie}"}
        assert (await gateway.client.post("/api/auth/google-calendar/start", headers=headers)).status_code == 200
    first, renewed, other = (request.session for request in gateway.services.asked)
    assert first == renewed != other


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "hello",
        session(exp=int(time.time()) - 1),
        session(exp=None),
        session(jti=None),
        session(aud="tenantvault"),
        session(aud=None),
        session(org=None),
        session(org="ACME"),
        token(),
        token(Secret(SESSION_SECRET.reveal())),
        jwt.encode(jwt.decode(session(), options={"verify_signature": False}), "", "none"),
        jwt.encode(jwt.decode(session(), options={"verify_signature": False}), "x" * 32, "HS256"),
    ],
)
async def test_no_other_cookie_passes_for_a_session(gateway: Gateway, cookie: str) -> None:
    answer = await gateway.client.get(STATUS, headers={"Cookie": f"{NAME}={cookie}"})
    assert answer.status_code == 401


async def test_a_session_passes_for_no_bearer_token(gateway: Gateway) -> None:
    answer = await gateway.client.get(STATUS, headers={"Authorization": f"Bearer {session()}"})
    assert answer.status_code == 401


async def test_a_bad_token_is_not_made_good_by_a_cookie(gateway: Gateway) -> None:
    await gateway.sign_in()
    answer = await gateway.client.get(STATUS, headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code == 401
