import io
import json
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import BaseRoute, Mount, Route

from tenantvault.errors import InvalidCredentials
from tests.unit.gateway.fakes import OWN_PAGE, TWILIO, VAPI, Gateway, MakeGateway, bearer

OPEN = {"/healthz", "/readyz", "/metrics", "/sign-in", "/oauth/google-calendar", "/openapi.json"}


def every_route(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Mount) and route.routes:
            yield from every_route(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            yield from ((prefix + route.path, method) for method in sorted(route.methods or ()))


async def test_every_route_but_the_public_ones_needs_authentication(gateway: Gateway) -> None:
    walked = set()
    for path, method in every_route(gateway.app.routes):
        if path in OPEN:
            continue
        walked.add(path)
        answer = await gateway.client.request(method, path.replace("{provider}", "vapi"), headers=OWN_PAGE)
        if path in ("/", "/activity"):
            assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/sign-in")
        else:
            assert answer.status_code == 401, (method, path)
    assert {
        "/",
        "/activity",
        "/session",
        "/api/integrations/status",
        "/api/integrations/{provider}",
        "/api/integrations/{provider}/verify",
        "/api/integrations/providers",
        "/api/integrations/audit",
        "/api/integrations/audit.csv",
        "/api/integrations/access",
        "/api/integrations/events",
        "/api/integrations/{provider}/test",
        "/api/integrations/{provider}/reconnect",
        "/api/integrations/{provider}/rotate",
        "/api/auth/google-calendar/start",
        "/api/auth/google-calendar/callback",
    } == walked
    assert gateway.services.asked == []


async def test_an_address_below_api_that_does_not_exist_needs_authentication_too(gateway: Gateway) -> None:
    assert (await gateway.client.get("/api/secrets")).status_code == 401
    assert (await gateway.client.get("/api/secrets", headers=bearer())).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND"),
        ("GET", "/static/nowhere.js", 404, "NOT_FOUND"),
        ("GET", "/static/../index.html", 404, "NOT_FOUND"),
        ("POST", "/static/page.js", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/api/integrations/vapi", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/integrations/vapi", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/integrations/status", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/api/integrations/providers", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/integrations/audit", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/api/integrations/audit.csv", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/integrations/access", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/api/integrations/events", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/auth/google-calendar/start", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/oauth/google-calendar", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/healthz", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/api/integrations/vapi/", 404, "NOT_FOUND"),
        ("GET", "/sign-in/", 404, "NOT_FOUND"),
    ],
)
async def test_a_wrong_address_or_method_is_a_problem(
    gateway: Gateway, method: str, path: str, status: int, code: str
) -> None:
    answer = await gateway.client.request(method, path, headers=bearer())
    assert (status, code) == (answer.status_code, answer.json()["code"])
    assert answer.headers["content-type"] == "application/problem+json"
    assert ("allow" in answer.headers) == (status == 405)


async def test_no_answer_allows_another_origin(gateway: Gateway) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await gateway.client.options("/api/integrations/vapi", headers=headers)
    assert answer.status_code == 401
    assert not [name for name in answer.headers if name.startswith("access-control")]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
KNOWN = [*VAPI, *TWILIO, "apiKeySid", "apiKeySecret", "region", "webhookSecret", "orgId", "code", "state", "error"]
NAMES = st.sampled_from(KNOWN) | st.text(max_size=10)
PATHS = [
    "integrations/vapi",
    "integrations/twilio",
    "integrations/resend",
    "integrations/elevenlabs",
    "integrations/googleCalendar",
    "integrations/nobody",
    "integrations/twilio/test",
    "integrations/vapi/verify",
    "integrations/twilio/reconnect",
    "integrations/resend/rotate",
    "auth/google-calendar/start",
    "auth/google-calendar/callback",
]
OBJECTS = st.dictionaries(NAMES, VALUES | st.text(alphabet="AaC0SK+19 \"'\ud800\u200b", max_size=60), max_size=8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=200) | OBJECTS.map(lambda value: json.dumps(value).encode()),
    path=st.sampled_from(PATHS),
    method=st.sampled_from(["POST", "DELETE"]),
    kind=st.sampled_from(["application/json", "application/json; charset=latin-1", "text/plain", ""]),
)
async def test_no_body_leads_to_a_server_error(
    gateway: Gateway, body: bytes, path: str, method: str, kind: str
) -> None:
    answer = await gateway.client.request(
        method, f"/api/{path}", content=body, headers=bearer() | {"Content-Type": kind}
    )
    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert answer.json()["success"] is False


