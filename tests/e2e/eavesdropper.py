"""Whoever can look at everything that a browser keeps, shows, says, sends and is sent."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import CDPSession, Error, Page, Request, Response

# All that scripts can reach: every element and what is typed in it, in shadow roots too, and every kind of memory.
_IN_PAGE = """
async () => {
  const seen = [];
  const look = (root) => {
    seen.push(root.innerHTML ?? "");
    for (const each of root.querySelectorAll("*")) {
      if ("value" in each) seen.push(String(each.value), String(each.defaultValue ?? ""));
      if (each.shadowRoot) look(each.shadowRoot);
    }
  };
  look(document.documentElement);
  return {
    page: seen,
    selected: String(getSelection()),
    address: [location.href, document.referrer, document.title, window.name, JSON.stringify(history.state)],
    cookie: document.cookie,
    local: JSON.stringify({...localStorage}),
    session: JSON.stringify({...sessionStorage}),
    loaded: performance.getEntries().map(({name}) => name),
    databases: (await indexedDB.databases()).map(({name}) => name),
    caches: await caches.keys(),
    workers: (await navigator.serviceWorker.getRegistrations()).map(({scope}) => scope),
  };
}
"""

# Seconds from a response's head to its end. One that no script reads has none: then this is an error.
_PATIENCE = 10


@dataclass(slots=True)
class Eavesdropper:
    """What was overheard so far. Of what was sent, `posted` has the bodies, with method and path before each."""

    said: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    posted: list[tuple[str, str]] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    _pending: set[asyncio.Task[None]] = field(default_factory=set)
    _screen: CDPSession | None = None

    async def listen(self, page: Page) -> None:
        """Begin to listen, before the page is opened."""
        page.on("console", lambda message: self.said.append(f"{message.text} {message.location}"))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self._later(self._take(request)))
        page.on("response", lambda response: self._later(self._read(response)))
        self._screen = await page.context.new_cdp_session(page)
        await self._screen.send("Network.enable")
        self._screen.on("Network.eventSourceMessageReceived", lambda event: self.received.append(json.dumps(event)))

    async def settle(self) -> None:
        """Return when what came so far was read."""
        while self._pending:
            await asyncio.gather(*self._pending)

    async def kept(self, page: Page) -> str:
        """What the page shows and remembers, and what the browser remembers of it."""
        assert self._screen is not None
        history: dict[str, Any] = await self._screen.send("Page.getNavigationHistory")
        state = await page.context.storage_state(indexed_db=True)
        return json.dumps([await page.evaluate(_IN_PAGE), history, state], ensure_ascii=False)

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _take(self, request: Request) -> None:
        self.sent.append(f"{request.url} {await request.all_headers()}")
        if request.post_data:
            self.posted.append((f"{request.method} {urlsplit(request.url).path}", request.post_data))

    async def _read(self, response: Response) -> None:
        headers = await response.all_headers()
        self.received.append(f"{response.url} {headers}")
        # The server's events never end; they are heard one by one.
        if not headers.get("content-type", "").startswith("text/event-stream"):
            # A redirect has no body, and what was left behind is gone.
            with suppress(Error):
                async with asyncio.timeout(_PATIENCE):
                    body = await response.body()
                self.received.append(body.decode("utf-8", "replace"))
