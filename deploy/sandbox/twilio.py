"""Twilio's account and incoming phone numbers (2010-04-01).

Sources: https://www.twilio.com/docs/iam/api/account, https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource,
https://www.twilio.com/docs/usage/twilios-response and the error dictionary (https://www.twilio.com/docs/api/errors).

`twilio_account` says which accounts and keys there are. One whose digits begin with `fa11` and one of the codes in
`_FAILURES` always fails with it.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from deploy.sandbox.answers import EVERY_METHOD, SLOW_SECONDS, json_answer, path_below
from deploy.sandbox.traffic import Sleep
from deploy.sandbox.twilio_account import (
    CREATED,
    ROOT,
    SETTINGS,
    Number,
    is_sid,
    kind_of,
    may_ask,
    numbers_of,
    power_of,
    secret_of,
)

_CAPITAL: Final = re.compile("([A-Z])")
_DEFAULT_PAGE: Final = 50
_MAX_PAGE: Final = 1000

_FAILURES: Final[Mapping[int, tuple[int, str]]] = {
    10001: (401, "Account is not active"),
    20003: (401, "Authenticate"),
    20005: (401, "Account not active"),
    20006: (403, "Access Denied"),
    20008: (403, "Resource not accessible with Test Account Credentials"),
    20403: (403, "Forbidden"),
    20404: (404, "The requested resource was not found"),
    20429: (429, "Too Many Requests"),
    20500: (500, "An internal server error has occurred"),
    20503: (503, "Service unavailable"),
    70051: (403, "Authorization Error: the API Key lacks a permission for this request"),
}
_HTML: Final = 20502
_SLOW: Final = 20504
_CODE_OF_STATUS: Final = 20000


class Refused(Exception):
    """The API's no. Without a message it is the code's own."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def response(self) -> Response:
        """As the API words it."""
        if self.code == _HTML:
            return HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", HTTPStatus.BAD_GATEWAY)
        if self.code in _FAILURES:
            status, message = _FAILURES[self.code]
        else:
            status = self.code - _CODE_OF_STATUS
            message = HTTPStatus(status).phrase
        response = json_answer(
            {
                "code": self.code,
                "message": self.message or message,
                "more_info": f"https://www.twilio.com/docs/errors/{self.code}",
                "status": status,
            },
            status,
        )
        if status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
        return response


Endpoint = Callable[[Request, str], Awaitable[Response]]


