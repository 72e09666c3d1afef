"""Watching messages by number: who comes back gets what changed since, each thing once and as it is now."""

from __future__ import annotations

import anyio
import pytest

from limner.errors import NotRunning, StorageError
from limner.workflows.progress_events import PromptProgress, SessionEnded, SessionProgress
from limner.workflows.watching import TextProgress, Watch, Watched, number_after
from tests.studio import Studio, tag
from tests.support import settle

pytestmark = pytest.mark.anyio

PAIR = tag("a cat") + tag("a dog")


async def take(watch: Watch, count: int) -> list[Watched]:
    return [await anext(watch) for _ in range(count)]


async def begin(studio: Studio, text: str = PAIR, message_id: str = "m") -> None:
    async for _ in studio.limner.illustrate(message_id, [text]):
        pass
    await settle()


def named(watched: list[Watched]) -> list[str]:
    """What each event is about, in a word or two."""
    words = []
    for _, event in watched:
        match event:
            case PromptProgress(prompt=prompt, state=state):
                words.append(f"{prompt} {state}")
            case SessionProgress(state=state):
                words.append(state)
            case SessionEnded():
                words.append("ended")
            case TextProgress(text=text):
                words.append(repr(text))
    return words


def texts(watched: list[Watched]) -> list[TextProgress]:
    return [event for _, event in watched if isinstance(event, TextProgress)]


def pending(watch: Watch) -> int:
    return len(watch._mailbox.pending)


async def rest(watch: Watch) -> list[Watched]:
    """All that is there without waiting."""
    told: list[Watched] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_on, watch, told)
        await settle()
        tasks.cancel_scope.cancel()
    return told


async def read_on(watch: Watch, told: list[Watched]) -> None:
    async for watched in watch:
        told.append(watched)  # noqa: PERF401 - what was read before a cancellation counts


# --- coming back


async def test_who_comes_for_the_first_time_is_told_everything():
    async with Studio(hold=True) as studio:
        await begin(studio)
        watched = await take(studio.limner.watch("m"), 3)
        assert named(watched) == ["draining", "a cat generating", "a dog generating"]


async def test_who_comes_back_is_told_only_what_has_changed():
    async with Studio(hold=True) as studio:
        await begin(studio)
        last = (await take(studio.limner.watch("m"), 3))[-1]
        studio.painter.release("a dog")
        await settle()
        again = studio.limner.watch("m", after=last.id)
        assert named(await take(again, 2)) == ["a dog completed", "draining"]
        assert pending(again) == 0


async def test_who_lost_the_connection_in_the_middle_of_the_first_state_is_told_it_again():
    async with Studio(hold=True) as studio:
        await begin(studio)
        first = (await take(studio.limner.watch("m"), 1))[0]
        again = studio.limner.watch("m", after=first.id)
        assert named(await take(again, 3)) == ["draining", "a cat generating", "a dog generating"]


async def test_ids_never_go_back_and_nothing_is_lost_wherever_the_connection_breaks():
    async with Studio(hold=True) as studio:
        await begin(studio)
        watch = studio.limner.watch("m")
        seen = await take(watch, 3)
        for step in (0.2, 0.4):
            studio.painter.reports["a cat"](step)
            studio.painter.reports["a dog"](step)
            seen += await take(watch, 2)
        studio.painter.release("a cat")
        seen += await rest(watch)
        studio.painter.release("a dog")
        seen += await rest(watch)
        numbers = [int(watched.id.partition("-")[2]) for watched in seen]
        assert numbers == sorted(numbers)
        newest = {(type(w.event), getattr(w.event, "prompt_id", "")): w.event for w in seen}
        for cut, watched in enumerate(seen):
            told = [*seen[: cut + 1], *await rest(studio.limner.watch("m", after=watched.id))]
            state = {(type(w.event), getattr(w.event, "prompt_id", "")): w.event for w in told}
            assert state == newest


