"""Server-sent events: what a reader gets, one who is slow, one who comes back, and one who leaves."""

from __future__ import annotations

import gc
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from starlette.types import Message

from limner.adapters.web import event_stream
from limner.adapters.web.event_stream import KEEP_ALIVE_MS, LOOK_MS
from limner.adapters.web.shutdown import server_is_stopping
from limner.errors import StorageError
from limner.workflows.progress_events import Thumbnail
from tests.adapters.web.browser import Reader
from tests.adapters.web.chat import Chat, chat
from tests.studio import ScriptedStore, tag
from tests.support import ScriptedJournal, settle

pytestmark = pytest.mark.anyio


def open_streams(page: Chat) -> int:
    """How many mailboxes somebody holds on to."""
    gc.collect()
    progress = page.studio.limner.manager.progress
    waiting = sum(len(mailboxes) for mailboxes in progress._expected.values())
    return waiting + sum(len(track.mailboxes) for track in progress._tracks.values())


# --- what is told


async def test_the_answer_is_a_stream_that_no_proxy_holds_back():
    async with chat() as page, page.browser.reading("/events", "message=fox") as reader:
        assert reader.status == 200
        assert reader.headers == {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-store, no-transform",
            "x-accel-buffering": "no",
            "x-content-type-options": "nosniff",
        }
        assert await reader.blocks() == ["retry: 2000"]


async def test_a_message_is_followed_from_before_its_first_word_to_its_end():
    async with chat(hold=True) as page, page.browser.reading("/events", "message=fox") as reader:
        assert await reader.events() == []
        await page.start("a fox")
        events = await reader.events()
        session_id = page.studio.limner.sessions()[0].id
        assert {event.data["message"] for event in events} == {"fox"}
        assert {event.data["session"] for event in events} == {session_id}
        states = [event.data["state"] for event in events if event.name == "session"]
        assert states[-1] == "draining"
        assert [event.data["prompt"] for event in events if event.name == "prompt"][-1] == "a fox"

        await page.finish()
        events = await reader.events()
        assert [event.name for event in events][-1] == "ended"
        ended = events[-1].data
        assert (ended["kind"], ended["state"]) == ("streaming", "done")
        assert ended["result"]["placed"][0]["image_url"] == "https://images.test/1.png"
        assert not reader.ended


async def test_numbers_rise_and_have_one_epoch():
    async with chat() as page, page.browser.reading("/events", "message=fox&message=hen") as reader:
        await page.start("a fox")
        await page.start("a hen", message_id="hen")
        events = await reader.events()
        [epoch] = {event.id.rpartition("-")[0] for event in events}
        assert epoch
        numbers = [int(event.id.rpartition("-")[2]) for event in events]
        assert numbers == sorted(set(numbers))
        assert {event.data["message"] for event in events} == {"fox", "hen"}


async def test_a_preview_is_told_by_an_address_relative_to_the_app():
    async with chat(hold=True) as page, page.browser.reading("/events", "message=fox") as reader:
        await page.start("a fox")
        await reader.events()
        [prompt] = page.studio.limner.progress("fox")
        page.studio.limner.manager.progress.report(
            "fox", prompt.prompt_id, fraction=0.5, thumbnail=Thumbnail(b"rough", "image/webp")
        )
        [event] = await reader.events()
        assert (event.name, event.data["fraction"]) == ("prompt", 0.5)
        path, _, query = event.data["preview"].partition("?")
        answer = await page.browser.ask("GET", f"/{path}", query=query)
        assert answer.body == b"rough"
        await page.finish()


async def test_the_text_is_told_only_to_who_asks_for_it():
    async with (
        chat() as page,
        page.browser.reading("/events", "message=fox&text=1") as with_text,
        page.browser.reading("/events", "message=fox") as without,
    ):
        limner = page.studio.limner
        for text in ("Once ", "Once upon\n\na \u2028time"):
            await limner.observe("fox", text)
            await settle()
        texts = [event.data for event in await with_text.events() if event.name == "text"]
        assert "".join(text["text"] for text in texts) == "Once upon\n\na \u2028time"
        assert texts[-1] == {"message": "fox", "start": 5, "text": "upon\n\na \u2028time", "final": False}
        await limner.seal("fox", f"Look {tag('a fox')}")
        await limner.finished("fox")
        [*_, last] = [event.data for event in await with_text.events() if event.name == "text"]
        assert last == {"message": "fox", "start": 0, "text": await page.studio.text("fox"), "final": True}
        assert "text" not in {event.name for event in await without.events()}


async def test_half_a_character_does_not_break_the_stream():
    async with chat() as page, page.browser.reading("/events", "message=fox&text=1") as reader:
        await page.studio.limner.observe("fox", "half \ud83d")
        [*_, text] = [event.data for event in await reader.events() if event.name == "text"]
        assert text["text"] == "half \ud83d"


