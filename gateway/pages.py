"""The dashboard's pages and the sessions behind them."""

import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from gateway import fields
from gateway.authentication import Authenticator, bearer
from gateway.body import read_object
from gateway.identity import Identity
from tenantvault.errors import InvalidRequest, Unauthenticated

DASHBOARD: Final = Path(__file__).with_name("dashboard")
STATIC: Final = DASHBOARD / "static"

_TEMPLATES: Final = {"_dashboard": "index.html", "_activity": "activity.html", "_sign_in": "sign-in.html"}

_HOME: Final = "/"
_NEXT: Final = "next"
# Browsers take a backslash for a slash, two slashes for another host, and leave tabs and line breaks out.
_OWN_PATH: Final = re.compile(r"/(?![/\\])[!-~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The pages and `/session`.

    `demo_orgs` are those that anybody may sign in to on this machine, by a click; none in production. Pages learn
    what they need by `data-` attributes, for there is no inline script.
    """

    authenticator: Authenticator
    demo_orgs: tuple[str, ...]
    sandbox: bool
    _dashboard: Template = field(init=False)
    _activity: Template = field(init=False)
    _sign_in: Template = field(init=False)
    _consent: str = field(init=False)

    def __post_init__(self) -> None:
        for name, file in _TEMPLATES.items():
            object.__setattr__(self, name, Template((DASHBOARD / file).read_text()))
        object.__setattr__(self, "_consent", (DASHBOARD / "consent.html").read_text())

    async def dashboard(self, request: Request) -> Response:
        """GET /: the integrations, or the way to the sign-in page."""
        return await self._page(self._dashboard, request)

    async def activity(self, request: Request) -> Response:
        """GET /activity: what happened, or the way to the sign-in page."""
        return await self._page(self._activity, request)

    async def consent(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint's signature
        """GET /oauth/google-calendar: the page to which Google sends the browser back.

        Anybody gets it: a SameSite=Strict cookie does not come along from another site. Its script takes what came in
        the address out of it, and then asks the REST interface with the cookie.
        """
        return HTMLResponse(self._consent)

    async def sign_in(self, request: Request) -> Response:
        """GET /sign-in: the demo orgs on one's own machine, else where people sign in.

        `next` is where to go after that: a path of this site, else it is not heeded.
        """
        wanted = request.query_params.get(_NEXT, _HOME)
        choices = "".join(
            f'<li><button class="button choice" type="button" data-action="sign-in" data-org="{escape(org)}">'
            f"{escape(org)}</button></li>"
            for org in self.demo_orgs
        )
        return HTMLResponse(
            self._sign_in.substitute(
                choices=choices,
                kind="demo" if choices else "host",
                providers=self._providers,
                next=escape(wanted if _OWN_PATH.fullmatch(wanted) else _HOME),
            )
        )

    async def sign_in_demo(self, request: Request) -> Response:
        """POST /sign-in: a session of a demo org's administrator, for whoever sits at this machine."""
        self.authenticator.check_own_page(request)
        org = fields.org(await read_object(request))
        if org not in self.demo_orgs:
            raise InvalidRequest("Pick one of the demo organisations.", fields={"org": "It is none of them."})
        return self._open(Identity(org_id=org, person=f"demo@{org}", roles=self.authenticator.admin_roles))

    async def open_session(self, request: Request) -> Response:
        """POST /session: a session in exchange for a bearer token."""
        fields.nothing(await read_object(request))
        return self._open(await self.authenticator.tokens.identify(bearer(request)))

    async def close_session(self, request: Request) -> Response:
        """DELETE /session: sign out."""
        await self.authenticator.identify(request)
        response = JSONResponse({"success": True})
        self.authenticator.sessions.close(request, response)
        return response

    @property
    def _providers(self) -> str:
        return "sandbox" if self.sandbox else "live"

    async def _page(self, template: Template, request: Request) -> Response:
        try:
            identity = await self.authenticator.identify(request)
        except Unauthenticated:
            return RedirectResponse(_to_sign_in(request), 303)
        return HTMLResponse(
            template.substitute(
                org=escape(identity.org_id),
                person=escape(identity.person),
                may_change=str(self.authenticator.may_change(identity)).lower(),
                providers=self._providers,
            )
        )

    def _open(self, identity: Identity) -> Response:
        response = JSONResponse({"success": True})
        self.authenticator.sessions.open(identity, response)
        return response


def _to_sign_in(request: Request) -> str:
    """The sign-in page, with the way back to the page that was asked for."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return "/sign-in" if asked == _HOME else f"/sign-in?{urlencode({_NEXT: asked})}"
