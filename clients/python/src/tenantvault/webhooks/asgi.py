"""Requests and answers over ASGI (https://asgi.readthedocs.io/en/latest/specs/www.html), without a framework."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from tenantvault.webhooks.buffer import Buffer, Part
from tenantvault.webhooks.rejection import Cause, WebhookRejected
from tenantvault.webhooks.request import Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATIENCE: Final = 10.0
"""Seconds in which a body must have arrived."""

_NUMBER: Final = re.compile(rb"[0-9]{1,15}")


class Disconnected(Exception):
    """The sender went away before the body was complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the sender gets."""

    status: HTTPStatus
    body: bytes = b""
    media_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    async def send(self, send: Send) -> None:
        """Send it all."""
        headers = [*self.headers, ("content-length", str(len(self.body))), ("cache-control", "no-store")]
        if self.media_type:
            headers.append(("content-type", self.media_type))
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": self.status.value, "headers": encoded})
        await send({"type": "http.response.body", "body": self.body})


def place(scope: Scope) -> tuple[str, ...]:
    """The segments of the path below the place where the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    below = path.removeprefix(root) if root and path.startswith(f"{root}/") else path
    return tuple(below.removeprefix("/").split("/"))


@asynccontextmanager
async def read_request(
    scope: Scope, receive: Receive, *, public_url: str, max_bytes: int, buffer: Buffer
) -> AsyncIterator[Request]:
    """The request of a scope, with its body, which takes room in the buffer until the end.

    Raises:
        WebhookRejected: the body is larger than `max_bytes`; no more than that was read.
        BufferFull: there is no room for the body beside those of other requests.
        TimeoutError: the body did not arrive within PATIENCE.
        Disconnected: the sender went away.
    """
    headers = tuple((bytes(name).lower(), bytes(value)) for name, value in scope["headers"])
    lengths = [value for name, value in headers if name == b"content-length"]
    if any(_NUMBER.fullmatch(length) and int(length) > max_bytes for length in lengths):
        raise WebhookRejected(Cause.TOO_LARGE)
    buffer.check(max((int(length) for length in lengths if _NUMBER.fullmatch(length)), default=0))
    with buffer.part() as part:
        async with asyncio.timeout(PATIENCE):
            body = await _body(receive, max_bytes, part)
        yield Request(method=scope["method"], url=public_url + _target(scope), headers=headers, body=body)


async def close_socket(send: Send) -> None:
    """Refuse a WebSocket (https://asgi.readthedocs.io/en/latest/specs/www.html#websocket)."""
    # The code is "policy violation" of RFC 6455; a server that was not yet told to accept answers with 403.
    await send({"type": "websocket.close", "code": 1008, "reason": ""})


def in_seconds(delay: float) -> str:
    """A delay as `Retry-After` has it: whole seconds, at least one."""
    return str(max(1, math.ceil(delay)))


async def _body(receive: Receive, max_bytes: int, part: Part) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        arrived = message.get("body", b"")
        if len(body) + len(arrived) > max_bytes:
            raise WebhookRejected(Cause.TOO_LARGE)
        part.take(len(arrived))
        body += arrived
        more = message.get("more_body", False)
    return bytes(body)


def _target(scope: Scope) -> str:
    """Path and query as they were sent: what is decoded and encoded again may be signed no more."""
    raw = scope.get("raw_path")
    path = bytes(raw).partition(b"?")[0].decode("latin-1") if raw else quote(scope["path"])
    query = bytes(scope.get("query_string", b"")).decode("latin-1")
    return f"{path}?{query}" if query else path
