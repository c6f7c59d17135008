"""Every row of what Google's Calendar API answers, and the life of a connection."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from services.provider.outbound import Outbound, new_client
from services.provider.provider import Accepted, Consent, Provider, Provisioned, Refused
from services.provider.providers.google_calendar import LIVE, Application, GoogleCalendar, below
from tenantvault._status import to_status
from tenantvault.credentials import Credential, GoogleCalendarCredential, VapiCredential
from tenantvault.credentials import Provider as Name
from tenantvault.errors import (
    InsufficientScope,
    InternalError,
    InvalidRequest,
    ProviderMisconfigured,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderValidation,
    RateLimited,
    ReauthRequired,
    TenantVaultError,
)
from tenantvault.secret import Secret

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
AUTH = "https://www.googleapis.com/auth/"
CANARY = "c4n4ry"
APPLICATION = Application("client-1.apps.test", Secret(f"{CANARY}-secret"), "https://vault.test/callback")
EVENTS, FREEBUSY, LIST = (f"{AUTH}calendar.{each}" for each in ("events", "freebusy", "calendarlist.readonly"))
CREDENTIAL = GoogleCalendarCredential(
    refresh_token=Secret(f"1//{CANARY}-refresh"),
    access_token=Secret(f"ya29.{CANARY}-access"),
    expires_at=NOW,
    scopes=("email", LIST, EVENTS, FREEBUSY, "openid"),
    email="ada@acme.example",
)
RENEWED = {"access_token": "ya29.new", "expires_in": 3599, "token_type": "Bearer"}


async def no_sleep(seconds: float) -> None:
    del seconds


class Desk:
    """A provider at a Google whose API answers these one after the other, the last one again and again."""

    def __init__(
        self,
        *answers: httpx.Response | Exception,
        token: httpx.Response | None = None,
        application: Application | None = APPLICATION,
    ) -> None:
        self.requests: list[httpx.Request] = []
        self.answers = list(answers or (listed(),))
        self.token = token or httpx.Response(200, json=RENEWED)
        outbound = Outbound(new_client(httpx.MockTransport(self._handle)), sleep=no_sleep)
        self.google = GoogleCalendar(
            outbound,
            application=application,
            endpoints=below("https://google.test"),
            now=lambda: NOW,
            new_secret=lambda: "made-up",
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path == "/token":
            return self.token
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


def listed(kind: str = "calendar#calendarList") -> httpx.Response:
    return httpx.Response(200, json={"kind": kind, "items": []})


def failed(
    status: int, reason: str = "", *, domain: str = "global", detail: str = "", word: str = ""
) -> httpx.Response:
    error: dict[str, Any] = {"code": status, "message": f"{CANARY} said", "errors": []}
    if reason:
        error["errors"] = [{"domain": domain, "reason": reason, "message": f"{CANARY} said"}]
    if detail:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": detail}]
    if word:
        error["status"] = word
    return httpx.Response(status, json={"error": error})


def busy(*reasons: str, **primary: object) -> httpx.Response:
    found: dict[str, object] = {"busy": []} | primary
    if reasons:
        found["errors"] = [{"domain": "global", "reason": reason} for reason in reasons]
    return httpx.Response(200, json={"kind": "calendar#freeBusy", "calendars": {"primary": found}})


def test_it_is_a_provider_that_is_connected_by_consent() -> None:
    provider: Provider[GoogleCalendarCredential] = Desk().google
    consent: Consent[GoogleCalendarCredential] | None = provider.consent
    assert (Name.GOOGLE_CALENDAR, GoogleCalendarCredential, None) == (
        provider.name,
        provider.credential,
        provider.rotation,
    )
    assert consent is not None


def test_a_form_shows_what_is_asked_for_and_no_field() -> None:
    description = Desk().google.description
    assert ("Google Calendar", ()) == (description.title, description.fields)
    assert description.available
    words = " ".join(description.asks_for)
    assert all(word in words for word in ("change events", "busy", "List", "e-mail"))
    assert "mail, your contacts or your files" in " ".join(description.never_asks_for)
    assert description.summary
    assert description.next.endswith("also where another organisation connected the same account.")
    assert description.console_url.startswith("https://")


@pytest.mark.parametrize(
    ("scopes", "asked", "warned"),
    [
        ((LIST, EVENTS, FREEBUSY), "GET /calendar/v3/users/me/calendarList", []),
        ((f"{AUTH}calendar",), "GET /calendar/v3/users/me/calendarList", []),
        ((f"{AUTH}calendar.readonly", EVENTS), "GET /calendar/v3/users/me/calendarList", []),
        ((EVENTS, FREEBUSY), "GET /calendar/v3/calendars/primary/events", ["list your calendars"]),
        ((EVENTS,), "GET /calendar/v3/calendars/primary/events", ["you are busy", "list your calendars"]),
        ((FREEBUSY,), "POST /calendar/v3/freeBusy", ["change events", "list your calendars"]),
    ],
)
async def test_the_call_is_one_that_the_scopes_are_enough_for(
    scopes: tuple[str, ...], asked: str, warned: list[str]
) -> None:
    desk = Desk(busy() if "freeBusy" in asked else listed())
    verdict = await desk.google.test(replace(CREDENTIAL, scopes=scopes))
    assert isinstance(verdict, Accepted)
    assert "ada@acme.example" == verdict.account
    assert [True] * len(warned) == [words in warning for words, warning in zip(warned, verdict.warnings, strict=True)]
    assert [asked] == desk.asked
    (request,) = desk.requests
    assert f"Bearer ya29.{CANARY}-access" == request.headers["Authorization"]
    if "freeBusy" in asked:
        assert {
            "timeMin": "2026-01-02T03:04:05+00:00",
            "timeMax": "2026-01-02T04:04:05+00:00",
            "items": [{"id": "primary"}],
        } == json.loads(request.content)
    else:
        assert {"maxResults": "1"} == dict(request.url.params)


async def test_without_any_useful_scope_nobody_is_asked() -> None:
    desk = Desk()
    verdict = await desk.google.test(replace(CREDENTIAL, scopes=("openid", "email", f"{AUTH}drive")))
    assert isinstance(verdict, Refused)
    assert InsufficientScope is verdict.kind
    assert [] == desk.asked


USAGE = "usageLimits"
ROWS: list[tuple[httpx.Response | Exception, type[TenantVaultError]]] = [
    (failed(401, "authError", word="UNAUTHENTICATED"), ReauthRequired),
    (failed(401, "authError"), ReauthRequired),
    (failed(401, word="UNAUTHENTICATED"), ReauthRequired),
    (failed(401, "required", word="UNAUTHENTICATED", detail="CREDENTIALS_MISSING"), InternalError),
    (failed(401), ProviderUnknownAnswer),
    (failed(403, "insufficientPermissions", detail="ACCESS_TOKEN_SCOPE_INSUFFICIENT"), InsufficientScope),
    (failed(403, "insufficientPermissions"), InsufficientScope),
    (failed(403, detail="ACCESS_TOKEN_SCOPE_INSUFFICIENT", word="PERMISSION_DENIED"), InsufficientScope),
    (failed(403, "rateLimitExceeded", domain=USAGE), RateLimited),
    (failed(403, "userRateLimitExceeded", domain=USAGE), RateLimited),
    (failed(403, "quotaExceeded", domain=USAGE), RateLimited),
    (failed(403, "dailyLimitExceeded", domain=USAGE), RateLimited),
    (failed(403, detail="RATE_LIMIT_EXCEEDED"), RateLimited),
    (failed(429, "rateLimitExceeded", domain=USAGE), RateLimited),
    (failed(429, "userRateLimitExceeded", domain=USAGE), RateLimited),
    (failed(429, "quotaExceeded", domain=USAGE), RateLimited),
    (failed(403, "accessNotConfigured", domain=USAGE, detail="SERVICE_DISABLED"), ProviderMisconfigured),
    (failed(403, detail="SERVICE_DISABLED", word="PERMISSION_DENIED"), ProviderMisconfigured),
    (failed(403, "forbidden"), InsufficientScope),
    (failed(403, "forbiddenForServiceAccounts"), InsufficientScope),
    (failed(403, "notACalendarUser"), InsufficientScope),
    (failed(403, "somethingNew"), ProviderUnknownAnswer),
    (failed(404, "notFound"), ProviderResourceMissing),
    (failed(404), ProviderUnknownAnswer),
    (failed(400, "invalid"), ProviderValidation),
    (failed(409, "duplicate"), ProviderUnknownAnswer),
    (failed(410, "fullSyncRequired"), ProviderUnknownAnswer),
    (failed(410, "updatedMinTooLongAgo"), ProviderUnknownAnswer),
    (failed(410, "deleted"), ProviderUnknownAnswer),
    (failed(412, "conditionNotMet"), ProviderUnknownAnswer),
    (failed(408), ProviderUnavailable),
    (failed(500, "backendError"), ProviderUnavailable),
    (failed(503, "backendError"), ProviderUnavailable),
    (httpx.ConnectError("away"), ProviderUnavailable),
    (httpx.Response(403, text="<html>forbidden</html>"), ProviderUnavailable),
    (httpx.Response(403, json={"error": "forbidden"}), ProviderUnknownAnswer),
    (httpx.Response(403, json={"error": {"errors": [1, {"reason": 1}], "details": "x"}}), ProviderUnknownAnswer),
    (httpx.Response(403, json=["forbidden"]), ProviderUnknownAnswer),
    (httpx.Response(302, headers={"Location": "https://x.test"}), ProviderUnknownAnswer),
    (httpx.Response(204), ProviderUnknownAnswer),
    (httpx.Response(200), ProviderUnknownAnswer),
    (httpx.Response(200, json=[]), ProviderUnknownAnswer),
    (httpx.Response(200, json={"items": []}), ProviderUnknownAnswer),
    (httpx.Response(200, json={"kind": "drive#fileList"}), ProviderUnknownAnswer),
]


@pytest.mark.parametrize(("answer", "kind"), ROWS)
async def test_every_row_of_the_api(answer: httpx.Response | Exception, kind: type[TenantVaultError]) -> None:
    asked = Desk(answer).google.test(CREDENTIAL)
    if issubclass(kind, ProviderRefused):
        verdict = await asked
        assert isinstance(verdict, Refused)
        assert (kind, "") == (verdict.kind, verdict.field)
        assert CANARY not in verdict.sentence
    else:
        with pytest.raises(TenantVaultError) as caught:
            await asked
        assert kind is type(caught.value)


BUSY_ROWS: list[tuple[httpx.Response, type[TenantVaultError]]] = [
    (busy("notFound"), ProviderResourceMissing),
    (busy("internalError"), ProviderUnavailable),
    (busy("somethingNew"), ProviderUnknownAnswer),
    (busy(errors="odd"), ProviderUnknownAnswer),
    (httpx.Response(200, json={"kind": "calendar#freeBusy"}), ProviderUnknownAnswer),
    (httpx.Response(200, json={"kind": "calendar#freeBusy", "calendars": {}}), ProviderUnknownAnswer),
    (httpx.Response(200, json={"kind": "calendar#freeBusy", "calendars": {"primary": []}}), ProviderUnknownAnswer),
    (failed(403, "insufficientPermissions"), InsufficientScope),
]


@pytest.mark.parametrize(("answer", "kind"), BUSY_ROWS)
async def test_a_calendar_can_fail_inside_a_success(answer: httpx.Response, kind: type[TenantVaultError]) -> None:
    asked = Desk(answer).google.test(replace(CREDENTIAL, scopes=(FREEBUSY,)))
    if issubclass(kind, ProviderRefused):
        verdict = await asked
        assert isinstance(verdict, Refused)
        assert kind is verdict.kind
    else:
        with pytest.raises(TenantVaultError) as caught:
            await asked
        assert kind is type(caught.value)


async def test_a_403_that_means_slow_down_says_for_how_long() -> None:
    answer = failed(403, "userRateLimitExceeded", domain=USAGE)
    answer.headers["Retry-After"] = "7"
    with pytest.raises(RateLimited) as caught:
        await Desk(answer).google.test(CREDENTIAL)
    assert 7.0 == caught.value.retry_after


async def test_an_access_token_that_is_old_is_renewed_once() -> None:
    desk = Desk(failed(401, "authError"), listed())
    assert Accepted(account="ada@acme.example") == await desk.google.test(CREDENTIAL)
    path = "GET /calendar/v3/users/me/calendarList"
    assert [path, "POST /token", path] == desk.asked
    assert "Bearer ya29.new" == desk.requests[-1].headers["Authorization"]


async def test_a_new_access_token_that_is_not_taken_either_is_the_end() -> None:
    desk = Desk(failed(401, "authError"))
    verdict = await desk.google.test(CREDENTIAL)
    assert isinstance(verdict, Refused)
    assert ReauthRequired is verdict.kind
    assert 3 == len(desk.asked)


async def test_a_dead_grant_asks_for_consent_again() -> None:
    desk = Desk(failed(401, "authError"), token=httpx.Response(400, json={"error": "invalid_grant"}))
    verdict = await desk.google.test(CREDENTIAL)
    assert isinstance(verdict, Refused)
    assert ReauthRequired is verdict.kind
    assert "consent is over" in verdict.sentence
    assert 2 == len(desk.asked)


async def test_an_old_token_without_an_application_speaks_against_nobody() -> None:
    with pytest.raises(ProviderMisconfigured):
        await Desk(failed(401, "authError"), application=None).google.test(CREDENTIAL)


def test_what_nobody_types_in_stays_as_it_is() -> None:
    assert CREDENTIAL == Desk().google.normalise(CREDENTIAL)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"refresh_token": Secret("")}, {"refreshToken"}),
        ({"access_token": Secret("")}, {"accessToken"}),
        ({"access_token": Secret("two words"), "refresh_token": Secret("x\r\n")}, {"accessToken", "refreshToken"}),
        ({"access_token": Secret("x" * 2049)}, {"accessToken"}),
        ({"expires_at": NOW.replace(tzinfo=None)}, {"expiresAt"}),
        ({"scopes": ()}, {"scopes"}),
    ],
)
def test_a_credential_without_its_parts_is_refused(changes: dict[str, Any], fields: set[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Desk().google.normalise(replace(CREDENTIAL, **changes))
    assert fields == set(caught.value.fields)
    assert "signing in with Google" in caught.value.message


BEFORE = replace(CREDENTIAL, channel_token=Secret("before"))


@pytest.mark.parametrize(
    ("newest", "credential", "expected"),
    [
        (None, CREDENTIAL, "made-up"),
        (BEFORE, CREDENTIAL, "before"),
        (BEFORE, replace(CREDENTIAL, channel_token=Secret("own")), "own"),
        (replace(BEFORE, email="bob@acme.example"), CREDENTIAL, "made-up"),
        (replace(BEFORE, email=""), replace(CREDENTIAL, email=""), "made-up"),
        (CREDENTIAL, CREDENTIAL, "made-up"),
        (VapiCredential(api_key=Secret("x"), webhook_secret=Secret("x")), CREDENTIAL, "made-up"),
    ],
    ids=["first", "same account", "chosen", "other account", "unknown account", "none before", "other provider"],
)
async def test_the_channel_token_stays_with_the_account(
    newest: Credential | None, credential: GoogleCalendarCredential, expected: str
) -> None:
    async def read() -> Credential | None:
        return newest

    completed = await Desk().google.complete("acme", credential, read)
    assert replace(credential, channel_token=Secret(expected)) == completed


async def test_a_channel_token_cannot_be_guessed() -> None:
    async def nothing() -> None:
        return None

    google = GoogleCalendar(Outbound(new_client()), application=None, endpoints=LIVE)
    made = {(await google.complete("acme", CREDENTIAL, nothing)).channel_token.reveal() for _ in range(9)}
    assert 9 == len(made)
    assert {43} == {len(each) for each in made}


async def test_nothing_is_made_at_google() -> None:
    async def checkpoint(step: str) -> None:
        raise AssertionError(step)

    desk = Desk()
    made = await desk.google.provision("acme", CREDENTIAL, known=(), checkpoint=checkpoint)
    assert (Provisioned(()), ()) == (made, await desk.google.inspect("acme", CREDENTIAL, known=()))
    assert [] == desk.asked


@pytest.mark.parametrize(
    ("answer", "done"),
    [
        (httpx.Response(200, json={}), True),
        (httpx.Response(200), True),
        (httpx.Response(400, json={"error": "invalid_token", "error_description": "Token expired or revoked"}), True),
        (httpx.Response(400, json={"error": "invalid_request"}), False),
        (httpx.Response(401, json={"error": "invalid_token"}), False),
        (httpx.Response(400, text="<html>"), False),
        (httpx.Response(302), False),
        (httpx.Response(429, json={}), False),
        (httpx.Response(503, text="no"), False),
        (httpx.ConnectError("away"), False),
    ],
)
@pytest.mark.parametrize("application", [APPLICATION, None])
async def test_every_row_of_letting_go(
    answer: httpx.Response | Exception, done: bool, application: Application | None
) -> None:
    desk = Desk(answer, application=application)
    left = await desk.google.release("acme", CREDENTIAL, known=())
    assert (0 if done else 1) == len(left)
    assert all("https://myaccount.google.com/connections" in sentence for sentence in left)
    (request,) = desk.requests
    assert ("POST", "/revoke", "") == (request.method, request.url.path, request.url.query.decode())
    assert {"token": [f"1//{CANARY}-refresh"]} == parse_qs(request.content.decode())


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    loggers = [logging.getLogger(name) for name in ("httpx", "httpcore")]
    before = [logger.level for logger in loggers]
    with caplog.at_level(logging.DEBUG):
        yield caplog
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


GIVEN = {
    "access_token": f"{CANARY}-new-access",
    "refresh_token": f"{CANARY}-new-refresh",
    "expires_in": 3599,
    "token_type": "Bearer",
    "scope": f"{EVENTS} {FREEBUSY}",
    "refresh_token_expires_in": 604799,
}
UPSTREAM = f"{CANARY}-upstream"


@pytest.mark.parametrize("verb", ["redeem", "refresh", "test", "release"])
@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json=GIVEN),
        httpx.Response(200, json=GIVEN | {"access_token": f"{CANARY} two words"}),
        httpx.Response(200, json=GIVEN | {"scope": UPSTREAM}),
        httpx.Response(400, json={"error": "invalid_grant", "error_description": UPSTREAM, "error_subtype": UPSTREAM}),
        httpx.Response(401, json={"error": "invalid_client", "error_description": UPSTREAM}),
        httpx.Response(400, json={"error": UPSTREAM}),
        failed(401, "authError"),
        failed(401, "required"),
        failed(403, UPSTREAM, detail=UPSTREAM, word=UPSTREAM),
        failed(403, f"forbidden{UPSTREAM}"),
        failed(403, "accessNotConfigured"),
        httpx.Response(418, json={"error": UPSTREAM}),
        httpx.Response(403, html=UPSTREAM),
        httpx.Response(500, text=UPSTREAM, headers={"X-Trace": UPSTREAM}),
        httpx.Response(429, json={"message": UPSTREAM}),
        httpx.Response(302, headers={"Location": f"https://x.test/?{UPSTREAM}"}),
        httpx.ConnectError(UPSTREAM),
    ],
)
async def test_no_secret_is_in_a_log_an_error_or_a_verdict(
    verb: str, answer: httpx.Response | Exception, records: pytest.LogCaptureFixture
) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    outbound = Outbound(new_client(httpx.MockTransport(handle)), sleep=no_sleep)
    google = GoogleCalendar(outbound, application=APPLICATION, endpoints=below("https://google.test"))
    try:
        match verb:
            case "redeem":
                seen = repr(await google.consent.redeem(code=f"4/{CANARY}-code", state=f"{CANARY}-state"))
            case "refresh":
                seen = repr(await google.consent.refresh(CREDENTIAL))
            case "test":
                seen = repr(await google.test(CREDENTIAL))
            case _:
                seen = repr(await google.release("acme", CREDENTIAL, known=()))
    except TenantVaultError as error:
        seen = f"{error!r} {error} {dict(error.fields)} {to_status(error)}"
    seen += repr((google, vars(google), outbound, APPLICATION, CREDENTIAL))
    seen += repr([vars(record) for record in records.records]) + records.text
    assert records.records
    assert CANARY not in seen
