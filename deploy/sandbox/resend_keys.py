"""Which API keys the stand-in for Resend knows, and what is unusual about them.

A key is `re_`, eight letters or digits, `_`, and 24 letters or digits. The 24 are its team, so keys that differ in the
eight alone are of one team. Every such key has full access and works until it is deleted; what it begins with changes
that:

    re_send....   may only send e-mail
    re_idle....   is not active any more
    re_bare....   its team has no domain
    re_busy....   its team is held to five requests a second
    re_fa11....   fails with the answer that `FAILURES` has for the four characters behind `fa11`; 0502 is a proxy's
                  page, and 0504 works, after 30 seconds
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

INVALID: Final = (401, "validation_error", "API key is invalid")
"""The answer to a key that is not known."""

INACTIVE: Final = (403, "restricted_api_key", "This API key is not active")
RESTRICTED: Final = (401, "restricted_api_key", "This API key is restricted to only send emails")

HTML: Final = "0502"
SLOW: Final = "0504"

FAILURES: Final[Mapping[str, tuple[int, str, str]]] = {
    "0400": (400, "validation_error", "API key is invalid"),
    "0401": INVALID,
    "0403": (403, "validation_error", "API key is invalid"),
    "1400": (400, "invalid_api_key", "API key is invalid"),
    "1401": (401, "invalid_api_key", "API key is invalid"),
    "1403": (403, "invalid_api_key", "API key is invalid"),
    "2403": (403, "suspended_api_key", "This API key is suspended"),
    "3403": (403, "invalid_permission", "The token lacks the scope for this request"),
    "4403": (403, "validation_error", "The example.com domain is not verified."),
    "0404": (404, "not_found", "The requested endpoint does not exist"),
    "0405": (405, "method_not_allowed", "This endpoint does not support this method"),
    "0409": (409, "resource_locked", "The resource is being changed by another request"),
    "1409": (409, "invalid_idempotent_request", "This idempotency key was used with another body"),
    "2409": (409, "concurrent_idempotent_requests", "A request with this idempotency key is under way"),
    "0422": (422, "missing_required_field", "The request is missing a required field"),
    "0429": (429, "rate_limit_exceeded", "Too many requests"),
    "1429": (429, "daily_quota_exceeded", "You have reached your daily email sending quota"),
    "2429": (429, "monthly_quota_exceeded", "You have reached your monthly email sending quota"),
    "0500": (500, "application_error", "An unexpected error occurred"),
    "0503": (503, "service_unavailable", "The service is unavailable"),
}

_TOKEN: Final = re.compile(r"re_([0-9A-Za-z]{8})_([0-9A-Za-z]{24})")
_TEAMS: Final = UUID("4e5e4d00-0000-4000-8000-000000000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key. `kind` is the word that makes it unusual; `permission` is `full_access` or `sending_access`."""

    id: str
    team: str
    name: str
    permission: str
    created_at: datetime
    kind: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the list shows it: without the token."""
        return {"id": self.id, "name": self.name, "created_at": stamp(self.created_at), "last_used_at": None}


def typed(token: str, now: datetime) -> Key | None:
    """The key that a token is which somebody made up; None when it has not the form of one."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    head, tail = match.groups()
    return Key(
        id=str(uuid5(_TEAMS, token)),
        team=str(uuid5(_TEAMS, tail)),
        name="Onboarding",
        permission="sending_access" if head.startswith("send") else "full_access",
        created_at=now,
        kind=head if head.startswith("fa11") else head[:4],
    )


def token_of(key_id: str) -> str:
    """The token of a key that the API makes, from its id, a UUID."""
    digits = key_id.replace("-", "").replace("0", "z")
    return f"re_{digits[:8]}_{digits[8:]}"


def stamp(moment: datetime) -> str:
    """A time as the API writes it."""
    return moment.isoformat(sep=" ", timespec="microseconds").replace("+00:00", "+00")
