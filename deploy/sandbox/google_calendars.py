"""Google's Calendar API: what reads.

Sources: https://developers.google.com/workspace/calendar/api/guides/errors,
https://developers.google.com/workspace/calendar/api/v3/reference.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.sandbox.answers import SLOW_SECONDS, json_answer
from deploy.sandbox.google_account import CALLS, ApiFailure, special
from deploy.sandbox.google_form import bearer
from deploy.sandbox.google_grant import LISTS_CALENDARS, LISTS_EVENTS, SEES_BUSY, Token
from deploy.sandbox.google_ledger import Ledger
from deploy.sandbox.traffic import Sleep

_ROOT: Final = "/calendar/v3"


class Failed(Exception):
    """The API's no."""

    def __init__(self, failure: ApiFailure) -> None:
        super().__init__(failure.status, failure.reason)
        self._failure = failure

    def response(self) -> Response:
        """As the API words it: in the older form (`errors`) and in the newer one (`status`, `details`) at once."""
        failure = self._failure
        error: dict[str, Any] = {
            "code": failure.status,
            "message": failure.message,
            "errors": [{"message": failure.message, "domain": failure.domain, "reason": failure.reason}],
            "status": failure.word,
        }
        if failure.detail:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            error["details"] = [{"@type": kind, "reason": failure.detail, "domain": "googleapis.com"}]
        response = json_answer({"error": error}, failure.status)
        if failure.status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
        return response


Endpoint = Callable[[Request, Token], Awaitable[Response]]


class Calendars:
    """The API. An account has its own calendar and a team's, and nothing planned. `sleep` slows the slow account."""

    def __init__(self, ledger: Ledger, *, sleep: Sleep) -> None:
        self._ledger = ledger
        self._sleep = sleep

    def routes(self) -> list[Route]:
        """The endpoints below `/calendar/v3`."""
        return [
            Route(f"{_ROOT}/users/me/calendarList", self._admitted(self.page, LISTS_CALENDARS), methods=["GET"]),
            Route(f"{_ROOT}/calendars/{{id}}/events", self._admitted(self.events, LISTS_EVENTS), methods=["GET"]),
            Route(f"{_ROOT}/freeBusy", self._admitted(self.busy, SEES_BUSY), methods=["POST"]),
        ]

    def _admitted(self, endpoint: Endpoint, enough: frozenset[str]) -> Callable[[Request], Awaitable[Response]]:
        async def admitted(request: Request) -> Response:
            try:
                return await endpoint(request, await self._authenticate(request.headers, enough))
            except Failed as failed:
                return failed.response()

        return admitted

    async def _authenticate(self, headers: Headers, enough: frozenset[str]) -> Token:
        if "Authorization" not in headers:
            raise Failed(_NO_LOGIN)
        token = bearer(headers)
        if token is None or not self._ledger.is_good(token) or (special(token.email) == "stale" and not token.fresh):
            raise Failed(_BAD_LOGIN)
        if special(token.email) == "slow":
            await self._sleep(SLOW_SECONDS)
        if (failure := CALLS.get(special(token.email))) is not None:
            raise Failed(failure)
        if enough.isdisjoint(token.scopes):
            raise Failed(_NO_SCOPE)
        return token

    async def page(self, request: Request, token: Token) -> Response:
        """`GET /users/me/calendarList`; `maxResults` is how many."""
        shown = [
            {"kind": "calendar#calendarListEntry", "id": token.email, "summary": token.email, "primary": True},
            {"kind": "calendar#calendarListEntry", "id": _team(token), "summary": "Team"},
        ]
        most = request.query_params.get("maxResults", "")
        items = shown[:1] if most == "1" else shown
        return json_answer({"kind": "calendar#calendarList", "items": items})

    async def events(self, request: Request, token: Token) -> Response:
        """`GET /calendars/{id}/events`; the id `primary` is the account's own."""
        if request.path_params["id"] not in {"primary", token.email, _team(token)}:
            raise Failed(_NOT_FOUND)
        return json_answer({"kind": "calendar#events", "summary": token.email, "timeZone": "UTC", "items": []})

    async def busy(self, request: Request, token: Token) -> Response:
        """`POST /freeBusy`: a calendar that is not there fails inside the answer."""
        try:
            asked: Any = await request.json()
            ids = [str(item["id"]) for item in asked["items"]]
            times = {name: str(asked[name]) for name in ("timeMin", "timeMax")}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Failed(_NOT_VALID) from None
        known = set() if special(token.email) == "nobusy" else {"primary", token.email, _team(token)}
        calendars: dict[str, Any] = {
            each: {"busy": []} if each in known else {"errors": [_MISSING], "busy": []} for each in ids
        }
        return json_answer({"kind": "calendar#freeBusy", **times, "calendars": calendars})

    async def unknown(self, _: Request) -> Response:
        """Any other path."""
        return Failed(_NOT_FOUND).response()


_NO_LOGIN: Final = ApiFailure(
    401,
    "required",
    "Request is missing required authentication credential.",
    word="UNAUTHENTICATED",
    detail="CREDENTIALS_MISSING",
)
_BAD_LOGIN: Final = ApiFailure(401, "authError", "Invalid Credentials", word="UNAUTHENTICATED")
_NO_SCOPE: Final = ApiFailure(
    403,
    "insufficientPermissions",
    "Request had insufficient authentication scopes.",
    detail="ACCESS_TOKEN_SCOPE_INSUFFICIENT",
)
_NOT_FOUND: Final = ApiFailure(404, "notFound", "Not Found", word="NOT_FOUND")
_NOT_VALID: Final = ApiFailure(400, "badRequest", "Bad Request", word="INVALID_ARGUMENT")
_BY_STATUS: Final = {401: _BAD_LOGIN, 404: _NOT_FOUND, 429: CALLS["quota"], 503: CALLS["down"]}
_MISSING: Final = {"domain": "global", "reason": "notFound"}


def failure_of(status: int) -> Failed:
    """An error with this status, in the words that the API has for it."""
    phrase = HTTPStatus(status).phrase
    words = phrase.replace("-", " ").split()
    reason = words[0].lower() + "".join(word.capitalize() for word in words[1:])
    common = ApiFailure(status, reason, phrase, word="_".join(words).upper())
    return Failed(replace(_BY_STATUS.get(status, common), status=status))


def _team(token: Token) -> str:
    return f"team-{token.email}"
