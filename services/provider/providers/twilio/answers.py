"""What Twilio's answers mean.

Source: https://www.twilio.com/docs/api/errors. Older APIs answer `{code, message, more_info, status}`, newer ones
problem details (RFC 9457) with a `code`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from services.provider.outbound import Answer
from services.provider.provider import Refused
from tenantvault.errors import (
    AccountSuspended,
    InsufficientScope,
    InvalidCredentials,
    ProviderConflict,
    ProviderRefused,
    ProviderResourceMissing,
    ProviderUnknownAnswer,
    ProviderValidation,
    WrongCredentialType,
)


def refusal(answer: Answer, field: str) -> Refused:
    """What an answer means that is definite and no success; `field` is the password that it was about.

    Raises:
        ProviderUnknownAnswer: it says nothing about the credential.
    """
    said = " ".join(text(answer.json, key) for key in ("message", "title", "detail")).lower()
    match _code(answer.json), answer.status:
        case 20003, _ if field == "apiKeySecret" and "invalid username" in said:
            kind, sentence = _NO_NUMBERS
        case 20403, _ if "suspend" in said or "closed" in said:
            kind, sentence = _SUSPENDED
        case code, _ if code in _BY_CODE:
            kind, sentence = _BY_CODE[code]
        case _, HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
            return Refused(ProviderValidation, "Twilio refused the request as not valid: tell the operator.")
        case _, HTTPStatus.CONFLICT:
            return Refused(ProviderConflict, "Something else in the Twilio account stands against it: look there.")
        case _:
            raise ProviderUnknownAnswer
    return Refused(kind, sentence, "accountSid" if kind in {AccountSuspended, ProviderResourceMissing} else field)


def text(value: Any, key: str) -> str:
    """The text under a key of a JSON object; empty when there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _code(body: Any) -> int:
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, int) else 0


_Meaning = tuple[type[ProviderRefused], str]

_SUSPENDED: Final[_Meaning] = (AccountSuspended, "This Twilio account is suspended or closed: contact Twilio.")
_FORBIDDEN: Final[_Meaning] = (
    InsufficientScope,
    "Twilio does not let this pair use the account and its numbers: give the Auth Token or a main API key.",
)
_NO_NUMBERS: Final[_Meaning] = (
    InsufficientScope,
    "Twilio does not let this pair use phone numbers: give a standard API key, or one with that permission.",
)
_NOT_ACCEPTED: Final[_Meaning] = (
    InvalidCredentials,
    (
        "Twilio does not accept this pair: copy both parts again. It says the same when the account is suspended, when "
        "the key was deleted or belongs to another account or region, and to test credentials."
    ),
)
_BY_CODE: Final[Mapping[int, _Meaning]] = {
    10001: _SUSPENDED,
    20003: _NOT_ACCEPTED,
    20005: _SUSPENDED,
    20006: _FORBIDDEN,
    20008: (WrongCredentialType, "These are Twilio's test credentials: give the live ones."),
    20403: _FORBIDDEN,
    20404: (ProviderResourceMissing, "Twilio knows no such account, or it is not yours."),
    70051: _NO_NUMBERS,
}
