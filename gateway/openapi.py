"""The REST interface described by itself (https://spec.openapis.org/oas/v3.1.1).

Paths, methods and sentences come from the routes and their endpoints, parameters, fields and codes from where they are
checked. Only which schema belongs to which endpoint is said here.
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from gateway import activity, schemas
from gateway.authentication import ORG_HEADER, OWN_HEADER
from gateway.consent import CAME_BACK
from gateway.fields import TYPED_IN
from gateway.query import Parameter
from gateway.schemas import Schema

PUBLISHED: Final = re.compile(r"/(api/.*|session|healthz|readyz)")
"""The paths that are described. The others are pages, and what belongs to pages."""

_JSON: Final = "application/json"
_IN_PATH: Final = re.compile(r"\{(\w+)\}")
_DESCRIPTION: Final = (
    "Connects an organisation with its providers. The organisation is the one that the token or the session names; "
    "nothing in a request can name another."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    """What an endpoint takes and answers. `by` names the ways to sign in, of which one is needed."""

    answer: Schema
    media_type: str = _JSON
    body: Schema | None = None
    query: Mapping[str, Parameter] = field(default_factory=dict)
    by: tuple[str, ...] = ("token", "session")


def _operations() -> dict[str, _Operation]:
    """By the endpoints' names."""
    credential = {"anyOf": [schemas.named(f"{provider.name.title()}Fields") for provider in TYPED_IN]}
    csv, events = "text/csv", "text/event-stream"
    return {
        "Overview.status": _Operation(answer=schemas.STATUS),
        "Overview.providers": _Operation(answer=schemas.providers()),
        "Activity.audit": _Operation(answer=schemas.AUDIT, query=activity.PAGE),
        "Activity.export": _Operation(answer=schemas.TEXT, media_type=csv, query=activity.EXPORT),
        "Activity.access": _Operation(answer=schemas.ACCESS, query=activity.DAYS),
        "Events.stream": _Operation(answer=schemas.TEXT, media_type=events),
        "Integrations.connect": _Operation(answer=schemas.CONNECTED, body=credential),
        "Integrations.test": _Operation(answer=schemas.TRIED, body=credential),
        "Integrations.verify": _Operation(answer=schemas.VERIFIED),
        "Integrations.disconnect": _Operation(answer=schemas.DISCONNECTED),
        "Integrations.reconnect": _Operation(answer=schemas.RECONNECTED),
        "Integrations.rotate": _Operation(answer=schemas.ROTATED),
        "GoogleConsent.start": _Operation(answer=schemas.CONSENT_BEGUN),
        "GoogleConsent.callback": _Operation(answer=schemas.CONSENT_GIVEN, body=schemas.typed_in(CAME_BACK)),
        "Pages.open_session": _Operation(answer=schemas.done(), by=("token",)),
        "Pages.close_session": _Operation(answer=schemas.done(), by=("session",)),
        "Health.alive": _Operation(answer=schemas.wellness("alive"), by=()),
        "Health.ready": _Operation(answer=schemas.wellness("ready"), by=()),
    }


class OpenApi:
    """The document, made once of these routes. `cookie` is the name of the session's cookie."""

    def __init__(self, routes: Sequence[BaseRoute], *, cookie: str) -> None:
        self._document = json.dumps(document(routes, cookie=cookie), ensure_ascii=False).encode()

    async def show(self, request: Request) -> Response:  # noqa: ARG002 - an endpoint's signature
        """GET /openapi.json: this interface, for whoever asks."""
        return Response(self._document, media_type=_JSON)


def document(routes: Sequence[BaseRoute], *, cookie: str) -> dict[str, Any]:
    """The description of these routes; KeyError for an endpoint that nothing is said of here."""
    operations = _operations()
    paths: dict[str, dict[str, Any]] = {}
    for path, route in every_route(routes):
        if PUBLISHED.fullmatch(path):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                described = _described(path, method, route.endpoint, operations[route.endpoint.__qualname__])
                paths.setdefault(path, {})[method.lower()] = described
    return {
        "openapi": "3.1.1",
        "info": {"title": "TenantVault", "version": "1", "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components(),
            "responses": {"Problem": _problem()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie},
            },
        },
    }


def every_route(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, Route]]:
    """Every route with its whole path, those below mounts too."""
    for route in routes:
        if isinstance(route, Mount):
            yield from every_route(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            yield prefix + route.path, route


def _described(path: str, method: str, endpoint: Any, operation: _Operation) -> dict[str, Any]:
    first, _, rest = (inspect.getdoc(endpoint) or "").partition("\n\n")
    summary = first.partition(": ")[2]
    described: dict[str, Any] = {
        "operationId": endpoint.__qualname__.replace(".", "_"),
        "summary": summary[:1].upper() + summary[1:],
        "parameters": [*_in_path(path), *_in_query(operation.query), *_headers(method, operation)],
        "responses": {
            "200": {"description": "It was done.", "content": {operation.media_type: {"schema": operation.answer}}},
            "default": {"$ref": "#/components/responses/Problem"},
        },
        "security": [{way: []} for way in operation.by],
    }
    if rest:
        described["description"] = " ".join(rest.split())
    if operation.body:
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": operation.body}}}
    return described


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas.PROVIDER} for name in _IN_PATH.findall(path)
    ]


def _in_query(parameters: Mapping[str, Parameter]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "schema": dict(parameter.schema), "description": parameter.hint}
        for name, parameter in parameters.items()
    ]


def _headers(method: str, operation: _Operation) -> list[dict[str, Any]]:
    if method == "GET" or "session" not in operation.by:
        return []
    own = "Needed with the session's cookie, beside an Origin that is ours: other sites' pages cannot send it."
    org = "The organisation that the page was shown for; the change is refused when it is another one by now."
    return [
        {"name": OWN_HEADER, "in": "header", "schema": {"const": "1"}, "description": own},
        {"name": ORG_HEADER, "in": "header", "schema": schemas.TEXT, "description": org},
    ]


def _problem() -> dict[str, Any]:
    """Every refusal and failure looks alike (RFC 9457)."""
    later = {"description": "Seconds after which a retry makes sense.", "schema": {"type": "integer"}}
    return {
        "description": "It was not done; `code` says why.",
        "headers": {"Retry-After": later},
        "content": {"application/problem+json": {"schema": schemas.named(schemas.PROBLEM)}},
    }
