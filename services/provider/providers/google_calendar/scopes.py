"""What a person may allow, and what each scope is enough for.

Source: the `scopes` of each method in https://www.googleapis.com/discovery/v1/apis/calendar/v3/rest. A person may
leave out each of them on Google's page (https://developers.google.com/identity/protocols/oauth2/resources/granular-permissions).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_PREFIX: Final = "https://www.googleapis.com/auth/"


@dataclass(frozen=True, slots=True)
class Permission:
    """One thing to allow.

    Any of `scopes` is enough for it; the first one is what we ask for. `words` name it, `need` says what cannot be done
    without it.
    """

    scopes: tuple[str, ...]
    words: str
    need: str

    def is_granted(self, granted: Iterable[str]) -> bool:
        """Whether these scopes are enough."""
        return not set(self.scopes).isdisjoint(granted)


def _of(words: str, need: str, *names: str) -> Permission:
    return Permission(tuple(_PREFIX + name for name in names), words, need)


EVENTS: Final = _of("see and change events", "no appointment can be booked", "calendar.events", "calendar")
"""events.list and events.insert."""

FREEBUSY: Final = _of(
    "see when you are busy",
    "appointments would be booked over others",
    "calendar.freebusy",
    "calendar",
    "calendar.readonly",
    "calendar.events.freebusy",
)
"""freeBusy.query, which `calendar.events` is not enough for."""

CALENDARS: Final = _of(
    "list your calendars",
    "only the account's main calendar can be chosen",
    "calendar.calendarlist.readonly",
    "calendar.calendarlist",
    "calendar",
    "calendar.readonly",
)
"""calendarList.list, which `calendar.events` is not enough for."""

READS_EVENTS: Final = _of(
    "see events",
    "no appointment can be found",
    "calendar.events",
    "calendar.events.readonly",
    "calendar",
    "calendar.readonly",
    "calendar.events.freebusy",
)
"""events.list."""

ASKED: Final = ("openid", "email", EVENTS.scopes[0], FREEBUSY.scopes[0], CALENDARS.scopes[0])
"""The scopes of a consent."""

REQUIRED: Final = (EVENTS, FREEBUSY)
"""What a connection cannot do without."""

_ALIASES: Final = {_PREFIX + "userinfo.email": "email"}


def parsed(text: str) -> tuple[str, ...]:
    """The scopes of a token, sorted, each once. What Google calls by another name than we do gets ours."""
    return tuple(sorted({_ALIASES.get(scope, scope) for scope in text.split()}))


def lacking(granted: Iterable[str], wanted: tuple[Permission, ...]) -> tuple[Permission, ...]:
    """Which of the wanted permissions were left out."""
    granted = tuple(granted)
    return tuple(permission for permission in wanted if not permission.is_granted(granted))


def listed(permissions: tuple[Permission, ...]) -> str:
    """Permissions in words, e.g. `"see and change events" and "see when you are busy"`."""
    return " and ".join(f'"{permission.words}"' for permission in permissions)