async def test_text_of_a_message_that_is_only_stored_is_told():
    store = ScriptedStore({"old": "An old story"})
    async with chat(store=store) as page, page.browser.reading("/events", "message=old&text=1") as reader:
        [event] = await reader.events()
        assert event.data == {"message": "old", "start": 0, "text": "An old story", "final": True}


# --- who comes back


@pytest.mark.parametrize("how", ["header", "query"])
async def test_who_comes_back_gets_what_was_missed_once_and_in_its_newest_state(how):
    async with chat(hold=True) as page:
        async with page.browser.reading("/events", "message=fox") as reader:
            await page.start("a fox", "a hen")
            last = (await reader.events())[-1].id
        await page.finish()
        query, headers = "message=fox", {}
        if how == "header":
            headers = {"last-event-id": last}
        else:
            query += f"&last_event_id={last}"
        async with page.browser.reading("/events", query, headers) as reader:
            events = await reader.events()
            prompts = [event.data for event in events if event.name == "prompt"]
            assert [prompt["state"] for prompt in prompts] == ["completed", "completed"]
            assert [event.name for event in events].count("ended") == 1
            last = events[-1].id
        async with page.browser.reading("/events", "message=fox", {"last-event-id": last}) as reader:
            assert await reader.events() == []


@pytest.mark.parametrize(
    "known", ["other-5", "5", "", "-", "é", "x" * 10_000, "../../etc-1", "0-999999999999999999999"]
)
async def test_an_id_of_another_time_gives_everything(known):
    async with chat() as page:
        await page.start("a fox")
        async with page.browser.reading("/events", "message=fox", {"last-event-id": known}) as reader:
            assert {event.name for event in await reader.events()} == {"session", "prompt", "ended"}


# --- what is refused


async def test_a_stream_follows_a_hundred_messages_and_no_more():
    many = "&".join(f"message={number}" for number in range(100))
    async with chat() as page:
        async with page.browser.reading("/events", many + "&message=7") as reader:
            assert reader.status == 200
        answer = await page.browser.ask("GET", "/events", query=many + "&message=one-more")
        assert (answer.status, answer.kind) == (400, "invalid_setting")
        answer = await page.browser.ask("GET", "/events", query="message=fox&text=yes")
        assert (answer.status, answer.kind) == (400, "invalid_setting")


# --- who is slow


async def test_for_a_slow_reader_nothing_piles_up_and_the_newest_is_not_lost():
    async with chat(hold=True) as page, page.browser.reading("/events", "message=fox&text=1") as reader:
        await page.start("a fox")
        await reader.events()
        [prompt] = page.studio.limner.progress("fox")
        reader.stop_reading()
        for step in range(1_000):
            page.studio.limner.manager.progress.report(
                "fox",
                prompt.prompt_id,
                fraction=step / 1_000,
                thumbnail=Thumbnail(str(step).encode(), "image/webp"),
            )
            if step % 100 == 0:
                await settle()
        [mailbox] = page.studio.limner.manager.progress._tracks["fox"].mailboxes
        assert len(mailbox.pending) <= 4
        reader.read_on()
        events = await reader.events()
        assert len(events) <= 3
        assert events[-1].data["fraction"] == 0.999
        await page.finish()


async def test_a_slow_reader_gets_no_comments_piled_up_either():
    async with chat() as page, page.browser.reading("/events", "message=fox") as reader:
        reader.stop_reading()
        await page.start("a fox")
        for _ in range(10):
            await page.studio.tick(KEEP_ALIVE_MS)
        reader.read_on()
        comments = [block for block in await reader.blocks() if block.startswith(":")]
        assert len(comments) <= 1


# --- who waits


async def test_a_stream_that_has_nothing_to_tell_says_so_every_fifteen_seconds():
    async with chat() as page, page.browser.reading("/events", "message=fox") as reader:
        await reader.blocks()
        for _ in range(3):
            await page.studio.tick(KEEP_ALIVE_MS - LOOK_MS)
            assert await reader.blocks() == []
            await page.studio.tick(LOOK_MS)
            assert await reader.blocks() == [": keep-alive"]
        await page.studio.tick(KEEP_ALIVE_MS - LOOK_MS)
        await page.start("a fox")
        await page.studio.tick(LOOK_MS)
        assert not [block for block in await reader.blocks() if block.startswith(":")]


async def test_without_readers_nothing_is_looked_after():
    async with chat() as page:
        alarm = page.studio.limner.alarm
        before = [source.next_deadline() for source in alarm._sources]
        async with page.browser.reading("/events", "message=fox"):
            during = [source.next_deadline() for source in alarm._sources]
            assert during != before
        assert [source.next_deadline() for source in alarm._sources] == before


