"""One stream of events for all elements of a page, which comes back by itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.helpers import (
    ELEMENT,
    READ_ONLY,
    heard,
    illustrated,
    image_url,
    open_page,
    stop_time,
    tag,
    wait_for_server,
    wait_until,
)
from tests.browser.scripted_server import TOKEN, ScriptedServer


def has_paused(page: Page, times: int) -> bool:
    return len(page.evaluate("pauses")) == times


def do_not_wait(page: Page) -> None:
    """Try at once, as where a laptop wakes up."""
    page.evaluate("dispatchEvent(new Event('online'))")


def has_tried(page: Page, asked: list[str], times: int) -> bool:
    do_not_wait(page)
    return sum("/events?" in url for url in asked) >= times


def has_connected(server: ScriptedServer, times: int) -> bool:
    return len(server.connections) == times


def test_all_elements_of_a_page_share_one_stream(page: Page, server: ScriptedServer):
    for number in range(3):
        server.write(f"m{number}", f"Message {number}")
    message = open_page(
        page,
        server,
        "".join(f"<limner-message message='m{number}'></limner-message>" for number in (0, 1, 2, 1)),
    )
    for index, number in enumerate((0, 1, 2, 1)):
        expect(message.nth(index)).to_contain_text(f"Message {number}")
    assert [connection["messages"] for connection in server.connections] == [["m0", "m1", "m2"]]


def test_an_element_that_comes_later_gets_everything_as_it_stands(page: Page, server: ScriptedServer):
    illustrated(server, "cat")
    message = open_page(page, server)
    expect(message.get_by_alt_text("cat")).to_be_visible()
    server.prompt("m2", "p0", "dog", "generating", fraction=0.25)
    server.write("m2", tag("dog"), final=False)
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<limner-message message=m2></limner-message>')"
    )
    expect(message.nth(1).locator("figure")).to_contain_text("Painting 25%")
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<limner-message message=m1></limner-message>')"
    )
    expect(message.nth(2).get_by_alt_text("cat")).to_be_visible()
    wait_until(page, lambda: server.open_streams == 1)


def test_a_message_that_was_finished_long_ago_just_shows_its_text_and_images(
    page: Page, server: ScriptedServer
):
    server.write("m1", f"Once there was {tag('a cat')}<img src='{image_url('cat')}' alt='a cat'> a cat.")
    message = open_page(page, server)
    expect(message.get_by_role("button", name="a cat")).to_be_visible()
    expect(message.locator("[part=progress]")).to_be_hidden()
    expect(message.locator("[part=offline]")).to_be_hidden()


def test_a_message_that_nobody_knows_is_waited_for(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    wait_until(page, lambda: server.open_streams == 1)
    server.stream("m1", "Here it is.")
    expect(message).to_contain_text("Here it is.")


def test_a_lost_connection_comes_back_and_asks_for_what_it_missed(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream("m1", f"The cat {tag('cat')}")
    server.prompt("m1", "p0", "cat", "queued", session_state=None)
    expect(message.locator("figure")).to_contain_text("Waiting")
    server.drop_connections()
    wait_until(page, lambda: server.open_streams == 0)
    server.stream("m1", " sat down.")
    server.prompt("m1", "p0", "cat", "generating", fraction=0.75)
    expect(message.locator("figure")).to_contain_text("Painting 75%")
    expect(message).to_contain_text("sat down.")
    assert [connection["last_event_id"] for connection in server.connections] == [None, "e1-2"]


def test_pauses_grow_while_the_server_is_away_and_a_calm_line_says_so(page: Page, server: ScriptedServer):
    page.add_init_script("Math.random = () => 0.999999")
    page.clock.install()
    message = open_page(page, server)
    server.session("m1", "streaming")
    server.stream("m1", "The cat")
    expect(message).to_contain_text("The cat")
    stop_time(page)
    # Time may only pass when the element has begun to wait for it.
    page.evaluate(
        """() => {
            window.pauses = [];
            const begin = window.setTimeout;
            window.setTimeout = (act, ms) => (ms < 40_000 && pauses.push(ms), begin(act, ms));
        }"""
    )
    server.is_down = True
    server.drop_connections()
    wait_for_server(page, lambda: server.open_streams == 0)
    for attempt, pause in enumerate((500, 1_000, 2_000, 4_000), start=1):
        wait_for_server(page, partial(has_paused, page, attempt))
        page.clock.run_for(pause - 10)
        wait_for_server(page, lambda: True)
        assert len(server.connections) == attempt
        page.clock.run_for(20)
        wait_for_server(page, partial(has_connected, server, attempt + 1))
    wait_for_server(page, lambda: len(page.evaluate("pauses")) == 5)
    page.clock.run_for(50)
    expect(message.locator("[part=offline]")).to_have_text("The connection is lost. Trying again…")
    server.is_down = False
    do_not_wait(page)
    wait_for_server(page, lambda: server.open_streams == 1)
    page.clock.resume()
    expect(message.locator("[part=offline]")).to_be_hidden()


def test_a_connection_that_says_nothing_is_given_up(page: Page, server: ScriptedServer):
    page.clock.install()
    open_page(page, server)
    wait_until(page, lambda: server.open_streams == 1)
    stop_time(page)
    page.clock.run_for(30_000)
    wait_for_server(page, lambda: True)
    assert server.open_streams == 1
    assert len(server.connections) == 1
    page.clock.run_for(16_000)
    wait_for_server(page, lambda: True)
    page.clock.run_for(1_000)
    wait_for_server(page, lambda: len(server.connections) == 2)


def turn(page: Page, visibility: str) -> None:
    """Another tab comes before the page, or it comes back."""
    page.evaluate(
        """visibility => {
            const say = (name, value) => Object.defineProperty(document, name, { value, configurable: true });
            say("visibilityState", visibility);
            say("hidden", visibility === "hidden");
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        visibility,
    )


