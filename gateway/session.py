"""The dashboard's sessions: a signed cookie that scripts cannot read.

The cookie is a JWT under the gateway's own secret. Its audience is fixed, so that no other token passes for a session.
Signing out revokes its id in this process's memory until the session would have ended by itself.
"""

import time
import uuid
from collections.abc import Callable
from typing import Any, Final

import jwt
from starlette.requests import Request
from starlette.responses import Response

from gateway.identity import NOT_SIGNED_IN, Identity
from tenantvault.errors import Unauthenticated
from tenantvault.secret import Secret

LIFETIME: Final = 8 * 3600
"""Seconds that a session lasts: a working day."""

_AUDIENCE: Final = "tenantvault-session"
_ALGORITHM: Final = "HS256"


class Sessions:
    """Opens, recognises and closes sessions.

    `secure` gives the cookie the `__Host-` prefix, which ties it to this host and to https; only plain http on one's
    own machine goes without. `now` is the wall clock in seconds.
    """

    def __init__(
        self,
        secret: Secret,
        *,
        secure: bool,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._secret = secret
        self._secure = secure
        self._now = now
        self._new_id = new_id
        self._revoked: dict[str, int] = {}
        self.cookie: Final = "__Host-tenantvault" if secure else "tenantvault"

    def open(self, identity: Identity, response: Response) -> None:
        """Give the browser a session for this identity."""
        claims = {
            "aud": _AUDIENCE,
            "jti": self._new_id(),
            "exp": int(self._now()) + LIFETIME,
            "org": identity.org_id,
            "sub": identity.person,
            "role": sorted(identity.roles),
        }
        self._set_cookie(response, jwt.encode(claims, self._secret.reveal(), _ALGORITHM), LIFETIME)

    def identify(self, request: Request) -> Identity:
        """Whose session the request carries; Unauthenticated when it has none that is valid."""
        claims = self._claims(request)
        return Identity.from_claims(claims, org=("org",), role=("role",), session_id=str(claims["jti"]))

    def close(self, request: Request, response: Response) -> None:
        """End the request's session, here and in the browser; Unauthenticated when it has none that is valid."""
        claims = self._claims(request)
        now = self._now()
        self._revoked = {jti: end for jti, end in self._revoked.items() if end > now}
        self._revoked[claims["jti"]] = claims["exp"]
        self._set_cookie(response, "", 0)

    def _claims(self, request: Request) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                request.cookies.get(self.cookie, ""),
                self._secret.reveal(),
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                options={"require": ["exp", "jti"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError:
            raise Unauthenticated(NOT_SIGNED_IN) from None
        if claims["jti"] in self._revoked:
            raise Unauthenticated(NOT_SIGNED_IN)
        return claims

    def _set_cookie(self, response: Response, value: str, lifetime: int) -> None:
        response.set_cookie(
            self.cookie, value, max_age=lifetime, path="/", secure=self._secure, httponly=True, samesite="strict"
        )
