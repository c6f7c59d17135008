"""Google's sign-in and its calendars.

Sources: https://developers.google.com/identity/protocols/oauth2/web-server,
https://developers.google.com/workspace/calendar/api/v3/reference.

Every client id that ends with `.apps.sandbox` is an application, and its secret is `sandbox-secret`. Browsers are sent
back to loopback addresses alone. `google_account` says which accounts there are.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from deploy.sandbox.answers import EVERY_METHOD
from deploy.sandbox.google_calendars import Calendars, failure_of
from deploy.sandbox.google_consent import ConsentPage
from deploy.sandbox.google_form import bearer
from deploy.sandbox.google_ledger import Ledger
from deploy.sandbox.google_tokens import TokenEndpoints
from deploy.sandbox.traffic import Sleep


class Google:
    """All of Google's hosts in one: their paths differ. `new_id` numbers codes and tokens; `sleep` slows an account."""

    def __init__(self, *, now: Callable[[], datetime], new_id: Callable[[], str], sleep: Sleep) -> None:
        self._ledger = Ledger(now=now, new_id=new_id)
        self._page = ConsentPage(self._ledger)
        self._tokens = TokenEndpoints(self._ledger, sleep=sleep)
        self._calendars = Calendars(self._ledger, sleep=sleep)

    def app(self) -> ASGIApp:
        """The endpoints."""
        return Starlette(
            routes=[
                Route("/o/oauth2/v2/auth", self._page.authorize, methods=["GET", "POST"]),
                Route("/token", self._tokens.token, methods=["POST"]),
                Route("/revoke", self._tokens.revoke, methods=["POST"]),
                Route("/v1/userinfo", self._tokens.userinfo, methods=["GET"]),
                *self._calendars.routes(),
                Route("/{path:path}", self._calendars.unknown, methods=EVERY_METHOD),
            ]
        )

    def account(self, headers: Headers) -> str:
        """The e-mail address that the access token belongs to; empty for a request that carries none."""
        token = bearer(headers)
        return token.email if token else ""

    def refusal(self, status: int) -> Response:
        """An error as the API words it."""
        return failure_of(status).response()

    def state(self) -> dict[str, Any]:
        """How often each account gave its consent and took it back."""
        return self._ledger.state()

    def reset(self) -> None:
        """Forget every code and consent."""
        self._ledger.reset()
