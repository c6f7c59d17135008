"""A browser's page on the running product, and the ways to bring it into a state."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect

from tests.e2e.conftest import Product

Scheme = Literal["light", "dark"]
World = Callable[["Scene", str], Awaitable[None]]
"""Arranges the integrations of an org, whose name it is given."""

SCREENS: Mapping[int, int] = {1280: 800, 390: 844}
"""Heights of the screens by their width, in CSS pixels: a desktop and a phone."""

STATUS = "**/api/integrations/status"


class Scene:
    """A page. `complaints` are what its scripts threw, and what its own policy kept from being loaded.

    `suffix` makes the names of its orgs unique on a product that is shared; `names` are other names for some of them.
    """

    def __init__(
        self,
        product: Product,
        page: Page,
        *,
        suffix: str = "",
        names: Mapping[str, str] = {},
    ) -> None:
        self.product = product
        self.page = page
        self.complaints: list[str] = []
        self._suffix = suffix
        self._names = names
        # The org whose integrations are open and as an administrator first sees them, but for a dialog over them.
        self._at = ""
        self._worlds: dict[World, str] = {}
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)

    @property
    def dialog(self) -> Any:
        """The dialog that is open."""
        return self.page.locator("dialog[open]")

    async def world(self, arrange: World) -> str:
        """The name of the org that was arranged so, the first time that it is asked for."""
        if arrange not in self._worlds:
            # Noted when it is done: one that failed is arranged again, as another org.
            org = self.fresh(arrange.__name__.replace("_", "-"))
            await arrange(self, org)
            self._worlds[arrange] = org
        return self._worlds[arrange]

    def fresh(self, name: str) -> str:
        """The name of an org that has nothing yet."""
        return f"{self._names.get(name, name)}{self._suffix}"

    async def enter(self, org: str, path: str = "/", *, role: str = "admin") -> None:
        """Come in as the host application sends people in, with a token of its own, and open a page."""
        await self.leave()
        await self.admit(self.page.context, org, role=role)
        await self.page.goto(path)

    async def admit(self, context: BrowserContext, org: str, *, role: str = "admin") -> None:
        """Give a browser context a session of an org's person."""
        async with self.product.api(org, role=role) as api:
            authorization = api.headers["Authorization"]
        answer = await context.request.post("/session", headers={"Authorization": authorization})
        assert answer.ok, await answer.text()

    async def open(self, org: str, *, role: str = "admin") -> None:
        """Open the integrations of an org, and wait until they are there."""
        await self.enter(org, role=role)
        await expect(self.page.locator('integration-card:not([data-state="loading"])')).to_have_count(5)
        self._at = org if role == "admin" else ""

    async def leave(self) -> None:
        """Sign out, and take back what earlier states left behind."""
        self._at = ""
        await self.page.unroute_all(behavior="ignoreErrors")
        await self.page.context.clear_cookies()
        await self.product.sandbox("DELETE", "faults")

    async def form(self, provider: str, org: str, action: str = "connect") -> None:
        """Open an org's dialog for a provider, in place of another one that is open."""
        if self._at != org:
            await self.open(org)
        elif await self.dialog.count():
            await self.dialog.locator('[data-action="close"]').click()
            await expect(self.dialog).to_have_count(0)
        await self.act(provider, action)
        await expect(self.dialog).to_be_visible()

    async def act(self, provider: str, action: str) -> None:
        """Press a card's button."""
        await self.page.locator(f'integration-card[data-provider="{provider}"] [data-action="{action}"]').click()

    async def fill(self, **values: str) -> None:
        """Fill fields of the open dialog."""
        for name, value in values.items():
            await self.dialog.locator(f"#{name}").fill(value)

    async def send(self, **values: str) -> None:
        """Fill fields of the open dialog, and send it by the keyboard, after which it does not close by itself."""
        self._at = ""
        await self.fill(**values)
        await self.dialog.locator('[data-action="submit"]').press("Enter")

    async def end_session(self) -> None:
        """Let the session be over, without the page's knowing."""
        self._at = ""
        await self.page.context.clear_cookies()

    async def hold(self, pattern: str) -> None:
        """Let no request of this pattern come back."""

        async def held(route: Route) -> None:
            """Nothing: neither passed on nor answered."""

        await self.page.route(pattern, held)

    async def cut_off(self, pattern: str) -> None:
        """Let no request of this pattern reach the server."""
        await self.page.route(pattern, lambda route: route.abort())

    async def show(self, scheme: Scheme, width: int) -> None:
        """Change the colours and the screen under the page, as it is."""
        await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        await self.page.set_viewport_size({"width": width, "height": SCREENS[width]})

    def _heard(self, message: ConsoleMessage) -> None:
        # Of our own pages: the stand-in for Google has a policy of its own.
        ours = message.location["url"].startswith(self.product.stack.gateway_url)
        if ours and "Content Security Policy" in message.text:
            self.complaints.append(message.text)


@asynccontextmanager
async def scene_of(
    product: Product,
    browser: Browser,
    *,
    suffix: str = "",
    names: Mapping[str, str] = {},
) -> AsyncIterator[Scene]:
    """A scene in a browser context of its own, without motion."""
    context = await browser.new_context(
        base_url=product.stack.gateway_url, locale="en-GB", timezone_id="UTC", reduced_motion="reduce"
    )
    context.set_default_timeout(15_000)
    try:
        yield Scene(product, await context.new_page(), suffix=suffix, names=names)
    finally:
        await context.close()
