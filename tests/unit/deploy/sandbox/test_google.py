import base64
import hashlib
import html
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import Mount

from deploy.sandbox.google import Google
from deploy.sandbox.google_account import is_email, special
from deploy.sandbox.google_consent import _is_loopback
from deploy.sandbox.google_grant import Token, token_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AUTH = "https://www.googleapis.com/auth/"
EVENTS, FREEBUSY, LIST = (f"{AUTH}calendar.{each}" for each in ("events", "freebusy", "calendarlist.readonly"))
PAGE = "/o/oauth2/v2/auth"
VERIFIER = "v" * 43
ASKED = {
    "client_id": "vault.apps.sandbox",
    "redirect_uri": "http://localhost:7400/callback?x=1",
    "response_type": "code",
    "scope": f"openid email {EVENTS} {FREEBUSY} {LIST}",
    "state": 'st"ate&1',
    "access_type": "offline",
    "prompt": "consent",
    "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("="),
    "code_challenge_method": "S256",
}
CLIENT = {"client_id": "vault.apps.sandbox", "client_secret": "sandbox-secret"}


class Desk:
    def __init__(self) -> None:
        self.at = NOW
        self.naps: list[float] = []
        numbers = count(1)
        self.google = Google(now=lambda: self.at, new_id=lambda: f"id-{next(numbers)}", sleep=self._nap)
        transport = httpx.ASGITransport(Starlette(routes=[Mount("/google", self.google.app())]))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://sandbox/google")

    async def _nap(self, seconds: float) -> None:
        self.naps.append(seconds)

    async def code(self, asked: Mapping[str, str] = ASKED, **choice: str) -> str:
        response = await self.client.get(PAGE, params={**asked, "sandbox_consent": "allow", **choice})
        return came_back(response)["code"]

    async def redeem(self, **changes: str) -> httpx.Response:
        form = {
            **CLIENT,
            "grant_type": "authorization_code",
            "code_verifier": VERIFIER,
            "redirect_uri": ASKED["redirect_uri"],
            "code": changes.get("code") or await self.code(),
        }
        return await self.client.post("/token", data={**form, **changes})

    async def renew(self, refresh_token: str, **changes: str) -> httpx.Response:
        form = {**CLIENT, "grant_type": "refresh_token", "refresh_token": refresh_token, **changes}
        return await self.client.post("/token", data=form)

    async def tokens(self, asked: Mapping[str, str] = ASKED, **choice: str) -> dict[str, Any]:
        response = await self.redeem(code=await self.code(asked, **choice))
        given: dict[str, Any] = response.json()
        return given

    async def get(self, path: str, token: str) -> httpx.Response:
        return await self.client.get(path, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    async with desk.client:
        yield desk


def came_back(response: httpx.Response) -> dict[str, str]:
    assert 302 == response.status_code, response.text
    return dict(parse_qsl(urlsplit(response.headers["Location"]).query))


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


def failure(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()["error"]
    return response.status_code, body["errors"][0]["reason"], body["status"]


def fields(page: str) -> list[tuple[str, str]]:
    found = re.findall(r'<input type="(?:hidden|email|checkbox)" name="([^"]*)" value="([^"]*)"', page)
    return [(html.unescape(name), html.unescape(value)) for name, value in found]


async def test_the_page_asks_for_each_permission_and_needs_no_script(desk: Desk) -> None:
    response = await desk.client.get(PAGE, params=ASKED)
    assert 200 == response.status_code
    given = fields(response.text)
    assert [EVENTS, FREEBUSY, LIST] == [value for name, value in given if name == "grant"]
    assert ("account", "calendar@acme.example") in given
    assert ASKED.items() <= dict(given).items()
    assert 'action="/google/o/oauth2/v2/auth"' in response.text
    assert "<script" not in response.text
    assert not re.search(r'(?:src|href)="(?!data:)', response.text)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


async def test_the_form_sends_the_browser_back_with_what_was_ticked(desk: Desk) -> None:
    page = await desk.client.get(PAGE, params={**ASKED, "login_hint": "ada@acme.example"})
    form = [field for field in fields(page.text) if field != ("grant", FREEBUSY)]
    response = await desk.client.post(
        PAGE, data={name: [value for each, value in form if each == name] for name, _ in form} | {"decision": "allow"}
    )
    assert response.headers["Location"].startswith(
        "http://localhost:7400/callback?x=1&state=st%22ate%261&code=4%2Fid-1&"
    )
    assert 'st"ate&1' == came_back(response)["state"]
    tokens = (await desk.redeem(code=came_back(response)["code"])).json()
    assert f"openid {AUTH}userinfo.email {EVENTS} {LIST}" == tokens["scope"]
    assert "ada@acme.example" == (await desk.get("/v1/userinfo", tokens["access_token"])).json()["email"]


async def test_deny_sends_the_browser_back_without_a_code(desk: Desk) -> None:
    denied = {"x": "1", "state": 'st"ate&1', "error": "access_denied"}
    assert denied == came_back(await desk.client.post(PAGE, data={**ASKED, "decision": "deny", "account": ""}))
    assert denied == came_back(await desk.client.get(PAGE, params={**ASKED, "sandbox_consent": "deny"}))


@pytest.mark.parametrize("account", ["", "nobody", "a@b@c", "ada@acme.example\r\n"])
async def test_an_account_that_is_none_gets_the_page_again(desk: Desk, account: str) -> None:
    response = await desk.client.post(PAGE, data={**ASKED, "decision": "allow", "account": account})
    assert 200 == response.status_code
    assert "<form" in response.text


@pytest.mark.parametrize("name", ["state", "login_hint", "code_challenge", "client_id"])
async def test_what_comes_with_a_request_is_escaped(desk: Desk, name: str) -> None:
    attack = "\"><script>alert('1')</script>.apps.sandbox"
    response = await desk.client.get(PAGE, params={**ASKED, name: attack})
    assert "<script" not in response.text
    assert attack in dict(fields(response.text)).values()


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"client_id": "vault.apps.test"}, 401, "invalid_client"),
        ({"client_id": "<b>"}, 401, "invalid_client"),
        ({"redirect_uri": "https://evil.test/callback"}, 400, "redirect_uri_mismatch"),
        ({"response_type": "token"}, 400, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, 400, "invalid_request"),
        ({"scope": ""}, 400, "invalid_scope"),
        ({"scope": f"openid {AUTH}drive"}, 400, "invalid_scope"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_that_is_wrong_ends_at_google(
    desk: Desk, method: str, changes: dict[str, str], status: int, word: str
) -> None:
    asked = {**ASKED, "sandbox_consent": "allow", "decision": "allow", "account": "ada@acme.example", **changes}
    sent = {"params": asked} if method == "GET" else {"data": asked}
    response = await desk.client.request(method, PAGE, **sent)  # type: ignore[arg-type]
    assert status == response.status_code
    assert word in response.text
    assert "<b>" not in response.text
    assert {} == {key: value for key, value in response.headers.items() if key == "location"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost/", True),
        ("http://localhost:7400/callback?x=1", True),
        ("https://127.0.0.1:7400", True),
        ("http://[::1]:7400/x", True),
        ("http://localhost.evil.test/", False),
        ("http://evil.test/?localhost", False),
        ("http://localhost@evil.test/", False),
        ("http://me@localhost/", False),
        ("http://evil.test\\@localhost/", False),
        ("http://localhost/#x", False),
        ("http://localhost/\r\nX: y", False),
        ("http://localhost:port/", False),
        ("http://[::1", False),
        ("//localhost/", False),
        ("javascript:alert(1)//localhost", False),
        ("", False),
    ],
)
def test_only_this_machine_gets_a_browser_back(url: str, expected: bool) -> None:
    assert expected is _is_loopback(url)


