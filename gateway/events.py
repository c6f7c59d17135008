"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): when a page should ask again.

No event holds any state, so there is nothing to catch up on: whoever comes back asks for the status anew.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import query
from gateway.authentication import Authenticator, identity_of
from gateway.changes import Changes, Listener
from gateway.metrics import Metrics
from gateway.problems import Refusal
from tenantvault.errors import Unauthenticated

MEDIA_TYPE: Final = "text/event-stream"

BEAT: Final = 15.0
"""Seconds of silence after which a comment shows that the stream is alive. While changes may be missed, it is
`changed` instead, so that pages ask now and then."""

GAP: Final = 1.0
"""Seconds between two `changed`, at least: what comes meanwhile is told as one."""

LONGEST: Final = 600.0
"""Seconds after which a stream ends; the browser comes back by itself."""

_OPENING: Final = "retry: 3000\n\nevent: ready\ndata: {}\n\n"
_CHANGED: Final = "event: changed\ndata: {}\n\n"
_COMMENT: Final = ":\n\n"
# A proxy must not collect what comes bit by bit.
_HEADERS: Final[Mapping[str, str]] = {"X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """The stream of events. `now` is a monotonic clock in seconds."""

    changes: Changes
    authenticator: Authenticator
    metrics: Metrics
    beat: float = BEAT
    gap: float = GAP
    longest: float = LONGEST
    now: Callable[[], float] = time.monotonic

    async def stream(self, request: Request) -> ASGIApp:
        """GET /api/integrations/events: `ready`, then `changed` whenever the org's integrations may have changed.

        It ends within 15 seconds of the session's end, and after ten minutes.
        """
        query.values(request, {})
        if request.method == "HEAD":
            return Response(headers=_HEADERS, media_type=MEDIA_TYPE)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            with (
                self.changes.listening(identity_of(request).org_id) as listener,
                self.metrics.streams.track_inprogress(),
            ):
                messages = self._messages(request, listener)
                await StreamingResponse(messages, headers=_HEADERS, media_type=MEDIA_TYPE)(scope, receive, send)

        return answer

    async def _messages(self, request: Request, listener: Listener) -> AsyncIterator[str]:
        yield _OPENING
        end = self.now() + self.longest
        while (left := end - self.now()) > 0:
            told = await listener.told(min(self.beat, left))
            if self.changes.ended or not await self._is_signed_in(request):
                return
            if told or self.changes.is_deaf:
                yield _CHANGED
                await self.changes.pause(self.gap)
            else:
                yield _COMMENT

    async def _is_signed_in(self, request: Request) -> bool:
        try:
            await self.authenticator.identify(request)
        except (Unauthenticated, Refusal):
            return False
        return True
