"""Who may pass: by bearer token or by session cookie, and changes for administrators only."""

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.identity import NOT_SIGNED_IN, Identity
from gateway.problems import Refusal
from gateway.session import Sessions
from gateway.tokens import BearerTokens
from tenantvault.errors import PermissionDenied, Unauthenticated

OWN_HEADER: Final = "x-tenantvault-request"
"""A header that our pages send and that a foreign page cannot add without asking us first (we always say no)."""

ORG_HEADER: Final = "x-tenantvault-org"
"""The org that a page was shown for. It chooses nothing; it stops a page that outlived its sign-in from changing
another org."""

_SAFE: Final = frozenset({"GET", "HEAD"})
_IDENTITY: Final = "tenantvault.identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Finds out who sent a request. `scheme` is that of our own origin, http or https."""

    tokens: BearerTokens
    sessions: Sessions
    admin_roles: frozenset[str]
    scheme: str

    async def identify(self, request: Request) -> Identity:
        """Whose request it is: by its token when it has one, else by its session.

        Raises:
            Unauthenticated: neither is there, or it is not valid.
            Refusal: a change that rests on the cookie did not come from our own pages.
        """
        if "authorization" in request.headers:
            identity = await self.tokens.identify(bearer(request))
        else:
            identity = self.sessions.identify(request)
            if request.method not in _SAFE:
                self.check_own_page(request)
        request.scope[_IDENTITY] = identity
        return identity

    def may_change(self, identity: Identity) -> bool:
        """Whether this person may change integrations."""
        return not self.admin_roles.isdisjoint(identity.roles)

    def check_own_page(self, request: Request) -> None:
        """Refuse what another site's page may have sent: cookies travel by themselves, these headers do not.

        The host was checked already, so an Origin that equals it is ours.
        """
        headers = request.headers
        own = f"{self.scheme}://{headers.get('host', '').lower()}"
        same_origin = headers.get("sec-fetch-site") == "same-origin"
        from_us = headers["origin"] == own if "origin" in headers else same_origin
        if not (from_us and headers.get(OWN_HEADER) == "1"):
            raise Refusal("CROSS_SITE_REQUEST")


def bearer(request: Request) -> str:
    """The request's bearer token (RFC 6750, section 2.1); Unauthenticated when it has none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated(NOT_SIGNED_IN)
    return token.strip()


def identity_of(request: Request) -> Identity:
    """The identity that was verified for this request."""
    identity: Identity = request.scope[_IDENTITY]
    return identity


def org_of(scope: Scope) -> str:
    """The verified org of a request, for the log; empty when nobody was identified."""
    identity: Identity | None = scope.get(_IDENTITY)
    return identity.org_id if identity else ""


class AuthenticationMiddleware:
    """Lets nobody unknown through, and to a change only who may change. It guards whatever stands below it."""

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Identify, then pass on."""
        request = Request(scope)
        identity = await self._authenticator.identify(request)
        if request.method not in _SAFE and not self._authenticator.may_change(identity):
            raise PermissionDenied("Only administrators of your organisation may change its integrations.")
        if request.headers.get(ORG_HEADER, identity.org_id) != identity.org_id:
            raise Refusal("OTHER_ORG")
        await self._app(scope, receive, send)
