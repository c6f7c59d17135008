"""What this deployment is to Google, and where Google is.

Source: https://developers.google.com/identity/protocols/oauth2/web-server.
"""

import logging
from dataclasses import dataclass
from typing import Final

from tenantvault.errors import ProviderMisconfigured
from tenantvault.secret import Secret

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Application:
    """An OAuth client of the kind "web application", as the Google Cloud console made it.

    `redirect_url` must be one of those that are entered there, letter by letter.
    """

    client_id: str
    client_secret: Secret
    redirect_url: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Google's URLs. `authorize` is for the browser; `calendar` is the API's base URL, without a slash at the end."""

    authorize: str
    token: str
    revoke: str
    userinfo: str
    calendar: str


LIVE: Final = Endpoints(
    authorize="https://accounts.google.com/o/oauth2/v2/auth",
    token="https://oauth2.googleapis.com/token",  # noqa: S106  # a URL
    revoke="https://oauth2.googleapis.com/revoke",
    userinfo="https://openidconnect.googleapis.com/v1/userinfo",
    calendar="https://www.googleapis.com/calendar/v3",
)
"""Google's own."""


def below(base: str) -> Endpoints:
    """The endpoints of a stand-in that has Google's paths below one URL."""
    base = base.rstrip("/")
    return Endpoints(
        authorize=f"{base}/o/oauth2/v2/auth",
        token=f"{base}/token",
        revoke=f"{base}/revoke",
        userinfo=f"{base}/v1/userinfo",
        calendar=f"{base}/calendar/v3",
    )


def required(application: Application | None) -> Application:
    """The application itself.

    Raises:
        ProviderMisconfigured: there is none.
    """
    if application is None:
        raise ProviderMisconfigured(
            "Google Calendar is not set up in this deployment: the operator has to set TENANTVAULT_GOOGLE_CLIENT_ID, "
            "TENANTVAULT_GOOGLE_CLIENT_SECRET and TENANTVAULT_GOOGLE_REDIRECT_URL."
        )
    return application


def misconfigured(problem: str) -> ProviderMisconfigured:
    """The error for a refusal of the application itself. `problem` is logged: one of Google's words that are known."""
    _log.error("google refuses this deployment's application", extra={"problem": problem})
    return ProviderMisconfigured()