class Twilio:
    """The API and the settings of its numbers. `sleep` slows the slow account."""

    def __init__(self, *, sleep: Sleep) -> None:
        self._sleep = sleep
        self._settings: dict[str, dict[str, str]] = {}

    def app(self) -> ASGIApp:
        """The endpoints."""
        numbers = ROOT + "/{account}/IncomingPhoneNumbers"
        return Starlette(
            routes=[
                Route(numbers + ".json", self._admitted(self.page), methods=["GET"]),
                Route(numbers + "/{number}.json", self._admitted(self.get), methods=["GET"]),
                Route(numbers + "/{number}.json", self._admitted(self.update), methods=["POST"]),
                Route(ROOT + "/{account}.json", self._admitted(self.fetch), methods=["GET"]),
                Route("/{path:path}", self.unknown, methods=EVERY_METHOD),
            ]
        )

    def account(self, headers: Headers) -> str:
        """The SID that the caller gives as the user name."""
        user, _ = _login(headers)
        return user if is_sid(user) else ""

    def refusal(self, status: int) -> Response:
        """An error in the classic form."""
        code = 20003 if status == HTTPStatus.UNAUTHORIZED else _CODE_OF_STATUS + status
        return Refused(code).response()

    def state(self) -> dict[str, Any]:
        """What was changed on the numbers, by the number's SID."""
        return {"numbers": self._settings}

    def reset(self) -> None:
        """Forget every change."""
        self._settings.clear()

    def _admitted(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def admitted(request: Request) -> Response:
            try:
                return await endpoint(request, await self._authenticate(request))
            except Refused as refused:
                return refused.response()

        return admitted

    async def _authenticate(self, request: Request) -> str:
        """The SID of the account or API key that asks for an account it belongs to."""
        user, password = _login(request.headers)
        account = request.path_params["account"]
        if not is_sid(user) or password != secret_of(user) or not may_ask(user, account):
            raise Refused(20003)
        digits = user[2:]
        code = int(digits[4:9]) if digits.startswith("fa11") and digits[4:9].isdecimal() else 0
        if code == _SLOW:
            await self._sleep(SLOW_SECONDS)
        elif code == _HTML or code in _FAILURES:
            raise Refused(code)
        return user

    async def unknown(self, request: Request) -> Response:
        """Any other path."""
        return _missing(request).response()

    async def fetch(self, request: Request, user: str) -> Response:
        """`GET /Accounts/{sid}.json`, with the Auth Token in it as the vendor has it. Main API keys may ask."""
        if power_of(user) != "main":
            raise Refused(20003, "Authentication Error - invalid username")
        sid = request.path_params["account"]
        kind = kind_of(sid)
        return json_answer(
            {
                "auth_token": secret_of(sid),
                "date_created": CREATED,
                "date_updated": CREATED,
                "friendly_name": f"Sandbox {sid[2:8]}",
                "owner_account_sid": kind.owned_by or sid,
                "sid": sid,
                "status": kind.status,
                "subresource_uris": {"incoming_phone_numbers": f"{ROOT}/{sid}/IncomingPhoneNumbers.json"},
                "type": kind.type,
                "uri": f"{ROOT}/{sid}.json",
            }
        )

    async def page(self, request: Request, user: str) -> Response:
        """`GET …/IncomingPhoneNumbers.json`: `PhoneNumber` matches anywhere in a number, `*` any digit."""
        query = request.query_params
        wanted = re.compile(re.escape(query.get("PhoneNumber", "")).replace(r"\*", "[0-9]"))
        found = [each for each in self._numbers(request, user) if wanted.search(each.phone_number)]
        size = min(max(_integer(query.get("PageSize"), _DEFAULT_PAGE), 1), _MAX_PAGE)
        page = max(_integer(query.get("Page"), 0), 0)
        shown = found[page * size : (page + 1) * size]
        path = path_below(request.scope)

        def uri(number: int) -> str:
            return f"{path}?{urlencode({**query, 'PageSize': size, 'Page': number})}"

        return json_answer(
            {
                "end": page * size + max(len(shown) - 1, 0),
                "first_page_uri": uri(0),
                "incoming_phone_numbers": [each.to_json() for each in shown],
                "next_page_uri": uri(page + 1) if len(found) > (page + 1) * size else None,
                "page": page,
                "page_size": size,
                "previous_page_uri": uri(page - 1) if page else None,
                "start": page * size,
                "uri": uri(page),
            }
        )

    async def get(self, request: Request, user: str) -> Response:
        """`GET …/IncomingPhoneNumbers/{sid}.json`."""
        return json_answer(self._find(request, user).to_json())

    async def update(self, request: Request, user: str) -> Response:
        """`POST …/IncomingPhoneNumbers/{sid}.json`, a form. What the API does not know is ignored."""
        number = self._find(request, user)
        form = parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True)
        given = {_CAPITAL.sub(r"_\1", name).lower().lstrip("_"): value for name, value in form}
        known = {name: value for name, value in given.items() if name in SETTINGS or name == "friendly_name"}
        self._settings.setdefault(number.sid, {}).update(known)
        return await self.get(request, user)

    def _numbers(self, request: Request, user: str) -> list[Number]:
        """What the account owns; Refused when the caller may not see it."""
        if power_of(user) == "restricted":
            raise Refused(70051)
        account = request.path_params["account"]
        kind = kind_of(account)
        if kind.status != "active":
            raise Refused(20403, f"Account {account} is {kind.status}")
        return numbers_of(account, self._settings)

    def _find(self, request: Request, user: str) -> Number:
        for number in self._numbers(request, user):
            if number.sid == request.path_params["number"]:
                return number
        raise _missing(request)


def _login(headers: Headers) -> tuple[str, str]:
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


def _missing(request: Request) -> Refused:
    return Refused(20404, f"The requested resource {path_below(request.scope)} was not found")


def _integer(text: str | None, default: int) -> int:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,9}", text) else default