CANARY = "canary-7f3c9e51d2b84a06"
PLACES = ["apiKey", "webhookSecret", "region", "authToken", "apiKeySecret", "accountSid", "phoneNumber", CANARY]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("provider", ["vapi", "twilio/test", "resend", "elevenlabs"])
@pytest.mark.parametrize("failure", [None, InvalidCredentials(), RuntimeError(f"bad token {CANARY}")])
async def test_a_secret_appears_in_no_log_and_no_answer(
    gateway: Gateway, log: io.StringIO, place: str, provider: str, failure: Exception | None
) -> None:
    gateway.services.failure = failure
    for body in ({place: CANARY}, {**VAPI, **TWILIO, place: CANARY}, {place: [CANARY]}, CANARY):
        answer = await gateway.client.post(
            f"/api/integrations/{provider}?apiKey={CANARY}",
            json=body,
            headers=bearer() | {"X-Secret": CANARY, "X-Request-Id": f"not plain: {CANARY}"},
        )
        assert CANARY not in answer.text
        assert CANARY not in str(answer.headers)
    await gateway.client.post(f"/api/integrations/{CANARY}", json={}, headers=bearer())
    await gateway.client.get("/api/integrations/status", headers={"Authorization": f"Bearer {CANARY}"})
    # The test's own client logs the addresses that it asks for.
    lines = [line for line in log.getvalue().splitlines() if '"logger": "httpx"' not in line]
    assert len(lines) >= 6
    assert not [line for line in lines if CANARY in line]


async def test_a_connect_with_the_canary_reaches_the_provider_service_and_nothing_else(
    gateway: Gateway, log: io.StringIO
) -> None:
    body = {"apiKey": CANARY, "webhookSecret": CANARY}
    answer = await gateway.client.post("/api/integrations/vapi", json=body, headers=bearer())
    assert answer.status_code == 200
    assert gateway.services.asked[0].credential.vapi.api_key == CANARY
    assert CANARY not in answer.text + log.getvalue()
    assert CANARY not in (await gateway.client.get("/metrics")).text


async def test_one_org_sees_nothing_of_another(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    await gateway.client.post("/api/integrations/vapi", json=VAPI, headers=bearer(org_id="acme"))
    query = {"orgId": "acme", "org_id": "acme"}
    seen = await gateway.client.get(
        "/api/integrations/status", params=query, headers=bearer(org_id="globex") | {"X-Org-Id": "acme"}
    )
    assert {"empty"} == {shown["state"] for shown in seen.json().values()}
    for method, path in (
        ("POST", "vapi/verify"),
        ("DELETE", "vapi"),
        ("POST", "vapi/reconnect"),
        ("POST", "vapi/rotate"),
    ):
        answer = await gateway.client.request(
            method, f"/api/integrations/{path}", params=query, headers=bearer(org_id="globex")
        )
        assert answer.status_code == 404
    assert {"acme", "globex"} == {request.org_id for request in gateway.services.asked}
    assert [request.org_id for request in gateway.services.asked if request.org_id == "acme"] == ["acme"]


async def test_the_whole_life_of_an_integration_by_cookie(gateway: Gateway) -> None:
    await gateway.sign_in()

    async def state() -> str:
        return str((await gateway.client.get("/api/integrations/status")).json()["vapi"]["state"])

    async def change(method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        return await gateway.client.request(method, f"/api/integrations/{path}", json=body, headers=OWN_PAGE)

    assert await state() == "empty"
    assert (await change("POST", "vapi", VAPI)).status_code == 200
    assert await state() == "connected"
    assert (await change("POST", "vapi/verify")).json()["connected"]
    assert (await change("DELETE", "vapi")).status_code == 200
    assert await state() == "disconnected"
    assert (await change("POST", "vapi/reconnect")).json()["connected"]
    assert await state() == "connected"
