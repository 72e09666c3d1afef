"""Images that stand in a message: new ones on a click, errors where they belong, and what is refused."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.browser.helpers import (
    READ_ONLY,
    heard,
    illustrated,
    image,
    image_url,
    open_page,
    posted,
    stop_time,
    tag,
    wait_for_server,
)
from tests.browser.scripted_server import TOKEN, Posted, ScriptedServer


def regenerating(server: ScriptedServer, prompt_id: str, name: str, state: str, **more):
    server.prompt(
        "m1",
        prompt_id,
        name,
        state,
        session="s2",
        kind="regeneration",
        session_state="debouncing",
        target_url=image_url(name),
        **more,
    )


def test_two_clicks_are_one_batch_and_both_images_are_replaced(page: Page, server: ScriptedServer):
    illustrated(server, "cat", "dog", "owl")
    message = open_page(page, server)
    message.get_by_role("button", name="cat").click()
    figures = message.locator("figure")
    expect(figures.nth(0)).to_contain_text("Queued")
    message.get_by_role("button", name="dog").click()
    expect(figures.nth(1)).to_contain_text("Queued")
    expect(figures.nth(2).locator("[part=status]")).to_be_hidden()
    regenerating(server, "r0", "cat", "generating", fraction=0.5, preview="early")
    regenerating(server, "r1", "dog", "queued")
    expect(message.locator("[part=progress]")).to_contain_text("Regenerating 0/2…")
    expect(message.locator("[part=thumbnail]")).to_have_count(2)
    expect(figures.nth(0)).to_contain_text("Painting 50%")
    expect(figures.nth(0).locator("[part=preview]")).to_be_visible()
    for prompt_id, name in (("r0", "cat"), ("r1", "dog")):
        regenerating(server, prompt_id, name, "completed", image_url=image_url(f"new-{name}"))
    server.session("m1", "inserting", kind="regeneration", session="s2")
    text = "\n\n".join(
        [
            tag("cat") + image("new-cat", "cat"),
            tag("dog") + image("new-dog", "dog"),
            tag("owl") + image("owl", "owl"),
        ]
    )
    server.write("m1", text)
    server.ended(
        "m1",
        placed=(
            ("r0", image_url("new-cat"), image_url("cat")),
            ("r1", image_url("new-dog"), image_url("dog")),
        ),
    )
    expect(message.locator("[part=progress]")).to_contain_text("All 2 images are ready.")
    for name, number in (("new-cat", 0), ("new-dog", 1), ("owl", 2)):
        shown = figures.nth(number).locator("[part=image]")
        expect(shown).to_have_count(1)
        expect(shown).to_have_attribute("src", server.url[:-1] + image_url(name))
    assert posted(page, server, 2) == [
        Posted("regenerate", {"message": "m1", "image": image_url(name), "mode": "replace-image"}, TOKEN)
        for name in ("cat", "dog")
    ]
    assert [ended["state"] for ended in heard(page, "limner-ended")] == ["done", "done"]


def test_a_click_on_an_image_that_is_being_made_asks_for_nothing(page: Page, server: ScriptedServer):
    illustrated(server, "cat")
    message = open_page(page, server)
    button = message.get_by_role("button", name="cat")
    button.click()
    expect(message.locator("figure")).to_contain_text("Queued")
    button.click(force=True)
    regenerating(server, "r0", "cat", "generating")
    expect(message.locator("figure")).to_contain_text("Painting")
    button.click(force=True)
    assert len(server.posted) == 1


def test_the_prompt_is_shown_on_hover_and_on_focus_of_the_keyboard(page: Page, server: ScriptedServer):
    illustrated(server, "a cat on a wall")
    message = open_page(page, server)
    prompt = message.locator("[part=prompt]")
    expect(prompt).to_have_css("opacity", "0")
    message.get_by_role("button", name="a cat on a wall").hover()
    expect(prompt).to_have_css("opacity", "1")
    expect(prompt).to_contain_text("a cat on a wall")
    page.mouse.move(0, 0)
    expect(prompt).to_have_css("opacity", "0")
    page.keyboard.press("Tab")
    expect(prompt).to_have_css("opacity", "1")


def test_the_prompt_can_be_read_whatever_letters_the_picture_has_there(page: Page, server: ScriptedServer):
    lettered = Image.new("L", (384, 256))
    lettered.paste(255, (0, 0, 384, 256), Image.radial_gradient("L").resize((384, 256)).point(stripes))
    file = BytesIO()
    lettered.save(file, "PNG")
    page.route("**/images/*", lambda route: route.fulfill(body=file.getvalue(), content_type="image/png"))
    illustrated(server, "a cat on a wall")
    message = open_page(page, server)
    message.get_by_role("button", name="a cat on a wall").hover()
    prompt = message.locator("[part=prompt]")
    expect(prompt).to_have_css("opacity", "1")
    expect(prompt).to_have_css("translate", "0px")
    words = message.locator(".veil-text").bounding_box()
    assert words is not None
    # Beside the words, where nothing but the picture and what covers it can be seen.
    beside = {"x": words["x"] - 12, "y": words["y"], "width": 10, "height": words["height"]}
    shown = Image.open(BytesIO(page.screenshot(clip=beside))).convert("L")  # type: ignore[arg-type]
    darkest, brightest = shown.getextrema()
    assert isinstance(brightest, int)
    assert brightest < 40
    assert brightest - int(darkest) < 20


def stripes(level: int) -> int:
    return 255 if level // 8 % 2 else 0


def test_an_image_that_failed_says_so_in_its_place_and_is_tried_again(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream("m1", f"A cat {tag('cat')} and a dog {tag('dog')}.")
    server.prompt("m1", "p0", "cat", "failed", problem="the model refused this prompt")
    server.prompt("m1", "p1", "dog", "generating")
    cat, dog = message.locator("figure").nth(0), message.locator("figure").nth(1)
    expect(cat.locator("[part=error]")).to_have_text("The model refused this prompt.")
    expect(message.locator("[part=progress]")).to_contain_text("1 failed")
    expect(cat.get_by_role("button", name="Try again")).to_have_attribute("aria-disabled", "true")
    server.prompt("m1", "p1", "dog", "completed", session_state="draining", image_url=image_url("dog"))
    server.write("m1", f"A cat {tag('cat')} and a dog {tag('dog')}{image('dog', 'dog')}.")
    server.ended("m1", placed=(("p1", image_url("dog"), None),))
    expect(message.locator("[part=progress]")).to_contain_text("1 image ready, 1 failed.")
    cat.get_by_role("button", name="Try again").click()
    expect(cat).to_contain_text("Queued")
    expect(cat.locator("[part=error]")).to_be_hidden()
    assert posted(page, server, 1) == [Posted("retry", {"message": "m1", "prompt": "p0"}, TOKEN)]
    server.prompt(
        "m1", "r0", "cat", "generating", session="s2", kind="regeneration", session_state="debouncing"
    )
    expect(cat).to_contain_text("Painting")
    expect(dog.locator("[part=status]")).to_be_hidden()


def test_a_regeneration_that_failed_keeps_the_old_image_and_is_asked_for_again(
    page: Page, server: ScriptedServer
):
    illustrated(server, "cat")
    message = open_page(page, server)
    message.get_by_role("button", name="cat").click()
    regenerating(server, "r0", "cat", "failed", problem="the backend is gone")
    server.ended("m1")
    expect(message.get_by_alt_text("cat")).to_have_attribute("src", server.url[:-1] + image_url("cat"))
    expect(message.locator("[part=error]")).to_have_text("No new image could be made. The backend is gone.")
    expect(message.locator("[part=progress]")).to_contain_text("The image failed.")
    message.get_by_role("button", name="Try again").click()
    expect(message.locator("figure")).to_contain_text("Queued")
    assert [one.route for one in posted(page, server, 2)] == ["regenerate", "regenerate"]
    assert posted(page, server, 2)[1].content["image"] == image_url("cat")


def test_what_failed_earlier_stays_said_while_others_are_made_anew(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.prompt("m1", "p0", "cat", "failed", session_state="draining", problem="no luck")
    server.prompt("m1", "p1", "dog", "completed", session_state="draining", image_url=image_url("dog"))
    server.write("m1", f"{tag('cat')} {tag('dog')}{image('dog', 'dog')}")
    server.ended("m1", placed=(("p1", image_url("dog"), None),))
    regenerating(server, "r1", "dog", "generating")
    expect(message.locator("figure").nth(1)).to_contain_text("Painting")
    expect(message.locator("figure").nth(0)).to_contain_text("No luck.")


def test_equal_prompts_each_have_their_own_place(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream("m1", f"{tag('cat')} first\n\n{tag('cat')} second")
    # After a reconnection the one that changed last comes last, whichever it is in the text.
    server.prompt("m1", "b", "cat", "generating", occurrence=1)
    server.prompt("m1", "a", "cat", "queued", occurrence=0)
    expect(message.locator("figure").nth(0)).to_contain_text("Waiting")
    expect(message.locator("figure").nth(1)).to_contain_text("Painting")


def test_a_failure_that_the_text_has_no_place_for_is_told_in_the_panel(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.write("m1", "Picture of a cat, says a pattern of the host's own.")
    server.prompt("m1", "p0", "a cat", "failed", session_state="draining", problem="no luck")
    server.ended("m1")
    expect(message.locator("[part=progress]")).to_contain_text("a catNo luck.")
    message.get_by_role("button", name="Try again").click()
    expect(message.locator("[part=progress]")).to_be_visible()
    assert posted(page, server, 1)[0].content == {"message": "m1", "prompt": "p0"}


def test_cancel_is_asked_for_and_the_places_of_the_images_vanish(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream("m1", f"A cat {tag('cat')} and a dog {tag('dog')}.")
    server.prompt("m1", "p0", "cat", "completed", image_url=image_url("cat"))
    server.prompt("m1", "p1", "dog", "generating")
    message.get_by_role("button", name="Cancel").click()
    server.prompt("m1", "p1", "dog", "cancelled", session_state="cancelled")
    server.write("m1", f"A cat {tag('cat')} and a dog {tag('dog')}.")
    server.ended("m1", "cancelled", unplaced=(("p0", image_url("cat"), "cancelled"),))
    expect(message.locator("[part=progress]")).to_contain_text("Cancelled. 1 finished image was not placed.")
    expect(message.locator("figure:visible")).to_have_count(0)
    assert posted(page, server, 1) == [Posted("cancel", {"message": "m1"}, TOKEN)]


def test_what_was_given_up_has_no_thumbnail(page: Page, server: ScriptedServer):
    page.clock.install()
    message = open_page(page, server)
    server.stream("m1", f"A cat {tag('cat')} and a dog {tag('dog')}.")
    server.prompt("m1", "p0", "cat", "completed", image_url=image_url("cat"))
    server.prompt("m1", "p1", "dog", "generating")
    expect(message.locator("[part=thumbnail]")).to_have_count(2)
    stop_time(page)
    server.prompt("m1", "p1", "dog", "cancelled", session_state="cancelled")
    server.ended("m1", "cancelled", unplaced=(("p0", image_url("cat"), "cancelled"),))
    wait_for_server(page, lambda: heard(page, "limner-ended"))
    page.clock.run_for(100)
    expect(message.locator("[part=progress]")).to_contain_text("Cancelled.")
    expect(message.locator("[part=thumbnail]")).to_have_count(1)
    expect(message.locator("[part=thumbnail]")).to_have_attribute("title", "cat")


def test_without_a_token_or_read_only_there_are_no_buttons(page: Page, server: ScriptedServer):
    illustrated(server, "cat")
    server.prompt("m2", "p0", "dog", "generating")
    server.write("m2", tag("dog"), final=False)
    message = open_page(
        page,
        server,
        READ_ONLY
        + f"<limner-message message='m1' token='{TOKEN}' readonly></limner-message>"
        + "<limner-message message='m2'></limner-message>",
    )
    expect(message.get_by_alt_text("cat")).to_have_count(2)
    expect(message.nth(2).locator("[part=progress]")).to_contain_text("Generating 0/1 image…")
    expect(message.get_by_role("button")).to_have_count(0)
    message.nth(0).evaluate(f"element => element.setAttribute('token', '{TOKEN}')")
    expect(message.nth(0).get_by_role("button", name="cat")).to_be_visible()


@pytest.mark.parametrize(
    ("status", "problem", "told"),
    [
        (403, "refused", "That is not allowed from here."),
        (409, "the message is still being written", "The message is still being written."),
        (503, "the storage could not be read", "The server cannot do that right now."),
    ],
)
def test_a_click_that_is_refused_says_so_calmly(
    page: Page, server: ScriptedServer, status: int, problem: str, told: str
):
    illustrated(server, "cat")
    message = open_page(page, server)
    server.answers["regenerate"] = (status, {"kind": "some_kind", "message": problem, "hint": "Wait."})
    message.get_by_role("button", name="cat").click()
    expect(message.locator("[part=error]")).to_have_text(told)
    expect(message.locator("[part=status]")).to_be_hidden()
    expect(message.get_by_role("status")).to_have_text(told)
    (error,) = heard(page, "limner-error")
    assert (error["status"], error["kind"], error["action"]) == (status, "some_kind", "regenerate")
    del server.answers["regenerate"]
    message.get_by_role("button", name="cat").click()
    expect(message.locator("[part=error]")).to_be_hidden()
    expect(message.locator("figure")).to_contain_text("Queued")


def test_a_server_that_cannot_be_reached_is_told_at_the_image(page: Page, server: ScriptedServer):
    illustrated(server, "cat")
    message = open_page(page, server)

    def fail(route: Route) -> None:
        route.abort()

    page.route("**/regenerate", fail)
    message.get_by_role("button", name="cat").click()
    expect(message.locator("[part=error]")).to_have_text("The server could not be reached.")


def test_while_the_message_is_streamed_its_earlier_images_wait(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.session("m1", "streaming")
    server.stream("m1", f"{tag('cat')}{image('cat', 'cat')} More to come.")
    button = message.get_by_role("button", name="cat")
    expect(button).to_have_accessible_description("A new image can be made once the message is finished.")
    button.click(force=True)
    assert server.posted == []


def test_images_of_others_are_shown_and_are_no_buttons(page: Page, server: ScriptedServer):
    server.write("m1", f"![a chart](data:image/gif;base64,R0lGODlhAQABAAAAACw=) {image('cat', 'cat')}")
    message = open_page(page, server)
    expect(message.get_by_role("img", name="a chart")).to_be_visible()
    expect(message.get_by_role("button")).to_have_count(1)
    expect(message.get_by_role("button", name="cat")).to_be_visible()


def test_an_image_that_cannot_be_loaded_says_so(page: Page, server: ScriptedServer):
    page.route("**/images/*", lambda route: route.fulfill(status=404))
    illustrated(server, "cat")
    message = open_page(page, server)
    expect(message.locator("[part=error]")).to_have_text("The image could not be loaded.")
    expect(message.get_by_role("button", name="cat")).to_be_visible()


def test_the_mode_goes_along(page: Page, server: ScriptedServer):
    illustrated(server, "cat")
    message = open_page(
        page,
        server,
        f"<limner-message message='m1' token='{TOKEN}' mode='append-after-image'></limner-message>",
    )
    message.get_by_role("button", name="cat").click()
    expect(message.locator("figure")).to_contain_text("Queued")
    assert posted(page, server, 1)[0].content["mode"] == "append-after-image"


def test_the_panel_shows_at_most_twelve_thumbnails_and_those_that_move_first(
    page: Page, server: ScriptedServer
):
    message = open_page(page, server)
    for number in range(15):
        state = "generating" if number == 14 else "completed"
        server.prompt("m1", f"p{number:02}", f"prompt {number}", state, image_url=image_url(f"i{number}"))
    expect(message.locator("[part=thumbnail]")).to_have_count(12)
    expect(message.locator("[part=thumbnails]")).to_contain_text("+3")
    expect(message.locator("[part=thumbnail]").last).to_have_attribute("title", "prompt 14")
