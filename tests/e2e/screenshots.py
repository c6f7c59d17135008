"""Pictures of every state of the dashboard: `python -m tests.e2e.screenshots [NAME ...]`, with its own stack."""

import argparse
import asyncio
import base64
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from playwright.async_api import Page

from tests.e2e.conftest import CHROMIUM, chromium, running, short_folder
from tests.e2e.scene import SCREENS, Scene, Scheme, scene_of
from tests.e2e.states import GROUPS, State, activity_full, integrations_mixed, name_of, vapi_success

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".local" / "screenshots"
IMAGES = ROOT / "docs" / "images"

SHOWN: dict[str, tuple[State, Scheme]] = {
    "integrations": (integrations_mixed, "light"),
    "vapi": (vapi_success, "dark"),
    "activity": (activity_full, "light"),
}
"""The pictures in the README."""

_NAMES = {"mixed": "acme", "busy": "globex"}

_SCHEMES: tuple[Scheme, ...] = ("light", "dark")


async def take(scene: Scene, states: Sequence[State], folder: Path, tell: Callable[[Path], None]) -> None:
    """Write four pictures of each state: light and dark, wide and narrow. `tell` is told of each."""
    for state in states:
        await scene.show("light", 1280)
        await state(scene)
        # What lies over the page is shown as it is met; a page is shown to its end.
        whole = not await scene.dialog.count()
        for scheme in _SCHEMES:
            for width in SCREENS:
                await scene.show(scheme, width)
                path = folder / f"{name_of(state)}-{scheme}-{width}.png"
                await scene.page.screenshot(path=path, full_page=whole, animations="disabled")
                tell(path)


async def take_shown(scene: Scene, folder: Path, tell: Callable[[Path], None]) -> None:
    """Write the pictures in the README."""
    for name, (state, scheme) in SHOWN.items():
        await scene.show(scheme, 1280)
        await state(scene)
        path = folder / f"{name}.png"
        if name == "integrations":
            path.write_bytes(await _reduced(scene.page))
        else:
            await scene.page.screenshot(path=path, animations="disabled")
        tell(path)


async def _reduced(page: Page) -> bytes:
    """The whole page, at three quarters of its size."""
    height = await page.evaluate("document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": 1280, "height": height, "scale": 0.75}
    screen = await page.context.new_cdp_session(page)
    taken = await screen.send("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(taken["data"])


def _tell(path: Path) -> None:
    sys.stdout.write(f"{path.relative_to(ROOT)} {path.stat().st_size / 1000:.0f} kB\n")
    sys.stdout.flush()


async def _run(states: Sequence[State], executable: str, *, shown: bool) -> None:
    with short_folder() as root:
        async with (
            running(root) as product,
            chromium(executable) as browser,
            scene_of(product, browser, names=_NAMES) as scene,
        ):
            if shown:
                await take_shown(scene, IMAGES, _tell)
            else:
                await take(scene, states, FOLDER, _tell)


def main() -> int:
    """Take those that the command line names, or all."""
    names = {name_of(state): state for states in GROUPS.values() for state in states}
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.screenshots", description=__doc__)
    parser.add_argument("name", nargs="*", choices=[[], *names], help="a state, e.g. integrations-mixed")
    parser.add_argument("--shown", action="store_true", help="renew the pictures in the README instead")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        sys.stderr.write("No Chromium on this machine: install it (Debian: apt-get install chromium-headless-shell).\n")
        return 1
    (IMAGES if arguments.shown else FOLDER).mkdir(parents=True, exist_ok=True)
    states = [names[name] for name in arguments.name or names]
    asyncio.run(_run(states, CHROMIUM, shown=arguments.shown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
