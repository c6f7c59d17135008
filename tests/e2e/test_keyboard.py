"""Whoever has no mouse connects Vapi: from the sign-in page to the success box, and back to the card."""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from deploy.local.environments import DEMO_ORGS
from tests.e2e.conftest import Product
from tests.e2e.test_browser import until_state
from tests.e2e.test_connect import vapi_key

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("dashboard"),
]

# More steps than any page has from its beginning to its end.
FAR = 60

# What has the focus: that it is in sight, whole and uppermost where it is, and has an outline. Empty when all is well.
# The outline of an input that cannot be seen itself is drawn by what stands beside it.
UNSEEN = """
() => {
  const focused = document.activeElement;
  if (focused === document.body) return "nothing has the focus";
  const shown = [focused, focused.nextElementSibling].filter(Boolean);
  const outlined = shown.some((each) => {
    const {outlineStyle, outlineWidth} = getComputedStyle(each);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  });
  if (!outlined) return `no outline: ${focused.outerHTML.slice(0, 200)}`;
  const {left, top, width, height} = focused.getBoundingClientRect();
  const at = document.elementFromPoint(left + width / 2, top + Math.min(height / 2, innerHeight / 2));
  const covered = !at || !(focused.contains(at) || at.contains(focused) || at.labels?.length);
  return covered ? `covered: ${focused.outerHTML.slice(0, 200)}` : "";
}
"""


class Keyboard:
    """Moves through a page by its keys alone, and minds at each step that the focus can be seen."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def press(self, key: str) -> None:
        await self._page.keyboard.press(key)

    async def type(self, text: str) -> None:
        await self._page.keyboard.type(text)

    async def go(self, selector: str, key: str = "Tab") -> int:
        """Press the key until this has the focus; how often it took."""
        for step in range(FAR):
            if await self._page.locator(f"{selector}:focus").count():
                await self.sees(selector)
                return step
            await self.press(key)
            await self.sees("*")
        raise AssertionError(f"{key} does not lead to {selector}")

    async def sees(self, selector: str) -> None:
        """This has the focus, and can be seen to have it."""
        await expect(self._page.locator(f"{selector}:focus").last).to_be_attached()
        assert "" == await self._page.evaluate(UNSEEN)


@pytest_asyncio.fixture(loop_scope="session")
async def org(product: Product) -> AsyncIterator[str]:
    """One that the sign-in page offers, beside those that other tests may have used."""
    name = f"keys-{uuid.uuid4().hex[:8]}"
    await product.stack.restart("gateway", {"TENANTVAULT_DEMO_ORGS": ",".join((*DEMO_ORGS, name))})
    yield name
    await product.stack.restart("gateway")


CONNECT = 'integration-card[data-provider="vapi"] [data-action="connect"]'


async def come_in(page: Page, keys: Keyboard, org: str) -> None:
    """Sign in, and go to the card past what every page begins with."""
    await page.goto("/sign-in")
    await keys.go(f'[data-org="{org}"]')
    await keys.press("Enter")
    await expect(page.locator("#org")).to_have_text(org)
    await until_state(page, "vapi", "empty")
    await keys.press("Tab")
    await keys.sees(".skip")
    await keys.press("Enter")
    await keys.press("Tab")
    assert await page.evaluate("document.querySelector('main').contains(document.activeElement)")
    await keys.go(CONNECT)


async def think_again(page: Page, keys: Keyboard, key: str) -> None:
    """Close the dialog: the focus is where it was before, and what was typed is gone."""
    await keys.press("Space")
    await keys.sees("#apiKey")
    await keys.type(key)
    await keys.press("Escape")
    await expect(page.locator("dialog[open]")).to_have_count(0)
    await keys.sees(CONNECT)
    await keys.press("Enter")
    await keys.sees("#apiKey")
    await expect(page.locator("#apiKey")).to_have_value("")


async def fill_in(page: Page, keys: Keyboard, key: str) -> None:
    """Use every part of the form, there and back."""
    await keys.go('dialog [data-action="close"]', "Shift+Tab")
    await keys.go("#apiKey")
    await keys.type(key)
    await keys.go('[data-action="reveal"]')
    await keys.press("Space")
    await expect(page.locator("#apiKey")).to_have_attribute("type", "text")
    await keys.press("Space")
    await expect(page.locator("#apiKey")).to_have_attribute("type", "password")
    await keys.go('[data-action="generate"]')
    await keys.press("Enter")
    await expect(page.locator("#webhookSecret")).not_to_have_value("")
    await keys.go("summary")
    await keys.press("Space")
    await keys.go("#webhookScheme")


async def test_vapi_is_connected_without_a_mouse(page: Page, product: Product, org: str) -> None:
    keys, key = Keyboard(page), vapi_key()
    dialog = page.locator("dialog[open]")
    await come_in(page, keys, org)
    await think_again(page, keys, key)
    await fill_in(page, keys, key)
    await keys.go('dialog [data-action="test"]')
    await keys.press("Enter")
    await expect(dialog.get_by_role("status").filter(has_text="accepts")).to_be_visible()
    await keys.sees('dialog [data-action="test"]')
    await keys.go('dialog [data-action="submit"]')
    await keys.press("Enter")

    # Whoever works with keys has time: it does not close by itself.
    await expect(dialog).to_have_attribute("data-state", "success")
    await keys.sees('dialog [data-action="done"]')
    await expect(page.locator("closing-note")).to_have_count(0)
    await expect(page.locator("#announcer")).to_contain_text("Vapi is connected")
    await keys.go('[data-result="inboundAssistantId"] [data-action="copy"]', "Shift+Tab")
    await keys.press("Space")
    await expect(dialog.get_by_role("status").first).not_to_be_empty()
    await keys.press("Escape")
    await until_state(page, "vapi", "connected")
    # The button that opened it is gone: its card has the focus.
    await keys.sees('integration-card[data-provider="vapi"] *')
