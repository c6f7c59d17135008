"""A customer's Google account: the test of its credential, what is chosen for it, and how it is let go."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from services.provider.description import Description
from services.provider.outbound import Outbound
from services.provider.provider import Accepted, Checkpoint, Provisioned, Refused, Verdict
from services.provider.providers.google_calendar import scopes
from services.provider.providers.google_calendar.application import Application, Endpoints
from services.provider.providers.google_calendar.calendar import Calendar
from services.provider.providers.google_calendar.consent import GoogleConsent
from services.provider.providers.google_calendar.tokens import Tokens, is_token
from tenantvault.credentials import Credential, GoogleCalendarCredential, Provider, Resource
from tenantvault.errors import InvalidRequest, ReauthRequired
from tenantvault.secret import Secret

_CHANNEL_TOKEN_BYTES: Final = 32
_CONNECTIONS: Final = "https://myaccount.google.com/connections"


class GoogleCalendar:
    """The provider Google Calendar. `application` is None where this deployment is not set up for it."""

    def __init__(
        self,
        outbound: Outbound,
        *,
        application: Application | None,
        endpoints: Endpoints,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_secret: Callable[[], str] = lambda: secrets.token_urlsafe(_CHANNEL_TOKEN_BYTES),
    ) -> None:
        self.name: Final = Provider.GOOGLE_CALENDAR
        self.credential: Final = GoogleCalendarCredential
        self.rotation: Final = None
        self.description: Final = _description(available=application is not None)
        self._tokens = Tokens(outbound, endpoints, now=now)
        self.consent: Final = GoogleConsent(self._tokens, application=application, endpoints=endpoints)
        self._calendar = Calendar(outbound, endpoints.calendar, now=now)
        self._new_secret = new_secret

    def normalise(self, credential: GoogleCalendarCredential) -> GoogleCalendarCredential:
        """See the port. Nobody types it in, so there is nothing to mend."""
        problems = {}
        if not is_token(credential.refresh_token):
            problems["refreshToken"] = _NOT_TYPED_IN
        if not is_token(credential.access_token):
            problems["accessToken"] = _NOT_TYPED_IN
        if credential.expires_at.tzinfo is None:
            problems["expiresAt"] = _NOT_TYPED_IN
        if not credential.scopes:
            problems["scopes"] = _NOT_TYPED_IN
        if problems:
            raise InvalidRequest(_NOT_TYPED_IN, fields=problems)
        return credential

    async def test(self, credential: GoogleCalendarCredential) -> Verdict:
        """See the port. An access token that is not taken may just be old: then it is tried once more with a new one.

        The new one is not stored. Those before it stay good.
        """
        verdict = await self._calendar.probe(credential)
        if isinstance(verdict, Refused) and verdict.kind is ReauthRequired:
            renewed = await self.consent.refresh(credential)
            if isinstance(renewed, Refused):
                return renewed
            verdict = await self._calendar.probe(renewed)
        return verdict if isinstance(verdict, Refused) else Accepted(_warnings(credential), credential.email)

    async def complete(
        self, org_id: str, credential: GoogleCalendarCredential, newest: Callable[[], Awaitable[Credential | None]]
    ) -> GoogleCalendarCredential:
        """See the port. The channel token stays with the account it was made for: open channels carry it."""
        del org_id
        if credential.channel_token:
            return credential
        before = await newest()
        if isinstance(before, GoogleCalendarCredential) and before.channel_token and _same_account(before, credential):
            return replace(credential, channel_token=before.channel_token)
        return replace(credential, channel_token=Secret(self._new_secret()))

    async def provision(
        self, org_id: str, credential: GoogleCalendarCredential, *, known: tuple[Resource, ...], checkpoint: Checkpoint
    ) -> Provisioned:
        """See the port. Nothing is made at Google."""
        del org_id, credential, known, checkpoint
        return Provisioned(())

    async def inspect(
        self, org_id: str, credential: GoogleCalendarCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port. Nothing was made that could have changed."""
        del org_id, credential, known
        return ()

    async def release(
        self, org_id: str, credential: GoogleCalendarCredential, *, known: tuple[Resource, ...]
    ) -> tuple[str, ...]:
        """See the port. Ends the consent at Google, which ends it in every org that uses this account."""
        del org_id, known
        if await self._tokens.revoke(credential.refresh_token):
            return ()
        return (f"Google could not be reached: remove the access yourself at {_CONNECTIONS}",)


def _description(*, available: bool) -> Description:
    return Description(
        title="Google Calendar",
        summary="Books appointments in a Google calendar, and sees when it is free.",
        next=(
            "Google asks you to sign in and to allow each permission. Then the connection is tested, and kept alive "
            "until you disconnect it. A disconnect ends the consent of that Google account here, also where another "
            "organisation connected the same account."
        ),
        console_url=_CONNECTIONS,
        asks_for=(
            "See and change events on your calendars, to book and move appointments.",
            "See when you are busy, to offer only times that are free.",
            "List your calendars, so that one can be chosen; you may leave this out.",
            "See your e-mail address, to show which account is connected.",
        ),
        never_asks_for=(
            "Read your mail, your contacts or your files.",
            "Change who sees your calendars, or delete a calendar.",
        ),
        available=available,
    )


_NOT_TYPED_IN: Final = "Google Calendar is connected by signing in with Google: there is nothing to type in."


def _same_account(one: GoogleCalendarCredential, other: GoogleCalendarCredential) -> bool:
    return bool(one.email) and one.email == other.email


def _warnings(credential: GoogleCalendarCredential) -> tuple[str, ...]:
    lacking = scopes.lacking(credential.scopes, (*scopes.REQUIRED, scopes.CALENDARS))
    return tuple(
        f'"{permission.words}" was not allowed, so {permission.need}: connect again and tick it to allow it.'
        for permission in lacking
    )
