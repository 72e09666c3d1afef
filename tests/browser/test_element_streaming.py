"""The text of a message while it streams, and its images until they stand in it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from limner.states import SessionKind
from limner.states.outcome import Counts
from limner.workflows.telling import progress_line
from tests.browser.helpers import READ_ONLY, heard, image, image_url, open_page, tag, wait_until
from tests.browser.scripted_server import ScriptedServer


def test_text_is_shown_as_it_arrives(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.session("m1", "streaming")
    server.stream("m1", "Once upon ")
    expect(message).to_contain_text("Once upon")
    server.stream("m1", "a *time*.")
    expect(message.locator("em")).to_have_text("time")
    expect(message.locator("[part=text]")).to_have_attribute("aria-busy", "true")
    server.stream("m1", "", final=True)
    server.session("m1", "sealed")
    expect(message.locator("[part=text]")).to_have_attribute("aria-busy", "false")


def test_a_text_whose_server_died_stays_and_is_not_waited_for(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream("m1", f"Once upon {tag('a cat')} a")
    server.prompt("m1", "p1", "a cat", "generating")
    expect(message.locator("[part=text]")).to_have_attribute("aria-busy", "true")
    server.lost = {"m1"}
    server.prompt("m1", "p1", "a cat", "cancelled")
    server.ended("m1", "cancelled")
    expect(message.locator("[part=progress]")).to_contain_text("The text has broken off.")
    expect(message.locator("[part=text]")).to_have_attribute("aria-busy", "false")
    expect(message).to_contain_text("Once upon")


def test_a_text_whose_images_were_cancelled_is_still_waited_for(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream("m1", f"Once upon {tag('a cat')} a")
    server.prompt("m1", "p1", "a cat", "cancelled")
    server.ended("m1", "cancelled")
    wait_until(page, lambda: "text m1" in server.requested)
    server.stream("m1", " time")
    expect(message).to_contain_text("time")
    expect(message.locator("[part=text]")).to_have_attribute("aria-busy", "true")


def test_an_image_grows_in_the_place_of_its_tag_before_the_text_ends_and_then_stands_in_it(
    page: Page, server: ScriptedServer
):
    message = open_page(page, server)
    server.session("m1", "streaming")
    server.stream("m1", "The keeper climbed. <img_pro")
    expect(message).to_contain_text("The keeper climbed.")
    expect(message).not_to_contain_text("<img")
    server.stream("m1", 'mpt="a lighthouse at night"> And')
    figure = message.locator("figure")
    expect(figure).to_contain_text("Waiting")
    server.prompt("m1", "p1", "a lighthouse at night", "queued")
    server.prompt("m1", "p1", "a lighthouse at night", "generating", fraction=0.4, preview="v1")
    expect(figure.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "40")
    expect(figure.locator("[part=preview]")).to_have_attribute(
        "src", server.url + "limner/preview?message=m1&prompt=p1&v=v1"
    )
    expect(message.locator("figcaption")).to_have_text("a lighthouse at night")
    expect(message.locator("[part=progress]")).to_contain_text("Generating 0/1 image…")
    server.stream("m1", " on.", final=True)
    server.prompt(
        "m1",
        "p1",
        "a lighthouse at night",
        "completed",
        session_state="sealed",
        image_url=image_url("night"),
        preview="v2",
    )
    expect(figure.get_by_alt_text("a lighthouse at night")).to_be_visible()
    text = (
        f"The keeper climbed. {tag('a lighthouse at night')}{image('night', 'a lighthouse at night')} And on."
    )
    server.write("m1", text)
    server.ended("m1", placed=(("p1", image_url("night"), None),))
    expect(message.get_by_role("button", name="a lighthouse at night")).to_be_visible()
    expect(figure).to_have_count(1)
    expect(message.locator("[part=progress]")).to_contain_text("The image is ready.")
    expect(message.locator("p").filter(has_text="And on.")).to_have_text("And on.")
    assert server.requested.count("/limner/images/night.png") == 1
    counts = [progress["counts"]["completed"] for progress in heard(page, "limner-progress")]
    assert (counts[0], counts[-1]) == (0, 1)


def test_the_panel_leaves_when_all_is_done_and_is_not_there_after_a_reload(
    page: Page, server: ScriptedServer
):
    page.clock.install()
    message = open_page(page, server)
    server.prompt("m1", "p1", "cat", "generating")
    panel = message.locator("[part=progress]")
    expect(panel).to_be_visible()
    server.prompt("m1", "p1", "cat", "completed", session_state="sealed", image_url=image_url("cat"))
    server.write("m1", tag("cat") + image("cat", "cat"))
    server.ended("m1", placed=(("p1", image_url("cat"), None),))
    expect(panel).to_contain_text("The image is ready.")
    page.clock.fast_forward(5_000)
    expect(panel).to_be_hidden()
    page.reload()
    expect(message.get_by_alt_text("cat")).to_be_visible()
    wait_until(page, lambda: heard(page, "limner-ended"))
    page.evaluate("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame))")
    assert panel.is_hidden()
    assert message.get_by_role("status").text_content() == ""


def test_a_session_that_failed_says_why(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.prompt("m1", "p1", "cat", "generating", session_state="draining")
    server.write("m1", tag("cat"))
    server.ended("m1", "failed", problem="the images took longer than 300 s")
    expect(message.locator("[part=progress]")).to_contain_text("The images took longer than 300 s.")
    expect(message.locator("figure")).to_be_hidden()
    page.reload()
    expect(message.locator("[part=progress]")).to_contain_text("The images took longer than 300 s.")


def test_offsets_are_counted_in_characters_as_the_server_counts_them(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    for piece in ("A \U0001f431", " and a \U0001f436", " sat."):
        server.stream("m1", piece)
    expect(message.locator(".block > p")).to_have_text("A \U0001f431 and a \U0001f436 sat.")
    message.evaluate("element => element.receive('text', { start: 3, text: ' alone.', final: false })")
    expect(message.locator(".block > p")).to_have_text("A \U0001f431 alone.")


def test_the_tags_are_those_of_the_server(page: Page, server: ScriptedServer):
    server.tags = [{"opener": "[draw:", "closer": "]", "quoted": False}]
    message = open_page(page, server)
    server.session("m1", "streaming")
    server.stream("m1", 'A cat [draw: a cat]. Not <img_prompt="a dog">.')
    expect(message.locator("figcaption")).to_have_text("a cat")
    expect(message).to_contain_text('Not <img_prompt="a dog">.')


def test_a_tag_that_is_none_is_shown_at_the_end(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream("m1", 'He said: <img_prompt="no end')
    expect(message).to_contain_text("He said:")
    expect(message).not_to_contain_text("no end")
    server.write("m1", 'He said: <img_prompt="no end')
    expect(message).to_contain_text('He said: <img_prompt="no end')


def test_thoughts_are_folded_and_hold_no_prompts(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.session("m1", "streaming")
    server.stream("m1", f"<think>Perhaps {tag('a dog')}?")
    expect(message.get_by_text("Thinking…")).to_be_visible()
    server.stream("m1", f"</think>\n\nA cat. {tag('a cat')}")
    expect(message.locator("figcaption")).to_have_text("a cat")
    thoughts = message.get_by_text('Perhaps <img_prompt="a dog">?')
    expect(thoughts).to_be_hidden()
    message.get_by_text("Thoughts").click()
    expect(thoughts).to_be_visible()


def test_a_page_may_bring_the_text_itself_and_gets_the_images_all_the_same(
    page: Page, server: ScriptedServer
):
    message = open_page(page, server)
    server.session("m1", "streaming")
    message.evaluate("(element, text) => element.append(text)", "The page's own words. ")
    server.stream("m1", "What the server streams.")
    message.evaluate("(element, text) => element.append(text)", tag("cat") + " More.")
    expect(message.locator("figure")).to_be_visible()
    expect(message).to_contain_text("The page's own words.")
    expect(message).not_to_contain_text("What the server streams.")
    assert message.evaluate("element => element.text") == "The page's own words. " + tag("cat") + " More."
    server.write("m1", f"The page's own words. {tag('cat')}{image('cat', 'cat')} More.")
    expect(message.get_by_role("button", name="cat")).to_be_visible()
    message.evaluate("element => { element.text = 'Anew.'; }")
    expect(message.locator("[part=text]")).to_have_text("Anew.")


def test_a_page_may_render_the_text_itself(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.write("m1", f"one {tag('cat')}{image('cat', 'cat')} two {tag('dog')} three")
    server.prompt("m1", "p1", "dog", "generating", session_state="draining")
    expect(message.locator("figure")).to_have_count(2)
    message.evaluate(
        """element => {
            element.render = (text) => {
                const block = document.createElement("section");
                block.textContent = text.toUpperCase();
                return block;
            };
        }"""
    )
    section = message.locator("section:not([part])")
    expect(section).to_contain_text("ONE")
    expect(section).to_contain_text("THREE")
    expect(section.get_by_role("button", name="cat")).to_be_visible()
    expect(section.locator("figure").nth(1)).to_contain_text("Painting")
    message.evaluate("element => { element.render = null; }")
    expect(message.locator("p").first).to_have_text("one")


def test_a_long_text_is_not_rendered_anew_for_every_piece(
    page: Page, server: ScriptedServer, tell: Callable[[str], None]
):
    message = open_page(page, server, READ_ONLY)
    paragraph = (
        "It was a *dark* and **stormy** night; the rain fell in torrents, and `so` it went on. " * 2 + "\n\n"
    )
    text = (paragraph * 200)[:20_000]
    pieces = [text[start : start + 4] for start in range(0, len(text), 4)]
    measured = message.evaluate(
        """async (element, pieces) => {
            const paragraph = () => element.shadowRoot.querySelector("p");
            const costs = [];
            const changes = [];
            let kept = null;
            const watcher = new MutationObserver(() => {});
            const everything = { childList: true, characterData: true, attributes: true, subtree: true };
            watcher.observe(element.shadowRoot, everything);
            // What a piece costs is what the frame costs that shows it, so each gets a frame of its own.
            const ask = window.requestAnimationFrame;
            let frame = null;
            window.requestAnimationFrame = (act) => ((frame = act), 1);
            for (const piece of pieces) {
                const begun = performance.now();
                element.append(piece);
                frame?.();
                frame = null;
                costs.push(performance.now() - begun);
                const records = watcher.takeRecords();
                changes.push(records.reduce((sum, each) => sum + Math.max(1, each.addedNodes.length), 0));
                if (costs.length === 100) kept = paragraph();
            }
            window.requestAnimationFrame = ask;
            const mean = (some) => some.reduce((a, b) => a + b) / some.length;
            const early = mean(costs.slice(500, 1000));
            return {
                same: kept === paragraph(), early, late: mean(costs.slice(-500)), all: mean(costs),
                touchedEarly: Math.max(...changes.slice(500, 1000)),
                touchedLate: Math.max(...changes.slice(-500)),
            };
        }""",
        pieces,
    )
    expect(message.locator(".block > p").last).to_be_visible()
    tell(
        f"20 000 characters in {len(pieces)} pieces, a frame for each: {measured['all']:.3f} ms a piece, "
        f"{measured['early']:.3f} ms near the beginning, {measured['late']:.3f} ms near the end"
    )
    assert measured["same"]
    assert 0 < measured["touchedLate"] <= measured["touchedEarly"] < 50


def test_the_blocks_that_did_not_change_stay_the_same_nodes(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.write("m1", f"First\n\nSecond {tag('cat')}\n\nThird")
    paragraphs = message.locator(".block > p")
    expect(paragraphs).to_have_count(3)
    paragraphs.evaluate_all("nodes => { window.before = nodes; }")
    server.write("m1", f"First\n\nSecond {tag('cat')}{image('cat', 'cat')}\n\nThird and last")
    expect(paragraphs.nth(2)).to_have_text("Third and last")
    expect(message.get_by_role("button", name="cat")).to_be_visible()
    same = paragraphs.evaluate_all("nodes => nodes.map((node, index) => node === before[index])")
    assert same == [True, True, False]


def test_its_words_can_be_those_of_another_language(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    page.evaluate(
        """import("/limner/limner-message.js").then(({ words }) => {
            words.generating = (ready, total) => `${ready} von ${total} Bildern`;
        })"""
    )
    server.prompt("m1", "p1", "cat", "generating")
    expect(message.locator("[part=progress]")).to_contain_text("0 von 1 Bildern")


def test_its_words_on_the_progress_are_those_of_the_library(page: Page, server: ScriptedServer):
    open_page(page, server)
    told = page.evaluate(
        """import("/limner/limner-message.js").then(({ words }) => [
            words.generating(3, 5), words.generating(0, 1),
            words.regenerating(2, 2), words.regenerating(0, 1),
        ])"""
    )
    assert told == [
        "Generating 3/5 images…",
        "Generating 0/1 image…",
        "Regenerating 2/2…",
        "Regenerating 0/1…",
    ]
    counts = [Counts(total=total, completed=ready) for ready, total in ((3, 5), (0, 1), (2, 2), (0, 1))]
    kinds = [SessionKind.STREAMING] * 2 + [SessionKind.REGENERATION] * 2
    lines = [progress_line(kind, count) for kind, count in zip(kinds, counts, strict=True)]
    assert told == [line.text for line in lines if line is not None]
