"""The sandbox as one ASGI application."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.sandbox.elevenlabs import ElevenLabs
from deploy.sandbox.faults import Fault, Faults
from deploy.sandbox.google import Google
from deploy.sandbox.journal import Journal
from deploy.sandbox.resend import Resend
from deploy.sandbox.traffic import Sleep, StandIn, Traffic
from deploy.sandbox.twilio import Twilio
from deploy.sandbox.vapi import Vapi

SERVER: Final = "tenantvault-sandbox"

_MAX_BODY_BYTES: Final = 1024 * 1024


def create_app(
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    new_id: Callable[[], str] = lambda: str(uuid4()),
    sleep: Sleep = asyncio.sleep,
) -> ASGIApp:
    """Each provider below its name, e.g. `/vapi`, the controls below `/_sandbox`. State lives as long as the app.

    `sleep` is what slow answers wait with. Over a transport without a connection to cut, such as
    httpx.ASGITransport, a dropped connection is a ConnectionResetError.
    """
    stand_ins: Mapping[str, StandIn] = {
        "vapi": Vapi(now=now, new_id=new_id, sleep=sleep),
        "twilio": Twilio(new_id=new_id, sleep=sleep),
        "google": Google(now=now, new_id=new_id, sleep=sleep),
        "resend": Resend(now=now, new_id=new_id, sleep=sleep),
        "elevenlabs": ElevenLabs(now=now, new_id=new_id, sleep=sleep),
    }
    journal, faults = Journal(), Faults()
    controls = Controls(stand_ins, journal=journal, faults=faults)
    providers = [
        Mount(f"/{name}", Traffic(name, stand_in, journal=journal, faults=faults, sleep=sleep))
        for name, stand_in in stand_ins.items()
    ]
    return ServerHeader(
        Starlette(routes=[Mount("/_sandbox", routes=controls.routes()), *providers], max_body_size=_MAX_BODY_BYTES)
    )


class Controls:
    """What a test asks and orders."""

    def __init__(self, stand_ins: Mapping[str, StandIn], *, journal: Journal, faults: Faults) -> None:
        self._stand_ins = stand_ins
        self._journal = journal
        self._faults = faults

    def routes(self) -> list[Route]:
        """The endpoints below `/_sandbox`."""
        return [
            Route("/requests", self.requests, methods=["GET"]),
            Route("/state", self.state, methods=["GET"]),
            Route("/faults", self.faults, methods=["GET"]),
            Route("/faults", self.order, methods=["POST"]),
            Route("/faults", self.cancel, methods=["DELETE"]),
            Route("/reset", self.reset, methods=["POST"]),
        ]

    async def requests(self, _: Request) -> JSONResponse:
        """What came so far."""
        return JSONResponse({"requests": self._journal.entries()})

    async def state(self, _: Request) -> JSONResponse:
        """What the providers hold."""
        return JSONResponse({name: stand_in.state() for name, stand_in in self._stand_ins.items()})

    async def faults(self, _: Request) -> JSONResponse:
        """Which faults still wait for their request."""
        return JSONResponse({"faults": self._faults.entries()})

    async def order(self, request: Request) -> JSONResponse:
        """Order a fault, or a list of them."""
        try:
            given = json.loads(await request.body())
            wanted = [
                Fault.from_json(each, providers=self._stand_ins)
                for each in (given if isinstance(given, list) else [given])
            ]
        except (ValueError, RecursionError) as error:
            return JSONResponse({"error": str(error)}, 400)
        for fault in wanted:
            self._faults.add(fault)
        return JSONResponse({"faults": self._faults.entries()}, 201)

    async def cancel(self, request: Request) -> JSONResponse:
        """Cancel the faults that still wait."""
        self._faults.clear()
        return await self.faults(request)

    async def reset(self, _: Request) -> JSONResponse:
        """Back to the beginning: nothing stored, counted or ordered."""
        for stand_in in self._stand_ins.values():
            stand_in.reset()
        self._journal.clear()
        self._faults.clear()
        return JSONResponse({"reset": True})


class ServerHeader:
    """Says on every response that it comes from the sandbox."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Server"] = SERVER
            await send(message)

        await self._app(scope, receive, named)
