"""How a person connects a Google account: what is asked for, and what is made of the answer.

Source: https://developers.google.com/identity/protocols/oauth2/web-server.
"""

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from services.provider.provider import Refused
from services.provider.providers.google_calendar import pkce, scopes
from services.provider.providers.google_calendar.application import Application, Endpoints, required
from services.provider.providers.google_calendar.tokens import ADMINISTRATOR, Tokens
from tenantvault.credentials import GoogleCalendarCredential
from tenantvault.errors import ConsentDenied, InsufficientScope, ProviderRefused, ReauthRequired

# A code works once, so the caller must still be there when the credential is: the address is not worth a long wait.
_EMAIL_SECONDS: Final = 5.0


class GoogleConsent:
    """The consent of the port. Without an `application`, whatever needs one raises `ProviderMisconfigured`."""

    def __init__(self, tokens: Tokens, *, application: Application | None, endpoints: Endpoints) -> None:
        self._tokens = tokens
        self._application = application
        self._endpoints = endpoints

    def authorization_url(self, *, state: str) -> str:
        """See the port.

        `prompt=consent` makes Google issue a refresh token also to an account that was connected before.

        Raises:
            ProviderMisconfigured: this deployment has no application.
        """
        application = required(self._application)
        query = {
            "response_type": "code",
            "client_id": application.client_id,
            "redirect_uri": application.redirect_url,
            "scope": " ".join(scopes.ASKED),
            "access_type": "offline",
            "prompt": "consent",
            "state": state,
            "code_challenge": pkce.challenge(pkce.verifier(application.client_secret, state)),
            "code_challenge_method": "S256",
        }
        return f"{self._endpoints.authorize}?{urlencode(query, quote_via=quote)}"

    async def redeem(self, *, code: str, state: str) -> GoogleCalendarCredential | Refused:
        """See the port. A consent that lacks what is needed is not taken back: it would end earlier ones with it."""
        application = required(self._application)
        code_verifier = pkce.verifier(application.client_secret, state)
        grant = await self._tokens.redeem(application, code=code, code_verifier=code_verifier)
        if isinstance(grant, Refused):
            return grant
        # RFC 6749, section 5.1: without a word about it, what was asked for is what was granted.
        granted = scopes.parsed(" ".join(scopes.ASKED) if grant.scope is None else grant.scope)
        if lacking := scopes.lacking(granted, scopes.REQUIRED):
            return Refused(InsufficientScope, _left_out(lacking))
        if grant.refresh_token is None:
            return Refused(ReauthRequired, _NOTHING_LASTING)
        try:
            async with asyncio.timeout(_EMAIL_SECONDS):
                email = await self._tokens.email(grant.access_token)
        except TimeoutError:
            email = ""
        return GoogleCalendarCredential(
            refresh_token=grant.refresh_token,
            access_token=grant.access_token,
            expires_at=grant.expires_at,
            scopes=granted,
            email=email,
        )

    def denied(self, error: str) -> ProviderRefused:
        """See the port."""
        match error:
            case "access_denied":
                return ConsentDenied()
            case "admin_policy_enforced" | "org_internal":
                return InsufficientScope(ADMINISTRATOR)
            case _:
                return ConsentDenied(_NOT_COMPLETED)

    def expires_at(self, credential: GoogleCalendarCredential) -> datetime:
        """See the port."""
        return credential.expires_at

    async def refresh(self, credential: GoogleCalendarCredential) -> GoogleCalendarCredential | Refused:
        """See the port. The scopes stay as they were, and so does the refresh token unless a new one comes."""
        grant = await self._tokens.renew(required(self._application), credential.refresh_token)
        if isinstance(grant, Refused):
            return grant
        return replace(
            credential,
            access_token=grant.access_token,
            expires_at=grant.expires_at,
            refresh_token=grant.refresh_token or credential.refresh_token,
        )


def _left_out(permissions: tuple[scopes.Permission, ...]) -> str:
    boxes = "this box" if len(permissions) == 1 else "these boxes"
    needs = " and ".join(permission.need for permission in permissions)
    return (
        f"On Google's page, {scopes.listed(permissions)} was left out. Without it, {needs}: "
        f"connect again and tick {boxes}."
    )


_NOTHING_LASTING: Final = (
    "Google gave no lasting access. Remove this application's access at https://myaccount.google.com/connections, then "
    "connect again."
)
_NOT_COMPLETED: Final = (
    "Google did not complete the sign-in, so nothing was connected: start it again, and tell the operator if this "
    "happens every time."
)
