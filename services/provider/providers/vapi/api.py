"""Vapi's HTTP API, as far as it is used, and what each of its answers means.

Sources: https://docs.vapi.ai/api-reference; the error bodies are NestJS's
(https://docs.nestjs.com/exception-filters), whose `message` is a sentence or a list of them.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from services.provider.outbound import Answer, Method, Outbound
from services.provider.provider import Refused
from services.provider.providers.vapi.form import is_uuid
from tenantvault.credentials import Provider, VapiCredential
from tenantvault.errors import (
    InsufficientScope,
    InternalError,
    InvalidCredentials,
    ProviderConflict,
    ProviderResourceMissing,
    ProviderUnknownAnswer,
    ProviderValidation,
    QuotaExceeded,
)

Assistant = dict[str, Any]
"""An assistant as Vapi shows it: `id` and `createdAt` are texts. It may hold a webhook secret."""

_ALL: Final = "/assistant"
_ONE: Final = "/assistant/{id}"
_OTHER: Final = {"us": "EU", "eu": "US"}
_log = logging.getLogger(__name__)


class Api:
    """The calls. Each returns what was asked for or a `Refused`; no definite answer is a `ProviderUnreachable`."""

    def __init__(self, outbound: Outbound, urls: Mapping[str, str]) -> None:
        self._outbound = outbound
        self._urls = urls

    async def page(
        self, credential: VapiCredential, *, limit: int, created_before: str = ""
    ) -> list[Assistant] | Refused:
        """At most `limit` assistants, newest first, of those created before an ISO 8601 time."""
        params: dict[str, str | int] = {"limit": limit}
        if created_before:
            params["createdAtLt"] = created_before
        answer = await self._call(credential, "GET", _ALL, params=params)
        if answer.status != HTTPStatus.OK:
            return refusal(answer, credential)
        if not isinstance(answer.json, list):
            raise ProviderUnknownAnswer
        return [_assistant(each) for each in answer.json]

    async def get(self, credential: VapiCredential, assistant_id: str) -> Assistant | Refused | None:
        """One assistant; None when the account has no such one."""
        answer = await self._call(credential, "GET", _ONE, assistant_id)
        return None if answer.status == HTTPStatus.NOT_FOUND else _one(answer, credential)

    async def create(self, credential: VapiCredential, body: Assistant) -> Assistant | Refused:
        """Make an assistant. Without a definite answer, it may have been made."""
        return _one(await self._call(credential, "POST", _ALL, body=body), credential)

    async def update(self, credential: VapiCredential, assistant_id: str, body: Assistant) -> Assistant | Refused:
        """Replace the top-level fields that `body` has, each as a whole."""
        return _one(await self._call(credential, "PATCH", _ONE, assistant_id, body=body), credential)

    async def delete(self, credential: VapiCredential, assistant_id: str) -> Refused | None:
        """Delete an assistant; one that is not there is none to delete."""
        answer = await self._call(credential, "DELETE", _ONE, assistant_id)
        gone = answer.status in {HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND}
        return None if gone else refusal(answer, credential)

    async def _call(
        self,
        credential: VapiCredential,
        method: Method,
        route: str,
        assistant_id: str = "",
        *,
        params: Mapping[str, str | int] | None = None,
        body: Assistant | None = None,
    ) -> Answer:
        answer = await self._outbound.request(
            Provider.VAPI,
            method,
            self._urls[credential.region] + route.format(id=quote(assistant_id, safe="")),
            route=route,
            params=params,
            headers={"Authorization": f"Bearer {credential.api_key.reveal()}"},
            body=body,
        )
        return answer.definite()


def refusal(answer: Answer, credential: VapiCredential) -> Refused:
    """What an answer means that is definite and no success.

    Raises:
        ProviderUnknownAnswer: it says nothing about the credential.
        InternalError: it is a fault of ours.
    """
    match answer.status:
        case HTTPStatus.UNAUTHORIZED:
            if "missing authorization" in _message(answer).lower():
                _log.error("vapi did not get the Authorization header: something on the way removes it")
                raise InternalError
            return Refused(InvalidCredentials, _hint(credential), "apiKey")
        case HTTPStatus.PAYMENT_REQUIRED:
            return Refused(QuotaExceeded, "Vapi asks for a payment: check the plan and the balance there.", "apiKey")
        case HTTPStatus.FORBIDDEN:
            return Refused(InsufficientScope, "Vapi does not let this API key manage assistants.", "apiKey")
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
            return Refused(ProviderValidation, "Vapi refused the request as not valid: tell the operator.")
        case HTTPStatus.NOT_FOUND:
            return Refused(ProviderResourceMissing, "Vapi does not have what was asked for: try again.")
        case HTTPStatus.CONFLICT:
            return Refused(ProviderConflict, "Something else in the Vapi account stands against it: look there.")
        case _:
            raise ProviderUnknownAnswer


def _hint(credential: VapiCredential) -> str:
    hint = (
        "Vapi does not recognise this API key. It may be the public key (give the private one), or a key of the "
        f"{_OTHER[credential.region]} region."
    )
    if not is_uuid(credential.api_key.reveal()):
        hint += " Vapi's keys usually look like 01234567-89ab-cdef-0123-456789abcdef."
    return hint


def _message(answer: Answer) -> str:
    """The message as one text to search in, be it a sentence or a list of them."""
    return str(answer.json.get("message")) if isinstance(answer.json, dict) else ""


def _one(answer: Answer, credential: VapiCredential) -> Assistant | Refused:
    if answer.status in {HTTPStatus.OK, HTTPStatus.CREATED}:
        return _assistant(answer.json)
    return refusal(answer, credential)


def _assistant(value: Any) -> Assistant:
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("id", "createdAt")):
        raise ProviderUnknownAnswer
    return value
