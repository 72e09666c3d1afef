"""The page of the example for FastAPI, served by it."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Page, expect

from limner.adapters.demo.serving import listening_socket
from tests.browser.test_element_access import LOOKS

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_chat.py"


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    app = runpy.run_path(str(EXAMPLE))["app"]
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=1))
    listening = listening_socket(0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_lines_are_said_one_after_the_other_and_the_replies_stand_apart(page: Page, address: str):
    page.goto(address)
    line = page.get_by_label("You:")
    expect(line).to_be_focused()
    replies = page.locator("limner-message")
    for number, words in enumerate(("Ahoy", "And again")):
        page.keyboard.type(words)
        page.keyboard.press("Enter")
        expect(line).to_have_value("")
        expect(replies.nth(number)).to_contain_text(f"You said: {words}")
        expect(replies.nth(number).get_by_role("button", name="a lighthouse at night")).to_be_visible()
        expect(line).to_be_focused()
    first, second = replies.nth(0).bounding_box(), replies.nth(1).bounding_box()
    assert first is not None
    assert second is not None
    assert second["y"] - (first["y"] + first["height"]) >= 32


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_on_a_phone_it_is_as_wide_as_the_phone(
    page: Page, address: str, width: int, scheme: str, screenshots: Path | None
):
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    page.get_by_label("You:").fill("Ahoy")
    page.keyboard.press("Enter")
    picture = page.get_by_role("button", name="a lighthouse at night")
    expect(picture).to_be_visible()
    if screenshots is not None:
        expect(picture.get_by_role("img")).to_have_js_property("complete", True)
        page.screenshot(path=screenshots / f"example-{width}-{scheme}.png")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("meta[name=viewport]").get_attribute("content") == "width=device-width"
