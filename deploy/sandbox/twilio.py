"""Twilio's account and incoming phone numbers (2010-04-01), and its Auth Tokens (v1).

Sources: https://www.twilio.com/docs/iam/api/account, https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource,
https://www.twilio.com/docs/iam/api/secondary_authtoken, https://www.twilio.com/docs/iam/api/authtoken.

`twilio_account` says which accounts and keys there are. One whose digits begin with `fa11` and one of the codes in
`FAILURES` always fails with it.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
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
)
from deploy.sandbox.twilio_answers import FAILURES, HTML, SLOW, Refused, refused_with
from deploy.sandbox.twilio_tokens import Tokens

_CAPITAL: Final = re.compile("([A-Z])")
_DEFAULT_PAGE: Final = 50
_MAX_PAGE: Final = 1000

_SECONDARY: Final = "/v1/AuthTokens/Secondary"
_PROMOTE: Final = "/v1/AuthTokens/Promote"
_MOMENT: Final = "2026-01-01T00:00:00Z"


Endpoint = Callable[[Request, str], Awaitable[Response]]


class Twilio:
    """The API, the settings of its numbers and its tokens. `new_id` makes tokens; `sleep` slows the slow account."""

    def __init__(self, *, new_id: Callable[[], str], sleep: Sleep) -> None:
        self._sleep = sleep
        self._tokens = Tokens(new_id)
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
                Route(_SECONDARY, self._admitted(self.create_token), methods=["POST"]),
                Route(_SECONDARY, self._admitted(self.delete_token), methods=["DELETE"]),
                Route(_PROMOTE, self._admitted(self.promote_token), methods=["POST"]),
                Route("/{path:path}", self.unknown, methods=EVERY_METHOD),
            ]
        )

    def account(self, headers: Headers) -> str:
        """The SID that the caller gives as the user name."""
        user, _ = _login(headers)
        return user if is_sid(user) else ""

    def refusal(self, status: int) -> Response:
        """An error in the classic form."""
        return refused_with(status).response()

    def state(self) -> dict[str, Any]:
        """What was changed on the numbers, by the number's SID, and which accounts have other tokens."""
        return {"numbers": self._settings, "tokens": self._tokens.state()}

    def reset(self) -> None:
        """Forget every change."""
        self._settings.clear()
        self._tokens.reset()

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
        account = request.path_params.get("account", user)
        if not is_sid(user) or not self._tokens.works(user, password) or not may_ask(user, account):
            raise Refused(20003)
        digits = user[2:]
        code = int(digits[4:9]) if digits.startswith("fa11") and digits[4:9].isdecimal() else 0
        if code == SLOW:
            await self._sleep(SLOW_SECONDS)
        elif code == HTML or code in FAILURES:
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
                "auth_token": self._tokens.first(sid),
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

    async def create_token(self, request: Request, user: str) -> Response:
        """`POST /v1/AuthTokens/Secondary`: 201 with the token. 404 where an account may not have one."""
        token = self._tokens.create(_account_of(user))
        if token is None:
            raise _missing(request)
        return json_answer({**_token_of(user, _SECONDARY), "secondary_auth_token": token}, HTTPStatus.CREATED)

    async def delete_token(self, request: Request, user: str) -> Response:
        """`DELETE /v1/AuthTokens/Secondary`: 204, or 404 when there is none."""
        if not self._tokens.delete(_account_of(user)):
            raise _missing(request)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def promote_token(self, request: Request, user: str) -> Response:
        """`POST /v1/AuthTokens/Promote`: the second token is the only one from then on; 404 when there is none."""
        token = self._tokens.promote(_account_of(user))
        if token is None:
            raise _missing(request)
        return json_answer({**_token_of(user, _PROMOTE), "auth_token": token})

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


def _account_of(user: str) -> str:
    """The account whose token asks: API keys may not ask for tokens."""
    if user.startswith("SK"):
        raise Refused(20003, "Authentication Error - invalid username")
    return user


def _token_of(account: str, path: str) -> dict[str, str]:
    return {
        "account_sid": account,
        "date_created": _MOMENT,
        "date_updated": _MOMENT,
        "url": f"https://accounts.twilio.com{path}",
    }


def _missing(request: Request) -> Refused:
    return Refused(20404, f"The requested resource {path_below(request.scope)} was not found")


def _integer(text: str | None, default: int) -> int:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,9}", text) else default
