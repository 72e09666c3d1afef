"""A chat with the real app: streamed, painted, clicked, failed and tried again, reloaded, in two tabs.

The app runs in real time, so a batch of clicks ends after a real debounce; all else waits for the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from limner.text import find_images
from tests.browser.helpers import tag
from tests.browser.real_server import RealServer


@pytest.fixture
def chat(tmp_path: Path, page: Page) -> Iterator[RealServer]:
    with RealServer(tmp_path) as server:
        yield server
        page.goto("about:blank")  # or the server would wait for the page's stream


def opened(page: Page, chat: RealServer) -> Locator:
    page.goto(chat.url)
    return page.locator("limner-message")


def illustrate(chat: RealServer, text: str, *prompts: str) -> None:
    """Bring a message to its end."""
    streamed = chat.begin()
    chat.paint(*prompts)
    chat.say(text, None)
    streamed.result(20)
    chat.finished()


def addresses(chat: RealServer) -> list[str]:
    return [image.src for image in find_images(chat.text())]


def shown(message: Locator) -> list[str]:
    """The addresses of the pictures that a reader sees, once each stands alone."""
    found: list[str] = message.locator("[part=image]").evaluate_all(
        "images => images.map((image) => new URL(image.src).pathname + new URL(image.src).hash)"
    )
    return found


def test_pictures_appear_while_the_text_runs_and_stand_in_it_at_the_end(page: Page, chat: RealServer):
    message = opened(page, chat)
    streamed = chat.begin()
    chat.say("The keeper *climbed*. ", '<img_prompt="a ligh', 'thouse"> Then')
    figure = message.locator("figure")
    expect(figure).to_contain_text("Painting 50%")
    expect(figure.locator("[part=preview]")).to_be_visible()
    expect(message.locator("[part=thumbnail] img")).to_be_visible()
    expect(message.locator("[part=text]")).to_have_attribute("aria-busy", "true")
    chat.paint("a lighthouse")
    expect(figure.get_by_alt_text("a lighthouse")).to_be_visible()
    expect(message.locator("[part=progress]")).to_contain_text("Generating 1/1 image…")
    chat.say(" she saw it.", None)
    streamed.result(20)
    expect(message.get_by_role("button", name="a lighthouse")).to_be_visible()
    expect(message).to_contain_text("Then she saw it.")
    expect(message.locator("[part=progress]")).to_contain_text("The image is ready.")
    assert shown(message) == addresses(chat)


def test_two_clicks_are_one_batch_and_one_write(page: Page, chat: RealServer):
    illustrate(chat, f"{tag('cat')} and {tag('dog')} and {tag('owl')}", "cat", "dog", "owl")
    before = addresses(chat)
    message = opened(page, chat)
    message.get_by_role("button", name="cat").click()
    message.get_by_role("button", name="owl").click()
    expect(message.locator("[part=progress]")).to_contain_text("Regenerating 0/2…")
    expect(message.locator("figure").nth(0)).to_contain_text("Painting 50%")
    expect(message.locator("figure").nth(2)).to_contain_text("Painting 50%")
    chat.paint("cat", "owl")
    expect(message.locator("[part=progress]")).to_contain_text("All 2 images are ready.")
    after = addresses(chat)
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, False]
    expect(message.locator("[part=image]")).to_have_count(3)
    assert shown(message) == after


def test_what_failed_is_tried_again_from_its_place(page: Page, chat: RealServer):
    chat.refuse("dog")
    message = opened(page, chat)
    illustrate(chat, f"{tag('cat')} and {tag('dog')} and {tag('dog')}", "cat")
    expect(message.get_by_role("button", name="cat")).to_be_visible()
    second = message.locator("figure").nth(2)
    expect(second.locator("[part=error]")).to_have_text("The model refused this prompt.")
    chat.take("dog")
    second.get_by_role("button", name="Try again").click()
    expect(second).to_contain_text("Painting 50%")
    expect(message.locator("figure").nth(1)).to_contain_text("The model refused this prompt.")
    chat.paint("dog")
    expect(second.get_by_role("button", name="dog")).to_be_visible()
    assert len(addresses(chat)) == 2
    assert chat.text().endswith(">")


def test_a_regeneration_that_failed_keeps_the_old_image(page: Page, chat: RealServer):
    illustrate(chat, f"A cat {tag('cat')}", "cat")
    before = addresses(chat)
    chat.refuse("cat")
    message = opened(page, chat)
    message.get_by_role("button", name="cat").click()
    expect(message.locator("[part=error]")).to_contain_text("No new image could be made.")
    assert shown(message) == before
    chat.take("cat")
    chat.paint("cat")
    message.get_by_role("button", name="Try again").click()
    expect(message.locator("[part=progress]")).to_contain_text("The image is ready.")
    expect(message.locator("[part=error]")).to_be_hidden()
    expect(message.locator("[part=image]")).to_have_count(1)
    assert shown(message) == addresses(chat) != before


def test_after_a_reload_in_the_middle_everything_goes_on(page: Page, chat: RealServer):
    message = opened(page, chat)
    streamed = chat.begin()
    chat.say(f"A cat {tag('cat')} and a dog {tag('dog')} and")
    chat.paint("cat")
    expect(message.get_by_alt_text("cat")).to_be_visible()
    expect(message.locator("figure").nth(1)).to_contain_text("Painting 50%")
    page.reload()
    expect(message.get_by_alt_text("cat")).to_be_visible()
    expect(message.locator("figure").nth(1)).to_contain_text("Painting 50%")
    expect(message.locator("figure").nth(1).locator("[part=preview]")).to_be_visible()
    expect(message.locator("[part=progress]")).to_contain_text("Generating 1/2 images…")
    chat.say(" more.", None)
    streamed.result(20)
    chat.paint("dog")
    expect(message.get_by_role("button")).to_have_count(2)
    expect(message).to_contain_text("and more.")


def test_two_tabs_show_the_same(context: BrowserContext, page: Page, chat: RealServer):
    illustrate(chat, f"A cat {tag('cat')}", "cat")
    here = opened(page, chat)
    second = context.new_page()
    there = opened(second, chat)
    expect(there.get_by_role("button", name="cat")).to_be_visible()
    here.get_by_role("button", name="cat").click()
    expect(there.locator("[part=progress]")).to_contain_text("Regenerating 0/1…")
    chat.paint("cat")
    for message in (here, there):
        expect(message.locator("[part=progress]")).to_contain_text("The image is ready.")
        expect(message.locator("[part=image]")).to_have_count(1)
        assert shown(message) == addresses(chat)
    second.close()


def test_cancel_gives_the_images_up_and_leaves_the_text(page: Page, chat: RealServer):
    message = opened(page, chat)
    streamed = chat.begin()
    chat.say(f"A cat {tag('cat')} sat.", None)
    streamed.result(20)
    expect(message.locator("figure")).to_contain_text("Painting 50%")
    message.get_by_role("button", name="Cancel").click()
    expect(message.locator("[part=progress]")).to_contain_text("Cancelled.")
    expect(message.locator("figure")).to_be_hidden()
    assert chat.finished().state == "cancelled"
    assert addresses(chat) == []


def test_by_keyboard_alone_from_the_page_to_a_new_image(page: Page, chat: RealServer):
    illustrate(chat, f"A cat {tag('cat')} and a dog {tag('dog')}", "cat", "dog")
    before = addresses(chat)
    message = opened(page, chat)
    expect(message.get_by_role("button")).to_have_count(2)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(message.get_by_role("button", name="dog")).to_be_focused()
    page.keyboard.press("Enter")
    chat.paint("dog")
    expect(message.locator("[part=progress]")).to_contain_text("The image is ready.")
    expect(message.get_by_role("button", name="dog")).to_be_focused()
    assert [old == new for old, new in zip(before, addresses(chat), strict=True)] == [True, False]


def test_a_wrong_token_is_refused_calmly(page: Page, chat: RealServer):
    illustrate(chat, f"A cat {tag('cat')}", "cat")
    message = opened(page, chat)
    message.evaluate("element => element.setAttribute('token', 'guessed')")
    message.get_by_role("button", name="cat").click()
    expect(message.locator("[part=error]")).to_have_text("That is not allowed from here.")
