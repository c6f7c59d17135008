"""ElevenLabs' user, models, voices, workspace webhooks and settings for agents.

Sources: the vendor's API description (https://api.elevenlabs.io/openapi.json),
https://elevenlabs.io/docs/eleven-api/resources/errors and https://elevenlabs.io/docs/eleven-api/resources/webhooks. The
last says that a webhook can be deleted while nothing uses it, and not how that is refused otherwise. What the
permission for webhooks is called is said nowhere: the names here are guesses.

`elevenlabs_keys` says which keys there are. Nothing is ever sent.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
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
from deploy.sandbox.elevenlabs_keys import FAILURES, HTML, INVALID, SLOW, Detail, Key, key_of, missing
from deploy.sandbox.elevenlabs_webhook import Webhook
from deploy.sandbox.traffic import Sleep

_CALL_EVENTS: Final = frozenset(
    ("transcript", "audio", "call_initiation_failure", "unredacted_transcript", "unredacted_audio")
)
_LARGEST_PAGE: Final = 100


class Refused(Exception):
    """The API's no: its status and what it says in `detail`."""

    def __init__(self, status: int, detail: Detail) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def response(self) -> Response:
        """As the API words it."""
        response = json_answer({"detail": self.detail}, self.status)
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            response.headers.update(
                {"Retry-After": "1", "current-concurrent-requests": "2", "maximum-concurrent-requests": "2"}
            )
        return response


Endpoint = Callable[[Request, Key], Awaitable[Response]]


