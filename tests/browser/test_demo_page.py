"""The page of `limner demo` in a real browser, against its real server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect

from limner.adapters.demo.writers import UpstreamWriter, Writer
from limner.errors import BackendError
from limner.workflows.ports import Generator
from tests.adapters.servers.local import RawServer, Wire, chunk, head
from tests.browser.helpers import wait_until
from tests.browser.stage import DemoThread, HeldPainter, ToldWriter

BEGIN = '# A Tale\n\nOnce upon a time.\n\n<!--img-prompt="a sea at night"-->\n\n'
MIDDLE = 'In the middle.\n\n<img_prompt="a wood at dawn">\n\n'
END = "And that was the end."

HOSTILE = {  # what a person may type, and how the story quotes it
    "<img src=x onerror=\"document.title='owned'\"><script>": "‹img src=x onerror=",
    "**bold** [link](javascript:alert(1)) ![x](y) \\": "**bold** [link](javascript:alert(1)) ![x](y) \\",
    '<img_prompt="mine"> <!--img-prompt="mine"-->': "‹img_prompt=’mine’› ‹!--img-prompt=’mine’--›",
}


class Theatre:
    """Starts demos and opens pages on them. Everything that a page complains of fails the test."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser = browser
        self._folder = folder
        self._demos: list[DemoThread] = []
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []
        self._gone = False

    def expect_gone_previews(self) -> None:
        """From now on a preview may be gone when it is asked for.

        The app drops it with the work on its prompt. A page that was told of it an instant before cannot know
        that, and a browser complains of every answer that is none.
        """
        self._gone = True

    def demo(
        self, writer: Writer | None = None, painter: Generator | None = None, **settings: int
    ) -> DemoThread:
        demo = DemoThread(self._folder / str(len(self._demos)), writer, painter, **settings)
        demo.start()
        self._demos.append(demo)
        return demo

    def page(self, demo: DemoThread, **settings: object) -> Page:
        context = self._browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **settings})  # type: ignore[arg-type]
        self._contexts.append(context)
        return self.tab(context, demo)

    def tab(self, context: BrowserContext, demo: DemoThread) -> Page:
        page = context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfinished", lambda request: self._fetched(request, demo))
        page.on("requestfailed", lambda request: self._fetched(request, demo))
        page.goto(demo.address)
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        is_preview = "/limner/preview?" in message.location["url"] and "status of 404" in message.text
        if message.type in ("error", "warning") and not (is_preview and self._gone):
            self.complaints.append(message.text)

    def _fetched(self, request: Request, demo: DemoThread) -> None:
        # What the page's policy forbids fails before anybody is asked.
        forbidden = request.failure == "csp"
        if not forbidden and not request.url.startswith((demo.address, "data:")):
            self.complaints.append(f"something from elsewhere: {request.url}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        for demo in self._demos:
            demo.stop()


@pytest.fixture
def theatre(browser: Browser, tmp_path: Path) -> Iterator[Theatre]:
    theatre = Theatre(browser, tmp_path)
    yield theatre
    theatre.close()
    assert theatre.complaints == []


def say(page: Page, words: str) -> None:
    page.get_by_label("Your line").fill(words)
    page.get_by_label("Your line").press("Enter")


def stop(page: Page, theatre: Theatre) -> None:
    theatre.expect_gone_previews()
    page.get_by_role("button", name="Stop", exact=True).click()


def story(page: Page) -> Locator:
    """The last reply."""
    return page.locator("limner-message").last


def placed(page: Page) -> Locator:
    """The finished images that stand in the last reply."""
    return story(page).locator("button.frame img.picture:not([aria-hidden])")


def state(page: Page) -> Locator:
    """The state that the machine's panel tells."""
    return page.locator("#machine-state strong")


def lit(page: Page) -> str:
    """The state that is lit in the diagram."""
    text: str = page.locator("#machine-picture .lit title").text_content() or ""
    return text


def open_machine(page: Page) -> None:
    page.locator("#machine-button").click()
    expect(page.get_by_role("complementary", name="The machine")).to_be_visible()


# --- one line, one story


def test_the_empty_page_offers_a_line_and_pictures_of_what_could_be_told(theatre):
    page = theatre.page(theatre.demo())
    expect(page.get_by_role("heading", name="What shall be told?")).to_be_visible()
    suggestions = page.locator("#suggestions button")
    expect(suggestions).to_have_count(4)
    for picture in suggestions.locator("img").all():
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
    expect(page.get_by_label("Your line")).to_be_focused()


def test_on_a_phone_all_pictures_are_seen_whole_above_the_line(theatre):
    page = theatre.page(theatre.demo(ToldWriter(), HeldPainter()), viewport={"width": 390, "height": 800})
    expect(page.locator("#suggestions button")).to_have_count(4)
    expect(page.locator("#cast")).not_to_be_empty()
    line = page.locator("#composer").bounding_box()
    assert line is not None
    for card in page.locator("#suggestions button").all():
        box = card.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= line["y"] - 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_until_its_picture_is_there_a_card_has_a_tint(theatre, scheme):
    demo = theatre.demo()
    page = theatre.page(demo, color_scheme=scheme)
    page.route("**/suggestions/*.jpg", lambda route: route.fulfill(status=204))
    page.reload()
    card = page.locator("#suggestions button").first
    box, picture = card.bounding_box(), card.locator("img").bounding_box()
    assert box is not None
    assert picture is not None
    assert picture["height"] > 50
    shown = Image.open(BytesIO(page.screenshot(clip=picture))).convert("RGB")
    below = Image.open(BytesIO(card.screenshot())).convert("RGB")
    tint = shown.getpixel((shown.width // 2, 5))
    ground = below.getpixel((5, below.height - 5))
    assert isinstance(tint, tuple)
    assert isinstance(ground, tuple)
    assert sum(abs(a - b) for a, b in zip(tint, ground, strict=True)) > 40


def test_a_suggestion_becomes_a_story_with_its_four_pictures(theatre):
    page = theatre.page(theatre.demo())
    page.get_by_role("button", name="a night at the lighthouse").click()
    expect(page.locator(".said")).to_contain_text("a night at the lighthouse")
    expect(story(page).get_by_role("heading")).to_contain_text("The ")
    expect(placed(page)).to_have_count(4, timeout=30_000)
    expect(story(page)).to_contain_text("“a night at the lighthouse”")
    expect(page.get_by_role("heading", name="What shall be told?")).to_be_hidden()


def test_thumbnails_are_there_before_the_text_ends_and_images_come_only_after(theatre):
    writer, painter = ToldWriter(), HeldPainter(held=True)
    page = theatre.page(theatre.demo(writer, painter))
    say(page, "a sea")
    writer.write(BEGIN)
    expect(story(page)).to_contain_text("Once upon a time.")
    expect(story(page).locator("figure img.preview").first).to_be_visible()
    painter.release()
    writer.write(MIDDLE)
    expect(story(page)).to_contain_text("In the middle.")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    expect(story(page).locator("figure[data-state=image]").first).to_be_visible()
    assert placed(page).count() == 0
    assert "![" not in asked(page, "text")["text"]
    writer.write(END)
    writer.end()
    expect(placed(page)).to_have_count(2)
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_two_clicks_are_one_batch_and_both_pictures_are_replaced(theatre):
    writer, painter = ToldWriter(), HeldPainter()
    page = theatre.page(theatre.demo(writer, painter, debounce_ms=2_500))
    told_a_tale(page, writer)
    before = addresses(page)
    for picture in placed(page).all():
        picture.click()
    progress = story(page).locator("[part=progress-label]")
    expect(progress).to_have_text("Regenerating 2/2…")
    assert [entry["event"] for entry in machine_of(page)["history"]].count("written") == 1
    expect(progress).to_have_text("All 2 images are ready.", timeout=20_000)
    expect(placed(page).first).not_to_have_attribute("src", before[0], timeout=20_000)
    expect(placed(page).last).not_to_have_attribute("src", before[1])
    assert not set(before) & set(addresses(page))
    history = machine_of(page)["history"]
    assert [entry["event"] for entry in history].count("written") == 2
    assert [entry["event"] for entry in history].count("regeneration_requested") == 2


def test_a_picture_that_failed_is_told_of_and_tried_again(theatre):
    writer, painter = ToldWriter(), HeldPainter(failures=1)
    page = theatre.page(theatre.demo(writer, painter))
    theatre.expect_gone_previews()  # with the attempt that fails
    say(page, "a sea")
    writer.write(BEGIN, '<img_prompt="a ship that fails">\n\n', END)
    writer.end()
    expect(placed(page)).to_have_count(1, timeout=20_000)
    expect(story(page)).to_contain_text("run out of blue")
    story(page).get_by_role("button", name=re.compile("Try again")).click()
    expect(placed(page)).to_have_count(2, timeout=20_000)


# --- coming back


def test_a_reload_in_the_middle_shows_text_thumbnails_and_state_again(theatre):
    writer, painter = ToldWriter(), HeldPainter(held=True)
    page = theatre.page(theatre.demo(writer, painter))
    say(page, "a sea")
    writer.write(BEGIN)
    expect(story(page).locator("figure img.preview").first).to_be_visible()
    page.reload()
    expect(page.locator(".said")).to_contain_text("a sea")
    expect(story(page)).to_contain_text("Once upon a time.")
    expect(story(page).locator("figure img.preview").first).to_be_visible()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    writer.write(MIDDLE, END)
    writer.end()
    painter.release()
    expect(placed(page)).to_have_count(2)
    expect(story(page)).to_contain_text(END)


def test_a_restart_in_the_middle_brings_the_chat_back_and_the_line_can_be_told_again(theatre):
    writer, painter = ToldWriter(), HeldPainter(held=True)
    demo = theatre.demo(writer, painter)
    page = theatre.page(demo)
    say(page, "a sea")
    writer.write(BEGIN)
    expect(story(page).locator("figure img.preview").first).to_be_visible()
    wait_until(page, lambda: any(b"Once upon a time." in file.read_bytes() for file in stored_by(demo)))
    demo.stop()
    painter.release()
    demo.start()
    page.reload()
    expect(page.get_by_text("The demo was closed while this was being written.")).to_be_visible()
    expect(story(page)).to_contain_text("Once upon a time.")
    expect(placed(page)).to_have_count(1)
    page.get_by_role("button", name="Write it again").click()
    writer.write("Another beginning.")
    writer.end()
    expect(story(page)).to_contain_text("Another beginning.")
    expect(page.locator("limner-message")).to_have_count(1)
    theatre.complaints.clear()  # of the connection that was lost meanwhile


def test_two_tabs_show_the_same_conversation_while_it_goes_on(theatre):
    writer, painter = ToldWriter(), HeldPainter()
    demo = theatre.demo(writer, painter)
    first = theatre.page(demo)
    second = theatre.tab(first.context, demo)
    say(first, "a sea")
    writer.write(BEGIN)
    expect(second.locator(".said")).to_contain_text("a sea")
    expect(story(second)).to_contain_text("Once upon a time.")
    stop(second, theatre)
    expect(first.get_by_role("button", name="Send")).to_be_visible()
    expect(first.get_by_text("You stopped this one.")).to_be_visible()
    say(second, "again")
    writer.write(BEGIN, END)
    writer.end()
    for page in (first, second):
        expect(placed(page)).to_have_count(1)
    before = addresses(first)[0]
    placed(first).click()
    expect(placed(second)).not_to_have_attribute("src", before, timeout=20_000)
    first.get_by_role("button", name="New page").click()
    first.get_by_role("dialog").get_by_role("button", name="New page").click()
    for page in (first, second):
        expect(page.get_by_role("heading", name="What shall be told?")).to_be_visible()
        expect(page.locator("limner-message")).to_have_count(0)


# --- without a mouse


def test_everything_can_be_done_with_the_keyboard_alone(theatre):
    writer, painter = ToldWriter(), HeldPainter()
    page = theatre.page(theatre.demo(writer, painter))
    page.keyboard.type("a sea")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("and a wood")
    page.keyboard.press("Enter")
    writer.write(BEGIN, END)
    writer.end()
    expect(page.locator(".said")).to_contain_text("a sea\nand a wood", use_inner_text=True)
    expect(placed(page)).to_have_count(1)
    before = addresses(page)[0]
    tab_to(page, "New image", backwards=True)
    page.keyboard.press("Enter")
    expect(placed(page)).not_to_have_attribute("src", before, timeout=20_000)
    page.keyboard.press("Control+.")
    expect(page.get_by_role("button", name="Close the machine")).to_be_focused()
    expect(state(page)).to_have_text("done")
    page.keyboard.press("Escape")
    expect(page.locator("#machine")).to_be_hidden()
    expect(page.locator("#machine-button")).to_be_focused()


# --- the machine


def test_the_machine_lights_the_state_the_way_to_it_and_lists_the_events_as_they_come(theatre):
    writer, painter = ToldWriter(), HeldPainter(held=True)
    page = theatre.page(theatre.demo(writer, painter, debounce_ms=2_500))
    open_machine(page)
    expect(page.locator("#machine-state")).to_have_text("Nothing has happened yet.")
    say(page, "a sea")
    writer.write(BEGIN)
    expect(state(page)).to_have_text("streaming")
    assert lit(page) == "streaming"
    assert taken(page) == {"idle"}
    expect(page.locator("#machine-events")).to_contain_text("prompt_found")
    writer.end()
    expect(state(page)).to_have_text("draining")
    assert lit(page) == "draining"
    assert taken(page) == {"idle", "streaming", "sealed"}
    assert edges(page) == {"idle->streaming", "streaming->sealed", "sealed->draining"}
    painter.release()
    expect(state(page)).to_have_text("done")
    assert lit(page) == "done"
    assert taken(page) == {"idle", "streaming", "sealed", "draining", "inserting"}
    assert edges(page) == {
        "idle->streaming",
        "streaming->sealed",
        "sealed->draining",
        "draining->inserting",
        "inserting->done",
    }
    placed(page).first.click()
    expect(state(page)).to_have_text("debouncing")
    expect(state(page)).to_have_text("done", timeout=20_000)
    assert taken(page) == {"idle", "debouncing", "sealed", "inserting"}
    assert edges(page) == {"idle->debouncing", "debouncing->sealed", "sealed->inserting", "inserting->done"}
    first_event = page.locator("#machine-events li").last
    expect(first_event).to_contain_text("0.0 s")
    expect(first_event).to_contain_text("stream_started")
    expect(page.locator("#machine-of")).to_have_text("“a sea”")


def test_a_message_of_before_can_be_looked_at_while_another_is_written(theatre):
    writer, painter = ToldWriter(), HeldPainter()
    page = theatre.page(theatre.demo(writer, painter))
    told_a_tale(page, writer)
    say(page, "another")
    writer.write("On and on.")
    expect(story(page)).to_contain_text("On and on.")
    page.get_by_role("button", name="Show the machine of this story").first.click()
    expect(state(page)).to_have_text("done")
    expect(page.locator("#machine-of")).to_have_text("“a sea”")
    page.get_by_role("button", name="Show the machine of this story").last.click()
    expect(state(page)).to_have_text("streaming")


def test_a_cancelled_message_shows_how_it_came_to_that(theatre):
    writer = ToldWriter()
    page = theatre.page(theatre.demo(writer, HeldPainter(held=True)))
    open_machine(page)
    say(page, "a sea")
    writer.write(BEGIN)
    expect(state(page)).to_have_text("streaming")
    stop(page, theatre)
    expect(state(page)).to_have_text("cancelled")
    assert edges(page) == {"idle->streaming", "draining->cancelled"}, (
        "the drawing has one edge for all of them"
    )


# --- stopping, and what goes wrong


def test_stop_ends_the_text_and_the_pictures_and_keeps_what_had_come(theatre):
    writer, painter = ToldWriter(), HeldPainter(held=True)
    page = theatre.page(theatre.demo(writer, painter))
    say(page, "a sea")
    writer.write(BEGIN)
    expect(story(page).locator("figure img.preview").first).to_be_visible()
    stop(page, theatre)
    expect(page.get_by_text("You stopped this one.")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert writer.left.acquire(timeout=20), "the writer was not let go"
    expect(story(page)).to_contain_text("Once upon a time.")
    assert status_of(page)["state"] == "cancelled"
    assert placed(page).count() == 0


@pytest.mark.parametrize("words", HOSTILE)
def test_what_a_person_types_is_shown_and_never_run(theatre, words):
    page = theatre.page(theatre.demo())
    say(page, words)
    expect(page.locator(".said p")).to_contain_text(words)
    expect(placed(page)).to_have_count(4, timeout=30_000)
    expect(story(page)).to_contain_text(HOSTILE[words])
    assert page.title() == "Limner"
    assert page.locator(".said img, .said script, .said a").count() == 0
    assert story(page).locator("script, a").count() == 0


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_however_long_a_word_is_the_page_never_scrolls_sideways(theatre, width):
    page = theatre.page(theatre.demo(), viewport={"width": width, "height": 800})
    assert sideways(page) == 0
    say(page, "w" * 3_000)
    expect(placed(page)).to_have_count(4, timeout=30_000)
    assert sideways(page) == 0
    open_machine(page)
    expect(state(page)).to_have_text("done")
    assert sideways(page) == 0


def test_a_line_that_is_too_long_stays_to_be_shortened(theatre):
    page = theatre.page(theatre.demo())
    say(page, "x" * 5_000)
    expect(page.get_by_role("alert")).to_contain_text("at most 4,000 characters; this one has 5,000")
    expect(page.get_by_label("Your line")).to_have_value("x" * 5_000)


def test_a_writer_that_breaks_off_says_why_and_may_try_again(theatre):
    writer = ToldWriter()
    page = theatre.page(theatre.demo(writer, HeldPainter()))
    say(page, "a sea")
    writer.write("Once")
    writer.fail(BackendError("the model fell <b>silent</b>"))
    expect(page.get_by_text("The model fell <b>silent</b>.")).to_be_visible()
    page.get_by_role("button", name="Write it again").click()
    writer.write("Twice.")
    writer.end()
    expect(story(page)).to_contain_text("Twice.")
    expect(page.get_by_text("fell <b>silent</b>")).to_have_count(0)


# --- a real model


def test_with_an_upstream_its_model_writes_and_the_key_stays_with_the_server(theatre):
    def answer(wire: Wire) -> None:
        wire.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        for piece in (BEGIN, MIDDLE, "Look: ![out](http://elsewhere.invalid/spy.png)\n\n", END):
            event = json.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]})
            wire.send(chunk(f"data: {event}\n\n".encode()))
        wire.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    with RawServer(answer) as upstream:
        demo = theatre.demo(UpstreamWriter(upstream.url, "tiny-1", "sk-very-secret"), HeldPainter())
        page = theatre.page(demo)
        expect(page.locator("#cast")).to_contain_text("tiny-1 at 127.0.0.1")
        answers: list[str] = []
        page.on("response", lambda response: answers.append(str(response.headers)))
        say(page, "a sea")
        expect(placed(page)).to_have_count(2)
        expect(story(page)).to_contain_text(END)
        assert b"authorization: bearer sk-very-secret" in upstream.heads[0].lower()
        assert "sk-very-secret" not in page.content() + "".join(answers)
        # What the reply wants from elsewhere the page does not fetch; the browser says so.
        refused = [words for words in theatre.complaints if "elsewhere.invalid" in words]
        assert refused
        assert all("Content Security Policy" in words for words in refused)
        theatre.complaints.clear()


# --- helpers


def told_a_tale(page: Page, writer: ToldWriter) -> None:
    say(page, "a sea")
    writer.write(BEGIN, MIDDLE, END)
    writer.end()
    expect(placed(page)).to_have_count(2)


def stored_by(demo: DemoThread) -> list[Path]:
    """Where the messages are kept: the database, and what is not yet put in order."""
    return [file for file in demo.folder.glob("messages.sqlite3*") if not file.name.endswith("-shm")]


def addresses(page: Page) -> list[str]:
    return [picture.get_attribute("src") or "" for picture in placed(page).all()]


def asked(page: Page, path: str) -> dict[str, Any]:
    message = story(page).get_attribute("message")
    answer: dict[str, Any] = page.evaluate(
        "address => fetch(address).then((answer) => answer.json())", f"/limner/{path}?message={message}"
    )
    return answer


def machine_of(page: Page) -> dict[str, Any]:
    return asked(page, "machine")


def status_of(page: Page) -> dict[str, Any]:
    return asked(page, "status")


def taken(page: Page) -> set[str]:
    """The states on the way to the present one, as they are drawn."""
    return set(page.locator("#machine-picture .node.taken title").all_text_contents())


def edges(page: Page) -> set[str]:
    return set(page.locator("#machine-picture .edge.taken title").all_text_contents())


def sideways(page: Page) -> int:
    width: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width


def tab_to(page: Page, name: str, *, backwards: bool = False) -> None:
    """Press Tab until something whose accessible name contains `name` has the focus."""
    focused: Callable[[], str] = lambda: page.evaluate(  # noqa: E731 - it is one expression
        """() => { let at = document.activeElement;
                   while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
                   return at.getAttribute('aria-label') ?? at.textContent; }"""
    )
    for _ in range(40):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if name in focused():
            return
    raise AssertionError(f"nothing called {name!r} can be reached with Tab")