async def test_a_code_gives_both_tokens(desk: Desk) -> None:
    response = await desk.redeem()
    body = response.json()
    assert {"access_token", "expires_in", "refresh_token", "scope", "token_type"} == set(body)
    assert (3599, "Bearer") == (body["expires_in"], body["token_type"])
    assert "no-store" == response.headers["Cache-Control"]
    assert body["access_token"].startswith("ya29.")
    assert body["refresh_token"].startswith("1//")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_id": "vault.apps.test"}, (401, "invalid_client")),
        ({"client_secret": "wrong"}, (401, "invalid_client")),
        ({"client_secret": ""}, (401, "invalid_client")),
        ({"client_id": "other.apps.sandbox"}, (400, "invalid_grant")),
        ({"redirect_uri": "http://localhost:7400/callback"}, (400, "redirect_uri_mismatch")),
        ({"code_verifier": "w" * 43}, (400, "invalid_grant")),
        ({"code_verifier": ""}, (400, "invalid_grant")),
        ({"code": "4/made-up"}, (400, "invalid_grant")),
        ({"grant_type": "password"}, (400, "unsupported_grant_type")),
    ],
)
async def test_every_way_in_which_a_code_is_refused(
    desk: Desk, changes: dict[str, str], expected: tuple[int, str]
) -> None:
    assert expected == error(await desk.redeem(**changes))