async def test_an_end_that_was_missed_is_told_although_the_next_session_has_begun():
    async with Studio(hold=True) as studio:
        await begin(studio)
        last = (await take(studio.limner.watch("m"), 3))[-1]
        studio.painter.release_all()
        first = await studio.limner.finished("m")
        studio.painter.hold()
        await begin(studio, tag("a fox"))
        again = studio.limner.watch("m", after=last.id)
        told = await take(again, 3)
        assert [event.session_id for _, event in told if isinstance(event, SessionEnded)] == [
            first.session_id
        ]
        assert "a fox generating" in named(told)


async def test_who_comes_for_the_first_time_is_not_told_of_earlier_sessions():
    async with Studio() as studio:
        await begin(studio)
        studio.painter.hold()
        await begin(studio, tag("a fox"))
        watch = studio.limner.watch("m")
        assert named(await take(watch, 2)) == ["draining", "a fox generating"]
        assert pending(watch) == 0


@pytest.mark.parametrize(
    "strange", ["", "-", "x-3", "e", "e-", "e--1", "e-9", "e-1e3", "e-٣", "e-" + "9" * 30]
)
def test_an_id_that_was_not_given_here_counts_as_none(strange: str):
    assert number_after(strange, "e", newest=5) == 0


def test_an_id_of_this_process_counts():
    assert number_after("e-3", "e", newest=5) == 3
    assert number_after(None, "e", newest=5) == 0


# --- several messages


async def test_one_watch_follows_several_messages():
    async with Studio(hold=True) as studio:
        await begin(studio, tag("a cat"), "m")
        watch = studio.limner.watch(["m", "n", "m"])
        assert named(await take(watch, 2)) == ["draining", "a cat generating"]
        await begin(studio, tag("a fox"), "n")
        told = await rest(watch)
        assert {event.message_id for _, event in told} == {"n"}
        assert "a fox generating" in named(told)


async def test_watching_ends_with_limner():
    async with Studio(hold=True) as studio:
        await begin(studio)
        watch = studio.limner.watch("m")
        await take(watch, 3)
    with pytest.raises(NotRunning):
        await read_on(watch, [])


async def test_who_lets_go_is_forgotten():
    async with Studio(hold=True) as studio:
        await begin(studio)
        watch = studio.limner.watch("m")
        await anext(watch)
        track = studio.limner.manager.progress._tracks["m"]
        assert len(track.mailboxes) == 1
        del watch
        assert len(track.mailboxes) == 0


# --- the text


async def test_the_text_comes_piece_by_piece_and_then_as_it_was_written():
    async with Studio() as studio:
        tokens = studio.limner.illustrate("m", ["Once ", tag("a cat"), " slept."])
        watch = studio.limner.watch("m", text=True)
        await anext(tokens)
        assert texts(await rest(watch)) == [TextProgress("m", 0, "Once ", final=False)]
        await anext(tokens)
        assert texts(await rest(watch)) == [TextProgress("m", 5, tag("a cat"), final=False)]
        async for _ in tokens:
            pass
        await studio.limner.finished("m")
        told = await rest(watch)
        assert told[-1].event == TextProgress("m", 0, await studio.text("m"), final=True)
        assert isinstance(told[-2].event, SessionEnded)


async def test_a_text_that_was_rewritten_comes_from_its_beginning():
    async with Studio() as studio:
        await studio.limner.observe("m", "Once upon")
        await settle()
        watch = studio.limner.watch("m", text=True)
        await anext(watch)
        await rest(watch)
        await studio.limner.observe("m", "Once more")
        [told] = await rest(watch)
        assert told.event == TextProgress("m", 0, "Once more", final=False)


async def test_the_text_of_a_message_without_a_session_is_what_is_stored():
    async with Studio() as studio:
        await studio.store.edit("old", "an old text")
        watch = studio.limner.watch(["nobody", "old"], text=True)
        assert (await anext(watch)).event == TextProgress("old", 0, "an old text", final=True)


