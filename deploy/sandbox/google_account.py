"""Which Google accounts there are: every e-mail address is one, and what stands before its `@` can make it special."""

import re
from dataclasses import dataclass
from typing import Final

DEFAULT: Final = "calendar@acme.example"

LIFE: Final = 3599
"""Seconds for which an access token is good."""

_SHORT: Final = 60
_EMAIL: Final = re.compile(r"[a-z0-9._+-]{1,64}@[a-z0-9.-]{1,190}", re.IGNORECASE)

CONSENTS: Final = {"blocked": "admin_policy_enforced", "internal": "org_internal"}
"""What comes back instead of a code although the person allows it."""


@dataclass(frozen=True, slots=True)
class TokenFailure:
    """What a refresh fails with."""

    status: int
    error: str
    description: str
    subtype: str = ""


@dataclass(frozen=True, slots=True)
class ApiFailure:
    """What every call of the API fails with."""

    status: int
    reason: str
    message: str
    domain: str = "global"
    word: str = "PERMISSION_DENIED"
    detail: str = ""


REFRESHES: Final = {
    "revoked": TokenFailure(400, "invalid_grant", "Token has been expired or revoked."),
    "rapt": TokenFailure(400, "invalid_grant", "reauth related error (invalid_rapt)", "invalid_rapt"),
    "deleted": TokenFailure(401, "deleted_client", "The OAuth client was deleted."),
    "flaky": TokenFailure(500, "internal_failure", "Backend Error"),
}

CALLS: Final = {
    "nocalendar": ApiFailure(403, "notACalendarUser", "The user must be signed up for Google Calendar."),
    "forbidden": ApiFailure(403, "forbidden", "Forbidden"),
    "disabled": ApiFailure(
        403,
        "accessNotConfigured",
        "Google Calendar API has not been used in this project before or it is disabled.",
        domain="usageLimits",
        detail="SERVICE_DISABLED",
    ),
    "quota": ApiFailure(
        403,
        "rateLimitExceeded",
        "Rate Limit Exceeded",
        domain="usageLimits",
        detail="RATE_LIMIT_EXCEEDED",
    ),
    "down": ApiFailure(503, "backendError", "Service unavailable. Please try again later.", word="UNAVAILABLE"),
}


def is_email(text: str) -> bool:
    """Whether it is an account."""
    return _EMAIL.fullmatch(text) is not None


def special(email: str) -> str:
    """What is special about an account: what stands before the `@`, without a `+` and what follows it."""
    return email.partition("@")[0].partition("+")[0].lower()


def life_of(email: str) -> int:
    """Seconds for which the account's access tokens are good."""
    return _SHORT if special(email) == "short" else LIFE