def test_a_page_that_nobody_looks_at_gives_its_stream_up_and_has_missed_nothing_when_it_is_seen_again(
    page: Page, server: ScriptedServer
):
    page.clock.install()
    message = open_page(page, server)
    server.stream("m1", f"The cat {tag('cat')}")
    server.prompt("m1", "p0", "cat", "queued", session_state=None)
    expect(message.locator("figure")).to_contain_text("Waiting")
    stop_time(page)
    turn(page, "hidden")
    page.clock.run_for(9_900)
    wait_for_server(page, lambda: True)
    assert server.open_streams == 1
    page.clock.run_for(200)
    wait_for_server(page, lambda: server.open_streams == 0)
    server.stream("m1", " sat down.")
    server.prompt("m1", "p0", "cat", "generating", fraction=0.75)
    page.clock.run_for(120_000)
    wait_for_server(page, lambda: True)
    assert len(server.connections) == 1
    turn(page, "visible")
    page.clock.resume()
    expect(message.locator("figure")).to_contain_text("Painting 75%")
    expect(message).to_contain_text("sat down.")
    expect(message.locator("[part=offline]")).to_be_hidden()
    assert [connection["last_event_id"] for connection in server.connections] == [None, "e1-2"]


def test_a_glance_at_another_tab_costs_no_connection(page: Page, server: ScriptedServer):
    page.clock.install()
    message = open_page(page, server)
    server.stream("m1", "The cat")
    expect(message).to_contain_text("The cat")
    stop_time(page)
    for _ in range(3):
        turn(page, "hidden")
        page.clock.run_for(8_000)
        turn(page, "visible")
    page.clock.run_for(12_000)
    wait_for_server(page, lambda: True)
    assert (server.open_streams, len(server.connections)) == (1, 1)


def test_an_element_that_comes_into_a_hidden_page_has_everything_when_it_is_seen(
    page: Page, server: ScriptedServer
):
    server.write("m2", "Of long ago")
    server.write("m1", "The cat")
    page.clock.install()
    message = open_page(page, server)
    expect(message).to_contain_text("The cat")
    stop_time(page)
    turn(page, "hidden")
    page.clock.run_for(10_000)
    wait_for_server(page, lambda: server.open_streams == 0)
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<limner-message message=m2></limner-message>')"
    )
    wait_for_server(page, lambda: True)
    assert len(server.connections) == 1
    turn(page, "visible")
    page.clock.resume()
    expect(message.nth(1)).to_contain_text("Of long ago")
    assert server.connections[1] == {"messages": ["m1", "m2"], "last_event_id": None}


