"""`make screenshots` in short: a page and a dialog, in both colours and both widths; and the pictures in the README."""

import re
import struct
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.e2e.conftest import Product
from tests.e2e.scene import scene_of
from tests.e2e.screenshots import IMAGES, ROOT, SHOWN, take
from tests.e2e.states import sign_in, vapi_form

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("dashboard")]

MOST_BYTES = 150_000


def contents(png: Path) -> bytes:
    return png.read_bytes()


def size(png: Path) -> tuple[int, int]:
    """Width and height: https://www.w3.org/TR/png-3/#11IHDR."""
    header = png.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", header[16:])
    return width, height


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_each_state_is_pictured_four_times(
    product: Product, browser: Browser, suffix: str, tmp_path: Path
) -> None:
    told: list[Path] = []
    async with scene_of(product, browser, suffix=suffix) as scene:
        await take(scene, [sign_in, vapi_form], tmp_path, told.append)
    assert [
        f"{name}-{scheme}-{width}.png"
        for name in ("sign-in", "vapi-form")
        for scheme in ("light", "dark")
        for width in (1280, 390)
    ] == [path.name for path in told]
    assert [1280, 390] * 4 == [size(path)[0] for path in told]
    # No two are alike: the colours and the width were really changed.
    assert len(told) == len({contents(path) for path in told})


def test_the_readme_shows_what_was_pictured_last() -> None:
    shown = dict(re.findall(r"!\[([^\]]{20,})\]\(docs/images/([^)]+)\)", (ROOT / "README.md").read_text("utf-8")))
    assert (
        sorted(f"{name}.png" for name in SHOWN)
        == sorted(shown.values())
        == sorted(path.name for path in IMAGES.iterdir())
    )
    for path in IMAGES.iterdir():
        assert 960 <= size(path)[0] <= 1280
        assert path.stat().st_size <= MOST_BYTES, path
