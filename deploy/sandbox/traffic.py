"""What stands before each stand-in: counts the requests and plays the faults."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.sandbox.answers import json_answer, path_below
from deploy.sandbox.faults import Fault, Faults
from deploy.sandbox.journal import DROPPED, Exchange, Journal

DROP: Final = "tenantvault.sandbox.drop"
"""The ASGI extension, a callable without arguments, by which a server lets an application cut the connection."""

Sleep = Callable[[float], Awaitable[Any]]


class StandIn(Protocol):
    """One provider's API."""

    def app(self) -> ASGIApp:
        """Its endpoints."""

    def account(self, headers: Headers) -> str:
        """Who asks, by a name that is no secret; empty when unknown."""

    def refusal(self, status: int) -> Response:
        """An error as this provider words it."""

    def state(self) -> dict[str, Any]:
        """What it holds, by account, without secrets."""

    def reset(self) -> None:
        """Forget everything."""


class Traffic:
    """An ASGI application around a stand-in's, mounted below the provider's name."""

    def __init__(self, provider: str, stand_in: StandIn, *, journal: Journal, faults: Faults, sleep: Sleep) -> None:
        self._provider = provider
        self._stand_in = stand_in
        self._app = stand_in.app()
        self._journal = journal
        self._faults = faults
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(
            provider=self._provider,
            method=scope["method"],
            path=path_below(scope),
            account=self._stand_in.account(Headers(scope=scope)),
        )
        self._journal.begin(exchange)
        fault = self._faults.take(exchange)
        status = None
        if fault is not None and not fault.after_effect:
            status = await self._play(fault, scope, receive, send)
        if status is None:
            answer = await self._answer(scope, receive)
            if fault is not None and fault.after_effect:
                status = await self._play(fault, scope, receive, send)
            if status is None:
                status = answer[0]["status"]
                for message in answer:
                    await send(message)
        self._journal.finish(exchange, status)

    async def _answer(self, scope: Scope, receive: Receive) -> list[Message]:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        return messages

    async def _play(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> int | None:
        """The status of the fault's own answer; None when it was only late."""
        if fault.delay:
            await self._sleep(fault.delay)
        if fault.drop:
            await _drop(scope, receive)
            return DROPPED
        if fault.status is None:
            return None
        await self._refusal(fault, fault.status)(scope, receive, send)
        return fault.status

    def _refusal(self, fault: Fault, status: int) -> Response:
        if fault.body is None:
            response = self._stand_in.refusal(status)
        elif isinstance(fault.body, str):
            response = HTMLResponse(fault.body, status)
        else:
            response = json_answer(fault.body, status)
        if fault.retry_after is not None:
            response.headers["Retry-After"] = str(fault.retry_after)
        return response


async def _drop(scope: Scope, receive: Receive) -> None:
    cut = scope.get("extensions", {}).get(DROP)
    if cut is None:
        raise ConnectionResetError("the sandbox cut this connection")
    cut()
    # A server takes an application that returns early for a broken one: wait until it has noticed.
    while (await receive())["type"] != "http.disconnect":
        pass
