"""Which API keys the stand-in for ElevenLabs knows, and what is unusual about them.

A key is `sk_` and 48 hexadecimal digits in lower case, or an older one of 32 digits. The last 32 digits are its
workspace, so keys that differ in the first 16 alone are of one workspace. Every such key works and may do everything;
what its digits begin with changes that:

    sk_deaf and four of 0 and 1    each 1 takes a permission away: user_read, models_read, voices_read, and
                                   webhooks_write with convai_write
    sk_50b5 and four digits        the subscription is what `STATUSES` has for them
    sk_fa11 and four digits        it fails with the answer that `FAILURES` has for them; 0502 is a proxy's page, and
                                   0504 works, after 30 seconds
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

HTML: Final = "0502"
SLOW: Final = "0504"

STATUSES: Final[Mapping[str, str]] = {
    "0001": "trialing",
    "0002": "incomplete",
    "0003": "past_due",
    "0004": "free",
    "0005": "free_disabled",
}

Detail = dict[str, Any] | list[dict[str, Any]] | str


def _now(kind: str, code: str, message: str) -> Detail:
    """A detail as it is written today: `status` is what the code was called before."""
    return {"type": kind, "code": code, "message": message, "status": code, "request_id": "0" * 32, "param": None}


def missing(permission: str) -> Detail:
    """A key that lacks a permission."""
    message = f"The API key you used is missing the permission {permission} to execute this operation."
    return _now("authorization_error", "missing_permissions", message)


INVALID: Final[tuple[int, Detail]] = (401, _now("authentication_error", "invalid_api_key", "Invalid API key"))
"""The answer to a key that is not known."""

FAILURES: Final[Mapping[str, tuple[int, Detail]]] = {
    "0400": (400, _now("authentication_error", "invalid_api_key", "Invalid API key")),
    "0401": INVALID,
    "1401": (401, {"status": "invalid_api_key", "message": "Invalid API key"}),
    "2401": (401, _now("rate_limit_error", "quota_exceeded", "This request exceeds your quota.")),
    "3401": (401, _now("authorization_error", "detected_unusual_activity", "Unusual activity detected.")),
    "4401": (401, "Unauthorized"),
    "0403": (403, _now("authorization_error", "only_for_creator+", "Only for Creator plans and above.")),
    "1403": (403, _now("payment_required", "invalid_subscription", "The subscription does not include this.")),
    "0404": (404, "Not Found"),
    "0422": (422, [{"loc": ["query", "page_size"], "msg": "value is not valid", "type": "value_error"}]),
    "0429": (429, _now("rate_limit_error", "rate_limit_exceeded", "Too many requests.")),
    "1429": (429, _now("rate_limit_error", "too_many_concurrent_requests", "Too many concurrent requests.")),
    "2429": (429, _now("rate_limit_error", "system_busy", "The system is experiencing heavy traffic.")),
    "0500": (500, "Internal Server Error"),
    "0503": (503, _now("service_unavailable", "service_unavailable", "Try again later.")),
}

_FORM: Final = re.compile(r"(?:sk_([0-9a-f]{16}))?([0-9a-f]{32})")
_RESTRICTED: Final = re.compile(r"deaf[01]{4}")
_PERMISSIONS: Final = (("user_read",), ("models_read",), ("voices_read",), ("webhooks_write", "convai_write"))
_WORKSPACES: Final = UUID("e1e0e400-0000-4000-8000-000000000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key. `failure` are the digits behind `fa11`."""

    workspace: str
    status: str = "active"
    lacks: frozenset[str] = frozenset()
    failure: str = ""


def key_of(text: str) -> Key | None:
    """The key that a text is; None when it has not the form of one."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    head, workspace = match[1] or "", str(uuid5(_WORKSPACES, match[2]))
    word, digits = head[:4], head[4:8]
    if word == "fa11":
        return Key(workspace=workspace, failure=digits)
    if word == "50b5" and digits in STATUSES:
        return Key(workspace=workspace, status=STATUSES[digits])
    if _RESTRICTED.match(head):
        gone = [names for digit, names in zip(digits, _PERMISSIONS, strict=True) if digit == "1"]
        return Key(workspace=workspace, lacks=frozenset(name for names in gone for name in names))
    return Key(workspace=workspace)
