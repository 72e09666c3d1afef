"""Takes the pictures of the demo that README.md shows: `python -m tests.browser.pictures`."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from limner.adapters.cli.performance import Pace
from limner.adapters.demo.serving import Play
from limner.adapters.demo.writers import StoryWriter
from limner.adapters.sketch import SketchGenerator
from tests.browser.conftest import chromium
from tests.browser.stage import DemoThread

FOLDER = Path(__file__).parent.parent.parent / "docs" / "pictures"
LINE = "the dragon who was afraid of snow"
LARGEST = 200_000


def main() -> None:
    """Let the demo run at its own pace, and look at it twice."""
    pace = Pace()
    painter = SketchGenerator(steps=pace.steps, step_ms=pace.step_ms)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        demo = DemoThread(Path(folder), StoryWriter(pace.token_ms), painter)
        demo.play = Play(demo.play.writer, painter, "the offline painter", captions=False)
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(demo.start())
            page.get_by_role("button", name=LINE).click()
            # The first picture is half painted then, and the story goes on below.
            page.wait_for_timeout(6_500)
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(300)
            keep(page, "demo")
            page.get_by_role("button", name="Send").wait_for()
            page.get_by_role("button", name="Machine", exact=True).click()
            page.wait_for_timeout(1_500)
            keep(page, "demo-machine")
        finally:
            browser.close()
            demo.stop()


def keep(page: Page, name: str) -> None:
    """Keep what is seen, as small as it may be."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = FOLDER / f"{name}.jpg"
    image.save(path, "JPEG", quality=85, optimize=True, progressive=True)
    assert path.stat().st_size <= LARGEST, f"{path} is too large"


if __name__ == "__main__":
    main()