async def test_a_token_request_without_a_form_is_nobodys(desk: Desk) -> None:
    assert (401, "invalid_client") == error(await desk.client.post("/token", json=CLIENT))
    no_code = {**CLIENT, "grant_type": "authorization_code"}
    assert (400, "invalid_request") == error(await desk.client.post("/token", data=no_code))


async def test_a_code_works_once_and_for_ten_minutes(desk: Desk) -> None:
    code = await desk.code()
    assert 200 == (await desk.redeem(code=code)).status_code
    assert (400, "invalid_grant") == error(await desk.redeem(code=code))
    late = await desk.code()
    desk.at += timedelta(seconds=601)
    assert (400, "invalid_grant") == error(await desk.redeem(code=late))


async def test_without_a_challenge_no_verifier_is_needed(desk: Desk) -> None:
    asked = {name: value for name, value in ASKED.items() if not name.startswith("code_challenge")}
    assert "access_token" in await desk.tokens(asked)


async def test_a_refresh_token_comes_with_the_first_consent_or_when_it_is_asked_for(desk: Desk) -> None:
    quiet = {name: value for name, value in ASKED.items() if name != "prompt"}
    online = {**ASKED, "access_type": "online"}
    given = ["refresh_token" in await desk.tokens(asked) for asked in (online, quiet, ASKED)]
    assert [False, False, True] == given
    assert "refresh_token" in await desk.tokens(quiet, login_hint="new@acme.example")
    assert "refresh_token" not in await desk.tokens(ASKED, login_hint="norefresh@acme.example")


async def test_a_refresh_gives_an_access_token_and_keeps_the_other(desk: Desk) -> None:
    tokens = await desk.tokens()
    renewed = (await desk.renew(tokens["refresh_token"])).json()
    assert "refresh_token" not in renewed
    assert tokens["scope"] == renewed["scope"]
    assert tokens["access_token"] != renewed["access_token"]


@pytest.mark.parametrize(
    ("email", "expected", "subtype"),
    [
        ("revoked@acme.example", (400, "invalid_grant"), None),
        ("rapt@acme.example", (400, "invalid_grant"), "invalid_rapt"),
        ("deleted@acme.example", (401, "deleted_client"), None),
        ("flaky@acme.example", (500, "internal_failure"), None),
    ],
)
async def test_every_refresh_that_fails(desk: Desk, email: str, expected: tuple[int, str], subtype: str | None) -> None:
    response = await desk.renew((await desk.tokens(login_hint=email))["refresh_token"])
    assert expected == error(response)
    assert subtype == response.json().get("error_subtype")


