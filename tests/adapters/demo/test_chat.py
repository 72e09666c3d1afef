"""The work behind the page: replies that are written, stopped, cut short, written again, and found again."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from limner.adapters.demo import chat as chat_module
from limner.adapters.demo.chat import LONGEST_LINE, Busy, Chat
from limner.adapters.demo.conversation import Trouble
from limner.errors import InvalidSetting, MessageGone, Unavailable, UnknownMessage
from limner.text import find_images
from tests.adapters.demo.scripts import ScriptedWriter, opened
from tests.support import FakeImageStore, FakePainter

pytestmark = pytest.mark.anyio

TALE = "Once.\n\n", '<img_prompt="a sea">', "\n\nThe end.\n"


async def until(chat: Chat, condition) -> None:
    """Wait until something is true of the conversation, which must come by itself."""
    with anyio.fail_after(20):
        while not condition():
            await chat.conversation.changed.wait()


async def is_over(chat: Chat, message_id: str) -> None:
    await until(chat, lambda: state_of(chat, message_id) != "writing")


def state_of(chat: Chat, message_id: str) -> str | None:
    entry = chat.conversation.find(message_id)
    return None if entry is None else entry.state


def problem_of(chat: Chat, message_id: str) -> Trouble:
    entry = chat.conversation.find(message_id)
    assert entry is not None
    assert entry.problem is not None
    return entry.problem


async def streamed(chat: Chat, message_id: str, text: str) -> None:
    """Wait until a reply has come as far as this text."""
    with anyio.fail_after(20):
        async for _ in chat.limner.watch(message_id, text=True):
            if text in await chat.limner.text(message_id):
                return


async def test_a_line_is_answered_and_the_answer_is_illustrated(tmp_path):
    writer = ScriptedWriter(TALE)
    async with opened(tmp_path, writer) as chat:
        reply = await chat.say("  a sea  ")
        await is_over(chat, reply.id)
        await chat.limner.finished(reply.id)
        assert [(entry.state, entry.text) for entry in chat.conversation.entries] == [
            ("said", "a sea"),
            ("written", ""),
        ]
        assert len(find_images(await chat.limner.text(reply.id))) == 1
    assert [[turn.text for turn in turns] for turns in writer.turns] == [["a sea"]]
    assert writer.closed == 1


async def test_the_next_line_is_answered_with_all_that_was_said(tmp_path):
    writer = ScriptedWriter(["First."], ["Second."])
    async with opened(tmp_path, writer) as chat:
        await is_over(chat, (await chat.say("one")).id)
        await is_over(chat, (await chat.say("two")).id)
    assert [(turn.role, turn.text) for turn in writer.turns[1]] == [
        ("user", "one"),
        ("assistant", "First."),
        ("user", "two"),
    ]


@pytest.mark.parametrize("line", ["", " \n\t ", "\u202e\x00", "x" * (LONGEST_LINE + 1)])
async def test_a_line_that_cannot_be_read_is_refused_and_not_kept(tmp_path, line):
    async with opened(tmp_path, ScriptedWriter()) as chat:
        with pytest.raises(InvalidSetting):
            await chat.say(line)
        assert chat.conversation.entries == []


async def test_while_a_reply_is_written_no_other_is_begun(tmp_path):
    writer = ScriptedWriter(["Once.", anyio.Event()])
    async with opened(tmp_path, writer) as chat:
        reply = await chat.say("one")
        with pytest.raises(Busy):
            await chat.say("two")
        with pytest.raises(Busy):
            await chat.again(reply.id)
        assert [entry.text for entry in chat.conversation.entries if entry.state == "said"] == ["one"]


async def test_of_two_lines_that_come_at_once_one_is_answered(tmp_path):
    async with opened(tmp_path, ScriptedWriter(["Once.", anyio.Event()])) as chat:
        refused: list[str] = []

        async def say(line: str) -> None:
            try:
                await chat.say(line)
            except Busy:
                refused.append(line)

        async with anyio.create_task_group() as tasks:
            for line in ("one", "two"):
                tasks.start_soon(say, line)
        assert [entry.state for entry in chat.conversation.entries] == ["said", "writing"]
        assert len(refused) == 1


async def test_stopping_ends_the_text_and_its_images_and_keeps_what_had_come(tmp_path):
    painter = FakePainter(hold=True)
    writer = ScriptedWriter([*TALE[:2], anyio.Event(), *TALE[2:]])
    async with opened(tmp_path, writer, painter=painter) as chat:
        reply = await chat.say("a sea")
        await streamed(chat, reply.id, "a sea")
        await chat.stop(reply.id)
        await is_over(chat, reply.id)
        result = await chat.limner.finished(reply.id)
        assert (state_of(chat, reply.id), result.state) == ("stopped", "cancelled")
        with anyio.fail_after(20):  # its stream saves it, in its own time
            while await chat.limner.store.read(reply.id) is None:
                await anyio.lowlevel.checkpoint()
        assert await chat.limner.text(reply.id) == "".join(TALE[:2])
    assert writer.closed == 1


async def test_stopping_a_complete_text_ends_the_images_alone(tmp_path):
    painter = FakePainter(hold=True)
    async with opened(tmp_path, ScriptedWriter(TALE), painter=painter) as chat:
        reply = await chat.say("a sea")
        await is_over(chat, reply.id)
        await chat.stop(reply.id)
        assert (await chat.limner.finished(reply.id)).state == "cancelled"
        assert state_of(chat, reply.id) == "written"


async def test_an_upstream_that_breaks_off_leaves_its_text_and_its_words(tmp_path):
    error = Unavailable("cannot reach the model")
    async with opened(tmp_path, ScriptedWriter([*TALE[:2], error], ["Again."])) as chat:
        reply = await chat.say("a sea")
        await is_over(chat, reply.id)
        problem = problem_of(chat, reply.id)
        assert (state_of(chat, reply.id), problem.message) == ("broken", "cannot reach the model")
        assert problem.hint
        await chat.limner.finished(reply.id)
        assert (await chat.limner.text(reply.id)).startswith("".join(TALE[:2]))
        again = await chat.again(reply.id)
        await is_over(chat, again.id)
        assert [entry.state for entry in chat.conversation.entries] == ["said", "written"]
        assert await chat.limner.text(again.id) == "Again."
        with pytest.raises(UnknownMessage):
            await chat.limner.text(reply.id)


async def test_a_reply_without_a_word_is_broken(tmp_path):
    async with opened(tmp_path, ScriptedWriter(["\n", " "])) as chat:
        reply = await chat.say("a sea")
        await is_over(chat, reply.id)
        assert problem_of(chat, reply.id).kind == "no_reply"


async def test_a_model_that_never_stops_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(chat_module, "LONGEST_REPLY", 10)
    async with opened(tmp_path, ScriptedWriter(["12345"] * 3 + [anyio.Event()])) as chat:
        reply = await chat.say("count")
        await is_over(chat, reply.id)
        assert problem_of(chat, reply.id).kind == "answer_too_large"


async def test_only_a_last_reply_that_was_cut_short_is_written_again(tmp_path):
    async with opened(tmp_path, ScriptedWriter(["One."])) as chat:
        reply = await chat.say("one")
        await is_over(chat, reply.id)
        with pytest.raises(InvalidSetting):
            await chat.again(reply.id)
        for unknown in ("nothing", chat.conversation.entries[0].id):
            with pytest.raises(UnknownMessage):
                await chat.again(unknown)
            with pytest.raises(UnknownMessage):
                await chat.stop(unknown)


async def test_clearing_forgets_the_texts_also_of_what_is_being_written(tmp_path):
    writer = ScriptedWriter(["One."], ["Two", anyio.Event()])
    async with opened(tmp_path, writer) as chat:
        first = await chat.say("one")
        await is_over(chat, first.id)
        second = await chat.say("two")
        await streamed(chat, second.id, "Two")
        await chat.clear()
        assert chat.conversation.entries == []
        with anyio.fail_after(20):
            while writer.closed < 2:
                await anyio.lowlevel.checkpoint()
        for reply in (first, second):
            assert await chat.limner.store.read(reply.id) is None
            with pytest.raises(MessageGone):
                await chat.limner.store.write(reply.id, "late", expected=None)


async def test_the_end_of_the_process_in_the_middle_leaves_text_and_images_to_the_next_one(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(chat_module, "SAVE_EVERY_MS", 1)
    images = FakeImageStore()
    painter = FakePainter(hold=True)
    async with opened(
        tmp_path, ScriptedWriter([*TALE[:2], anyio.Event()]), painter=painter, images=images
    ) as chat:
        reply = await chat.say("a sea")
        with anyio.fail_after(20):
            while (stored := await chat.limner.store.read(reply.id)) is None or "sea" not in stored.text:
                await anyio.lowlevel.checkpoint()
    async with opened(tmp_path, ScriptedWriter(), images=images) as chat:
        assert [(entry.state, entry.text) for entry in chat.conversation.entries] == [
            ("said", "a sea"),
            ("interrupted", ""),
        ]
        await chat.limner.finished(reply.id)
        text = await chat.limner.text(reply.id)
        assert text.startswith("".join(TALE[:2]))
        assert len(find_images(text)) == 1
