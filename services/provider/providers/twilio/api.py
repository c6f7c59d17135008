"""Twilio's HTTP API, as far as it is used.

Each call returns what was asked for or a `Refused`; no definite answer is a `ProviderUnreachable`. Most API keys may
not read their account; only the Auth Token may replace itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from services.provider.outbound import Answer, Method, Outbound
from services.provider.provider import Refused
from services.provider.providers.twilio.answers import refusal, text
from tenantvault.credentials import Provider, TwilioCredential
from tenantvault.errors import InsufficientScope, ProviderUnknownAnswer
from tenantvault.secret import Secret

Number = Mapping[str, Any]
"""A phone number as Twilio describes it; `phone_number` is a text. Its URLs may hold passwords."""

_ACCOUNT: Final = "/2010-04-01/Accounts/{sid}.json"
_NUMBERS: Final = "/2010-04-01/Accounts/{sid}/IncomingPhoneNumbers.json"
_NUMBER: Final = "/2010-04-01/Accounts/{sid}/IncomingPhoneNumbers/{number}.json"
_SECONDARY: Final = "/v1/AuthTokens/Secondary"
_PROMOTE: Final = "/v1/AuthTokens/Promote"
# The filter matches parts of numbers; a whole number is part of few others.
_PAGE: Final = 100
_MOST_PAGES: Final = 20
# Twilio's own limit (https://www.twilio.com/docs/iam/api/account).
_LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Account:
    """What is used of an account. `auth_token` is the primary one; empty where Twilio does not show it."""

    status: str
    kind: str
    name: str
    auth_token: Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Login:
    """What a request authenticates with, and the field that its password came from."""

    user: str
    password: Secret
    field: str


class Api:
    """The calls. `url` is the API's base URL, `accounts_url` the one of the API for Auth Tokens."""

    def __init__(self, outbound: Outbound, *, url: str, accounts_url: str) -> None:
        self._outbound = outbound
        self._url = url
        self._accounts_url = accounts_url

    async def account(self, credential: TwilioCredential) -> Account | Refused:
        """The account, by the Auth Token where there is one."""
        login = _token(credential) if credential.auth_token else _key_or_token(credential)
        answer = await self._call("GET", self._url, _ACCOUNT, credential, login)
        if answer.status != HTTPStatus.OK:
            return refusal(answer, login.field)
        body = answer.json
        return Account(
            text(body, "status"),
            text(body, "type"),
            _printable(text(body, "friendly_name")),
            Secret(text(body, "auth_token")),
        )

    async def number(self, credential: TwilioCredential, wanted: str) -> Number | Refused | None:
        """The number that is written so; None when the account does not own it."""
        login = _key_or_token(credential)
        params: Mapping[str, str | int] = {"PhoneNumber": wanted, "PageSize": _PAGE}
        for _ in range(_MOST_PAGES):
            answer = await self._call("GET", self._url, _NUMBERS, credential, login, params=params)
            if answer.status != HTTPStatus.OK:
                return refusal(answer, login.field)
            numbers = answer.json.get("incoming_phone_numbers") if isinstance(answer.json, dict) else None
            if not isinstance(numbers, list):
                raise ProviderUnknownAnswer
            for number in numbers:
                if text(number, "phone_number") == wanted:
                    return _number(number)
            # Of the next page's address only the query is taken: a credential goes nowhere that an answer names.
            params = dict(parse_qsl(urlsplit(text(answer.json, "next_page_uri")).query, keep_blank_values=True))
            if not params:
                return None
        raise ProviderUnknownAnswer

    async def number_by_sid(self, credential: TwilioCredential, sid: str) -> Number | Refused | None:
        """The number with an SID; None when the account does not have it any more."""
        login = _key_or_token(credential)
        answer = await self._call("GET", self._url, _NUMBER, credential, login, number=sid)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        return refusal(answer, login.field) if answer.status != HTTPStatus.OK else _number(answer.json)

    async def change_number(self, credential: TwilioCredential, sid: str, form: Mapping[str, str]) -> Refused | None:
        """Change what `form` names of a number, in the API's spelling; the rest stays. Repeating it is harmless."""
        login = _key_or_token(credential)
        answer = await self._call("POST", self._url, _NUMBER, credential, login, number=sid, form=form)
        return refusal(answer, login.field) if answer.status != HTTPStatus.OK else None

    async def new_secondary_token(self, credential: TwilioCredential) -> Secret | Refused:
        """Make a second Auth Token, which works beside the first. Without a definite answer, it may have been made."""
        answer = await self._call("POST", self._accounts_url, _SECONDARY, credential, _token(credential))
        if answer.status == HTTPStatus.NOT_FOUND:
            return Refused(InsufficientScope, _NO_SECONDARY, "authToken")
        if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
            return refusal(answer, "authToken")
        if not (token := text(answer.json, "secondary_auth_token")):
            raise ProviderUnknownAnswer
        return Secret(token)

    async def delete_secondary_token(self, credential: TwilioCredential) -> Refused | None:
        """Take the second Auth Token away; none is none to take away."""
        answer = await self._call("DELETE", self._accounts_url, _SECONDARY, credential, _token(credential))
        gone = answer.status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND}
        return None if gone else refusal(answer, "authToken")

    async def promote_secondary_token(self, credential: TwilioCredential) -> Refused | None:
        """Make the second Auth Token the only one. Where there is no second one, nothing is changed."""
        answer = await self._call("POST", self._accounts_url, _PROMOTE, credential, _token(credential))
        is_done = answer.status in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}
        return None if is_done else refusal(answer, "authToken")

    async def _call(
        self,
        method: Method,
        base: str,
        route: str,
        credential: TwilioCredential,
        login: _Login,
        *,
        number: str = "",
        params: Mapping[str, str | int] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        answer = await self._outbound.request(
            Provider.TWILIO,
            method,
            base + route.format(sid=credential.account_sid, number=quote(number, safe="")),
            route=route,
            params=params,
            basic=(login.user, login.password.reveal()),
            form=form,
        )
        return answer.definite()


_NO_SECONDARY: Final = (
    "Twilio does not let this account have a second Auth Token: change the token there by hand, then connect again."
)


def _token(credential: TwilioCredential) -> _Login:
    return _Login(credential.account_sid, credential.auth_token, "authToken")


def _key_or_token(credential: TwilioCredential) -> _Login:
    key = _Login(credential.api_key_sid, credential.api_key_secret, "apiKeySecret")
    return key if key.password else _token(credential)


def _printable(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[:_LONGEST_NAME]


def _number(value: Any) -> Number:
    if not text(value, "phone_number"):
        raise ProviderUnknownAnswer
    number: Number = value
    return number
