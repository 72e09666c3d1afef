"""The text of a message while it streams, and its images until they stand in it."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.scripted_server import TOKEN, ScriptedServer

TAG = '<img_prompt="a lighthouse at night">'
IMG = '<img src="/limner/images/night.png" alt="a lighthouse at night" title="a lighthouse at night">'


def test_text_is_shown_as_it_arrives(page: Page, server: ScriptedServer):
    page.goto(server.url)
    message = page.locator("limner-message")
    server.session("m1", "streaming")
    server.stream("m1", "Once upon ")
    expect(message).to_contain_text("Once upon")
    server.stream("m1", "a *time*.")
    expect(message.locator("em")).to_have_text("time")
    expect(message.locator("[part=text]")).to_have_attribute("aria-busy", "true")
    server.stream("m1", "", final=True)
    server.session("m1", "sealed")
    expect(message.locator("[part=text]")).to_have_attribute("aria-busy", "false")


def test_a_tag_is_never_seen_and_its_image_grows_in_its_place_before_the_text_ends(
    page: Page, server: ScriptedServer
):
    server.html = f"<limner-message message='m1' token='{TOKEN}'></limner-message>"
    page.goto(server.url)
    message = page.locator("limner-message")
    server.session("m1", "streaming")
    server.stream("m1", "The keeper climbed. <img_pro")
    expect(message).to_contain_text("The keeper climbed.")
    expect(message).not_to_contain_text("<img")
    server.stream("m1", 'mpt="a lighthouse at night"> And')
    expect(message.locator("figure")).to_be_visible()
    server.prompt("m1", "p1", "a lighthouse at night", "queued")
    server.prompt("m1", "p1", "a lighthouse at night", "generating", fraction=0.4, preview="v1")
    bar = message.locator("figure").get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuenow", "40")
    expect(message.locator("figure [part=preview]")).to_have_js_property("complete", True)
    expect(message.locator("figure [part=preview]")).to_have_attribute(
        "src", server.url + "limner/preview?message=m1&prompt=p1&v=v1"
    )
    expect(message.locator("figcaption")).to_have_text("a lighthouse at night")
    expect(message.locator("[part=progress]")).to_contain_text("Generating 0/1 image…")
    server.stream("m1", " on.", final=True)
    server.session("m1", "draining")
    server.prompt(
        "m1",
        "p1",
        "a lighthouse at night",
        "completed",
        session_state="sealed",
        image_url="/limner/images/night.png",
        preview="v2",
    )
    expect(message.get_by_alt_text("a lighthouse at night")).to_be_visible()
    server.write("m1", f"The keeper climbed. {TAG}{IMG} And on.")
    server.ended("m1", placed=(("p1", "/limner/images/night.png", None),))
    expect(message.get_by_role("button", name="a lighthouse at night")).to_be_visible()
    expect(message.locator("figure")).to_have_count(1)
    expect(message.locator("[part=progress]")).to_contain_text("The image is ready.")
    expect(message.locator("p").filter(has_text="And on.")).to_have_text("And on.")
