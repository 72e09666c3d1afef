"""By keyboard, by ear, in the dark, on a narrow screen, and for who wants no motion."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.helpers import (
    heard,
    illustrated,
    image,
    image_url,
    open_page,
    posted,
    stop_time,
    tag,
    wait_for_server,
    wait_until,
)
from tests.browser.scripted_server import ScriptedServer

FOCUSED = "() => document.activeElement.shadowRoot?.activeElement"
LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]


def test_by_keyboard_alone_every_image_is_reached_and_asked_for_anew(page: Page, server: ScriptedServer):
    illustrated(server, "cat", "dog")
    message = open_page(page, server)
    expect(message.get_by_role("button")).to_have_count(2)
    page.keyboard.press("Tab")
    cat, dog = message.get_by_role("button", name="cat"), message.get_by_role("button", name="dog")
    expect(cat).to_be_focused()
    expect(cat).to_have_css("outline-style", "solid")
    page.keyboard.press("Enter")
    expect(message.locator("figure").nth(0)).to_contain_text("Queued")
    page.keyboard.press("Tab")
    expect(dog).to_be_focused()
    page.keyboard.press("Space")
    expect(message.locator("figure").nth(1)).to_contain_text("Queued")
    assert [one.content["image"] for one in posted(page, server, 2)] == [image_url("cat"), image_url("dog")]


def test_the_focus_stays_at_an_image_that_is_replaced(page: Page, server: ScriptedServer):
    illustrated(server, "cat")
    message = open_page(page, server)
    button = message.get_by_role("button", name="cat")
    button.focus()
    page.keyboard.press("Enter")
    more = {"session": "s2", "kind": "regeneration", "session_state": "debouncing"}
    server.prompt("m1", "r0", "cat", "generating", target_url=image_url("cat"), **more)
    expect(message.locator("figure")).to_contain_text("Painting")
    expect(button).to_be_focused()
    server.prompt(
        "m1", "r0", "cat", "completed", target_url=image_url("cat"), image_url=image_url("new"), **more
    )
    server.write("m1", f"# Another beginning\n\nOf cat: {tag('cat')}{image('new', 'cat')}")
    server.ended("m1", placed=(("r0", image_url("new"), image_url("cat")),))
    expect(message.get_by_role("heading")).to_be_visible()
    expect(button).to_be_focused()


def test_the_focus_goes_from_a_retry_to_the_image_that_it_brings(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.prompt("m1", "p0", "cat", "failed", session_state="draining", problem="no luck")
    server.write("m1", f"A cat {tag('cat')}")
    server.ended("m1")
    message.get_by_role("button", name="Try again").focus()
    page.keyboard.press("Enter")
    expect(message.locator("figure")).to_contain_text("Queued")
    frame = message.locator("figure [part~=frame]")
    expect(frame).to_be_focused()
    more = {"session": "s2", "kind": "regeneration", "session_state": "debouncing"}
    server.prompt("m1", "r0", "cat", "completed", image_url=image_url("new"), **more)
    server.write("m1", f"A cat {tag('cat')}{image('new', 'cat')}")
    server.ended("m1", placed=(("r0", image_url("new"), None),))
    expect(message.get_by_role("button", name="cat")).to_be_focused()


def test_a_screen_reader_finds_text_images_and_what_can_be_done(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream(
        "m1", f"# Tale\n\nA cat {tag('a cat')}{image('cat', 'a cat')} and a dog {tag('a dog')} and "
    )
    server.prompt("m1", "p1", "a dog", "generating", fraction=0.5)
    server.prompt("m1", "p2", "an owl", "failed", problem="no luck")
    server.stream("m1", f"an owl {tag('an owl')}")
    expect(message.locator("figure")).to_have_count(3)
    expect(message).to_match_aria_snapshot(
        """
        - heading "Tale" [level=3]
        - paragraph: A cat
        - figure "a cat":
          - button "a cat" [disabled]:
            - img "a cat"
          - text: a cat
        - paragraph: and a dog
        - figure "a dog":
          - text: Painting 50%
          - 'progressbar "Image in preparation: a dog"'
          - text: a dog
        - paragraph: and an owl
        - figure "an owl":
          - text: an owl
          - paragraph: No luck.
          - button "Try again" [disabled]
        - group "Progress of the images":
          - text: Generating 0/2 images… 1 failed
          - button "Cancel"
          - progressbar "Progress of the images"
        - status: Generating 1 image.
        """
    )
    expect(message.get_by_role("button", name="Try again")).to_have_accessible_description(
        re.compile("No luck.")
    )
    expect(message.get_by_role("button", name="a cat")).to_have_accessible_description(
        "A new image can be made once the message is finished."
    )


def test_a_screen_reader_is_told_the_beginning_now_and_then_something_and_the_end(
    page: Page, server: ScriptedServer
):
    page.clock.install()
    message = open_page(page, server)
    page.evaluate(
        """() => {
            window.said = [];
            const status = document.querySelector("limner-message").shadowRoot.querySelector("[role=status]");
            new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true });
        }"""
    )
    # Who comes later is told of all images at once; and how often something is said depends on the clock.
    wait_until(page, lambda: server.open_streams == 1)
    stop_time(page)

    def completed(prompt: str) -> None:
        url = image_url(prompt)
        server.prompt("m1", prompt, prompt, "completed", session_state="draining", image_url=url)

    def has_heard_of(total: int, ready: int) -> bool:
        counts = [detail["counts"] for detail in heard(page, "limner-progress")]
        return bool(counts) and (counts[-1]["total"], counts[-1]["completed"]) == (total, ready)

    server.stream("m1", "".join(map(tag, "abcdef")))
    for prompt in "abcdef":
        server.prompt("m1", prompt, prompt, "generating", session_state="draining")
    for prompt in "abcd":
        for percent in range(10, 100, 20):
            server.prompt(
                "m1", prompt, prompt, "generating", session_state="draining", fraction=percent / 100
            )
        completed(prompt)
    wait_for_server(page, lambda: has_heard_of(6, ready=4))
    page.clock.run_for(5_900)
    assert page.evaluate("said") == ["Generating 1 image."]
    page.clock.run_for(200)
    assert page.evaluate("said") == ["Generating 1 image.", "4 of 6 images ready."]
    for prompt in "ef":
        completed(prompt)
    server.ended("m1", placed=tuple((prompt, image_url(prompt), None) for prompt in "abcdef"))
    wait_for_server(page, lambda: heard(page, "limner-ended"))
    page.clock.run_for(20_000)
    assert page.evaluate("said") == ["Generating 1 image.", "4 of 6 images ready.", "All 6 images are ready."]
    expect(message.get_by_role("status")).to_have_text("All 6 images are ready.")


def scene(server: ScriptedServer) -> None:
    """Every state at once, in a text with everything in it."""
    long = (
        "a lighthouse on a black rock at night, rain on the panes, seen from a small boat between two waves"
    )
    server.prompt("m1", "p0", long, "completed", image_url=image_url("night"))
    server.prompt("m1", "p1", "a ship", "generating", fraction=0.55, preview="ship")
    server.prompt("m1", "p2", "the morning after", "queued")
    server.prompt("m1", "p3", "a gull", "failed", problem="the model refused this prompt: " + "x" * 80)
    server.stream(
        "m1",
        f"# The lamp at Skerry Point\n\nThe keeper *climbed*. {tag(long)}\n\nThen "
        f"{tag('a ship')} {tag('the morning after')}\n\n> Nobody sails on a night like this.\n\n"
        f"1. one\n   - two\n\n```text\n{'wide ' * 60}\n```\n\n"
        f"{'https://long.example/' + 'path' * 60}\n\n{'w' * 300}\n\n{tag('a gull')}\n\n***\n\nAnd",
    )


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_nothing_is_wider_than_the_screen_and_everything_can_be_read(
    browser: Browser, server: ScriptedServer, width: int, scheme: str, screenshots: Path | None
):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    scene(server)
    message = open_page(page, server)
    expect(message.locator("figure")).to_have_count(4)
    expect(message.get_by_role("img", name="a lighthouse")).to_be_visible()
    shown = message.locator("img:visible")
    for index in range(shown.count()):
        expect(shown.nth(index)).to_have_js_property("complete", True)
    if screenshots is not None:
        page.screenshot(path=screenshots / f"element-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for selector in ("[part=caption]", "[part=error]", "[part=progress-failed]", "p"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    context.close()


CONTRAST = """(selector) => {
  const node = document.querySelector("limner-message").shadowRoot.querySelector(selector);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const paint = (...colours) => {
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
  };
  const bright = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  const ground = getComputedStyle(document.body).backgroundColor;
  const levels = [[ground], [ground, getComputedStyle(node).color]].map((both) => bright(paint(...both)));
  levels.sort((a, b) => b - a);
  return (levels[0] + 0.05) / (levels[1] + 0.05);
}"""


def test_dark_and_light_are_those_of_the_page(page: Page, server: ScriptedServer):
    page.emulate_media(color_scheme="dark")
    server.write("m1", "[a](https://b.example)")
    message = open_page(page, server)
    link = message.get_by_role("link")
    expect(link).to_have_css("color", "rgb(226, 183, 111)")
    page.emulate_media(color_scheme="light")
    expect(link).to_have_css("color", "rgb(138, 90, 20)")
    message.evaluate("element => element.style.colorScheme = 'dark'")
    expect(link).to_have_css("color", "rgb(226, 183, 111)")
    message.evaluate("element => element.style.setProperty('--limner-accent', 'rgb(1, 2, 3)')")
    expect(link).to_have_css("color", "rgb(1, 2, 3)")


def test_who_wants_no_motion_gets_none(page: Page, server: ScriptedServer):
    page.emulate_media(reduced_motion="reduce")
    scene(server)
    message = open_page(page, server)
    expect(message.locator("figure")).to_have_count(4)
    expect(message.locator("[part=image]")).to_have_js_property("complete", True)
    message.evaluate("new Promise(requestAnimationFrame)")
    playing = (
        "element => element.shadowRoot.getAnimations().filter((one) => one.playState === 'running').length"
    )
    assert message.evaluate(playing) == 0
