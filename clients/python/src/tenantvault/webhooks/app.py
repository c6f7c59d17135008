"""The ASGI application that takes webhooks, verifies them and hands on what they say."""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

from tenantvault.credentials import Provider
from tenantvault.errors import TenantVaultError
from tenantvault.webhooks.asgi import Answer, Disconnected, Receive, Scope, Send, close_socket, place, read_request
from tenantvault.webhooks.buffer import Buffer, BufferFull
from tenantvault.webhooks.event import Event
from tenantvault.webhooks.once import Handler, Once
from tenantvault.webhooks.org import Vault
from tenantvault.webhooks.rejection import WebhookRejected
from tenantvault.webhooks.reply import later
from tenantvault.webhooks.request import Request
from tenantvault.webhooks.seen import Seen, SeenInMemory
from tenantvault.webhooks.sender import SENDERS, Sender
from tenantvault.webhooks.verification import log_rejection, verified

MAX_BYTES: Final = 1024 * 1024
"""How large a body may be, unless its handler was registered with another limit."""

MAX_BUFFERED_BYTES: Final = 64 * 1024 * 1024
"""How large the bodies that are read and verified at the same time may be together."""

HandlerT = TypeVar("HandlerT", bound=Handler)

_log = logging.getLogger(__name__)

_JSON: Final = "application/json"
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
    the body names. An assistant or account that the body names, and Vapi's number, must not be another org's; the
    numbers in a webhook of Twilio are not compared, for the other end may be anybody's. A handler is registered for
    each provider:

        hooks = Webhooks(vault, public_url="https://hooks.example.com")

        @hooks.on(Provider.RESEND)
        async def mail(event: Event) -> None: ...

    What proves itself by the org's current secret, or by the one before while that is good, is handed on once: further
    deliveries are answered and dropped, except those of questions, which need their answer again. A delivery beside one
    that is being taken is put off. An org that nobody knows, a missing signature and a wrong one get the same answer
    after the same hashing; what the vault does to find the org may take more or less time.

    Args:
        vault: the client, e.g. `tenantvault.AsyncClient`.
        public_url: what stands before the path in the URLs that the providers were told, e.g.
            `https://hooks.example.com`. Twilio signs the whole URL.
        seen: which events were taken before; in memory unless there is another.
        max_buffered_bytes: how large the bodies that are read and verified at the same time may be together. Beyond
            it the sender is asked to come back. Parsing takes several times as much for a moment.
        clock: seconds since 1970.

    Raises:
        ValueError: `public_url` is no such URL, or `max_buffered_bytes` is not positive.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        public_url: str,
        seen: Seen | None = None,
        max_buffered_bytes: int = MAX_BUFFERED_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not _PUBLIC_URL.fullmatch(public_url):
            raise ValueError(
                "public_url: give scheme and host, and what stands before the path, e.g. https://example.com."
            )
        if max_buffered_bytes < 1:
            raise ValueError("max_buffered_bytes: give at least what the largest body of a handler needs.")
        self._vault = vault
        self._public_url = public_url.rstrip("/")
        self._once = Once(SeenInMemory() if seen is None else seen)
        self._buffer = Buffer(max_buffered_bytes)
        self._clock = clock
        self._routes: dict[str, _Route] = {}

    def on(self, provider: Provider, *, max_bytes: int = MAX_BYTES) -> Callable[[HandlerT], HandlerT]:
        """Register the handler of a provider's events, whose bodies are at most `max_bytes` long.

        Raises:
            ValueError: the provider has a handler, or `max_bytes` would never fit into `max_buffered_bytes`.
        """
        if max_bytes > self._buffer.most:
            raise ValueError("max_bytes: give at most max_buffered_bytes of Webhooks, or raise that.")

        def register(handler: HandlerT) -> HandlerT:
            if provider in self._routes:
                raise ValueError(f"{provider} has a handler: register one for each provider.")
            self._routes[provider] = _Route(SENDERS[provider], handler, max_bytes)
            return handler

        return register

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request. A WebSocket is refused.

        Raises:
            NotImplementedError: it is neither, e.g. "lifespan": that is how a server learns that there is none.
        """
        if scope["type"] == "websocket":
            await close_socket(send)
            return
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
        event = await self._event(route, "".join(rest), scope, receive)
        # Here the body is gone: a handler that takes its time holds no room for it.
        return event if isinstance(event, Answer) else await self._once.take(route.sender, route.handler, event)

    async def _event(self, route: _Route, org_id: str, scope: Scope, receive: Receive) -> Event | Answer:
        reading = read_request(
            scope, receive, public_url=self._public_url, max_bytes=route.max_bytes, buffer=self._buffer
        )
        try:
            async with reading as request:
                return await self._verified(route, org_id, request)
        except TimeoutError:
            return Answer(status=HTTPStatus.REQUEST_TIMEOUT)
        except BufferFull:
            _log.warning("webhook put off", extra={"provider": route.sender.provider.value, "reason": "BUFFER_FULL"})
            return later()
        except WebhookRejected as rejection:
            log_rejection(route.sender, None, rejection)
            return Answer(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    async def _verified(self, route: _Route, org_id: str, request: Request) -> Event | Answer:
        try:
            return await verified(self._vault, route.sender, org_id, request, now=self._clock())
        except WebhookRejected:
            return _REJECTED
        except TenantVaultError as error:
            _log.warning("webhook put off", extra={"provider": route.sender.provider.value, "reason": error.reason})
            return later(error.retry_after)
