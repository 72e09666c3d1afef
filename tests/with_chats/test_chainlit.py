"""The example app on the real Chainlit, its server in a process of its own, its page in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.with_chats import EXAMPLES

SECONDS = 60_000


def chromium() -> str:
    """The browser. A missing one is an error, since then nothing here was tested."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("LIMNER_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert found, "no Chromium: apt-get install chromium, or name one with LIMNER_CHROMIUM"
    return found


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where the app runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "chainlit", "run", str(EXAMPLES / "chainlit_app.py"), "--headless"]
    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--port", str(port)], cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)
        assert "Traceback" not in log.read_text()


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The chat in a browser, ready to be typed into."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        for _ in range(60):
            try:
                page.goto(address)
                break
            except Exception:  # noqa: BLE001 - the server is still starting
                page.wait_for_timeout(500)
        with page.expect_websocket(timeout=SECONDS):
            page.reload()
        page.wait_for_selector("#chat-input", timeout=SECONDS)
        yield page
        browser.close()


def pictures(page: Page) -> list[tuple[Any, Any]]:
    images = page.locator('img[src*="project/file"]').all()
    return [(image.get_attribute("alt"), image.get_attribute("src")) for image in images]


def test_a_reply_streams_gets_its_pictures_and_a_click_paints_one_again(page: Page) -> None:
    images = page.locator('img[src*="project/file"]')
    page.click("#chat-input")
    page.keyboard.type("tell me")
    # The page takes no message before its socket is connected, and does not say when that is.
    sent = page.get_by_text("You asked: tell me")
    for _ in range(20):
        if sent.count():
            break
        page.click("#chat-submit")
        page.wait_for_timeout(1_000)
    expect(page.get_by_text(re.compile("Generating ./2 images…"))).to_be_visible(timeout=SECONDS)
    expect(images).to_have_count(2, timeout=SECONDS)
    before = pictures(page)
    assert [alt for alt, _ in before] == [
        "a lighthouse at night, a beam over the sea",
        "a calm sea at sunrise, gulls",
    ]
    assert "img-prompt" not in page.inner_text("body")
    expect(page.get_by_text("Generating")).to_have_count(0, timeout=SECONDS)

    page.get_by_role("button", name="2", exact=True).click()
    expect(page.get_by_text(re.compile("Regenerating ./1…"))).to_be_visible(timeout=SECONDS)
    expect(page.get_by_text("Regenerating")).to_have_count(0, timeout=SECONDS)
    after = pictures(page)
    assert after[0] == before[0]
    assert after[1][0] == before[1][0]
    assert after[1][1] != before[1][1]
