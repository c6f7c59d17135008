"""Vapi's assistants.

Sources: the vendor's OpenAPI description (https://api.vapi.ai/api-json), https://docs.vapi.ai/api-reference, and the
error bodies of NestJS (https://docs.nestjs.com/exception-filters), on which the vendor's API is built.

A private key is a UUID in lower case, and each is an account of its own. A key that begins with `fa11` fails with
the HTTP status that the next four digits say, as long as `_FAILURES` has it. A key that begins with `b10c` is of an
account whose assistants all are in use by a phone number.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID, uuid5

from starlette.applications import Starlette
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from deploy.sandbox import vapi_assistant
from deploy.sandbox.answers import EVERY_METHOD, SLOW_SECONDS, json_answer, path_below
from deploy.sandbox.traffic import Sleep

_KEY: Final = re.compile(r"Bearer ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_INVALID_KEY: Final = "Invalid Key. Hot tip, you may be using the private key instead of the public key, or vice versa."
_FAILURES: Final[Mapping[str, str]] = {
    "0401": _INVALID_KEY,
    "0402": "Your subscription is frozen.",
    "0403": "Forbidden resource",
    "0429": "Rate limit exceeded",
    "0500": "Internal server error",
    "0502": "Bad gateway",
}
_SLOW: Final = "0504"
_PINNED: Final = "Bearer b10c"
_ORG_OF_KEY: Final = UUID("7e4a0000-0000-4000-8000-000000000000")
_DEFAULT_LIMIT: Final = 100
_MAX_LIMIT: Final = 1000
_DATES: Final = re.compile(r"(created|updated)At(Gt|Lt|Ge|Le)")
_HTML: Final = "<!DOCTYPE html><html><head><title>api.vapi.ai | {0}</title></head><body>{0}</body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """An assistant: what the caller said, and what the API says of it."""

    id: str
    org_id: str
    created_at: datetime
    updated_at: datetime
    body: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            **self.body,
            "id": self.id,
            "orgId": self.org_id,
            "createdAt": _timestamp(self.created_at),
            "updatedAt": _timestamp(self.updated_at),
        }


class Refused(Exception):
    """The API's no: a status and, as NestJS has it, one message or a list of them."""

    def __init__(self, status: int, message: str | list[str]) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def response(self) -> Response:
        """As the API words it; a gateway's failures come from the proxy before it, as HTML."""
        phrase = HTTPStatus(self.status).phrase
        if self.status in {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}:
            return HTMLResponse(_HTML.format(f"{self.status}: {phrase}"), self.status)
        body: dict[str, Any] = {"message": self.message, "error": phrase, "statusCode": self.status}
        if self.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            del body["error"]
        return json_answer(body, self.status)


Endpoint = Callable[[Request, str], Awaitable[Response]]


