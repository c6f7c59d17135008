"""The ASGI application that takes webhooks, verifies them and hands on what they say."""

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

from tenantvault.credentials import Provider
from tenantvault.errors import TenantVaultError
from tenantvault.webhooks.asgi import Answer, Disconnected, Receive, Scope, Send, in_seconds, place, read_request
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.org import Vault
from tenantvault.webhooks.rejection import WebhookRejected
from tenantvault.webhooks.request import Request
from tenantvault.webhooks.seen import Seen, SeenInMemory
from tenantvault.webhooks.sender import SENDERS, Sender
from tenantvault.webhooks.verification import log_rejection, verified

Reply = Mapping[str, Any] | bytes | None
"""What a handler answers with: a JSON object, a ready body (JSON, of Twilio TwiML), or nothing."""

Handler = Callable[[Event], Awaitable[Reply]]
"""Takes an event. What it raises makes the provider deliver the event again."""

MAX_BYTES: Final = 1024 * 1024
"""How large a body may be, unless its handler was registered with another limit."""

REMEMBERED: Final = 3 * 86400.0
"""Seconds for which an event's id is kept: longer than any of the five goes on delivering one event."""

HandlerT = TypeVar("HandlerT", bound=Handler)

_log = logging.getLogger(__name__)

_JSON: Final = "application/json"
_RETRY_SECONDS: Final = 5.0
_PUBLIC_URL: Final = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[^?#\s]*)?")
# One answer for all: it says neither what was wrong nor whether there is such an org.
_REJECTED: Final = Answer(
    status=HTTPStatus.UNAUTHORIZED,
    body=b'{"error":"This webhook was not accepted."}',
    media_type=_JSON,
    headers=(("www-authenticate", "Webhook"),),
)


@dataclass(frozen=True, slots=True)
class _Route:
    sender: Sender[Any]
    handler: Handler
    max_bytes: int


class Webhooks:
    """Takes the webhooks of all providers at `/{provider}/{org_id}` below the place where it is mounted.

    Vapi and Twilio may leave the org out, `/vapi` and `/twilio`: it is found by the assistant, number or account that
    the body names. Where both say whose it is, they must agree. A handler is registered for each provider:

        hooks = Webhooks(vault, public_url="https://hooks.example.com")

        @hooks.on(Provider.RESEND)
        async def mail(event: Event) -> None: ...

    What proves itself by the org's current secret, or by the one before while that is good, is handed on once: further
    deliveries are answered and dropped, except those of questions, which need their answer again. An org that nobody
    knows, a missing signature and a wrong one get the same answer after the same work.

    Args:
        vault: the client, e.g. `tenantvault.AsyncClient`.
        public_url: what stands before the path in the URLs that the providers were told, e.g.
            `https://hooks.example.com`. Twilio signs the whole URL.
        seen: which events were taken before; in memory unless there is another.
        clock: seconds since 1970.

    Raises:
        ValueError: `public_url` is no such URL.
    """

    def __init__(
        self, vault: Vault, *, public_url: str, seen: Seen | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        if not _PUBLIC_URL.fullmatch(public_url):
            raise ValueError(
                "public_url: give scheme and host, and what stands before the path, e.g. https://example.com."
            )
        self._vault = vault
        self._public_url = public_url.rstrip("/")
        self._seen = SeenInMemory() if seen is None else seen
        self._clock = clock
        self._routes: dict[str, _Route] = {}

    def on(self, provider: Provider, *, max_bytes: int = MAX_BYTES) -> Callable[[HandlerT], HandlerT]:
        """Register the handler of a provider's events, whose bodies are at most `max_bytes` long.

        Raises:
            ValueError: the provider has a handler.
        """

        def register(handler: HandlerT) -> HandlerT:
            if provider in self._routes:
                raise ValueError(f"{provider} has a handler: register one for each provider.")
            self._routes[provider] = _Route(SENDERS[provider], handler, max_bytes)
            return handler

        return register

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request."""
        if scope["type"] != "http":
            raise NotImplementedError("Webhooks come over HTTP.")
        try:
            answer = await self._answer(scope, receive)
        except Disconnected:
            return
        await answer.send(send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        name, *rest = place(scope)
        route = self._routes.get(name)
        if route is None or len(rest) > 1:
            return Answer(status=HTTPStatus.NOT_FOUND)
        if scope["method"] not in route.sender.methods:
            allowed = ", ".join(route.sender.methods)
            return Answer(status=HTTPStatus.METHOD_NOT_ALLOWED, headers=(("allow", allowed),))
        try:
            request = await read_request(scope, receive, public_url=self._public_url, max_bytes=route.max_bytes)
        except TimeoutError:
            return Answer(status=HTTPStatus.REQUEST_TIMEOUT)
        except WebhookRejected as rejection:
            log_rejection(route.sender, None, rejection)
            return Answer(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return await self._verified(route, "".join(rest), request)

    async def _verified(self, route: _Route, org_id: str, request: Request) -> Answer:
        try:
            event = await verified(self._vault, route.sender, org_id, request, now=self._clock())
        except WebhookRejected:
            return _REJECTED
        except TenantVaultError as error:
            _log.warning("webhook put off", extra={"provider": route.sender.provider.value, "reason": error.reason})
            return _later(error.retry_after)
        return await self._taken(route, event)

    async def _taken(self, route: _Route, event: Event) -> Answer:
        extra = {"provider": event.provider.value, "org": event.org_id, "type": event.type, "event_id": event.event_id}
        nothing = _reply(route.sender, None)
        if event.type in route.sender.quiet:
            return nothing
        key = f"{event.provider}:{event.org_id}:{event.event_id}"
        if not event.wants_reply:
            try:
                new = await self._seen.add(key, REMEMBERED)
            except Exception:  # noqa: BLE001 - whatever keeps the store from answering, the event comes again
                _log.exception("webhook put off", extra=extra)
                return _later(None)
            if not new:
                _log.info("webhook repeated", extra=extra)
                return nothing
        try:
            answer = _reply(route.sender, await route.handler(event))
        except BaseException as error:
            # Cancelled or failed: the event was not taken, so its next delivery is the first.
            if not event.wants_reply:
                await self._seen.discard(key)
            if not isinstance(error, Exception):
                raise
            _log.exception("webhook failed", extra=extra)
            return Answer(status=HTTPStatus.INTERNAL_SERVER_ERROR)
        _log.info("webhook taken", extra=extra)
        return answer


def _reply(sender: Sender[Any], reply: Reply) -> Answer:
    if reply is None:
        return Answer(status=HTTPStatus.OK, body=sender.empty, media_type=sender.media_type if sender.empty else "")
    if isinstance(reply, bytes):
        return Answer(status=HTTPStatus.OK, body=reply, media_type=sender.media_type)
    return Answer(status=HTTPStatus.OK, body=json.dumps(reply).encode(), media_type=_JSON)


def _later(retry_after: float | None) -> Answer:
    """Every provider delivers again what got this answer."""
    delay = _RETRY_SECONDS if retry_after is None else retry_after
    return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, headers=(("retry-after", in_seconds(delay)),))
