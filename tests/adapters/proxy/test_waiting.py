"""A connection on which pictures are waited for, without a network and with a clock that stands still."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.proxy.events import data_of, event_of, parsed
from limner.adapters.proxy.history import TagMemory
from limner.adapters.proxy.illustration import LONGEST_REPLY, LOOK_MS, Illustrator
from limner.adapters.proxy.setting import ReplySetting
from limner.adapters.proxy.streamed import StreamedReply
from limner.adapters.proxy.waiting import HELD_BACK_MS, REDRAW_MS
from limner.adapters.proxy.wire import Client
from limner.adapters.proxy.wishes import Wishes
from limner.errors import Unavailable
from limner.text import compile_patterns
from tests.adapters.proxy.house import DONE, FOX, HEAD, SEA, holders_of, piece
from tests.studio import ScriptedStore, Studio
from tests.support import png, settle

pytestmark = pytest.mark.anyio

PATTERNS = compile_patterns()


def never() -> bool:
    """The server is not stopping."""
    return False


class Reply:
    """What stands for the upstream's answer: gives its chunks, then its end, or an error."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self._chunks = list(chunks)
        self._error = error

    async def chunk(self) -> bytes | None:
        await anyio.lowlevel.checkpoint()
        if self._chunks:
            return self._chunks.pop(0)
        if self._error is not None:
            raise self._error
        return None


