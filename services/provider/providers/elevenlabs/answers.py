"""What ElevenLabs' errors mean.

Sources: https://elevenlabs.io/docs/eleven-api/resources/errors,
https://help.elevenlabs.io/hc/en-us/articles/19572237925521. An error is `{detail}`: an object with a `code`, in older
answers only with a `status`, whose values are the same; a list where the request is not valid; now and then a text.

The HTTP status says little: a 401 may be an unknown key, a genuine key without a permission, or a spent quota.
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from services.provider.outbound import Answer
from services.provider.provider import Refused
from tenantvault.errors import (
    AccountSuspended,
    InsufficientScope,
    InvalidCredentials,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderUnknownAnswer,
    ProviderValidation,
    QuotaExceeded,
    RateLimited,
)

_Meaning = tuple[type[ProviderRefused], str]

_LACKS: Final[_Meaning] = (
    InsufficientScope,
    "This ElevenLabs key lacks a permission: edit the key in ElevenLabs' dashboard, or create another.",
)


def meaning(answer: Answer) -> Refused:
    """What an answer means that is no success.

    Raises:
        RateLimited: ElevenLabs asks to slow down.
        ProviderUnavailable: it is ElevenLabs' failure, or no answer of ElevenLabs' at all.
        ProviderUnknownAnswer: it says nothing that is known.
    """
    for code in _codes(answer.json):
        if code in _SLOW_DOWN:
            raise RateLimited(retry_after=answer.retry_after)
        if code.startswith("only_for_"):
            return _refused(_PLAN)
        if code in _BY_CODE:
            return _refused(_BY_CODE[code])
    match answer.definite().status:
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            return _refused(_INVALID)
        case HTTPStatus.NOT_FOUND:
            return _refused(_MISSING)
        case _:
            raise ProviderUnknownAnswer


def lacks_permission(refused: Refused) -> bool:
    """Whether the key is genuine and lacks a permission. A plan that lacks something is another matter."""
    return (refused.kind, refused.sentence) == _LACKS


def text(value: Any, key: str) -> str:
    """The text under a key of a JSON object; empty when there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _refused(told: _Meaning) -> Refused:
    kind, sentence = told
    return Refused(kind, sentence, "apiKey" if kind in _ABOUT_THE_KEY else "")


def _codes(body: Any) -> Iterator[str]:
    """What the error is called, the best name first."""
    detail = body.get("detail") if isinstance(body, dict) else None
    if isinstance(detail, str):
        said = detail.lower()
        yield from (code for phrase, code in _PHRASES.items() if phrase in said)
        yield detail
    for key in ("code", "status"):
        if found := text(detail, key):
            yield found


_PHRASES: Final[Mapping[str, str]] = {
    "invalid api key": "invalid_api_key",
    "missing the permission": "missing_permissions",
}
_SLOW_DOWN: Final = frozenset(
    {"concurrent_limit_exceeded", "rate_limit_exceeded", "system_busy", "too_many_concurrent_requests"}
)
_ABOUT_THE_KEY: Final = frozenset({AccountSuspended, InsufficientScope, InvalidCredentials, QuotaExceeded})
_INVALID: Final[_Meaning] = (ProviderValidation, "ElevenLabs refused the request as not valid: tell the operator.")
_MISSING: Final[_Meaning] = (ProviderResourceMissing, "ElevenLabs does not have what was asked for.")
_PLAN: Final[_Meaning] = (
    InsufficientScope,
    "The plan of this ElevenLabs account does not include this: change the plan, or give another account's key.",
)
_BY_CODE: Final[Mapping[str, _Meaning]] = {
    "missing_permissions": _LACKS,
    "invalid_api_key": (
        InvalidCredentials,
        (
            "ElevenLabs does not recognise this API key: copy it again, or create a new one. It may also be a key of "
            "another region."
        ),
    ),
    "quota_exceeded": (QuotaExceeded, "The credits of this ElevenLabs key or plan are spent: add some, or wait."),
    "detected_unusual_activity": (
        AccountSuspended,
        "ElevenLabs has blocked this account's free plan for unusual activity: take a plan, or contact ElevenLabs.",
    ),
    "invalid_subscription": _PLAN,
    "webhook_not_found": _MISSING,
}
