"""Every state of the dashboard is for everybody: WCAG 2.2 AA, light and dark, wide and narrow, enlarged."""

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from playwright.async_api import Browser, CDPSession

from tests.e2e.axe import faults
from tests.e2e.conftest import Product
from tests.e2e.scene import Scene, Scheme, scene_of
from tests.e2e.states import GROUPS, State, integrations_loading, name_of

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("dashboard"),
]

LOOKS: Mapping[Scheme, int] = {"light": 1280, "dark": 390}

# Higher than any page, so that nothing is scrolled out of what axe can judge.
ALL_OF_IT = 3000

# What sticks out to the side: of the page, or of the dialog that lies over it.
STICKS_OUT = """
() => [document.documentElement, ...document.querySelectorAll("dialog[open]")].flatMap((box) => {
  const {left, right} = box.getBoundingClientRect();
  if (box.scrollWidth <= box.clientWidth && left >= 0 && right <= innerWidth) return [];
  const edge = Math.min(right, innerWidth);
  const out = [...box.querySelectorAll("*")].filter((each) => each.getBoundingClientRect().right > edge + 0.5);
  const shown = out.slice(-3).map((each) => each.outerHTML.slice(0, 150));
  return [`${box.tagName} ${box.scrollWidth} > ${box.clientWidth}: ${shown}`];
})
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(product: Product, browser: Browser, suffix: str) -> AsyncIterator[Scene]:
    async with scene_of(product, browser, suffix=suffix) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def screen(scene: Scene) -> CDPSession:
    return await scene.page.context.new_cdp_session(scene.page)


async def enlarge(screen: CDPSession, width: int, height: int) -> None:
    # How many dots a pixel has changes the pictures, which take long to draw, and not where things are.
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    await screen.send("Emulation.setDeviceMetricsOverride", metrics)


async def faults_of(scene: Scene, screen: CDPSession, state: State) -> list[str]:
    """What is wrong with a state, and where it is seen."""
    scene.complaints.clear()
    await scene.show("light", 1280)
    await state(scene)
    found: list[str] = []
    # What a colour breaks is broken at any width, and what a width breaks in any colours: two of the four show both.
    for scheme, width in LOOKS.items():
        await scene.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        await scene.page.set_viewport_size({"width": width, "height": ALL_OF_IT})
        here = await faults(scene.page, looks_only=scheme != "light")
        found += (f"{scheme}, {width} wide: {fault}" for fault in here)
    # A phone; a desktop at 200 %; and at 400 %, which WCAG's reflow (1.4.10) asks for.
    for width, height in ((390, 844), (640, 400), (320, 256)):
        await enlarge(screen, width, height)
        found += (f"{width} wide: {fault}" for fault in await scene.page.evaluate(STICKS_OUT))
    await screen.send("Emulation.clearDeviceMetricsOverride")
    return [f"{name_of(state)}, {fault}" for fault in [*found, *scene.complaints]]


@pytest.mark.parametrize("group", GROUPS)
async def test_every_state_can_be_used_by_everybody(scene: Scene, screen: CDPSession, group: str) -> None:
    found = [fault for state in GROUPS[group] for fault in await faults_of(scene, screen, state)]
    assert not found, "\n".join(found)


async def test_whoever_wants_no_motion_gets_none(scene: Scene) -> None:
    moving = "document.getAnimations().filter(({playState}) => playState === 'running').length"
    await integrations_loading(scene)
    await scene.page.emulate_media(reduced_motion="no-preference")
    assert 0 < await scene.page.evaluate(moving)
    await scene.page.emulate_media(reduced_motion="reduce")
    assert 0 == await scene.page.evaluate(moving)