class Vapi:
    """The API and what it holds. `now` and `new_id` (a UUID as text) make assistants; `sleep` slows the slow key."""

    def __init__(self, *, now: Callable[[], datetime], new_id: Callable[[], str], sleep: Sleep) -> None:
        self._now = now
        self._new_id = new_id
        self._sleep = sleep
        self._assistants: dict[str, Assistant] = {}
        self._last = datetime.min.replace(tzinfo=UTC)

    def app(self) -> ASGIApp:
        """The endpoints."""
        one = "/assistant/{id}"
        return Starlette(
            routes=[
                Route("/assistant", self._admitted(self.create), methods=["POST"]),
                Route("/assistant", self._admitted(self.page), methods=["GET"]),
                Route(one, self._admitted(self.get), methods=["GET"]),
                Route(one, self._admitted(self.update), methods=["PATCH"]),
                Route(one, self._admitted(self.delete), methods=["DELETE"]),
                Route("/{path:path}", self.unknown, methods=EVERY_METHOD),
            ]
        )

    def account(self, headers: Headers) -> str:
        """The org's id, which the API derives from the key."""
        match = _KEY.fullmatch(headers.get("Authorization", ""))
        return str(uuid5(_ORG_OF_KEY, match[1])) if match else ""

    def refusal(self, status: int) -> Response:
        """An error as NestJS words it."""
        return Refused(status, _FAILURES.get(f"{status:04}", HTTPStatus(status).phrase)).response()

    def state(self) -> dict[str, Any]:
        """The assistants of each org, oldest first, without their webhook headers."""
        orgs: dict[str, list[dict[str, Any]]] = {}
        for assistant in self._assistants.values():
            shown = assistant.to_json()
            orgs.setdefault(assistant.org_id, []).append(
                {name: shown.get(name) for name in ("id", "name", "metadata", "createdAt", "updatedAt")}
            )
        return {"assistants": orgs}

    def reset(self) -> None:
        """Forget every assistant."""
        self._assistants.clear()

    def _admitted(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def admitted(request: Request) -> Response:
            try:
                return await endpoint(request, await self._authenticate(request.headers))
            except Refused as refused:
                response = refused.response()
                if refused.status == HTTPStatus.TOO_MANY_REQUESTS:
                    response.headers["Retry-After"] = "1"
                return response

        return admitted

    async def _authenticate(self, headers: Headers) -> str:
        if "Authorization" not in headers:
            raise Refused(HTTPStatus.UNAUTHORIZED, "Missing Authorization Header.")
        match = _KEY.fullmatch(headers["Authorization"])
        if match is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, _INVALID_KEY)
        failure = match[1][4:8] if match[1].startswith("fa11") else ""
        if failure == _SLOW:
            await self._sleep(SLOW_SECONDS)
        elif failure in _FAILURES:
            raise Refused(int(failure), _FAILURES[failure])
        return self.account(headers)

    async def unknown(self, request: Request) -> Response:
        """Any other path."""
        return Refused(HTTPStatus.NOT_FOUND, f"Cannot {request.method} {path_below(request.scope)}").response()

    async def create(self, request: Request, org_id: str) -> Response:
        """`POST /assistant`: 201, and no field is required."""
        body = await _body(request)
        created_at = self._tick()
        assistant = Assistant(id=self._new_id(), org_id=org_id, created_at=created_at, updated_at=created_at, body=body)
        self._assistants[assistant.id] = assistant
        return json_answer(assistant.to_json(), HTTPStatus.CREATED)

    async def page(self, request: Request, org_id: str) -> Response:
        """`GET /assistant`: a bare array, newest first."""
        limit, wanted = _query(request.query_params)
        found = [each for each in self._assistants.values() if each.org_id == org_id and wanted(each)]
        return json_answer([each.to_json() for each in reversed(found)][:limit])

    async def get(self, request: Request, org_id: str) -> Response:
        """`GET /assistant/{id}`."""
        return json_answer(self._find(request, org_id).to_json())

    async def update(self, request: Request, org_id: str) -> Response:
        """`PATCH /assistant/{id}`: each field given replaces the whole one before."""
        found = self._find(request, org_id)
        changed = replace(found, body={**found.body, **await _body(request)}, updated_at=self._tick())
        self._assistants[found.id] = changed
        return json_answer(changed.to_json())

    async def delete(self, request: Request, org_id: str) -> Response:
        """`DELETE /assistant/{id}`: 200 with what was deleted; 409 while something else is in use of it."""
        if request.headers["Authorization"].startswith(_PINNED):
            self._find(request, org_id)
            raise Refused(HTTPStatus.CONFLICT, "assistant_pinned: a phone number is in use of this assistant")
        return json_answer(self._assistants.pop(self._find(request, org_id).id).to_json())

    def _find(self, request: Request, org_id: str) -> Assistant:
        found = self._assistants.get(request.path_params["id"])
        if found is None or found.org_id != org_id:
            raise Refused(HTTPStatus.NOT_FOUND, "Assistant Not Found")
        return found

    def _tick(self) -> datetime:
        """The time, later than every one before: paging by `createdAtLt` would lose one of two equals."""
        now = self._now()
        now -= timedelta(microseconds=now.microsecond % 1000)
        self._last = max(now, self._last + timedelta(milliseconds=1))
        return self._last


async def _body(request: Request) -> dict[str, Any]:
    if not request.headers.get("Content-Type", "").startswith("application/json"):
        return {}  # the framework parses nothing else, and no field is required
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused(HTTPStatus.BAD_REQUEST, "Unexpected token in JSON") from None
    if not isinstance(body, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, "Unexpected token in JSON")
    if problems := vapi_assistant.problems(body):
        raise Refused(HTTPStatus.BAD_REQUEST, problems)
    return body


def _query(query: QueryParams) -> tuple[int, Callable[[Assistant], bool]]:
    problems: list[str] = []
    limit = _DEFAULT_LIMIT
    bounds: list[tuple[str, str, datetime]] = []
    for name, value in query.items():
        date = _DATES.fullmatch(name)
        try:
            if name == "limit":
                limit = int(value)
                if not 0 <= limit <= _MAX_LIMIT:
                    problems.append("limit must not be " + ("less than 0" if limit < 0 else "greater than 1000"))
            elif date is not None:
                moment = datetime.fromisoformat(value)
                bounds.append((date[1], date[2], moment if moment.tzinfo else moment.replace(tzinfo=UTC)))
            else:
                problems.append(f"property {name} should not exist")
        except ValueError:
            problems.append(f"{name} must be " + ("an integer number" if date is None else "a valid ISO 8601 date"))
    if problems:
        raise Refused(HTTPStatus.BAD_REQUEST, problems)
    return limit, lambda assistant: all(_within(assistant, *bound) for bound in bounds)


def _within(assistant: Assistant, event: str, relation: str, bound: datetime) -> bool:
    moment = assistant.created_at if event == "created" else assistant.updated_at
    return {"Gt": moment > bound, "Lt": moment < bound, "Ge": moment >= bound, "Le": moment <= bound}[relation]


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