async def test_who_comes_back_is_not_told_again_what_is_stored_of_messages_without_a_session():
    async with Studio(hold=True) as studio:
        await studio.store.edit("old", "an old text")
        await studio.store.edit("older", "an older text")
        first = await rest(studio.limner.watch(["older", "old"], text=True))
        assert named(first) == ["'an older text'", "'an old text'"]
        # In the middle of it the reader has not all; at its end it has.
        again = studio.limner.watch(["older", "old"], after=first[0].id, text=True)
        assert named(await rest(again)) == named(first)
        assert await rest(studio.limner.watch(["older", "old"], after=first[1].id, text=True)) == []
        # So it is where one of them has a session.
        await begin(studio)
        watched = await rest(studio.limner.watch(["older", "m", "old"], text=True))
        assert named(watched)[:2] == named(first)
        assert [each.id.partition("-")[2] for each in watched[:-1]] == ["0"] * (len(watched) - 1)
        again = studio.limner.watch(["older", "m", "old"], after=watched[-1].id, text=True)
        assert await rest(again) == []


async def test_a_message_that_got_its_first_session_meanwhile_is_told_with_its_text():
    async with Studio() as studio:
        await studio.store.edit("old", "an old text")
        [first] = await rest(studio.limner.watch("old", text=True))
        await studio.illustrate("old", "a new text")
        told = texts(await rest(studio.limner.watch("old", after=first.id, text=True)))
        assert told == [TextProgress("old", 0, "a new text", final=True)]


async def test_a_final_text_is_told_once_where_nothing_was_written_into_it():
    async with Studio(hold=True) as studio:
        watch = studio.limner.watch("m", text=True)
        told = []
        async for _ in studio.limner.illustrate("m", ["a picture: ", tag("a cat")]):
            told += await rest(watch)
        told += await rest(watch)
        assert texts(told)[-1] == TextProgress("m", 0, f"a picture: {tag('a cat')}", final=True)
        await studio.limner.cancel("m")
        assert texts(await rest(watch)) == []


async def test_the_same_text_streamed_anew_is_told_anew():
    async with Studio() as studio:
        watch = studio.limner.watch("m", text=True)
        for _ in range(2):
            told = []
            async for _ in studio.limner.illustrate("m", ["the same"]):
                told += await rest(watch)
            await studio.limner.finished("m")
            told += await rest(watch)
            assert [text for text in texts(told) if text.final] == [
                TextProgress("m", 0, "the same", final=True)
            ]


async def test_who_did_not_ask_for_the_text_gets_none():
    async with Studio() as studio:
        await studio.illustrate("m", PAIR)
        watch = studio.limner.watch("m")
        told = await rest(watch)
        assert not any(isinstance(event, TextProgress) for _, event in told)


async def test_the_text_so_far_can_be_asked_for_at_any_time():
    async with Studio() as studio:
        await studio.limner.observe("m", "Once upon")
        assert await studio.limner.text("m") == "Once upon"
        await studio.limner.seal("m", "Once upon a time")
        assert await studio.limner.text("m") == "Once upon a time"


async def test_a_text_that_cannot_be_read_is_told_of_and_comes_with_the_next_step():
    async with Studio() as studio:
        await studio.illustrate("m", "no prompts")
        watch = studio.limner.watch("m", text=True)
        studio.store.read_errors = [OSError("disk")]
        told: list[Watched] = []
        with pytest.raises(StorageError):
            await read_on(watch, told)
        told += await rest(watch)
        assert texts(told) == [TextProgress("m", 0, "no prompts", final=True)]


async def test_a_reader_who_is_interrupted_while_a_text_is_read_gets_it_with_the_next_step():
    async with Studio() as studio:
        await studio.illustrate("m", "no prompts")
        studio.store.hold_reads()
        watch = studio.limner.watch("m", text=True)
        told = await rest(watch)
        assert texts(told) == []
        studio.store.release()
        assert texts(await rest(watch)) == [TextProgress("m", 0, "no prompts", final=True)]