class ElevenLabs:
    """The API and what it holds. `now` and `new_id` (a UUID as text) make webhooks; `sleep` slows the slow key."""

    def __init__(self, *, now: Callable[[], datetime], new_id: Callable[[], str], sleep: Sleep) -> None:
        self._now = now
        self._new_id = new_id
        self._sleep = sleep
        self._webhooks: dict[str, Webhook] = {}
        self._calls: dict[str, dict[str, Any]] = {}

    def app(self) -> ASGIApp:
        """The endpoints."""
        webhooks, settings = "/v1/workspace/webhooks", "/v1/convai/settings"
        return Starlette(
            routes=[
                Route("/v1/user", self._admitted(self.user, "user_read"), methods=["GET"]),
                Route("/v1/models", self._admitted(self.models, "models_read"), methods=["GET"]),
                Route("/v2/voices", self._admitted(self.voices, "voices_read"), methods=["GET"]),
                Route(webhooks, self._admitted(self.webhooks, "webhooks_write"), methods=["GET"]),
                Route(webhooks, self._admitted(self.create_webhook, "webhooks_write"), methods=["POST"]),
                Route(webhooks + "/{id}", self._admitted(self.update_webhook, "webhooks_write"), methods=["PATCH"]),
                Route(webhooks + "/{id}", self._admitted(self.delete_webhook, "webhooks_write"), methods=["DELETE"]),
                Route(settings, self._admitted(self.settings, "convai_write"), methods=["GET"]),
                Route(settings, self._admitted(self.update_settings, "convai_write"), methods=["PATCH"]),
                Route("/{path:path}", self.unknown, methods=EVERY_METHOD),
            ]
        )

    def account(self, headers: Headers) -> str:
        """The workspace's id, which the key gives."""
        key = key_of(headers.get("xi-api-key", ""))
        return key.workspace if key else ""

    def refusal(self, status: int) -> Response:
        """An error with the code that the status has most often."""
        status, detail = FAILURES.get(f"{status:04}", (status, HTTPStatus(status).phrase))
        return Refused(status, detail).response()

    def state(self) -> dict[str, Any]:
        """The webhooks of each workspace, oldest first, without their secrets, and what is told of calls."""
        webhooks: dict[str, list[dict[str, Any]]] = {}
        for webhook in self._webhooks.values():
            webhooks.setdefault(webhook.workspace, []).append(webhook.to_json())
        return {"webhooks": webhooks, "calls": self._calls}

    def reset(self) -> None:
        """Forget every webhook and setting."""
        self._webhooks.clear()
        self._calls.clear()

    def _admitted(self, endpoint: Endpoint, permission: str) -> Callable[[Request], Awaitable[Response]]:
        async def admitted(request: Request) -> Response:
            try:
                key = await self._authenticate(request.headers)
                if key.failure == HTML:
                    return HTMLResponse("<html><body><h1>502 Bad Gateway</h1></body></html>", HTTPStatus.BAD_GATEWAY)
                if permission in key.lacks:
                    return Refused(401, missing(permission)).response()
                return await endpoint(request, key)
            except Refused as refused:
                return refused.response()

        return admitted

    async def _authenticate(self, headers: Headers) -> Key:
        key = key_of(headers.get("xi-api-key", ""))
        if key is None:
            raise Refused(*INVALID)
        if key.failure == SLOW:
            await self._sleep(SLOW_SECONDS)
        elif key.failure in FAILURES:
            raise Refused(*FAILURES[key.failure])
        return key

    async def unknown(self, _: Request) -> Response:
        """Any other path."""
        return Refused(404, "Not Found").response()

    async def user(self, _: Request, key: Key) -> Response:
        """`GET /v1/user`."""
        is_free = key.status.startswith("free")
        subscription = {
            "tier": "free" if is_free else "creator",
            "status": key.status,
            "character_count": 0,
            "character_limit": 10_000 if is_free else 100_000,
        }
        return json_answer({"user_id": key.workspace, "first_name": "Sandbox", "subscription": subscription})

    async def models(self, _: Request, key: Key) -> Response:
        """`GET /v1/models`: a bare array."""
        del key
        return json_answer([{"model_id": "eleven_flash_v2_5", "name": "Eleven Flash v2.5"}])

    async def voices(self, request: Request, key: Key) -> Response:
        """`GET /v2/voices`."""
        del key
        size = request.query_params.get("page_size", "10")
        if not size.isascii() or not size.isdecimal() or not 1 <= int(size[:9]) <= _LARGEST_PAGE:
            raise Refused(*FAILURES["0422"])
        voices = [{"voice_id": "21m00Tcm4TlvDq8ikWAM", "name": "Rachel"}]
        return json_answer({"voices": voices, "has_more": False, "total_count": 1, "next_page_token": None})

    async def webhooks(self, _: Request, key: Key) -> Response:
        """`GET /v1/workspace/webhooks`: all of them."""
        ours = [each.to_json() for each in self._webhooks.values() if each.workspace == key.workspace]
        return json_answer({"webhooks": ours})

    async def create_webhook(self, request: Request, key: Key) -> Response:
        """`POST /v1/workspace/webhooks`: the one answer that has the secret."""
        settings = (await _body(request)).get("settings")
        if not isinstance(settings, dict) or settings.get("auth_type") != "hmac":
            raise _invalid("settings")
        name, url = settings.get("name"), settings.get("webhook_url")
        if not isinstance(name, str) or not name:
            raise _invalid("settings", "name")
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise _invalid("settings", "webhook_url")
        made = Webhook(
            id=self._new_id().replace("-", ""), workspace=key.workspace, name=name, url=url, created_at=self._now()
        )
        self._webhooks[made.id] = made
        return json_answer({"webhook_id": made.id, "webhook_secret": made.secret()})

    async def update_webhook(self, request: Request, key: Key) -> Response:
        """`PATCH /v1/workspace/webhooks/{id}`: `is_disabled` and `name` are both required."""
        found, body = self._find(request, key), await _body(request)
        name, is_disabled = body.get("name"), body.get("is_disabled")
        if not isinstance(name, str) or not isinstance(is_disabled, bool):
            raise _invalid("is_disabled" if isinstance(name, str) else "name")
        self._webhooks[found.id] = replace(found, name=name, is_disabled=is_disabled)
        return json_answer({"status": "ok"})

    async def delete_webhook(self, request: Request, key: Key) -> Response:
        """`DELETE /v1/workspace/webhooks/{id}`, while nothing uses it."""
        found = self._find(request, key)
        if self._calls.get(key.workspace, {}).get("post_call_webhook_id") == found.id:
            raise Refused(400, {"status": "webhook_in_use", "message": "The webhook is in use."})
        del self._webhooks[found.id]
        return json_answer({"status": "ok"})

    async def settings(self, _: Request, key: Key) -> Response:
        """`GET /v1/convai/settings`."""
        return json_answer(self._settings(key))

    async def update_settings(self, request: Request, key: Key) -> Response:
        """`PATCH /v1/convai/settings`: the fields of `webhooks` that are given."""
        given = (await _body(request)).get("webhooks", {})
        if not isinstance(given, dict):
            raise _invalid("webhooks")
        webhook_id, events = given.get("post_call_webhook_id"), given.get("events", [])
        known = self._webhooks.get(webhook_id) if isinstance(webhook_id, str) else None
        if webhook_id is not None and (known is None or known.workspace != key.workspace):
            raise _unknown_webhook()
        if not isinstance(events, list) or not _CALL_EVENTS.issuperset(map(str, events)):
            raise _invalid("webhooks", "events")
        self._calls[key.workspace] = {**self._calls.get(key.workspace, {}), **given}
        return json_answer(self._settings(key))

    def _settings(self, key: Key) -> dict[str, Any]:
        calls = {"post_call_webhook_id": None, "events": [], **self._calls.get(key.workspace, {})}
        return {"conversation_initiation_client_data_webhook": None, "webhooks": calls}

    def _find(self, request: Request, key: Key) -> Webhook:
        found = self._webhooks.get(request.path_params["id"])
        if found is None or found.workspace != key.workspace:
            raise _unknown_webhook()
        return found


def _unknown_webhook() -> Refused:
    return Refused(404, {"status": "webhook_not_found", "message": "Webhook not found."})


def _invalid(*where: str) -> Refused:
    return Refused(422, [{"loc": ["body", *where], "msg": "value is not valid", "type": "value_error"}])


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise _invalid()
    return body
