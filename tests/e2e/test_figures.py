"""The pages are light, hold still, and are painted before the server has said anything: nothing here is timed."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from tests.e2e.conftest import Product
from tests.e2e.figures import PAGES, PAINTED, Visit, read, table, watch
from tests.e2e.scene import Scene, scene_of
from tests.e2e.worlds import mixed

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("dashboard")]

MOST_BYTES = 100_000
MOST_REQUESTS = 40
# What https://web.dev/articles/cls calls good.
MOST_SHIFT = 0.1


# Modules that neither the page nor its own script names: each chain of them is one more way to the server and back.
FOUND_LATE = """
async () => {
  const own = document.querySelector("script[src]").src;
  const script = await (await fetch(own)).text();
  const imported = [...script.matchAll(/"\\.\\/([\\w-]+\\.js)"/g)].map(([, name]) => new URL(name, own).href);
  const named = [own, ...imported, ...[...document.querySelectorAll("link[rel=modulepreload]")].map(({href}) => href)];
  const loaded = performance.getEntriesByType("resource").map(({name}) => name).filter((name) => name.endsWith(".js"));
  return loaded.filter((name) => !named.includes(name));
}
"""


@pytest_asyncio.fixture(loop_scope="session")
async def scene(product: Product, browser: Browser, suffix: str) -> AsyncIterator[Scene]:
    async with scene_of(product, browser, suffix=suffix) as scene:
        yield scene


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_painted_before_the_server_answers_and_then_holds_still(scene: Scene, path: str) -> None:
    page, asked, may_answer = scene.page, list[str](), asyncio.Event()

    async def hold(route: Route) -> None:
        asked.append(route.request.url)
        await may_answer.wait()
        await route.continue_()

    # On a phone, where the cards stand below each other and what grows moves all that follows.
    await scene.show("light", 390)
    await scene.admit(page.context, await scene.world(mixed))
    await watch(page.context, path)
    await page.route("**/api/**", hold)
    await page.goto(path)
    await page.evaluate(PAINTED)
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert ("/sign-in" != path) == bool(asked)
    may_answer.set()
    visit = await read(page)
    assert visit.weight < MOST_BYTES
    assert visit.requests <= MOST_REQUESTS
    assert visit.layout_shift < MOST_SHIFT
    assert [] == await page.evaluate(FOUND_LATE)


def test_the_figures_are_shown_as_a_table() -> None:
    visit = Visit(
        requests=9,
        weight=81_234,
        answers=4_321,
        transferred=9_876,
        first_paint=12,
        first_contentful_paint=12.4,
        largest_contentful_paint=99.6,
        ready=150,
        layout_shift=0.01234,
    )
    last = table({"/": {"cold": visit}}).splitlines()[-1]
    assert "| `/` | cold | 9 | 81.2 kB | 4.3 kB | 9.9 kB | 12 ms | 12 ms | 100 ms | 150 ms | 0.012 |" == last
