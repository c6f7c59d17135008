"""Every row of what Google's token endpoint answers, and the way from a consent to a credential."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.provider.outbound import Outbound, new_client
from services.provider.provider import Refused
from services.provider.providers.google_calendar import LIVE, Application, GoogleCalendar, below, pkce
from tenantvault.credentials import GoogleCalendarCredential
from tenantvault.errors import (
    ConsentDenied,
    InsufficientScope,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderUnreachable,
    RateLimited,
    ReauthRequired,
)
from tenantvault.secret import Secret

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
APPLICATION = Application("client-1.apps.test", Secret("application-secret"), "https://vault.test/callback?x=1")
AUTH = "https://www.googleapis.com/auth/"
ALL = f"openid {AUTH}userinfo.email {AUTH}calendar.events {AUTH}calendar.freebusy {AUTH}calendar.calendarlist.readonly"
GIVEN: dict[str, Any] = {
    "access_token": "ya29.access",
    "expires_in": 3599,
    "refresh_token": "1//refresh",
    "scope": ALL,
    "token_type": "Bearer",
    "id_token": "not.read.here",
}
STORED = GoogleCalendarCredential(
    refresh_token=Secret("1//stored"),
    access_token=Secret("ya29.stored"),
    expires_at=NOW,
    scopes=("calendar.events", "email"),
    email="ada@acme.example",
    channel_token=Secret("channel"),
)


async def no_sleep(seconds: float) -> None:
    del seconds


class Desk:
    """A provider at a Google that gives the same answers every time."""

    def __init__(
        self,
        token: httpx.Response | Exception | None = None,
        *,
        userinfo: httpx.Response | Exception | None = None,
        application: Application | None = APPLICATION,
    ) -> None:
        self.requests: list[httpx.Request] = []
        self.token = token or httpx.Response(200, json=GIVEN)
        self.userinfo = userinfo or httpx.Response(200, json={"sub": "1", "email": "ada@acme.example"})
        outbound = Outbound(new_client(httpx.MockTransport(self._handle)), sleep=no_sleep)
        self.google = GoogleCalendar(
            outbound, application=application, endpoints=below("https://google.test/"), now=lambda: NOW
        )
        self.consent = self.google.consent

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.userinfo if request.url.path == "/v1/userinfo" else self.token
        if isinstance(answer, Exception):
            raise answer
        return answer


def said(status: int, error: str, description: str = "Bad Request", **more: str) -> httpx.Response:
    return httpx.Response(status, json={"error": error, "error_description": description, **more})


def given_but(**changes: object) -> httpx.Response:
    body = {name: value for name, value in (GIVEN | changes).items() if value is not None}
    return httpx.Response(200, json=body)


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, strict_parsing=True))


def test_the_challenge_is_that_of_the_rfc() -> None:
    verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" == pkce.challenge(verifier)


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")))
def test_a_verifier_has_the_form_that_the_rfc_asks_for(secret: str, state: str) -> None:
    verifier = pkce.verifier(Secret(secret), state).reveal()
    assert 43 == len(verifier)
    assert set(verifier) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_each_state_and_each_secret_has_another_verifier() -> None:
    key = Secret("one")
    verifiers = {pkce.verifier(each, state).reveal() for each in (key, Secret("two")) for state in ("1", "2")}
    assert 4 == len(verifiers)


def test_the_browser_is_sent_with_everything_that_google_wants() -> None:
    url = Desk().consent.authorization_url(state="st+te/1")
    assert url.startswith("https://google.test/o/oauth2/v2/auth?")
    assert {
        "response_type": "code",
        "client_id": "client-1.apps.test",
        "redirect_uri": "https://vault.test/callback?x=1",
        "scope": f"openid email {AUTH}calendar.events {AUTH}calendar.freebusy {AUTH}calendar.calendarlist.readonly",
        "access_type": "offline",
        "prompt": "consent",
        "state": "st+te/1",
        "code_challenge": pkce.challenge(pkce.verifier(APPLICATION.client_secret, "st+te/1")),
        "code_challenge_method": "S256",
    } == query_of(url)
    assert "application-secret" not in url


def test_google_itself_is_asked_over_https_alone() -> None:
    urls = (LIVE.authorize, LIVE.token, LIVE.revoke, LIVE.userinfo, LIVE.calendar)
    assert all(url.startswith("https://") for url in urls)
    assert "https://www.googleapis.com/calendar/v3" == LIVE.calendar


async def test_a_code_becomes_a_credential() -> None:
    desk = Desk()
    credential = await desk.consent.redeem(code="4/code", state="state")
    assert credential == GoogleCalendarCredential(
        refresh_token=Secret("1//refresh"),
        access_token=Secret("ya29.access"),
        expires_at=NOW + timedelta(seconds=3599),
        scopes=(
            "email",
            f"{AUTH}calendar.calendarlist.readonly",
            f"{AUTH}calendar.events",
            f"{AUTH}calendar.freebusy",
            "openid",
        ),
        email="ada@acme.example",
    )
    assert credential.expires_at == desk.consent.expires_at(credential)
    token, userinfo = desk.requests
    assert ("POST", "https://google.test/token") == (token.method, str(token.url))
    assert {
        "grant_type": ["authorization_code"],
        "code": ["4/code"],
        "code_verifier": [pkce.verifier(APPLICATION.client_secret, "state").reveal()],
        "redirect_uri": [APPLICATION.redirect_url],
        "client_id": [APPLICATION.client_id],
        "client_secret": ["application-secret"],
    } == parse_qs(token.content.decode())
    assert ("GET", "Bearer ya29.access") == (userinfo.method, userinfo.headers["Authorization"])


@pytest.mark.parametrize(
    "userinfo",
    [
        httpx.Response(401, json={"error": "invalid_request"}),
        httpx.Response(500, text="no"),
        httpx.Response(200, json={"sub": "1"}),
        httpx.Response(200, json={"email": 1}),
        httpx.Response(200, json={"email": "a" * 255}),
        httpx.Response(200, text="no"),
        httpx.ConnectError("away"),
        TimeoutError(),
    ],
    ids=["401", "500", "none", "number", "long", "text", "away", "late"],
)
async def test_an_address_that_cannot_be_read_does_not_matter(userinfo: httpx.Response | Exception) -> None:
    credential = await Desk(userinfo=userinfo).consent.redeem(code="c", state="s")
    assert isinstance(credential, GoogleCalendarCredential)
    assert ("", "ya29.access") == (credential.email, credential.access_token.reveal())


async def test_an_address_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/userinfo":
            await asyncio.Event().wait()
        return httpx.Response(200, json=GIVEN)

    monkeypatch.setattr("services.provider.providers.google_calendar.consent._EMAIL_SECONDS", 0.0)
    outbound = Outbound(new_client(httpx.MockTransport(hang)), sleep=no_sleep)
    google = GoogleCalendar(outbound, application=APPLICATION, endpoints=LIVE, now=lambda: NOW)
    async with asyncio.timeout(5):  # less than what a request may take
        credential = await google.consent.redeem(code="c", state="s")
    assert isinstance(credential, GoogleCalendarCredential)
    assert "" == credential.email


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        (["calendar.events"], ['"see and change events"', "no appointment can be booked:", "tick this box"]),
        (["calendar.freebusy"], ['"see when you are busy"', "tick this box"]),
        (["calendar.events", "calendar.freebusy"], ["change events", "and", "you are busy", "tick these boxes"]),
    ],
)
async def test_a_permission_that_is_needed_and_left_out_is_named(left_out: list[str], words: list[str]) -> None:
    scope = " ".join(each for each in ALL.split() if each.removeprefix(AUTH) not in left_out)
    desk = Desk(given_but(scope=scope))
    refused = await desk.consent.redeem(code="c", state="s")
    assert isinstance(refused, Refused)
    assert InsufficientScope is refused.kind
    assert all(word in refused.sentence for word in words)
    assert 1 == len(desk.requests)


@pytest.mark.parametrize(
    "scope",
    [
        f"{AUTH}calendar.events {AUTH}calendar.freebusy",
        f"{AUTH}calendar",
        f"{AUTH}calendar.events {AUTH}calendar.readonly",
        f"{AUTH}calendar.events\t{AUTH}calendar.events.freebusy",
        f"{AUTH}calendar.events {AUTH}calendar.freebusy {AUTH}drive",
        None,
    ],
)
async def test_broader_and_fewer_scopes_do_as_long_as_they_are_enough(scope: str | None) -> None:
    credential = await Desk(given_but(scope=scope)).consent.redeem(code="c", state="s")
    assert isinstance(credential, GoogleCalendarCredential)
    assert set((scope or "openid").split()) <= set(credential.scopes)


@pytest.mark.parametrize(
    "scope", ["", "openid email", f"{AUTH}calendar.readonly", f"{AUTH}calendar.events.readonly {AUTH}calendar.freebusy"]
)
async def test_scopes_that_only_look_alike_are_not_enough(scope: str) -> None:
    refused = await Desk(given_but(scope=scope)).consent.redeem(code="c", state="s")
    assert isinstance(refused, Refused)
    assert InsufficientScope is refused.kind


async def test_without_a_refresh_token_the_access_has_to_be_removed_first() -> None:
    refused = await Desk(given_but(refresh_token=None)).consent.redeem(code="c", state="s")
    assert isinstance(refused, Refused)
    assert ReauthRequired is refused.kind
    assert "https://myaccount.google.com/connections" in refused.sentence


Row = tuple[httpx.Response | Exception, type[ProviderRefused | ProviderUnreachable]]

ROWS: list[Row] = [
    (said(400, "invalid_grant", "Token has been expired or revoked."), ReauthRequired),
    (said(400, "invalid_grant", "Bad Request"), ReauthRequired),
    (said(400, "invalid_grant", "reauth related error", error_subtype="invalid_rapt"), ReauthRequired),
    (said(400, "invalid_grant", "reauth related error", error_subtype="rapt_required"), ReauthRequired),
    (said(400, "admin_policy_enforced"), InsufficientScope),
    (said(403, "org_internal"), InsufficientScope),
    (said(401, "invalid_client", "The OAuth client was not found."), ProviderMisconfigured),
    (said(401, "deleted_client"), ProviderMisconfigured),
    (said(401, "disabled_client"), ProviderMisconfigured),
    (said(401, "unauthorized_client"), ProviderMisconfigured),
    (said(400, "unauthorized_client"), ProviderMisconfigured),
    (said(400, "redirect_uri_mismatch"), ProviderMisconfigured),
    (said(400, "invalid_scope"), ProviderMisconfigured),
    (said(400, "unsupported_grant_type"), ProviderMisconfigured),
    (said(408, "invalid_grant"), ProviderUnavailable),
    (said(429, "rate_limit_exceeded"), RateLimited),
    (said(500, "internal_failure"), ProviderUnavailable),
    (said(503, "backend_error"), ProviderUnavailable),
    (said(400, "internal_failure"), ProviderUnavailable),
    (said(400, "server_error"), ProviderUnavailable),
    (said(400, "temporarily_unavailable"), ProviderUnavailable),
    (said(400, "invalid_request"), ProviderUnknownAnswer),
    (said(418, "invalid_teapot"), ProviderUnknownAnswer),
    (httpx.Response(400, json={"error": {"code": 400}}), ProviderUnknownAnswer),
    (httpx.Response(400, json=["invalid_grant"]), ProviderUnknownAnswer),
    (httpx.Response(401, text="<html>invalid_grant</html>"), ProviderUnavailable),
    (httpx.Response(302, headers={"Location": "https://x.test"}), ProviderUnknownAnswer),
    (httpx.ConnectError("away"), ProviderUnavailable),
    (given_but(access_token=None), ProviderUnknownAnswer),
    (given_but(access_token="two words"), ProviderUnknownAnswer),
    (given_but(access_token="x" * 2049), ProviderUnknownAnswer),
    (given_but(refresh_token="1//r\r\nX: y"), ProviderUnknownAnswer),
    (given_but(token_type="mac"), ProviderUnknownAnswer),
    (given_but(token_type=None), ProviderUnknownAnswer),
    (given_but(expires_in=None), ProviderUnknownAnswer),
    (given_but(expires_in=0), ProviderUnknownAnswer),
    (given_but(expires_in="3599"), ProviderUnknownAnswer),
    (given_but(expires_in=True), ProviderUnknownAnswer),
    (given_but(scope=["email"]), ProviderUnknownAnswer),
    (httpx.Response(200, json=[GIVEN]), ProviderUnknownAnswer),
    (httpx.Response(200), ProviderUnknownAnswer),
    (httpx.Response(200, text="<html></html>"), ProviderUnavailable),
]


@pytest.mark.parametrize("verb", ["redeem", "refresh"])
@pytest.mark.parametrize(("answer", "kind"), ROWS)
async def test_every_row_of_the_token_endpoint(
    verb: str, answer: httpx.Response | Exception, kind: type[ProviderRefused | ProviderUnreachable]
) -> None:
    consent = Desk(answer).consent
    asked = consent.redeem(code="c", state="s") if verb == "redeem" else consent.refresh(STORED)
    if issubclass(kind, ProviderRefused):
        refused = await asked
        assert isinstance(refused, Refused)
        assert (kind, "") == (refused.kind, refused.field)
    else:
        with pytest.raises(ProviderUnreachable) as caught:
            await asked
        assert kind is type(caught.value)


async def test_a_sign_in_that_is_over_and_a_consent_that_is_over_are_told_apart() -> None:
    consent = Desk(said(400, "invalid_grant")).consent
    redeemed, refreshed = await consent.redeem(code="c", state="s"), await consent.refresh(STORED)
    assert isinstance(redeemed, Refused)
    assert isinstance(refreshed, Refused)
    assert "This sign-in is over: start it again." == redeemed.sentence
    assert "consent is over" in refreshed.sentence


@pytest.mark.parametrize("subtype", ["invalid_rapt", "rapt_required"])
async def test_session_control_of_a_workspace_is_named(subtype: str) -> None:
    refused = await Desk(said(400, "invalid_grant", error_subtype=subtype)).consent.refresh(STORED)
    assert isinstance(refused, Refused)
    assert "session control" in refused.sentence
    assert "administrator" in refused.sentence


async def test_a_slow_down_says_for_how_long() -> None:
    answer = said(429, "rate_limit_exceeded")
    answer.headers["Retry-After"] = "7"
    with pytest.raises(RateLimited) as caught:
        await Desk(answer).consent.refresh(STORED)
    assert 7.0 == caught.value.retry_after


async def test_a_refusal_of_the_application_is_logged_for_the_operator(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(ProviderMisconfigured):
        await Desk(said(401, "invalid_client")).consent.refresh(STORED)
    (record,) = caplog.records
    assert "invalid_client" == vars(record)["problem"]


async def test_a_consent_that_ends_by_itself_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await Desk(given_but(refresh_token_expires_in=604799)).consent.redeem(code="c", state="s")
    assert ["google gave a consent that ends by itself"] == [record.message for record in caplog.records]


async def test_a_refresh_keeps_the_refresh_token_and_everything_else() -> None:
    desk = Desk(given_but(refresh_token=None, scope=f"{AUTH}calendar", access_token="ya29.new", expires_in=60))
    refreshed = await desk.consent.refresh(STORED)
    assert isinstance(refreshed, GoogleCalendarCredential)
    assert ("1//stored", "ya29.new") == (refreshed.refresh_token.reveal(), refreshed.access_token.reveal())
    assert NOW + timedelta(seconds=60) == refreshed.expires_at
    assert (STORED.scopes, STORED.email, STORED.channel_token) == (
        refreshed.scopes,
        refreshed.email,
        refreshed.channel_token,
    )
    (request,) = desk.requests
    assert {
        "grant_type": "refresh_token",
        "refresh_token": "1//stored",
        "client_id": APPLICATION.client_id,
        "client_secret": "application-secret",
    } == dict(parse_qsl(request.content.decode()))


async def test_a_new_refresh_token_is_taken_when_one_comes() -> None:
    refreshed = await Desk().consent.refresh(STORED)
    assert isinstance(refreshed, GoogleCalendarCredential)
    assert "1//refresh" == refreshed.refresh_token.reveal()


async def test_a_life_of_centuries_is_a_day() -> None:
    refreshed = await Desk(given_but(expires_in=10**30)).consent.refresh(STORED)
    assert isinstance(refreshed, GoogleCalendarCredential)
    assert NOW + timedelta(days=1) == refreshed.expires_at


@pytest.mark.parametrize(
    ("error", "kind", "word"),
    [
        ("access_denied", ConsentDenied, "not given"),
        ("admin_policy_enforced", InsufficientScope, "an administrator must allow"),
        ("org_internal", InsufficientScope, "an administrator must allow"),
        ("server_error", ConsentDenied, "did not complete"),
        ("<b>c4n4ry</b>", ConsentDenied, "did not complete"),
        ("", ConsentDenied, "did not complete"),
    ],
)
def test_every_row_of_what_comes_back_instead_of_a_code(error: str, kind: type[ProviderRefused], word: str) -> None:
    denied = Desk().consent.denied(error)
    assert kind is type(denied)
    assert word in denied.message
    assert "c4n4ry" not in denied.message


async def test_a_deployment_that_is_not_set_up_says_what_to_set() -> None:
    desk = Desk(application=None)
    assert not desk.google.description.available
    with pytest.raises(ProviderMisconfigured) as started:
        desk.consent.authorization_url(state="s")
    with pytest.raises(ProviderMisconfigured) as redeemed:
        await desk.consent.redeem(code="c", state="s")
    with pytest.raises(ProviderMisconfigured) as refreshed:
        await desk.consent.refresh(STORED)
    assert [] == desk.requests
    for caught in (started, redeemed, refreshed):
        for name in ("CLIENT_ID", "CLIENT_SECRET", "REDIRECT_URL"):
            assert f"TENANTVAULT_GOOGLE_{name}" in caught.value.message