class Reader:
    """What stands for the client: keeps what was sent to it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent.append(message["body"])
        self.ended = not message["more_body"]


def reply_to(
    studio: Studio,
    reader: Reader,
    answer: Any,
    illustration: Any,
    wishes: Wishes = Wishes(),  # noqa: B008
) -> StreamedReply:
    setting = ReplySetting(
        wishes, "http://here", PATTERNS, TagMemory(), studio.limner.alarm, keep_alive_ms=5_000
    )
    return StreamedReply(answer, Client(reader.send), illustration, setting)


async def test_a_comment_every_few_seconds_holds_the_connection_until_the_pictures_are_there():
    reader = Reader()
    async with Studio(hold=True) as studio, anyio.create_task_group() as tasks:
        illustrator = Illustrator(studio.limner, studio.store, PATTERNS, never)
        async with illustrator.begin() as illustration:
            reply = Reply(piece(f"{FOX} {SEA}"), piece(finish="stop"), DONE)
            tasks.start_soon(reply_to(studio, reader, reply, illustration).run)
            await studio.tick(4_999)
            assert reader.sent == [piece(f"{FOX} {SEA}")]
            await studio.tick(1)
            assert reader.sent[1:] == [b": limner 0/2\n\n"]
            studio.painter.release("a red fox in the snow")
            await studio.tick(5_000)
            assert reader.sent[2:] == [b": limner 1/2\n\n"]
            studio.painter.release_all()
            await studio.tick(5_000)
            pictures, finish, done, end = reader.sent[3:]
            assert b"![a red fox" in pictures
            assert (finish, done, end) == (piece(finish="stop"), DONE, b"")
            assert reader.ended


def thought(line: str) -> bytes:
    """A line of progress as it is sent."""
    return event_of({**HEAD, "choices": [_choice({"reasoning_content": f"[limner] {line}\n"})]})


def _choice(delta: dict[str, str]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": None}


NOTHING = event_of({**HEAD, "choices": [_choice({"content": ""})]})
REASONING = Wishes(progress="reasoning")


async def test_behind_a_line_of_progress_come_two_chunks_without_text_that_have_it_shown():
    reader = Reader()
    async with Studio(hold=True) as studio, anyio.create_task_group() as tasks:
        illustrator = Illustrator(studio.limner, studio.store, PATTERNS, never)
        async with illustrator.begin() as illustration:
            answer = Reply(piece(f"{FOX} {SEA}"), piece(finish="stop"), DONE)
            tasks.start_soon(reply_to(studio, reader, answer, illustration, REASONING).run)
            await settle()
            told = [thought("painting: a red fox in the snow"), thought('painting: a "grey" sea')]
            assert reader.sent[1:] == told
            await studio.tick(REDRAW_MS - 1)
            assert reader.sent[3:] == []
            await studio.tick(1)
            assert reader.sent[3:] == [NOTHING]
            studio.painter.release("a red fox in the snow")
            await studio.tick(0)
            assert reader.sent[4:] == [thought("1/2 painted: a red fox in the snow")]
            for shown in (
                1,
                2,
                3,
            ):  # the line came between the two chunks, so it has two of its own behind it
                await studio.tick(REDRAW_MS)
                assert reader.sent[5:] == [NOTHING] * shown
            await studio.tick(REDRAW_MS)
            assert reader.sent[5:] == [NOTHING] * 3
            studio.painter.release_all()
            await settle()
            last, pictures, *_ = reader.sent[8:]
            assert last == thought('2/2 painted: a "grey" sea')
            assert b"![a red fox" in pictures


@pytest.mark.parametrize(("thought_last", "between"), [("I think.", "\n\n"), ("I think.\n", "")])
async def test_progress_does_not_run_into_what_the_model_thought(thought_last: str, between: str):
    reader = Reader()
    async with (
        Studio() as studio,
        Illustrator(studio.limner, studio.store, PATTERNS, never).begin() as illustration,
    ):
        thinks = piece(reasoning_content=thought_last)
        answer = Reply(thinks, piece(FOX), piece(finish="stop"), DONE)
        await reply_to(studio, reader, answer, illustration, REASONING).run()
    lines = [parsed(data_of(event)) for event in reader.sent if b"[limner]" in event]
    told = [line["choices"][0]["delta"]["reasoning_content"] for line in lines if line is not None]
    assert told[0].startswith(f"{between}[limner] ")
    assert all(line.startswith("[limner] ") for line in told[1:])


async def test_where_progress_is_asked_for_chunks_without_text_hold_the_connection():
    reader = Reader()
    async with Studio(hold=True) as studio, anyio.create_task_group() as tasks:
        illustrator = Illustrator(studio.limner, studio.store, PATTERNS, never)
        async with illustrator.begin() as illustration:
            answer = Reply(piece(FOX), piece(finish="stop"), DONE)
            tasks.start_soon(reply_to(studio, reader, answer, illustration, REASONING).run)
            for _ in range(2):
                await studio.tick(REDRAW_MS)
            del reader.sent[:]
            await studio.tick(4_999 - 2 * REDRAW_MS)
            assert reader.sent == []
            await studio.tick(1)
            assert reader.sent == [NOTHING]
            studio.painter.release_all()


async def test_a_picture_that_was_ready_before_the_text_counts_with_those_that_are_still_to_come():
    reader = Reader()
    async with Studio(hold=True) as studio, anyio.create_task_group() as tasks:
        illustrator = Illustrator(studio.limner, studio.store, PATTERNS, never)
        async with illustrator.begin() as illustration:
            await illustration.feed(FOX)
            await settle()
            studio.painter.release("a red fox in the snow")
            await settle()
            answer = Reply(piece(SEA), piece(finish="stop"), DONE)
            tasks.start_soon(reply_to(studio, reader, answer, illustration, REASONING).run)
            await settle()
            told = [thought("1/2 painted: a red fox in the snow"), thought('painting: a "grey" sea')]
            assert reader.sent[1:] == told
            studio.painter.release_all()


async def test_a_picture_that_is_held_back_is_told_of_once():
    reader = Reader()
    async with (
        Studio(hold=True, min_interval_ms=20_000) as studio,
        Illustrator(studio.limner, studio.store, PATTERNS, never).begin() as illustration,
        anyio.create_task_group() as tasks,
    ):
        answer = Reply(piece(f"{FOX} {SEA}"), piece(finish="stop"), DONE)
        tasks.start_soon(reply_to(studio, reader, answer, illustration, REASONING).run)
        await studio.tick(HELD_BACK_MS - 1)
        waits = thought('waiting: a "grey" sea')
        assert waits not in reader.sent
        await studio.tick(1)
        assert reader.sent[-1] == waits
        for _ in range(20):
            await studio.tick(HELD_BACK_MS)
        assert reader.sent.count(waits) == 1
        assert thought('painting: a "grey" sea') in reader.sent
        studio.painter.release_all()


async def test_a_connection_that_breaks_while_pictures_are_made_is_told_behind_them():
    reader = Reader()
    async with (
        Studio(hold=True) as studio,
        Illustrator(studio.limner, studio.store, PATTERNS, never).begin() as illustration,
        anyio.create_task_group() as tasks,
    ):
        reply = Reply(piece(FOX), piece(finish="stop"), error=Unavailable("it cut the connection"))
        tasks.start_soon(reply_to(studio, reader, reply, illustration).run)
        await settle()
        studio.painter.release_all()
    _, pictures, finish, error, _ = reader.sent
    assert b"![a red fox" in pictures
    assert finish == piece(finish="stop")
    assert b"it cut the connection" in error


async def test_a_reply_that_is_left_while_its_session_begins_leaves_nothing_behind():
    store = ScriptedStore()
    async with Studio(hold=True, store=store) as studio:
        with anyio.CancelScope() as scope:
            async with Illustrator(studio.limner, studio.store, PATTERNS, never).begin() as illustration:
                await illustration.feed(FOX)
                scope.cancel()
                await illustration.feed(" more")
                await anyio.lowlevel.checkpoint()
        await settle()
        assert not studio.limner.sessions()
        assert await store.read(illustration.message_id) is None
        assert studio.painter.cancelled == ["a red fox in the snow"]


async def test_a_reply_whose_painter_does_not_let_go_ends_and_is_forgotten_when_it_does():
    started, finishing = anyio.Event(), anyio.Event()

    async def paint(_: object) -> bytes:
        started.set()
        with anyio.CancelScope(shield=True):
            await finishing.wait()
        return png(1)

    async with Studio(journal=MemoryJournal(keep=0)) as studio:
        studio.painter.answers["a red fox in the snow"] = [paint]
        left = anyio.Event()

        async def reply() -> None:
            async with Illustrator(studio.limner, studio.store, PATTERNS, never).begin() as illustration:
                await illustration.feed(FOX)
                await started.wait()
            left.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reply)
            await settle()
            held = holders_of("red fox", studio.limner, [studio.painter, studio.store])
            assert held
            finishing.set()
            await left.wait()
        assert not holders_of("red fox", studio.limner, [studio.painter, studio.store])
        assert not studio.store._messages


async def test_a_limner_that_is_closed_costs_the_pictures_and_not_the_reply():
    reader = Reader()
    async with Studio() as studio:
        pass
    async with Illustrator(studio.limner, studio.store, PATTERNS, never).begin() as illustration:
        await reply_to(studio, reader, Reply(piece(FOX), piece(finish="stop"), DONE), illustration).run()
    assert b"".join(reader.sent) == piece(FOX) + piece(finish="stop") + DONE


async def test_what_a_model_writes_without_end_is_not_looked_at_beyond_a_limit():
    async with (
        Studio() as studio,
        Illustrator(studio.limner, studio.store, PATTERNS, never).begin() as illustration,
    ):
        for _ in range(3):
            await illustration.feed("x" * (LONGEST_REPLY // 2))
        await illustration.feed(FOX)
        assert len(illustration.text) == LONGEST_REPLY
        assert not await illustration.seal()


async def test_a_prompt_that_only_the_whole_text_shows_is_illustrated_at_the_end():
    patterns = compile_patterns([r"\[\[draw: ([^\]]+)\]\]"])
    async with (
        Studio(patterns=patterns.patterns) as studio,
        Illustrator(studio.limner, studio.store, patterns, never).begin() as illustration,
    ):
        for char in "Once [[draw: a fox]]":
            await illustration.feed(char)
        assert await illustration.seal()

        async def tell(_: object) -> None:
            """Nobody listens."""

        (picture,) = await illustration.pictures(tell)
    assert (picture.image.prompt, picture.tag, picture.position) == ("a fox", "[[draw: a fox]]", 5)


async def test_when_the_server_stops_a_reply_ends_with_the_pictures_that_are_there():
    reader = Reader()
    is_stopping = False
    async with Studio(hold=True) as studio, anyio.create_task_group() as tasks:
        illustrator = Illustrator(studio.limner, studio.store, PATTERNS, lambda: is_stopping)
        async with illustrator.begin() as illustration:
            answer = Reply(piece(f"{FOX} {SEA}"), piece(finish="stop"), DONE)
            tasks.start_soon(reply_to(studio, reader, answer, illustration).run)
            await settle()
            studio.painter.release("a red fox in the snow")
            await studio.tick(LOOK_MS)
            assert not reader.ended
            is_stopping = True
            await studio.tick(LOOK_MS)
            await settle()
        assert reader.ended
        told = b"".join(reader.sent)
        assert told.count(b"data:image/") == 1
        assert told.endswith(DONE)
        assert studio.painter.cancelled == ['a "grey" sea']
