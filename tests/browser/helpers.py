"""What several tests of the element need."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from playwright.sync_api import Locator, Page

from tests.browser.scripted_server import TOKEN, Posted, ScriptedServer

ELEMENT = f"<limner-message message='m1' token='{TOKEN}'></limner-message>"
READ_ONLY = "<limner-message message='m1'></limner-message>"


def tag(prompt: str) -> str:
    return f'<img_prompt="{prompt}">'


def image_url(name: str) -> str:
    return f"/limner/images/{name}.png"


def image(name: str, prompt: str) -> str:
    return f'<img src="{image_url(name)}" alt="{prompt}" title="{prompt}">'


def open_page(page: Page, server: ScriptedServer, html: str = ELEMENT) -> Locator:
    """Show a page with this element in it, and wait until it listens."""
    server.html = html
    page.goto(server.url)
    page.evaluate("customElements.whenDefined('limner-message').then(() => null)")
    return page.locator("limner-message")


def illustrated(server: ScriptedServer, *names: str, message: str = "m1") -> None:
    """A message that is finished: one image for each name, whose prompt is the name."""
    for number, name in enumerate(names):
        server.prompt(
            message, f"p{number}", name, "completed", session_state="draining", image_url=image_url(name)
        )
    server.write(message, "\n\n".join(f"Of {name}: {tag(name)}{image(name, name)}" for name in names))
    server.ended(
        message, placed=tuple((f"p{number}", image_url(name), None) for number, name in enumerate(names))
    )


def heard(page: Page, name: str) -> list[Any]:
    """The details of the DOM events of this name."""
    found: list[Any] = page.evaluate(
        "name => heard.filter(([kind]) => kind === name).map(([, detail]) => detail)", name
    )
    return found


def wait_until(page: Page, holds: Callable[[], object]) -> None:
    """Wait for something that only the server sees."""
    for _ in range(2_000):
        if holds():
            return
        page.evaluate("new Promise(requestAnimationFrame)")
    raise AssertionError("it did not come to that")


def stop_time(page: Page) -> None:
    """Let time pass only where the test says so; from five seconds on, since it cannot stop in the past."""
    page.clock.pause_at(datetime.now() + timedelta(seconds=5))


def wait_for_server(page: Page, holds: Callable[[], object]) -> None:
    """As `wait_until`, where frames stand still with the time."""
    for _ in range(500):
        if holds():
            return
        page.evaluate("fetch('/limner/tags').then(answer => answer.text())")
    raise AssertionError("it did not come to that")


def posted(page: Page, server: ScriptedServer, count: int) -> list[Posted]:
    """What was asked for, once it is so much; the page shows a click before the server has it."""
    wait_until(page, lambda: len(server.posted) >= count)
    return server.posted
