"""A line to an application in this process, which notes what goes over it and loses what it is told to lose."""

from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from starlette.types import ASGIApp


@dataclass
class LosingLine(httpx.AsyncBaseTransport):
    """`asked` are the requests, `GET /path`; those in `unheard` never arrive, and those in `unanswered` get no answer.

    Each is lost as often as it is in the list. A request in `answered` or `answering` gets that answer, and does not
    arrive.
    """

    app: ASGIApp
    asked: list[str] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    answered: dict[str, httpx.Response] = field(default_factory=dict)
    answering: dict[str, Callable[[], httpx.Response]] = field(default_factory=dict)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry one request."""
        line = f"{request.method} {request.url.path}"
        self.asked.append(line)
        if line in self.unheard:
            self.unheard.remove(line)
            raise httpx.ConnectError("unheard", request=request)
        if line in self.answered:
            return self.answered[line]
        if line in self.answering:
            return self.answering[line]()
        response = await httpx.ASGITransport(self.app).handle_async_request(request)
        if line in self.unanswered:
            self.unanswered.remove(line)
            raise httpx.ReadError("unanswered", request=request)
        return response

    def writes(self) -> list[str]:
        """The requests that change something."""
        return [line for line in self.asked if not line.startswith("GET ")]
