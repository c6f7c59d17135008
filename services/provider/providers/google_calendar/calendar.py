"""The Calendar API, as far as it is used, and what each of its answers means.

Sources: https://developers.google.com/workspace/calendar/api/guides/errors,
https://developers.google.com/workspace/calendar/api/v3/reference/freebusy/query.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from services.provider.outbound import Answer, Outbound
from services.provider.provider import Accepted, Refused, Verdict
from services.provider.providers.google_calendar import scopes
from services.provider.providers.google_calendar.application import misconfigured
from tenantvault.credentials import GoogleCalendarCredential, Provider
from tenantvault.errors import (
    InsufficientScope,
    InternalError,
    ProviderResourceMissing,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderValidation,
    RateLimited,
    ReauthRequired,
)

_CALENDARS: Final = "/users/me/calendarList"
_EVENTS: Final = "/calendars/primary/events"
_FREEBUSY: Final = "/freeBusy"
_SLOW_DOWN: Final = frozenset(
    {"RATE_LIMIT_EXCEEDED", "dailyLimitExceeded", "quotaExceeded", "rateLimitExceeded", "userRateLimitExceeded"}
)
_NO_SCOPE: Final = frozenset({"ACCESS_TOKEN_SCOPE_INSUFFICIENT", "insufficientPermissions"})
_NOT_ENABLED: Final = frozenset({"SERVICE_DISABLED", "accessNotConfigured"})
_NO_LOGIN: Final = frozenset({"CREDENTIALS_MISSING", "required"})
_STALE: Final = frozenset({"UNAUTHENTICATED", "authError"})
_log = logging.getLogger(__name__)


class Calendar:
    """The API below a base URL."""

    def __init__(self, outbound: Outbound, url: str, *, now: Callable[[], datetime]) -> None:
        self._outbound = outbound
        self._url = url
        self._now = now

    async def probe(self, credential: GoogleCalendarCredential) -> Verdict:
        """Make the one call that the scopes are enough for; a `Refused` of ReauthRequired when the token is not taken.

        Raises:
            ProviderUnreachable: there was no definite answer.
        """
        granted = credential.scopes
        if scopes.CALENDARS.is_granted(granted):
            answer = await self._get(credential, _CALENDARS)
        elif scopes.READS_EVENTS.is_granted(granted):
            answer = await self._get(credential, _EVENTS)
        elif scopes.FREEBUSY.is_granted(granted):
            answer = await self._freebusy(credential)
        else:
            return Refused(InsufficientScope, _NOTHING)
        if answer.status != HTTPStatus.OK:
            return refusal(answer)
        kind = answer.json.get("kind") if isinstance(answer.json, dict) else None
        if not isinstance(kind, str) or not kind.startswith("calendar#"):
            raise ProviderUnknownAnswer
        return _busy(answer.json) if kind == "calendar#freeBusy" else Accepted()

    async def _get(self, credential: GoogleCalendarCredential, route: str) -> Answer:
        answer = await self._outbound.request(
            Provider.GOOGLE_CALENDAR,
            "GET",
            self._url + route,
            route=route,
            params={"maxResults": 1},
            headers=_login(credential),
        )
        return answer.definite()

    async def _freebusy(self, credential: GoogleCalendarCredential) -> Answer:
        now = self._now().astimezone(UTC).replace(microsecond=0)
        answer = await self._outbound.request(
            Provider.GOOGLE_CALENDAR,
            "POST",
            self._url + _FREEBUSY,
            route=_FREEBUSY,
            headers=_login(credential),
            body={
                "timeMin": now.isoformat(),
                "timeMax": (now + timedelta(hours=1)).isoformat(),
                "items": [{"id": "primary"}],
            },
        )
        return answer.definite()


def refusal(answer: Answer) -> Refused:
    """What an answer means that is definite and no success.

    Raises:
        RateLimited: Google asks to slow down, which it also does with a 403.
        ProviderMisconfigured: the API is not enabled for this deployment's application.
        ProviderUnknownAnswer: it says nothing about the account.
        InternalError: it is a fault of ours.
    """
    reasons = frozenset(_reasons(answer.json))
    match answer.status:
        case HTTPStatus.UNAUTHORIZED if reasons & _NO_LOGIN:
            _log.error("google did not get the Authorization header: something on the way removes it")
            raise InternalError
        case HTTPStatus.UNAUTHORIZED if reasons & _STALE:
            return Refused(ReauthRequired, "Google does not accept this sign-in any more: connect the account again.")
        case HTTPStatus.FORBIDDEN:
            return _forbidden(reasons, answer.retry_after)
        case HTTPStatus.NOT_FOUND if "notFound" in reasons:
            return Refused(ProviderResourceMissing, _NO_CALENDAR)
        case HTTPStatus.BAD_REQUEST:
            return Refused(ProviderValidation, "Google refused the request as not valid: tell the operator.")
        case _:
            raise ProviderUnknownAnswer


def _forbidden(reasons: frozenset[str], retry_after: float | None) -> Refused:
    if reasons & _SLOW_DOWN:
        raise RateLimited(retry_after=retry_after)
    if reasons & _NOT_ENABLED:
        raise misconfigured("accessNotConfigured")
    if reasons & _NO_SCOPE:
        return Refused(InsufficientScope, "Google says that a permission is missing: connect again and tick every box.")
    if "notACalendarUser" in reasons:
        return Refused(InsufficientScope, _NO_CALENDAR)
    if any(reason.startswith("forbidden") for reason in reasons):
        return Refused(
            InsufficientScope,
            "Google does not let this account use its calendar here: ask the account's administrator to allow it.",
        )
    raise ProviderUnknownAnswer


_NOTHING: Final = "None of the permissions that are needed was given: connect again and tick every box."
_NO_CALENDAR: Final = (
    "This Google account has no calendar: open https://calendar.google.com with it once, or connect another account."
)


def _login(credential: GoogleCalendarCredential) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential.access_token.reveal()}"}


def _busy(body: dict[str, Any]) -> Verdict:
    """A free/busy answer is a success even when the calendar in it has failed."""
    calendars = body.get("calendars")
    primary = calendars.get("primary") if isinstance(calendars, dict) else None
    if not isinstance(primary, dict):
        raise ProviderUnknownAnswer
    if not primary.get("errors"):
        return Accepted()
    match frozenset(_texts(primary["errors"], "reason")):
        case reasons if "notFound" in reasons:
            return Refused(ProviderResourceMissing, _NO_CALENDAR)
        case reasons if "internalError" in reasons:
            raise ProviderUnavailable
        case _:
            raise ProviderUnknownAnswer


def _reasons(body: Any) -> Iterator[str]:
    """Every word for what went wrong, in the older form (`errors`) and the newer one (`status`, `details`)."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        yield from _texts([error], "status")
        yield from _texts(error.get("errors"), "reason")
        yield from _texts(error.get("details"), "reason")


def _texts(values: Any, key: str) -> Iterator[str]:
    for value in values if isinstance(values, list) else ():
        found = value.get(key) if isinstance(value, dict) else None
        if isinstance(found, str):
            yield found
