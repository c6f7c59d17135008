"""The gateway as one visible list: its routes and what stands around them."""

from urllib.parse import SplitResult

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from gateway.activity import Activity
from gateway.authentication import AuthenticationMiddleware, Authenticator
from gateway.consent import GoogleConsent
from gateway.events import Events
from gateway.headers import HostCheck, SecurityHeaders
from gateway.health import Health
from gateway.integrations import Integrations
from gateway.metrics import Metrics
from gateway.openapi import OpenApi
from gateway.overview import Overview
from gateway.pages import STATIC, Pages
from gateway.problems import Refusal, handle
from gateway.request_log import RequestLog
from tenantvault.errors import TenantVaultError


def build(
    *,
    authenticator: Authenticator,
    overview: Overview,
    activity: Activity,
    events: Events,
    integrations: Integrations,
    google_consent: GoogleConsent,
    pages: Pages,
    health: Health,
    metrics: Metrics,
    public_url: SplitResult,
    local: bool,
) -> Starlette:
    """The ASGI application. What stands below `/api` is for those who are signed in; so is whatever is added there."""
    routes: list[BaseRoute] = [
        Mount(
            "/api",
            app=Router(
                [
                    Route("/integrations/status", overview.status, methods=["GET"]),
                    Route("/integrations/providers", overview.providers, methods=["GET"]),
                    Route("/integrations/audit", activity.audit, methods=["GET"]),
                    Route("/integrations/audit.csv", activity.export, methods=["GET"]),
                    Route("/integrations/access", activity.access, methods=["GET"]),
                    Route("/integrations/events", events.stream, methods=["GET"]),
                    Route("/integrations/{provider}", integrations.connect, methods=["POST"]),
                    Route("/integrations/{provider}", integrations.disconnect, methods=["DELETE"]),
                    Route("/integrations/{provider}/test", integrations.test, methods=["POST"]),
                    Route("/integrations/{provider}/verify", integrations.verify, methods=["POST"]),
                    Route("/integrations/{provider}/reconnect", integrations.reconnect, methods=["POST"]),
                    Route("/integrations/{provider}/rotate", integrations.rotate, methods=["POST"]),
                    Route("/auth/google-calendar/start", google_consent.start, methods=["POST"]),
                    Route("/auth/google-calendar/callback", google_consent.callback, methods=["POST"]),
                ],
                redirect_slashes=False,
            ),
            middleware=[Middleware(AuthenticationMiddleware, authenticator=authenticator)],
        ),
        Route("/", pages.dashboard, methods=["GET"]),
        Route("/activity", pages.activity, methods=["GET"]),
        Route("/oauth/google-calendar", pages.consent, methods=["GET"]),
        Route("/session", pages.open_session, methods=["POST"]),
        Route("/session", pages.close_session, methods=["DELETE"]),
        Route("/sign-in", pages.sign_in, methods=["GET"]),
        Route("/sign-in", pages.sign_in_demo, methods=["POST"]),
        Route("/healthz", health.alive, methods=["GET"]),
        Route("/readyz", health.ready, methods=["GET"]),
        Route("/metrics", metrics.expose, methods=["GET"]),
        # What is the same for everybody tells nothing by how well it compresses (BREACH, https://breachattack.com).
        Mount("/static", app=StaticFiles(directory=STATIC), middleware=[Middleware(GZipMiddleware, minimum_size=500)]),
    ]
    openapi = OpenApi(routes, cookie=authenticator.sessions.cookie)
    routes.append(Route("/openapi.json", openapi.show, methods=["GET"]))
    app = Starlette(
        routes=routes,
        # From the outside in. Errors of what stands below are answered by the handlers, or else by RequestLog.
        middleware=[
            Middleware(SecurityHeaders, hsts=not local),
            Middleware(RequestLog, metrics=metrics),
            Middleware(HostCheck, public_url=public_url, local=local),
        ],
        exception_handlers={TenantVaultError: handle, Refusal: handle, HTTPException: handle},
    )
    # A redirected POST would carry its secrets a second time.
    app.router.redirect_slashes = False
    return app