async def test_a_refresh_token_belongs_to_its_application(desk: Desk) -> None:
    tokens = await desk.tokens()
    other = await desk.renew(tokens["refresh_token"], client_id="other.apps.sandbox")
    assert (400, "invalid_grant") == error(other)
    for wrong in (tokens["access_token"], "", "1//", "1//nonsense"):
        assert (400, "invalid_grant") == error(await desk.renew(wrong))


async def test_a_revocation_ends_every_token_of_the_account(desk: Desk) -> None:
    one, two, other = await desk.tokens(), await desk.tokens(), await desk.tokens(login_hint="bob@acme.example")
    assert 200 == (await desk.client.post("/revoke", data={"token": one["access_token"]})).status_code
    assert (400, "invalid_token") == error(await desk.client.post("/revoke", data={"token": two["refresh_token"]}))
    assert (400, "invalid_token") == error(await desk.client.post("/revoke", data={"token": "nonsense"}))
    assert (400, "invalid_grant") == error(await desk.renew(two["refresh_token"]))
    assert 401 == (await desk.get("/calendar/v3/users/me/calendarList", two["access_token"])).status_code
    assert 200 == (await desk.renew(other["refresh_token"])).status_code
    assert 200 == (await desk.renew((await desk.tokens())["refresh_token"])).status_code


@pytest.mark.parametrize(("email", "life"), [("ada@acme.example", 3599), ("short@acme.example", 60)])
async def test_an_access_token_ends(desk: Desk, email: str, life: int) -> None:
    tokens = await desk.tokens(login_hint=email)
    assert life == tokens["expires_in"]
    desk.at += timedelta(seconds=life - 1)
    assert 200 == (await desk.get("/calendar/v3/users/me/calendarList", tokens["access_token"])).status_code
    desk.at += timedelta(seconds=1)
    response = await desk.get("/calendar/v3/users/me/calendarList", tokens["access_token"])
    assert (401, "authError", "UNAUTHENTICATED") == failure(response)
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert (401, "invalid_request") == error(await desk.get("/v1/userinfo", tokens["access_token"]))


CALLS = {
    "list": ("GET", "/calendar/v3/users/me/calendarList", "calendar#calendarList"),
    "events": ("GET", "/calendar/v3/calendars/primary/events", "calendar#events"),
    "busy": ("POST", "/calendar/v3/freeBusy", "calendar#freeBusy"),
}
TABLE = {
    "calendar": {"list", "events", "busy"},
    "calendar.readonly": {"list", "events", "busy"},
    "calendar.events": {"events"},
    "calendar.events.readonly": {"events"},
    "calendar.freebusy": {"busy"},
    "calendar.events.freebusy": {"events", "busy"},
    "calendar.calendarlist": {"list"},
    "calendar.calendarlist.readonly": {"list"},
}


@pytest.mark.parametrize(("scope", "enough_for"), TABLE.items())
async def test_each_scope_is_enough_for_its_own_calls(desk: Desk, scope: str, enough_for: set[str]) -> None:
    tokens = await desk.tokens({**ASKED, "scope": AUTH + scope})
    body = {"timeMin": "2026-01-02T03:04:05Z", "timeMax": "2026-01-02T04:04:05Z", "items": [{"id": "primary"}]}
    for name, (method, path, kind) in CALLS.items():
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        response = await desk.client.request(method, path, headers=headers, json=body)
        if name in enough_for:
            assert (200, kind) == (response.status_code, response.json()["kind"])
        else:
            assert (403, "insufficientPermissions", "PERMISSION_DENIED") == failure(response)
            assert "ACCESS_TOKEN_SCOPE_INSUFFICIENT" == response.json()["error"]["details"][0]["reason"]


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        ("nocalendar@acme.example", (403, "notACalendarUser", "PERMISSION_DENIED")),
        ("forbidden@acme.example", (403, "forbidden", "PERMISSION_DENIED")),
        ("disabled@acme.example", (403, "accessNotConfigured", "PERMISSION_DENIED")),
        ("quota@acme.example", (403, "rateLimitExceeded", "PERMISSION_DENIED")),
        ("down@acme.example", (503, "backendError", "UNAVAILABLE")),
        ("stale@acme.example", (401, "authError", "UNAUTHENTICATED")),
    ],
)
async def test_every_account_whose_calls_fail(desk: Desk, email: str, expected: tuple[int, str, str]) -> None:
    tokens = await desk.tokens(login_hint=email)
    assert expected == failure(await desk.get("/calendar/v3/users/me/calendarList", tokens["access_token"]))


