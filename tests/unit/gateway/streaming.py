"""A caller that gets an answer piece by piece, as from a real server, and may go away."""

import asyncio
from types import TracebackType
from typing import Any, Self

from starlette.applications import Starlette
from starlette.types import Message

PATIENCE = 10.0


class Caller:
    """One request under way. `status` and `headers` are there with the first piece."""

    def __init__(self, app: Starlette, path: str, headers: dict[str, str], *, method: str = "GET") -> None:
        path, _, query = path.partition("?")
        self._app = app
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            + [(b"host", b"vault.example.com")],
        }
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._asked = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_complete = False

    async def next(self) -> str:
        """The next piece; empty at the end, which is complete or not."""
        async with asyncio.timeout(PATIENCE):
            message = await self._sent.get()
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                message = await self._sent.get()
        self.is_complete = message.get("more_body") is False
        return bytes(message.get("body", b"")).decode()

    async def rest(self) -> str:
        """Everything up to the end."""
        pieces = []
        while piece := await self.next():
            pieces.append(piece)
        return "".join(pieces)

    async def leave(self) -> None:
        """Go away; returns when the application has noticed."""
        self._gone.set()
        async with asyncio.timeout(PATIENCE):
            await self._task

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)
        # As a server that breaks off what was not finished; whoever waits for more gets an end.
        self._sent.put_nowait({"type": "http.response.body"})

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self._sent.put_nowait(message)
