"""What Resend's errors mean.

Source: https://resend.com/docs/api-reference/errors. An error is `{statusCode, message, name}`. The status is not to be
relied on: a genuine key that may only send gets a 401, and an unknown key has been answered with 400, 401 and 403. So
the name decides, and then the message.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from services.provider.outbound import Answer
from services.provider.provider import Refused
from tenantvault.errors import (
    AccountSuspended,
    InsufficientScope,
    InternalError,
    InvalidCredentials,
    ProviderConflict,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderValidation,
    QuotaExceeded,
    RateLimited,
)

_Meaning = tuple[type[ProviderRefused], str]

_log = logging.getLogger(__name__)


def meaning(answer: Answer) -> Refused:
    """What an answer means that is no success.

    Raises:
        RateLimited: Resend asks to slow down.
        ProviderUnavailable: it is Resend's failure, or no answer of Resend's at all; or something there is locked for
            the moment.
        ProviderUnknownAnswer: it says nothing that is known.
        InternalError: it is a fault of ours.
    """
    name, message = text(answer.json, "name"), text(answer.json, "message").lower()
    match name:
        case "missing_api_key":
            _log.error("resend did not get the Authorization header: something on the way removes it")
            raise InternalError
        case "rate_limit_exceeded":
            raise RateLimited(retry_after=answer.retry_after)
        case _ if name in _PASSING:
            raise ProviderUnavailable(retry_after=answer.retry_after)
        case "restricted_api_key" if "not active" in message:
            kind, sentence = _INACTIVE
        case "validation_error" if "api key is invalid" in message:
            kind, sentence = _UNKNOWN_KEY
        case _ if name in _BY_NAME:
            kind, sentence = _BY_NAME[name]
        case _ if answer.definite().status == HTTPStatus.UNPROCESSABLE_ENTITY:
            kind, sentence = _INVALID
        case _:
            raise ProviderUnknownAnswer
    return Refused(kind, sentence, "apiKey" if kind in _ABOUT_THE_KEY else "")


def is_sending_only(refused: Refused) -> bool:
    """Whether the key is genuine, and for sending alone."""
    return (refused.kind, refused.sentence) == _ONLY_SENDS


def text(value: Any, key: str) -> str:
    """The text under a key of a JSON object; empty when there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


_PASSING: Final = frozenset(
    {
        "application_error",
        "concurrent_idempotent_requests",
        "internal_server_error",
        "resource_locked",
        "service_unavailable",
    }
)
_ABOUT_THE_KEY: Final = frozenset({AccountSuspended, InsufficientScope, InvalidCredentials, QuotaExceeded})
_UNKNOWN_KEY: Final[_Meaning] = (
    InvalidCredentials,
    "Resend does not recognise this API key: copy it again, or create a new one in Resend's dashboard.",
)
_INACTIVE: Final[_Meaning] = (
    InvalidCredentials,
    "Resend says that this API key is not active: create a new one in Resend's dashboard.",
)
_ONLY_SENDS: Final[_Meaning] = (
    InsufficientScope,
    "This key may only send e-mail: create one with full access in Resend's dashboard.",
)
_INVALID: Final[_Meaning] = (ProviderValidation, "Resend refused the request as not valid: tell the operator.")
_MISSING: Final[_Meaning] = (ProviderResourceMissing, "Resend does not have what was asked for.")
_SPENT: Final = "of this plan is spent: wait, or change the plan at Resend."
_BY_NAME: Final[Mapping[str, _Meaning]] = {
    "invalid_api_key": _UNKNOWN_KEY,
    "restricted_api_key": _ONLY_SENDS,
    "suspended_api_key": (AccountSuspended, "Resend has suspended this API key or its account: contact Resend."),
    "invalid_permission": (InsufficientScope, "Resend does not permit this with the key that was given."),
    "not_found": _MISSING,
    "method_not_allowed": _MISSING,
    "invalid_idempotent_request": (ProviderConflict, "Resend has seen another request under the same name."),
    "daily_quota_exceeded": (QuotaExceeded, f"The daily allowance {_SPENT}"),
    "monthly_quota_exceeded": (QuotaExceeded, f"The monthly allowance {_SPENT}"),
    "validation_error": _INVALID,
    "invalid_access": _INVALID,
    "invalid_attachment": _INVALID,
    "invalid_from_address": _INVALID,
    "invalid_idempotency_key": _INVALID,
    "invalid_parameter": _INVALID,
    "invalid_region": _INVALID,
    "missing_required_field": _INVALID,
}