async def test_a_call_without_a_login_is_told_so(desk: Desk) -> None:
    response = await desk.client.get("/calendar/v3/users/me/calendarList")
    assert (401, "required", "UNAUTHENTICATED") == failure(response)
    basic = await desk.client.get("/calendar/v3/users/me/calendarList", auth=("a", "b"))
    assert (401, "authError", "UNAUTHENTICATED") == failure(basic)


async def test_the_calendars_of_an_account(desk: Desk) -> None:
    token = (await desk.tokens())["access_token"]
    every = await desk.get("/calendar/v3/users/me/calendarList", token)
    first = await desk.get("/calendar/v3/users/me/calendarList?maxResults=1", token)
    ids = ["calendar@acme.example", "team-calendar@acme.example"]
    assert ids == [item["id"] for item in every.json()["items"]]
    assert ids[:1] == [item["id"] for item in first.json()["items"]]
    for each in ids:
        assert [] == (await desk.get(f"/calendar/v3/calendars/{each}/events", token)).json()["items"]
    missing = await desk.get("/calendar/v3/calendars/other@acme.example/events", token)
    assert (404, "notFound", "NOT_FOUND") == failure(missing)


async def test_a_calendar_that_is_not_there_fails_inside_the_answer(desk: Desk) -> None:
    headers = {"Authorization": f"Bearer {(await desk.tokens())['access_token']}"}
    body = {"timeMin": "a", "timeMax": "b", "items": [{"id": "primary"}, {"id": "other"}]}
    calendars = (await desk.client.post("/calendar/v3/freeBusy", headers=headers, json=body)).json()["calendars"]
    assert {"busy": []} == calendars["primary"]
    assert "notFound" == calendars["other"]["errors"][0]["reason"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"items": [1], "timeMin": 1, "timeMax": 1}', b"[" * 100_000])
