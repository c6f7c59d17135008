"""What Google's tokens stand for, and what each scope is enough for.

A token of the stand-in says itself what it is, so those that were stored before a restart still work after it.

Source of the scopes: https://www.googleapis.com/discovery/v1/apis/calendar/v3/rest.
"""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Final

PREFIX: Final = "https://www.googleapis.com/auth/"

EMAIL: Final = PREFIX + "userinfo.email"
"""How Google calls the scope `email` in its answers."""

WORDS: Final = {
    "openid": "Know who you are on Google",
    EMAIL: "See your e-mail address",
    PREFIX + "calendar": "See, change, share and delete all your calendars",
    PREFIX + "calendar.readonly": "See and download any calendar you can open",
    PREFIX + "calendar.events": "See and change events on all your calendars",
    PREFIX + "calendar.events.readonly": "See events on all your calendars",
    PREFIX + "calendar.freebusy": "See when you are busy",
    PREFIX + "calendar.events.freebusy": "See when you are busy on calendars you can open",
    PREFIX + "calendar.calendarlist": "See, add and remove the calendars you subscribe to",
    PREFIX + "calendar.calendarlist.readonly": "See the list of your calendars",
}
"""Every scope that the stand-in knows, as a person reads it."""

ALWAYS: Final = frozenset({"openid", EMAIL})
"""Signing in is no permission that a person could leave out."""


def _enough(*names: str) -> frozenset[str]:
    return frozenset(PREFIX + name for name in names)


LISTS_CALENDARS: Final = _enough(
    "calendar", "calendar.readonly", "calendar.calendarlist", "calendar.calendarlist.readonly"
)
"""Any of these is enough for calendarList.list."""

LISTS_EVENTS: Final = _enough(
    "calendar", "calendar.readonly", "calendar.events", "calendar.events.readonly", "calendar.events.freebusy"
)
"""Any of these is enough for events.list."""

SEES_BUSY: Final = _enough("calendar", "calendar.readonly", "calendar.freebusy", "calendar.events.freebusy")
"""Any of these is enough for freeBusy.query."""


def scopes_of(text: str) -> tuple[str, ...]:
    """The scopes in a request, each once, under the names that Google's answers have."""
    return tuple(dict.fromkeys(EMAIL if scope == "email" else scope for scope in text.split()))


@dataclass(frozen=True, slots=True)
class Token:
    """A token: `access` or `refresh`, of an account to an application.

    `age` says how often the account took its consent back before; `ends` is in seconds since 1970, 0 for never.
    `number` makes two tokens of the same moment differ. `fresh` is false for the access token that came with a code.
    """

    kind: str
    email: str
    client_id: str
    scopes: tuple[str, ...]
    age: int
    ends: int
    number: str
    fresh: bool

    def text(self) -> str:
        """As it is sent: with what Google's begin with."""
        value = [
            self.kind,
            self.email,
            self.client_id,
            " ".join(scope.replace(PREFIX, "~") for scope in self.scopes),
            self.age,
            self.ends,
            self.number,
            self.fresh,
        ]
        packed = urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")
        return ("ya29." if self.kind == "access" else "1//") + packed


def token_of(text: str) -> Token | None:
    """The token that a text is; None when it is none."""
    for kind, beginning in (("access", "ya29."), ("refresh", "1//")):
        if text.startswith(beginning):
            return _unpacked(kind, text.removeprefix(beginning))
    return None


def _unpacked(kind: str, packed: str) -> Token | None:
    try:
        value: Any = json.loads(urlsafe_b64decode(packed.encode("ascii") + b"=" * (-len(packed) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return None
    match value:
        case [
            str(named),
            str(email),
            str(client_id),
            str(scopes),
            int(age),
            int(ends),
            str(number),
            bool(fresh),
        ] if named == kind:
            granted = tuple(scope.replace("~", PREFIX) for scope in scopes.split())
            return Token(kind, email, client_id, granted, age, ends, number, fresh)
        case _:
            return None