def test_finished_messages_say_nothing_of_a_lost_connection(page: Page, server: ScriptedServer):
    illustrated(server, "cat")
    message = open_page(page, server)
    expect(message.get_by_alt_text("cat")).to_be_visible()
    server.is_down = True
    server.drop_connections()
    wait_until(page, lambda: len(server.connections) >= 3)
    expect(message.locator("[part=offline]")).to_be_hidden()


@pytest.mark.parametrize("answer", [{"status": 404}, {"content_type": "text/html", "body": "<p>Welcome"}])
def test_where_no_app_is_the_element_says_so_and_tells_the_page_once(
    page: Page, server: ScriptedServer, answer: dict[str, Any], screenshots: Path | None
):
    asked: list[str] = []

    def elsewhere(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(**answer)

    page.route("**/wrong/**", elsewhere)
    message = open_page(
        page, server, f"<limner-message message='m1' token='{TOKEN}' base='/wrong'></limner-message>"
    )
    line = message.locator("[part=offline]")
    expect(line).to_have_text(f"At {server.url}wrong/ there is no Limner app.")
    wait_until(page, lambda: has_tried(page, asked, 6))
    expect(line).to_have_text(f"At {server.url}wrong/ there is no Limner app.")
    (error,) = heard(page, "limner-error")
    assert (error["action"], error["kind"], error["status"]) == ("follow", "no_app", 404)
    assert f"{server.url}wrong/" in error["message"]
    assert "base" in error["hint"]
    if screenshots is not None:
        page.screenshot(path=screenshots / "element-no-app.png")
    server.write("m1", "Here it is.")
    message.evaluate("element => element.removeAttribute('base')")
    expect(message).to_contain_text("Here it is.")
    expect(line).to_be_hidden()


def test_an_app_that_comes_later_is_found(page: Page, server: ScriptedServer):
    server.write("m1", "Here it is.")
    for route in ("events?*", "tags", "status?*"):
        page.route(f"**/limner/{route}", lambda route: route.fulfill(status=404))
    message = open_page(page, server)
    expect(message.locator("[part=offline]")).to_contain_text("there is no Limner app.")
    page.unroute_all()
    do_not_wait(page)
    expect(message).to_contain_text("Here it is.")
    expect(message.locator("[part=offline]")).to_be_hidden()


def test_an_app_that_was_there_is_only_away(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream("m1", "The cat")
    expect(message).to_contain_text("The cat")
    asked: list[str] = []

    def nothing(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=404)

    page.route("**/limner/*?*", nothing)
    server.drop_connections()
    wait_until(page, lambda: has_tried(page, asked, 4))
    expect(message.locator("[part=offline]")).to_have_text("The connection is lost. Trying again…")
    assert heard(page, "limner-error") == []


def test_an_element_that_is_taken_out_leaves_no_stream_behind(page: Page, server: ScriptedServer):
    server.write("m1", "One")
    server.write("m2", "Two")
    message = open_page(page, server, READ_ONLY + "<limner-message message='m2'></limner-message>")
    expect(message.nth(1)).to_contain_text("Two")
    message.nth(1).evaluate("element => element.remove()")
    wait_until(page, lambda: len(server.connections) == 2 and server.open_streams == 1)
    assert server.connections[1]["messages"] == ["m1"]
    assert server.connections[1]["last_event_id"] is not None
    message.evaluate("element => element.remove()")
    wait_until(page, lambda: server.open_streams == 0)


def test_an_element_that_is_moved_stays_as_it_is(page: Page, server: ScriptedServer):
    message = open_page(page, server, f"<main></main>{ELEMENT}")
    server.stream("m1", "Half a sent")
    expect(message).to_contain_text("Half a sent")
    page.evaluate("document.querySelector('main').append(document.querySelector('limner-message'))")
    server.stream("m1", "ence.")
    expect(message).to_contain_text("Half a sentence.")
    assert len(server.connections) == 1


def test_an_element_can_turn_to_another_message(page: Page, server: ScriptedServer):
    illustrated(server, "cat")
    server.write("m2", "Another message")
    message = open_page(page, server)
    expect(message.get_by_alt_text("cat")).to_be_visible()
    message.evaluate("element => element.setAttribute('message', 'm2')")
    expect(message).to_contain_text("Another message")
    expect(message.locator("figure")).to_have_count(0)


def test_after_a_reload_in_the_middle_of_the_work_everything_is_there_again(
    page: Page, server: ScriptedServer
):
    message = open_page(page, server)
    server.stream("m1", f"A cat {tag('cat')} and a dog {tag('dog')} and")
    server.prompt("m1", "p0", "cat", "completed", image_url=image_url("cat"))
    server.prompt("m1", "p1", "dog", "generating", fraction=0.6, preview="half")
    expect(message.locator("figure").nth(1)).to_contain_text("Painting 60%")
    page.reload()
    expect(message.locator("figure").nth(1)).to_contain_text("Painting 60%")
    expect(message.locator("figure").nth(1).locator("[part=preview]")).to_be_visible()
    expect(message.get_by_alt_text("cat")).to_be_visible()
    expect(message.locator("[part=progress]")).to_contain_text("Generating 1/2 images…")
    server.stream("m1", " more.")
    expect(message).to_contain_text("and more.")


def test_two_tabs_show_the_same(context: BrowserContext, page: Page, server: ScriptedServer):
    illustrated(server, "cat")
    here = open_page(page, server)
    second = context.new_page()
    there = open_page(second, server)
    page.bring_to_front()
    here.get_by_role("button", name="cat").click()
    server.prompt(
        "m1",
        "r0",
        "cat",
        "generating",
        session="s2",
        kind="regeneration",
        session_state="debouncing",
        target_url=image_url("cat"),
    )
    for message in (here, there):
        expect(message.locator("figure")).to_contain_text("Painting")
        expect(message.locator("[part=progress]")).to_contain_text("Regenerating 0/1…")
    second.close()
    wait_until(page, lambda: server.open_streams == 1)


@pytest.mark.parametrize("refusal", [(403, "refused", "not yours"), (404, "not_found", "Not Found")])
def test_one_message_that_may_not_be_read_does_not_stop_the_others(
    page: Page, server: ScriptedServer, refusal: tuple[int, str, str]
):
    server.write("m1", "Mine")
    server.refused = {"m2"}
    server.refusal = refusal
    message = open_page(page, server, READ_ONLY + "<limner-message message='m2'></limner-message>")
    expect(message.nth(0)).to_contain_text("Mine")
    expect(message.nth(1).locator("[part=offline]")).to_have_text(
        "This message cannot be followed from here."
    )
    (error,) = heard(page, "limner-error")
    assert (error["action"], error["status"]) == ("follow", refusal[0])
    assert server.connections[-1]["messages"] == ["m1"]


def test_a_piece_of_text_that_was_missed_is_fetched(page: Page, server: ScriptedServer):
    message = open_page(page, server)
    server.stream("m1", "One ")
    expect(message).to_contain_text("One")
    server.stream("m1", "two ")
    message.evaluate(
        "element => element.receive('text', {message: 'm1', start: 20, text: 'four', final: false})"
    )
    wait_until(page, lambda: "text m1" in server.requested)
    expect(message.get_by_text("One two", exact=True)).to_be_visible()


def test_more_than_a_hundred_messages_take_a_second_stream(page: Page, server: ScriptedServer):
    server.write("m120", "The last one")
    message = open_page(
        page, server, "".join(f"<limner-message message='m{n}'></limner-message>" for n in range(121))
    )
    expect(message.nth(120)).to_contain_text("The last one")
    wait_until(page, lambda: server.open_streams == 2)
    assert sorted(len(connection["messages"]) for connection in server.connections) == [21, 100]
