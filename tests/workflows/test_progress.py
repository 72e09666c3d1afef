"""What those who wait are told: the newest state, each step they have time for, and the end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from limner.errors import NotRunning, UnknownMessage
from limner.states.outcome import Counts
from limner.workflows.progress import ProgressManager
from limner.workflows.progress_events import ProgressEvent, PromptProgress, SessionEnded, SessionProgress
from tests.studio import Studio, tag
from tests.support import settle

pytestmark = pytest.mark.anyio

PAIR = tag("a cat") + tag("a dog")


async def take(events: AsyncIterator[ProgressEvent], count: int) -> list[ProgressEvent]:
    return [await anext(events) for _ in range(count)]


async def begin(studio: Studio, text: str = PAIR, message_id: str = "m") -> None:
    async for _ in studio.limner.illustrate(message_id, [text]):
        pass
    await settle()


# --- events


async def test_the_first_events_say_where_everything_stands():
    async with Studio(hold=True) as studio:
        await begin(studio)
        session, cat, dog = await take(studio.limner.events("m"), 3)
        assert isinstance(session, SessionProgress)
        assert (session.state, session.counts) == ("draining", Counts(total=2, generating=2))
        assert isinstance(cat, PromptProgress)
        assert (cat.prompt, cat.state, cat.attempt, cat.image_url) == ("a cat", "generating", 1, None)
        assert isinstance(dog, PromptProgress)
        assert dog.prompt == "a dog"


async def test_equal_prompts_are_told_apart_by_their_occurrence():
    async with Studio(hold=True) as studio:
        await begin(studio, tag("a cat") + tag("a dog") + tag("a cat"))
        _, *prompts = await take(studio.limner.events("m"), 4)
        told = [(p.prompt, p.occurrence) for p in prompts if isinstance(p, PromptProgress)]
        assert told == [("a cat", 0), ("a dog", 0), ("a cat", 1)]


async def test_the_last_event_is_the_end_with_the_result():
    async with Studio() as studio:
        result = await studio.illustrate("m", PAIR)
        events = [event async for event in studio.limner.events("m")]
        assert events[-1] == SessionEnded("m", result.session_id, result)
        assert [type(event) for event in events].count(SessionEnded) == 1


async def test_a_thumbnail_is_shown_before_the_text_ends():
    async with Studio() as studio:
        tokens = studio.limner.illustrate("m", [tag("a cat"), "much more text"])
        await anext(tokens)
        await settle()
        session, cat = await take(studio.limner.events("m"), 2)
        assert isinstance(session, SessionProgress)
        assert session.state == "streaming"
        assert isinstance(cat, PromptProgress)
        assert (cat.state, cat.fraction) == ("completed", 1.0)
        assert cat.image_url in studio.images.images
        assert cat.thumbnail is not None
        assert (cat.thumbnail.final, cat.thumbnail.media_type) == (True, "image/png")
        await tokens.aclose()


async def test_who_watches_is_told_each_step_from_the_first_to_the_end():
    async with Studio(hold=True) as studio:
        seen: list[ProgressEvent] = []

        async def watch() -> None:
            seen.extend([event async for event in studio.limner.events("m")])

        async with anyio.create_task_group() as tasks:
            await studio.limner.observe("m", "begin")
            tasks.start_soon(watch)
            await settle()
            await studio.limner.observe("m", "begin" + tag("a cat"))
            await settle()
            studio.painter.reports["a cat"](0.5)
            await settle()
            studio.painter.release("a cat")
            await settle()
            await studio.limner.seal("m")
        states = [event.state for event in seen if isinstance(event, PromptProgress)]
        assert [state for i, state in enumerate(states) if states[i - 1 : i] != [state]] == [
            "queued",
            "generating",
            "completed",
        ]
        assert 0.5 in [event.fraction for event in seen if isinstance(event, PromptProgress)]
        assert isinstance(seen[-1], SessionEnded)


async def test_a_slow_reader_gets_the_newest_state_and_no_heap_of_old_ones():
    async with Studio(hold=True) as studio:
        await begin(studio, tag("a cat"))
        events = studio.limner.events("m")
        await take(events, 1)
        for step in range(1_000):
            studio.painter.reports["a cat"](step / 1_000)
        [update] = await take(events, 1)
        assert isinstance(update, PromptProgress)
        assert update.fraction == 0.999
        studio.painter.release("a cat")
        await studio.limner.finished("m")
        assert [type(event) async for event in events] == [PromptProgress, SessionProgress, SessionEnded]


async def test_what_has_not_changed_is_not_told_again():
    async with Studio(hold=True) as studio:
        await begin(studio)
        events = studio.limner.events("m")
        await take(events, 3)
        studio.painter.release("a cat")
        await settle()
        changes = await take(events, 2)
        assert [e.prompt for e in changes if isinstance(e, PromptProgress)] == ["a cat"]


async def test_a_follower_goes_on_with_the_messages_next_session():
    async with Studio() as studio:
        ends: list[SessionEnded] = []

        async def follow() -> None:
            async for event in studio.limner.events("m", follow=True):
                if isinstance(event, SessionEnded):
                    ends.append(event)
                if len(ends) == 2:
                    return

        async with anyio.create_task_group() as tasks:
            first = await studio.illustrate("m", tag("a cat"))
            tasks.start_soon(follow)
            await settle()
            await studio.limner.regenerate("m", first.placed[0].image_url)
            await studio.tick(2_000)
            second = await studio.limner.finished("m")
        assert [end.result for end in ends] == [first, second]


async def test_a_follower_who_does_not_read_for_many_sessions_gets_the_last_of_them():
    async with Studio() as studio:
        await studio.illustrate("m", tag("picture 0"))
        events = studio.limner.events("m", follow=True)
        assert isinstance((await take(events, 1))[0], SessionProgress)
        for number in range(1, 30):
            last = await studio.illustrate("m", tag(f"picture {number}"))
        pending = await take(events, 1)
        while not isinstance(pending[-1], SessionEnded):
            pending += await take(events, 1)
        assert len(pending) <= 3
        assert pending[-1] == SessionEnded("m", last.session_id, last)
        assert {event.session_id for event in pending} == {last.session_id}


async def test_an_end_that_was_not_read_yet_is_told_before_the_next_session():
    async with Studio() as studio:
        await studio.illustrate("m", tag("a cat"))
        events = studio.limner.events("m", follow=True)
        await take(events, 1)
        stream = await studio.limner.manager.start_streaming_session("m")
        stream.feed(tag("a cat"))
        await settle()
        ended, *others = await take(events, 3)
        assert isinstance(ended, SessionEnded)
        assert {event.session_id for event in others} == {stream.session_id}


async def test_two_watchers_are_told_the_same():
    async with Studio() as studio:
        seen: dict[str, list[ProgressEvent]] = {"one": [], "two": []}

        async def watch(name: str) -> None:
            seen[name] = [event async for event in studio.limner.events("m")]

        async with anyio.create_task_group() as tasks:
            await studio.limner.observe("m", PAIR)
            for name in seen:
                tasks.start_soon(watch, name)
            await settle()
            await studio.limner.seal("m")
        assert seen["one"][-1] == seen["two"][-1]
        assert {type(event) for event in seen["one"]} == {SessionProgress, PromptProgress, SessionEnded}


async def test_a_watcher_who_leaves_is_forgotten():
    async with Studio(hold=True) as studio:
        await begin(studio)
        events = studio.limner.events("m")
        await take(events, 1)
        track = studio.limner.manager.progress._tracks["m"]
        assert len(track.mailboxes) == 1
        del events
        assert len(track.mailboxes) == 0


async def test_a_reader_who_was_interrupted_while_it_waited_goes_on_where_it_was():
    async with Studio(hold=True) as studio:
        await begin(studio, tag("a cat"))
        events = studio.limner.events("m")
        await take(events, 2)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(events)
        studio.painter.release_all()
        assert isinstance([event async for event in events][-1], SessionEnded)


async def test_watching_a_message_that_nobody_knows_is_refused_at_the_first_step():
    async with Studio() as studio:
        events = studio.limner.events("nowhere")
        with pytest.raises(UnknownMessage):
            await anext(events)


async def test_a_failed_attempt_shows_its_problem_and_the_next_one_starts_without_a_picture():
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [OSError("reset")]
        await begin(studio, tag("a cat"))
        _, cat = await take(studio.limner.events("m"), 2)
        assert isinstance(cat, PromptProgress)
        assert (cat.state, cat.fraction, cat.thumbnail) == ("waiting", None, None)
        assert cat.problem is not None
        assert cat.problem.kind == "backend_error"


# --- waiting


async def test_the_result_of_the_last_session_is_there_for_those_who_come_late():
    async with Studio() as studio:
        result = await studio.illustrate("m", PAIR)
        assert await studio.limner.finished("m") == result


async def test_waiting_for_a_message_that_nobody_knows_is_refused():
    async with Studio() as studio:
        with pytest.raises(UnknownMessage):
            await studio.limner.finished("nowhere")


async def test_who_waits_gets_the_session_that_was_live_then_and_not_the_next_one():
    async with Studio() as studio:
        await studio.limner.observe("m", tag("a cat"))
        live = studio.limner.manager.get_session("m")
        assert live is not None
        results = []

        async def wait() -> None:
            results.append(await studio.limner.finished("m"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await settle()
            await studio.limner.seal("m")
            for number in range(6):
                await studio.illustrate("m", tag(f"a dog {number}"))
        assert [result.session_id for result in results] == [live.id]


async def test_a_cancelled_waiter_disturbs_nobody():
    async with Studio(hold=True) as studio:
        await begin(studio)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await studio.limner.finished("m")
        studio.painter.release_all()
        assert len((await studio.limner.finished("m")).placed) == 2


async def test_wait_all_complete_waits_for_settled_and_not_for_completed():
    async with Studio(hold=True) as studio:
        studio.painter.answers["a cat"] = [ValueError("never")]
        await studio.limner.observe("m", PAIR)
        await settle()
        counts = []

        async def wait() -> None:
            counts.append(await studio.limner.manager.progress.wait_all_complete("m"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            studio.painter.release_all()
            await settle()
            assert counts == []  # the cat gets two more attempts
            await studio.tick(2_000)
            await studio.tick(4_000)
        assert counts == [Counts(total=2, completed=1, failed=1)]


async def test_wait_all_complete_returns_at_once_for_a_message_that_nobody_knows():
    async with Studio() as studio:
        assert await studio.limner.manager.progress.wait_all_complete("nowhere") == Counts()


async def test_the_counts_of_a_message_that_nobody_knows_are_zero():
    async with Studio() as studio:
        assert studio.limner.counts("nowhere") == Counts()


async def test_the_counts_follow_the_images():
    async with Studio(hold=True, max_concurrent=1) as studio:
        await begin(studio)
        assert studio.limner.counts("m") == Counts(total=2, queued=1, generating=1)
        studio.painter.release("a cat")
        await settle()
        assert studio.limner.counts("m") == Counts(total=2, generating=1, completed=1)


# --- when Limner is closed before the end


async def test_closing_wakes_whoever_waits_for_a_session_that_will_not_end():
    studio = Studio(hold=True)
    told: list[str] = []

    async def wait(name: str) -> None:
        try:
            if name == "finished":
                await studio.limner.finished("m")
            elif name == "events":
                async for _ in studio.limner.events("m"):
                    pass
            else:
                await studio.limner.manager.progress.wait_all_complete("m")
        except NotRunning:
            told.append(name)

    async with anyio.create_task_group() as tasks, studio:
        await begin(studio)
        for name in ("finished", "events", "all complete"):
            tasks.start_soon(wait, name)
        await settle()
    assert sorted(told) == ["all complete", "events", "finished"]


async def test_what_has_ended_can_still_be_asked_for_after_closing():
    async with Studio() as studio:
        result = await studio.illustrate("m", PAIR)
    assert await studio.limner.finished("m") == result
    assert [event async for event in studio.limner.events("m")][-1] == SessionEnded(
        "m", result.session_id, result
    )


# --- memory


async def test_of_messages_that_are_over_only_so_many_are_remembered():
    async with Studio() as studio:
        studio.limner.manager.progress = progress = ProgressManager(keep_messages=3)
        studio.limner.manager.processor._progress = progress
        for number in range(5):
            await studio.illustrate(f"m{number}", tag("a cat"))
        assert [progress.is_tracking(f"m{number}") for number in range(5)] == [False, False, True, True, True]


async def test_a_live_session_is_never_forgotten():
    async with Studio(hold=True) as studio:
        studio.limner.manager.progress = progress = ProgressManager(keep_messages=1)
        studio.limner.manager.processor._progress = progress
        for number in range(3):
            await begin(studio, tag("a cat"), message_id=f"m{number}")
        assert all(progress.is_tracking(f"m{number}") for number in range(3))
