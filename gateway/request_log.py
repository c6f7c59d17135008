"""The outermost rooms of a request: its id, its log line, its metrics, and the answer when all else failed.

A line holds the route's template and the verified org: no query string, no header, no body.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.authentication import org_of
from gateway.metrics import Metrics
from gateway.problems import REQUEST_ID, Interrupted, problem

UNMATCHED: Final = "unmatched"
"""The route of a request that no route fits."""

_GIVEN_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_GONE: Final = 499
_EVENTS: Final = "text/event-stream"
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_log = logging.getLogger(__name__)


class RequestLog:
    """Gives each request an id, its caller's when that is a plain one; logs and counts it when it is over."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._new_id = new_id
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, whatever happens inside."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = self._clock(), 0
        until_it_began: float | None = None
        scope[REQUEST_ID] = request_id = self._id_of(scope)

        async def observed(message: Message) -> None:
            nonlocal status, until_it_began
            if message["type"] == "http.response.start":
                status, headers = message["status"], MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                if headers.get("content-type", "").startswith(_EVENTS):
                    until_it_began = self._clock() - started
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except ClientDisconnect:
            status = _CLIENT_GONE
        except Interrupted as error:
            _log.warning("an answer broke off", extra={"request_id": request_id, "reason": error.reason})
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the caller gets an answer and no text of it
            _log.exception("unexpected error", extra={"request_id": request_id})
            if not status:
                await problem(scope, error)(scope, receive, observed)
        took = self._clock() - started
        self._metrics.record(
            route=template(scope),
            method=_method(scope),
            status=status,
            # How long somebody listened to events says nothing about how quick we are.
            seconds=took if until_it_began is None else until_it_began,
        )
        self._log(scope, status=status, seconds=took)

    def _id_of(self, scope: Scope) -> str:
        given = Headers(scope=scope).get("x-request-id", "")
        return given if _GIVEN_ID.fullmatch(given) else self._new_id()

    def _log(self, scope: Scope, *, status: int, seconds: float) -> None:
        route = template(scope)
        _log.log(
            logging.DEBUG if route in _QUIET else logging.INFO,
            "request",
            extra={
                "request_id": scope[REQUEST_ID],
                "method": _method(scope),
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 1),
                "org": org_of(scope),
            },
        )


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def template(scope: Scope) -> str:
    """The template of the route that a request found, e.g. `/api/integrations/{provider}`."""
    match scope.get("route"):
        case Mount(path=path):
            return f"{path}/*"
        case Route(path=path):
            return str(scope.get("root_path", "")) + path
        case _:
            return UNMATCHED
