"""What the pages weigh and how soon they are there: `python -m tests.e2e.figures`, with its own stack.

The browser's own figures: https://www.w3.org/TR/resource-timing/, https://www.w3.org/TR/paint-timing/,
https://www.w3.org/TR/largest-contentful-paint/, https://wicg.github.io/layout-instability/.
"""

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page

from tests.e2e.conftest import CHROMIUM, chromium, running, short_folder
from tests.e2e.scene import Scene, scene_of
from tests.e2e.worlds import all_connected

FILE = Path(__file__).parents[2] / ".local" / "dashboard.json"

PAGES = {
    "/": "document.querySelectorAll('integration-card:not([data-state=loading])').length === 5",
    "/activity": "document.querySelector('audit-table tbody tr')",
    "/sign-in": "document.querySelector('[data-action=sign-in]')",
}
"""Each page, and when it shows what somebody came for."""

# 400 kbit/s and 400 ms there and back.
_SLOW = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000}
_TIMES = 5

# Marked before the frame in which it is first seen is painted.
_WATCH = "const look = () => ({ready}) ? performance.mark('ready') : requestAnimationFrame(look); look();"

PAINTED = """
() => new Promise((resolve) => {
  const look = (list) => list.getEntriesByName("first-contentful-paint").length && resolve();
  new PerformanceObserver(look).observe({type: "paint", buffered: true});
})
"""
"""Waits in a page until something was painted."""

_READ = """
async () => {
  while (!performance.getEntriesByName("ready").length) await new Promise(requestAnimationFrame);
  let largest = 0, shift = 0;
  const observe = (type, each) =>
    new PerformanceObserver((list) => list.getEntries().forEach(each)).observe({type, buffered: true});
  observe("largest-contentful-paint", ({startTime}) => (largest = startTime));
  observe("layout-shift", ({value, hadRecentInput}) => (shift += hadRecentInput ? 0 : value));
  const at = (name) => performance.getEntriesByName(name)[0]?.startTime ?? null;
  const loaded = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
  const sum = (entries, field) => entries.reduce((all, entry) => all + entry[field], 0);
  const isAnswer = ({name}) => new URL(name).pathname.startsWith("/api/");
  // What is observed is told in the next task; two frames are enough for what was painted.
  await new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(then))));
  return {
    requests: loaded.length,
    weight: sum(loaded.filter((entry) => !isAnswer(entry)), "decodedBodySize"),
    answers: sum(loaded.filter(isAnswer), "decodedBodySize"),
    transferred: sum(loaded, "transferSize"),
    first_paint: at("first-paint"),
    first_contentful_paint: at("first-contentful-paint"),
    largest_contentful_paint: largest,
    layout_shift: shift,
    ready: at("ready"),
  };
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One visit to a page. Sizes in bytes, times in milliseconds from the click.

    `weight` is that of the page's files and `answers` that of what the server said about the org, both without
    compression; `transferred` is what travelled of all of them, with headers.
    """

    requests: float
    weight: float
    answers: float
    transferred: float
    first_paint: float
    first_contentful_paint: float
    largest_contentful_paint: float
    ready: float
    layout_shift: float


async def watch(context: BrowserContext, path: str) -> None:
    """Let the pages of this context note when they show what somebody came for."""
    await context.add_init_script(_WATCH.replace("{ready}", PAGES[path]))


async def read(page: Page) -> Visit:
    """The figures of the page as it is, once it shows what somebody came for."""
    await page.evaluate(PAINTED)
    return Visit(**await page.evaluate(_READ))


async def _visit(context: BrowserContext, path: str, *, slow: bool) -> Visit:
    page = await context.new_page()
    if slow:
        screen = await context.new_cdp_session(page)
        await screen.send("Network.enable")
        await screen.send("Network.emulateNetworkConditions", _SLOW)
    await page.goto(path)
    visit = await read(page)
    await page.close()
    return visit


async def _cold_and_warm(browser: Browser, scene: Scene, path: str, *, slow: bool) -> tuple[Visit, Visit]:
    url = scene.product.stack.gateway_url
    async with await browser.new_context(base_url=url) as context:
        if path != "/sign-in":
            await scene.admit(context, await scene.world(all_connected))
        await watch(context, path)
        return await _visit(context, path, slow=slow), await _visit(context, path, slow=slow)


def _typical(visits: list[Visit]) -> Visit:
    rows = [asdict(visit) for visit in visits]
    return Visit(**{name: round(median(row[name] for row in rows), 4) for name in rows[0]})


async def measure(browser: Browser, scene: Scene, *, times: int) -> dict[str, dict[str, Visit]]:
    """The figures of every page: cold, warm, and both on a slow network; medians of `times` visits each."""
    figures: dict[str, dict[str, Visit]] = {}
    for path in PAGES:
        figures[path] = {}
        for slow in (False, True):
            pairs = [await _cold_and_warm(browser, scene, path, slow=slow) for _ in range(times)]
            for name, visits in zip(("cold", "warm"), zip(*pairs, strict=True), strict=True):
                figures[path][f"{name}, slow network" if slow else name] = _typical(list(visits))
    return figures


def table(figures: dict[str, dict[str, Visit]]) -> str:
    """The figures as Markdown shows them."""
    head = (
        "Page",
        "Visit",
        "Requests",
        "Files",
        "Answers",
        "Transferred",
        "First paint",
        "First content",
        "Largest content",
    )
    rows = [(*head, "Ready", "Layout shift"), ("---",) * (len(head) + 2)]
    for path, visits in figures.items():
        for name, visit in visits.items():
            times = (visit.first_paint, visit.first_contentful_paint, visit.largest_contentful_paint, visit.ready)
            rows.append(
                (
                    f"`{path}`",
                    name,
                    f"{visit.requests:.0f}",
                    *(f"{size / 1000:.1f} kB" for size in (visit.weight, visit.answers, visit.transferred)),
                    *(f"{time:.0f} ms" for time in times),
                    f"{visit.layout_shift:.3f}",
                )
            )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


async def _run(executable: str, times: int) -> None:
    with short_folder() as root:
        async with running(root) as product, chromium(executable) as browser, scene_of(product, browser) as scene:
            figures = await measure(browser, scene, times=times)
            version = browser.version
    machine: dict[str, Any] = {"cores": os.cpu_count(), "chromium": version, "visits": times}
    shown = {path: {name: asdict(visit) for name, visit in visits.items()} for path, visits in figures.items()}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps({"machine": machine, "pages": shown}, indent=2) + "\n")
    sys.stdout.write(f"{table(figures)}\n\nChromium {version}, {os.cpu_count()} cores, medians of {times} visits.\n")


def main() -> int:
    """Measure, print the table, and write it to .local/dashboard.json."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.figures", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=_TIMES, help="visits of each kind (default: %(default)s)")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        sys.stderr.write("No Chromium on this machine: install it (Debian: apt-get install chromium-headless-shell).\n")
        return 1
    asyncio.run(_run(CHROMIUM, arguments.times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