async def test_a_body_that_is_not_valid_is_refused(desk: Desk, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {(await desk.tokens())['access_token']}"}
    response = await desk.client.post("/calendar/v3/freeBusy", headers=headers, content=body)
    assert (400, "badRequest", "INVALID_ARGUMENT") == failure(response)


async def test_the_address_is_told_to_those_who_may_see_it(desk: Desk) -> None:
    token = (await desk.tokens({**ASKED, "scope": f"openid {EVENTS}"}))["access_token"]
    assert {"sub"} == set((await desk.get("/v1/userinfo", token)).json())
    token = (await desk.tokens({**ASKED, "scope": EVENTS}))["access_token"]
    assert 401 == (await desk.get("/v1/userinfo", token)).status_code


async def test_a_slow_account_waits_at_every_call(desk: Desk) -> None:
    tokens = await desk.tokens(login_hint="slow@acme.example")
    await desk.renew(tokens["refresh_token"])
    await desk.get("/calendar/v3/users/me/calendarList", tokens["access_token"])
    assert [30.0, 30.0, 30.0] == desk.naps


async def test_any_other_path_is_not_there(desk: Desk) -> None:
    assert (404, "notFound", "NOT_FOUND") == failure(await desk.client.get("/drive/v3/files"))


async def test_the_state_counts_consents_and_holds_no_token(desk: Desk) -> None:
    tokens = await desk.tokens()
    await desk.tokens(login_hint="bob@acme.example")
    await desk.client.post("/revoke", data={"token": tokens["refresh_token"]})
    shared = {"clientId": "vault.apps.sandbox"}
    assert {
        "consents": [
            {**shared, "email": "bob@acme.example", "given": 1, "revoked": 0},
            {**shared, "email": "calendar@acme.example", "given": 0, "revoked": 1},
        ]
    } == desk.google.state()


async def test_a_reset_forgets_codes_and_revocations(desk: Desk) -> None:
    tokens, code = await desk.tokens(), await desk.code()
    await desk.client.post("/revoke", data={"token": tokens["refresh_token"]})
    desk.google.reset()
    assert {"consents": []} == desk.google.state()
    assert (400, "invalid_grant") == error(await desk.redeem(code=code))
    assert 200 == (await desk.renew(tokens["refresh_token"])).status_code


async def test_a_token_that_was_stored_works_after_a_restart(desk: Desk) -> None:
    tokens = await desk.tokens()
    again = Desk()
    async with again.client:
        assert 200 == (await again.renew(tokens["refresh_token"])).status_code


async def test_who_asks_is_the_account_of_the_token(desk: Desk) -> None:
    tokens = await desk.tokens()
    asks = [f"Bearer {tokens['access_token']}", "Bearer nonsense", "Basic x", ""]
    assert ["calendar@acme.example", "", "", ""] == [
        desk.google.account(Headers({"Authorization": each})) for each in asks
    ]


@pytest.mark.parametrize(
    ("status", "reason", "word"),
    [
        (401, "authError", "UNAUTHENTICATED"),
        (403, "forbidden", "FORBIDDEN"),
        (404, "notFound", "NOT_FOUND"),
        (409, "conflict", "CONFLICT"),
        (429, "rateLimitExceeded", "PERMISSION_DENIED"),
        (500, "internalServerError", "INTERNAL_SERVER_ERROR"),
        (503, "backendError", "UNAVAILABLE"),
    ],
)
def test_an_error_that_is_ordered_is_in_googles_words(desk: Desk, status: int, reason: str, word: str) -> None:
    response = desk.google.refusal(status)
    assert (status, reason, word) == failure(httpx.Response(response.status_code, content=bytes(response.body)))


@given(st.text())
@example("ya29.")
@example("1//W10")
@example("1//" + base64.urlsafe_b64encode(b"[" * 100_000).decode())
@example("1//" + base64.urlsafe_b64encode(b'["access","a","b","",0,0,"",true]').decode())
def test_a_text_that_is_no_token_is_none(text: str) -> None:
    assert token_of(text) is None


SCOPES = st.lists(st.sampled_from(["openid", EVENTS, FREEBUSY]), unique=True).map(tuple)


@given(st.sampled_from(["access", "refresh"]), st.text(), SCOPES, st.integers(0), st.booleans())
def test_a_token_says_what_it_is(kind: str, email: str, scopes: tuple[str, ...], number: int, fresh: bool) -> None:
    token = Token(kind, email, "vault.apps.sandbox", scopes, age=number, ends=number, number="1", fresh=fresh)
    assert token == token_of(token.text())
    assert token.text().isascii()


@pytest.mark.parametrize(
    ("email", "expected"),
    [("short@x.example", "short"), ("Short+2@x.example", "short"), ("ada@x.example", "ada"), ("@", "")],
)
def test_what_stands_before_the_at_makes_an_account_special(email: str, expected: str) -> None:
    assert expected == special(email)


@pytest.mark.parametrize(
    "text", ["", "ada", "@acme.example", "ada@", "a da@acme.example", "ada@acme.example\n", "ä@b.c"]
)
def test_what_is_no_address_is_no_account(text: str) -> None:
    assert not is_email(text)