# --- who leaves, and what ends


async def test_a_reader_who_leaves_is_forgotten_at_once():
    async with chat(hold=True) as page:
        before = open_streams(page)
        assert before == 0
        async with page.browser.reading("/events", "message=fox&message=later") as reader:
            await page.start("a fox")
            assert open_streams(page) == 2
            reader.leave()
            await settle()
            assert reader.returned
            assert not reader.ended
            assert open_streams(page) == 0
        await page.finish()


async def test_a_reader_who_leaves_while_something_is_sent_is_forgotten_at_once():
    async with chat(hold=True) as page:
        async with page.browser.reading("/events", "message=fox") as reader:
            reader.stop_reading()
            await page.start("a fox")
            reader.leave()
            await settle()
            assert reader.returned
            assert open_streams(page) == 0
        await page.finish()


async def test_a_server_that_tells_by_an_error_that_the_reader_has_left_is_understood(caplog):
    sent: list[Message] = []

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        if sent:
            raise OSError("the connection is closed")
        sent.append(message)

    async with chat() as page:
        app = page.studio.limner.asgi()
        await app(page.browser._scope("GET", "/events", "message=fox", {}), receive, send)
        assert open_streams(page) == 0
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert caplog.records == []


async def test_when_limner_is_closed_its_streams_end_properly():
    readers: list[Reader] = []
    opened, seen = anyio.Event(), anyio.Event()

    async def read(page: Chat) -> None:
        async with page.browser.reading("/events", "message=fox") as reader:
            readers.append(reader)
            opened.set()
            await seen.wait()

    async with anyio.create_task_group() as tasks:
        async with chat() as page:
            tasks.start_soon(read, page)
            await opened.wait()  # two tasks that settle at once would each wait for the other
            await page.start("a fox")
            assert not readers[0].ended
        await settle()
        assert readers[0].ended
        assert readers[0].returned
        seen.set()


@contextmanager
def handled_by(server: object) -> Iterator[None]:
    """A server handles the process's signals, as uvicorn does."""
    before = signal.signal(signal.SIGTERM, server.handle_exit)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Server:
    """As much of `uvicorn.Server` as handles signals."""

    def __init__(self) -> None:
        self.should_exit = False

    def handle_exit(self, number: int, frame: Any) -> None:
        self.should_exit = True


async def test_when_the_server_is_told_to_stop_the_streams_end_by_themselves():
    server = Server()
    with handled_by(server):
        async with (
            chat() as page,
            page.browser.reading("/events", "message=fox") as one,
            page.browser.reading("/events", "message=hen") as other,
        ):
            await page.studio.tick(LOOK_MS)
            assert not one.ended
            signal.raise_signal(signal.SIGTERM)
            assert server_is_stopping()
            await page.studio.tick(LOOK_MS)
            assert one.ended
            assert one.returned
            assert other.ended
            assert open_streams(page) == 0


async def test_a_stop_ends_the_stream_of_a_reader_who_does_not_read(monkeypatch):
    monkeypatch.setattr(event_stream, "LAST_WORD_S", 0)
    server = Server()
    with handled_by(server):
        async with chat() as page, page.browser.reading("/events", "message=fox") as reader:
            reader.stop_reading()
            await page.start("a fox")
            server.should_exit = True
            await page.studio.tick(LOOK_MS)
            assert reader.returned
            assert open_streams(page) == 0


def test_a_process_whose_signals_somebody_else_handles_is_not_stopping():
    assert not server_is_stopping()


async def test_a_journal_that_cannot_be_read_ends_the_stream_and_is_logged(caplog):
    class Broken(ScriptedJournal):
        async def past_sessions(self, message_id: str) -> Any:
            raise StorageError("no connection to db.internal")

    async with (
        chat(journal=Broken()) as page,
        page.browser.reading("/events", "message=fox") as reader,
    ):
        assert reader.status == 200
        blocks = await reader.blocks()
        assert blocks == ["retry: 2000"]
        assert reader.ended
    [line] = [record.getMessage() for record in caplog.records]
    assert "request_not_served" in line


async def test_every_event_is_one_line_of_json():
    async with chat() as page, page.browser.reading("/events", "message=a%0Ab&text=1") as reader:
        await page.start("a\nfox\r\nin <snow>", message_id="a\nb")
        blocks = [block for block in await reader.blocks() if block.startswith("id:")]
        for block in blocks:
            number, name, data = block.split("\n")
            assert number.startswith("id: ")
            assert name.startswith("event: ")
            assert json.loads(data.removeprefix("data: "))["message"] == "a\nb"
        assert blocks
