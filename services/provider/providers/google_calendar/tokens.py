"""Google's token endpoint: a code or a refresh token goes in, an access token comes out.

Sources: https://developers.google.com/identity/protocols/oauth2/web-server, RFC 6749 sections 5.1 and 5.2, RFC 7009.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from services.provider.outbound import Answer, Outbound
from services.provider.provider import Refused
from services.provider.providers.google_calendar.application import Application, Endpoints, misconfigured
from tenantvault.credentials import Provider
from tenantvault.errors import (
    InsufficientScope,
    ProviderUnavailable,
    ProviderUnknownAnswer,
    ProviderUnreachable,
    ReauthRequired,
)
from tenantvault.secret import Secret

ADMINISTRATOR: Final = (
    "This Google Workspace does not allow this application: an administrator must allow it. Then connect again."
)

# The vendor's limit for access tokens is 2048 bytes. A token must fit into an HTTP header.
_TOKEN = re.compile(r"[!-~]{1,2048}")
_LONGEST_LIFE: Final = 24 * 3600
# RFC 5321, section 4.5.3.1.3: a path has 256 octets, two of which are its brackets.
_LONGEST_EMAIL: Final = 254
_OURS: Final = frozenset(
    {
        "deleted_client",
        "disabled_client",
        "invalid_client",
        "invalid_scope",
        "redirect_uri_mismatch",
        "unauthorized_client",
        "unsupported_grant_type",
    }
)
_THEIRS: Final = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})
_POLICIES: Final = frozenset({"admin_policy_enforced", "org_internal"})
_WORKSPACE: Final = frozenset({"invalid_rapt", "rapt_required"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the token endpoint gave. `scope` is None when it did not say, `refresh_token` when it gave none."""

    access_token: Secret
    expires_at: datetime
    refresh_token: Secret | None = None
    scope: str | None = None


class Tokens:
    """The calls. All but `revoke` and `email` raise a `ProviderUnreachable` without a definite answer.

    One of them is `ProviderMisconfigured`: Google refuses the application itself.
    """

    def __init__(self, outbound: Outbound, endpoints: Endpoints, *, now: Callable[[], datetime]) -> None:
        self._outbound = outbound
        self._endpoints = endpoints
        self._now = now

    async def redeem(self, application: Application, *, code: str, code_verifier: Secret) -> Grant | Refused:
        """What a code is good for. A code works once."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": code_verifier.reveal(),
            "redirect_uri": application.redirect_url,
        }
        return await self._grant(application, form, over="This sign-in is over: start it again.")

    async def renew(self, application: Application, refresh_token: Secret) -> Grant | Refused:
        """A new access token. Those before it stay good until they end."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
        return await self._grant(
            application,
            form,
            over=(
                "Google says that this consent is over: it was taken back, or not used for months, or ended by a"
                " policy. Connect the account again."
            ),
        )

    async def revoke(self, token: Secret) -> bool:
        """End the consent that a token belongs to, with all its tokens; whether it is over now.

        It ends for every connection of that Google account to this application.
        """
        try:
            answer = await self._post(self._endpoints.revoke, "/revoke", {"token": token.reveal()})
        except ProviderUnreachable:
            return False
        if answer.status == HTTPStatus.OK:
            return True
        return answer.status == HTTPStatus.BAD_REQUEST and _text(answer.json, "error") == "invalid_token"

    async def email(self, access_token: Secret) -> str:
        """The account's e-mail address; empty when it was not to be had."""
        try:
            answer = await self._outbound.request(
                Provider.GOOGLE_CALENDAR,
                "GET",
                self._endpoints.userinfo,
                route="/v1/userinfo",
                headers={"Authorization": f"Bearer {access_token.reveal()}"},
            )
        except ProviderUnreachable:
            return ""
        email = _text(answer.json, "email") if answer.status == HTTPStatus.OK else ""
        return email if len(email) <= _LONGEST_EMAIL else ""

    async def _grant(self, application: Application, form: Mapping[str, str], *, over: str) -> Grant | Refused:
        # Before the request: the token's life began while it was under way.
        asked = self._now()
        client = {"client_id": application.client_id, "client_secret": application.client_secret.reveal()}
        answer = await self._post(self._endpoints.token, "/token", {**client, **form})
        return _granted(answer.json, asked) if answer.status == HTTPStatus.OK else _refusal(answer, over)

    async def _post(self, url: str, route: str, form: Mapping[str, str]) -> Answer:
        answer = await self._outbound.request(Provider.GOOGLE_CALENDAR, "POST", url, route=route, form=form)
        return answer.definite()


def is_token(token: Secret) -> bool:
    """Whether it can be sent: something visible, and no more of it than Google issues."""
    return _TOKEN.fullmatch(token.reveal()) is not None


def _granted(body: Any, asked: datetime) -> Grant:
    access, refresh = _token(body, "access_token"), _token(body, "refresh_token")
    life = body.get("expires_in") if isinstance(body, dict) else None
    scope = body.get("scope") if isinstance(body, dict) else None
    bearer = _text(body, "token_type").lower() == "bearer"
    if access is None or type(life) is not int or life < 1 or not bearer or not isinstance(scope, str | None):
        raise ProviderUnknownAnswer
    if "refresh_token_expires_in" in body:
        # An application whose consent screen is "in testing" gets seven days, and the operator may not know.
        _log.warning("google gave a consent that ends by itself")
    return Grant(access, asked + timedelta(seconds=min(life, _LONGEST_LIFE)), refresh, scope)


def _token(body: Any, name: str) -> Secret | None:
    """The token of this name; None when there is none."""
    if not (text := _text(body, name)):
        return None
    if not is_token(token := Secret(text)):
        raise ProviderUnknownAnswer
    return token


def _refusal(answer: Answer, over: str) -> Refused:
    """What an answer means that is no success: here errors are texts, unlike those of the API."""
    match error := _text(answer.json, "error"):
        case "invalid_grant" if _text(answer.json, "error_subtype") in _WORKSPACE:
            return Refused(ReauthRequired, _SESSION_CONTROL)
        case "invalid_grant":
            return Refused(ReauthRequired, over)
        case _ if error in _POLICIES:
            return Refused(InsufficientScope, ADMINISTRATOR)
        case _ if error in _OURS:
            raise misconfigured(error)
        case _ if error in _THEIRS:
            raise ProviderUnavailable(retry_after=answer.retry_after)
        case _:
            raise ProviderUnknownAnswer


_SESSION_CONTROL: Final = (
    "The Google Workspace of this account ends consents after a while (session control): connect again, and ask the "
    "Workspace administrator to trust this application."
)


def _text(value: Any, key: str) -> str:
    """The text under a key of a JSON object; empty when there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
