"""Resend's domains, webhooks, API keys and e-mails.

Sources: https://resend.com/docs/api-reference and below it `errors`, `pagination` and `rate-limit`;
https://resend.com/docs/api-reference/introduction for the User-Agent, without which the proxy before the API answers.

`resend_keys` says which keys there are. Keys that are made here work at once; a deleted key is not known any more.
Nothing is ever sent, neither an e-mail nor a webhook.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from deploy.sandbox.answers import EVERY_METHOD, SLOW_SECONDS, json_answer
from deploy.sandbox.resend_answers import A_SECOND, Refused, body_of, limits, page
from deploy.sandbox.resend_keys import FAILURES, HTML, INACTIVE, INVALID, RESTRICTED, SLOW, Key, token_of, typed
from deploy.sandbox.resend_webhook import Webhook, changed
from deploy.sandbox.traffic import Sleep

_PERMISSIONS: Final = ("full_access", "sending_access")
_LONGEST_NAME: Final = 50


Endpoint = Callable[[Request, Key], Awaitable[Response]]


class Resend:
    """The API and what it holds. `now` and `new_id` (a UUID as text) make things; `sleep` slows the slow key."""

    def __init__(self, *, now: Callable[[], datetime], new_id: Callable[[], str], sleep: Sleep) -> None:
        self._now = now
        self._new_id = new_id
        self._sleep = sleep
        self._keys: dict[str, Key] = {}
        self._deleted: set[str] = set()
        self._webhooks: dict[str, Webhook] = {}
        self._recent: dict[str, tuple[int, int]] = {}

    def app(self) -> ASGIApp:
        """The endpoints."""
        return Starlette(
            routes=[
                Route("/domains", self._admitted(self.domains), methods=["GET"]),
                Route("/webhooks", self._admitted(self.webhooks), methods=["GET"]),
                Route("/webhooks", self._admitted(self.create_webhook), methods=["POST"]),
                Route("/webhooks/{id}", self._admitted(self.get_webhook), methods=["GET"]),
                Route("/webhooks/{id}", self._admitted(self.update_webhook), methods=["PATCH"]),
                Route("/webhooks/{id}", self._admitted(self.delete_webhook), methods=["DELETE"]),
                Route("/api-keys", self._admitted(self.api_keys), methods=["GET"]),
                Route("/api-keys", self._admitted(self.create_key), methods=["POST"]),
                Route("/api-keys/{id}", self._admitted(self.delete_key), methods=["DELETE"]),
                Route("/emails", self._admitted(self.send, sending=True), methods=["POST"]),
                Route("/{path:path}", self.unknown, methods=EVERY_METHOD),
            ]
        )

    def account(self, headers: Headers) -> str:
        """The team's id, which the key gives."""
        key = self._key(headers)
        return key.team if key else ""

    def refusal(self, status: int) -> Response:
        """An error with the name that the status has most often."""
        return Refused(
            *FAILURES.get(f"{status:04}", (status, "application_error", HTTPStatus(status).phrase))
        ).response()

    def state(self) -> dict[str, Any]:
        """The API keys and the webhooks of each team, oldest first, without tokens and signing secrets."""
        teams: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for kind, items in (("api_keys", self._keys), ("webhooks", self._webhooks)):
            for item in items.values():
                team = teams.setdefault(item.team, {"api_keys": [], "webhooks": []})
                shown = item.to_json()
                team[kind].append(shown | {"permission": item.permission} if isinstance(item, Key) else shown)
        return {"teams": teams}

    def reset(self) -> None:
        """Forget every webhook, and which keys were made or deleted."""
        for held in (self._keys, self._deleted, self._webhooks, self._recent):
            held.clear()

    def _admitted(self, endpoint: Endpoint, *, sending: bool = False) -> Callable[[Request], Awaitable[Response]]:
        async def admitted(request: Request) -> Response:
            if not request.headers.get("User-Agent"):
                return HTMLResponse("error code: 1010", HTTPStatus.FORBIDDEN)
            try:
                key = await self._authenticate(request.headers)
                if key.kind == f"fa11{HTML}":
                    return HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", HTTPStatus.BAD_GATEWAY)
                left = self._count(key)
                may_do_it = sending or key.permission == "full_access"
                response = await endpoint(request, key) if may_do_it else Refused(*RESTRICTED).response()
            except Refused as refused:
                return refused.response()
            if key.kind == "busy":
                response.headers.update(limits(left))
            return response

        return admitted

    def _key(self, headers: Headers) -> Key | None:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self._deleted:
            return None
        key = self._keys.get(token) or typed(token, self._now())
        if key is not None:
            self._keys.setdefault(token, key)
        return key

    async def _authenticate(self, headers: Headers) -> Key:
        if "Authorization" not in headers:
            raise Refused(401, "missing_api_key", "Missing API key in the authorization header")
        key = self._key(headers)
        if key is None:
            raise Refused(*INVALID)
        failure = key.kind.removeprefix("fa11")
        if key.kind.startswith("fa11") and failure == SLOW:
            await self._sleep(SLOW_SECONDS)
        elif key.kind.startswith("fa11") and failure in FAILURES:
            raise Refused(*FAILURES[failure])
        if key.kind == "idle":
            raise Refused(*INACTIVE)
        return key

    def _count(self, key: Key) -> int:
        """How many requests the team has left in this second."""
        second = int(self._now().timestamp())
        before, count = self._recent.get(key.team, (second, 0))
        count = count + 1 if before == second else 1
        self._recent[key.team] = (second, count)
        if key.kind == "busy" and count > A_SECOND:
            raise Refused(*FAILURES["0429"])
        return max(0, A_SECOND - count)

    async def unknown(self, _: Request) -> Response:
        """Any other path."""
        return Refused(*FAILURES["0404"]).response()

    async def domains(self, request: Request, key: Key) -> Response:
        """`GET /domains`: one, and it is verified."""
        domain = _Domain(key.team)
        return page(request.query_params, [] if key.kind == "bare" else [domain])

    async def webhooks(self, request: Request, key: Key) -> Response:
        """`GET /webhooks`, newest first."""
        return page(request.query_params, [each for each in self._webhooks.values() if each.team == key.team])

    async def create_webhook(self, request: Request, key: Key) -> Response:
        """`POST /webhooks`: 201, with the signing secret."""
        body = await body_of(request, "endpoint", "events")
        made = changed(Webhook(id=self._new_id(), team=key.team, endpoint="", events=(), created_at=self._now()), body)
        self._webhooks[made.id] = made
        return json_answer({"object": "webhook", "id": made.id, "signing_secret": made.secret()}, HTTPStatus.CREATED)

    async def get_webhook(self, request: Request, key: Key) -> Response:
        """`GET /webhooks/{id}`, with the signing secret too."""
        found = self._find(request, key)
        return json_answer({"object": "webhook", **found.to_json(), "signing_secret": found.secret()})

    async def update_webhook(self, request: Request, key: Key) -> Response:
        """`PATCH /webhooks/{id}`."""
        found = self._find(request, key)
        self._webhooks[found.id] = changed(found, await body_of(request))
        return json_answer({"object": "webhook", "id": found.id})

    async def delete_webhook(self, request: Request, key: Key) -> Response:
        """`DELETE /webhooks/{id}`."""
        found = self._webhooks.pop(self._find(request, key).id)
        return json_answer({"object": "webhook", "id": found.id, "deleted": True})

    async def api_keys(self, request: Request, key: Key) -> Response:
        """`GET /api-keys`, newest first, without the tokens."""
        return page(request.query_params, [each for each in self._keys.values() if each.team == key.team])

    async def create_key(self, request: Request, key: Key) -> Response:
        """`POST /api-keys`: 201, with the token."""
        body = await body_of(request, "name")
        permission = body.get("permission", "full_access")
        if not isinstance(body["name"], str) or not 0 < len(body["name"]) <= _LONGEST_NAME:
            raise Refused(422, "validation_error", f"The `name` must have 1 to {_LONGEST_NAME} characters.")
        if permission not in _PERMISSIONS:
            raise Refused(422, "invalid_access", 'Access must be "full_access" | "sending_access"')
        made = Key(
            id=self._new_id(),
            team=key.team,
            name=body["name"],
            permission=permission,
            created_at=self._now(),
            kind=key.kind,
        )
        token = token_of(made.id)
        self._keys[token] = made
        return json_answer({"id": made.id, "token": token}, HTTPStatus.CREATED)

    async def delete_key(self, request: Request, key: Key) -> Response:
        """`DELETE /api-keys/{id}`: 200 without a body. It may be the key that asks."""
        wanted = request.path_params["id"]
        for token, each in list(self._keys.items()):
            if (each.id, each.team) == (wanted, key.team):
                del self._keys[token]
                self._deleted.add(token)
                return Response()
        raise Refused(404, "not_found", "API key not found")

    async def send(self, request: Request, key: Key) -> Response:
        """`POST /emails`: takes an e-mail and sends nothing."""
        del key
        await body_of(request, "from", "to", "subject")
        return json_answer({"id": self._new_id()})

    def _find(self, request: Request, key: Key) -> Webhook:
        found = self._webhooks.get(request.path_params["id"])
        if found is None or found.team != key.team:
            raise Refused(404, "not_found", "Webhook not found")
        return found


@dataclass(frozen=True, slots=True)
class _Domain:
    id: str

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": "mail.example.com",
            "status": "verified",
            "created_at": "2026-01-01 00:00:00.000000+00",
            "region": "us-east-1",
            "capabilities": {"sending": "enabled", "receiving": "disabled"},
        }
