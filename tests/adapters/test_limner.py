"""The class that a host embeds: what it is made from, what it refuses, how it begins and ends."""

from __future__ import annotations

import re
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

import limner
from limner.adapters.callable import CallableGenerator
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.adapters.sketch import SketchGenerator
from limner.errors import (
    AlreadyRunning,
    InvalidPattern,
    InvalidSetting,
    JournalInUse,
    LimnerError,
    NotRunning,
)
from limner.states.limiter import Limits
from limner.states.outcome import Result
from limner.text import MARKDOWN
from limner.workflows.recovery import RecoveryReport
from tests.studio import FakeInspector, ScriptedStore, Studio, tag
from tests.support import FakeImageStore, FakePainter, ScriptedJournal, png, settle

pytestmark = pytest.mark.anyio


def made(**settings: Any) -> Limner:
    """A Limner that touches no disk."""
    return Limner(
        **{
            "generator": FakePainter(),
            "store": ScriptedStore(),
            "journal": MemoryJournal(),
            "images": FakeImageStore(),
            "inspector": FakeInspector(),
            **settings,
        }
    )


# --- what it is made from


def test_the_public_face_has_what_it_names():
    for name in limner.__all__:
        assert getattr(limner, name) is not None
    assert limner.Limner is Limner


def test_without_any_argument_it_sketches_into_a_folder_and_touches_no_disk_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    made = Limner()
    assert isinstance(made.generator, SketchGenerator)
    assert isinstance(made.store, SQLiteMessageStore)
    assert list(tmp_path.iterdir()) == []


def test_a_coroutine_function_is_a_painter():
    async def paint(prompt: str) -> bytes:
        return png()

    assert isinstance(made(generator=paint).generator, CallableGenerator)


def test_a_generator_is_taken_as_it_is():
    painter = FakePainter()
    assert made(generator=painter).generator is painter


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": 42}, "generator must be"),
        ({"generator": "no such painter"}, "no such painter"),
        ({"profile": "pdf"}, "profile must be"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_per_message": -1}, "max_per_message"),
        ({"min_interval_ms": -1}, "min_interval_ms"),
        ({"debounce_ms": 2.5}, "debounce_ms"),
        ({"debounce_ms": True}, "debounce_ms"),
        ({"drain_timeout_ms": 0}, "drain_timeout_ms"),
        ({"image_timeout_ms": 0}, "image_timeout_ms"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"backoff_ms": -5}, "backoff_ms"),
        ({"on_drain_timeout": "hope"}, "on_drain_timeout"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(settings: dict[str, Any], message: str):
    with pytest.raises(InvalidSetting, match=message):
        made(**settings)


def test_a_bad_pattern_is_refused_at_once_with_its_position():
    with pytest.raises(InvalidPattern) as caught:
        made(patterns=["<pic (.*>"])
    assert caught.value.position is not None


def test_a_profile_can_be_named_or_given():
    assert made(profile="markdown").manager.profile is MARKDOWN
    assert made(profile=MARKDOWN).manager.profile is MARKDOWN


async def test_other_patterns_find_other_prompts():
    async with Studio(patterns=["PICTURE\\((.+?)\\)"]) as studio:
        await studio.illustrate("m", f"PICTURE(a cat) and {tag('a dog')}")
        assert studio.painter.prompts == ["a cat"]


async def test_the_markdown_profile_writes_markdown():
    async with Studio(profile="markdown") as studio:
        [placed] = (await studio.illustrate("m", tag("a cat"))).placed
        assert f"![a cat]({placed.image_url})" in await studio.text("m")


# --- limits


async def test_the_limits_in_force_are_returned_and_only_what_is_given_changes():
    async with Studio(max_concurrent=4, max_per_message=3, min_interval_ms=10) as studio:
        assert studio.limner.set_limits() == Limits(4, 3, 10)
        assert studio.limner.set_limits(max_concurrent=1) == Limits(1, 3, 10)
        assert studio.limner.set_limits(min_interval_ms=0) == Limits(1, 3, 0)


async def test_limits_that_cannot_be_meant_are_refused_and_the_old_ones_stay():
    async with Studio() as studio:
        before = studio.limner.set_limits()
        with pytest.raises(InvalidSetting):
            studio.limner.set_limits(max_concurrent=0)
        assert studio.limner.set_limits() == before


# --- beginning and ending


async def test_entering_twice_is_refused():
    async with Studio() as studio:
        with pytest.raises(AlreadyRunning, match="running already"):
            await studio.limner.__aenter__()


@pytest.mark.parametrize("call", ["illustrate", "observe", "seal", "regenerate", "cancel"])
async def test_outside_of_its_block_every_call_says_so(call: str):
    limner = made(store=ScriptedStore({"m": f'{tag("a cat")}<img src="1.png">'}))

    async def make_the_call() -> None:
        if call == "illustrate":
            async for _ in limner.illustrate("m", ["text"]):
                pass
        elif call == "observe":
            await limner.observe("m", "text")
        elif call == "seal":
            await limner.seal("m", "text")
        elif call == "regenerate":
            await limner.regenerate("m", "1.png")
        else:
            await limner.cancel("m")

    with pytest.raises(NotRunning):
        await make_the_call()
    async with limner:
        pass
    with pytest.raises(NotRunning):
        await make_the_call()


async def test_leaving_the_block_waits_for_sessions_that_were_sealed():
    studio = Studio(shutdown_timeout_ms=30_000)
    async with studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
    assert len(await studio.urls("m")) == 1
    assert (await studio.limner.finished("m")).state == "done"


async def test_leaving_the_block_cancels_sessions_whose_text_still_comes():
    studio = Studio(shutdown_timeout_ms=30_000)
    async with studio:
        await studio.limner.observe("m", tag("a cat"))
    result = await studio.limner.finished("m")
    assert result.state == "cancelled"
    assert result.problem is not None
    assert "closed" in result.problem.message


async def test_leaving_the_block_waits_no_longer_than_it_was_told_and_says_what_it_left():
    studio = Studio(hold=True, shutdown_timeout_ms=0)
    with capture_logs() as logs:
        async with studio:
            async for _ in studio.limner.illustrate("m", [tag("a cat")]):
                pass
            await settle()
    [left] = [entry for entry in logs if entry["event"] == "session_left_unfinished"]
    assert (left["message_id"], left["state"]) == ("m", "draining")
    assert studio.painter.cancelled == ["a cat"]


async def test_an_error_of_the_hosts_comes_out_as_it_is_and_does_not_wait():
    studio = Studio(hold=True, shutdown_timeout_ms=3_600_000)

    async def work() -> None:
        async with studio:
            async for _ in studio.limner.illustrate("m", [tag("a cat")]):
                pass
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert studio.painter.cancelled == studio.painter.prompts


async def test_a_cancelled_host_leaves_at_once_and_its_painters_are_stopped():
    studio = Studio(hold=True, shutdown_timeout_ms=3_600_000)
    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            async with studio:
                async for _ in studio.limner.illustrate("m", [tag("a cat")]):
                    pass
                await anyio.sleep_forever()

        tasks.start_soon(work)
        await settle()
        assert studio.painter.running == ["a cat"]
        tasks.cancel_scope.cancel()
    assert studio.painter.cancelled == ["a cat"]


async def test_a_host_that_is_cancelled_while_it_enters_leaves_nothing_behind():
    limner = made()
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with limner:
            pass
    async with limner:  # it can be entered as if nothing had been
        await limner.observe("m", "text")


async def test_a_fault_in_the_background_ends_the_block_and_is_not_swallowed():
    class Fault(Exception):
        pass

    studio = Studio()

    def broken(step: object) -> None:
        raise Fault

    async def work() -> None:
        async with studio:
            studio.limner.manager.progress.committed = broken  # type: ignore[method-assign]
            await studio.limner.observe("m", tag("a cat"))
            await anyio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await work()
    assert caught.group_contains(Fault)


async def test_a_generator_of_the_hosts_is_left_open_and_one_of_our_own_is_closed(tmp_path: Path):
    painter = FakePainter()
    async with made(generator=painter):
        pass
    assert not painter.closed
    store = SQLiteMessageStore(tmp_path / "messages.sqlite3")
    async with made(store=store):
        await store.write("m", "text", expected=None)
    assert await store.read("m") is not None
    await store.aclose()


async def test_a_store_of_our_own_is_closed_when_the_block_is_left(tmp_path: Path):
    own = Limner(FakePainter(), images=FakeImageStore(), inspector=FakeInspector(), data_dir=tmp_path)
    async with own:
        async for _ in own.illustrate("m", [tag("a cat")]):
            pass
        await own.finished("m")
    with pytest.raises(LimnerError, match="closed"):
        await own.store.read("m")


async def test_a_data_folder_that_is_not_there_yet_is_made(tmp_path: Path):
    own = Limner(
        FakePainter(), inspector=FakeInspector(), data_dir=tmp_path / "not" / "there", profile="markdown"
    )
    async with own:
        async for _ in own.illustrate("m", [tag("a cat")]):
            pass
        assert len((await own.finished("m")).placed) == 1


# --- a journal of its own


async def test_the_journal_is_a_file_in_the_data_folder_unless_another_is_named(tmp_path: Path):
    parts: dict[str, Any] = {
        "generator": FakePainter(),
        "store": ScriptedStore(),
        "images": FakeImageStore(),
        "inspector": FakeInspector(),
        "data_dir": tmp_path / "data",
    }
    async with Limner(**parts):
        pass
    assert (tmp_path / "data" / "journal.sqlite3").is_file()
    for named in (tmp_path / "a.sqlite3", str(tmp_path / "b.sqlite3")):
        async with Limner(**parts, journal=named):
            pass
        assert Path(named).is_file()


async def test_a_second_limner_on_one_journal_is_told_so_by_a_plain_error(tmp_path: Path):
    async with made(journal=tmp_path / "journal.sqlite3"):
        with pytest.raises(JournalInUse, match="in use by process"):
            async with made(journal=tmp_path / "journal.sqlite3"):
                raise AssertionError("it must not get in")
    async with made(journal=tmp_path / "journal.sqlite3") as limner:
        assert limner.recovered == RecoveryReport()


async def test_one_limner_can_be_entered_again_and_finds_its_sessions(tmp_path: Path):
    limner = made(journal=tmp_path / "journal.sqlite3", store=ScriptedStore({"m": tag("a cat")}))
    async with limner:
        await limner.seal("m")
        result = await limner.finished("m")
    async with limner:
        assert limner.recovered.finished == 1
        assert await limner.finished("m") == result


@pytest.mark.parametrize(
    ("setting", "match"),
    [({"durability": "maybe"}, "durability must be"), ({"journal_in_use": "share"}, "in_use must be")],
)
def test_a_journal_setting_that_cannot_be_meant_is_refused_at_once(setting: dict[str, Any], match: str):
    with pytest.raises(InvalidSetting, match=match):
        Limner(FakePainter(), **setting)


# --- looking around


async def test_live_sessions_are_listed_oldest_first_and_only_while_they_live():
    async with Studio(hold=True) as studio:
        for message_id in ("b", "a"):
            await studio.limner.observe(message_id, "text")
        assert [session.message_id for session in studio.limner.sessions()] == ["b", "a"]
        await studio.limner.cancel("b")
        assert [session.message_id for session in studio.limner.sessions()] == ["a"]
        assert studio.limner.manager.is_active("a")
        assert not studio.limner.manager.is_active("b")
        assert studio.limner.manager.is_active()


@pytest.mark.parametrize("message_id", ["", 5, None, b"m"])
async def test_a_message_id_that_is_no_text_is_refused_at_once(message_id: Any):
    async with made() as limner:
        for call in (limner.finished, limner.cancel, limner.seal):
            with pytest.raises(InvalidSetting, match="message_id must be a str"):
                await call(message_id)
        with pytest.raises(InvalidSetting, match="message_id must be a str"):
            limner.events(message_id)


async def test_what_is_no_address_or_no_text_is_refused_at_once():
    async def never() -> None: ...

    async with made() as limner:
        with pytest.raises(InvalidSetting, match="image_url must be a str"):
            await limner.regenerate("m", None)  # type: ignore[arg-type]
        with pytest.raises(InvalidSetting, match="text must be a str"):
            await limner.observe("m", b"bytes")  # type: ignore[arg-type]
        for tokens, hint in ((None, "NoneType"), (never, "was it called"), (3, "int")):
            with pytest.raises(InvalidSetting, match=hint):
                async for _ in limner.illustrate("m", tokens):  # type: ignore[arg-type]
                    pass
        assert limner.sessions() == ()


class Unfinished:
    async def generate(self, request, report) -> bytes:
        return b""


async def two_arguments(prompt: str, size: int) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"store": "chat.sqlite3"}, r"it has no read\(\)"),
        ({"store": ScriptedStore}, "it is a class"),
        ({"generator": FakePainter}, "it is a class"),
        ({"generator": Unfinished()}, r"it lacks capabilities, a Capabilities\(…\); async def aclose\(\)$"),
        ({"generator": two_arguments}, "two_arguments cannot be called as two_arguments\\(prompt\\)"),
        ({"images": "static"}, r"it has no put\(\)"),
        ({"journal": object()}, r"it has no open\(\)"),
        ({"inspector": {}}, r"it has no inspect\(\)"),
        ({"shutdown_timeout_ms": "soon"}, "shutdown_timeout_ms must be a whole number"),
    ],
)
def test_a_part_that_cannot_be_used_is_refused_when_it_is_given(setting: dict[str, Any], why: str):
    with pytest.raises(InvalidSetting) as caught:
        made(**setting)
    assert re.search(why, str(caught.value))


def test_a_traceback_shows_what_to_do_next():
    error = NotRunning("Limner is not running")
    assert error.__notes__ == [NotRunning.hint]


async def test_a_watcher_may_come_before_the_first_piece_of_text():
    async with Studio() as studio:
        events = studio.limner.events("m", follow=True)
        seen: list[str] = []

        async def watch() -> None:
            async for event in events:
                seen.append(type(event).__name__)
                if seen[-1] == "SessionEnded":
                    return

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await settle()
            await studio.illustrate("m", tag("a cat"))
        assert seen[0] == "SessionProgress"
        assert seen[-1] == "SessionEnded"


async def test_who_asks_while_the_next_session_begins_is_told_of_that_one():
    journal = ScriptedJournal()
    async with Studio(journal=journal) as studio:
        first = await studio.illustrate("m", "no picture")
        journal.gate = anyio.Event()
        results: list[Result] = []
        seen: list[str] = []

        async def wait() -> None:
            results.append(await studio.limner.finished("m"))

        async def watch() -> None:
            seen.extend([event.session_id async for event in studio.limner.events("m")])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(studio.illustrate, "m", "no picture either")
            await settle()
            [begun] = studio.limner.sessions()
            tasks.start_soon(wait)
            tasks.start_soon(watch)
            await settle()
            assert results == []
            journal.gate.set()
        assert [result.session_id for result in results] == [begun.id] != [first.session_id]
        assert set(seen) == {begun.id}


async def test_who_asks_for_a_session_whose_beginning_and_end_are_both_being_committed_gets_its_result():
    journal = ScriptedJournal()
    async with Studio(journal=journal) as studio, anyio.create_task_group() as tasks:
        journal.gate = anyio.Event()
        results: list[Result] = []

        async def wait() -> None:
            results.append(await studio.limner.finished("m"))

        tasks.start_soon(studio.limner.observe, "m", "no picture")
        await settle()
        tasks.start_soon(studio.limner.cancel, "m")
        await settle()
        assert studio.limner.sessions() == ()
        tasks.start_soon(wait)
        await settle()
        journal.gate.set()
        await settle()
        assert [result.state for result in results] == ["cancelled"]


async def test_a_watcher_who_still_waits_for_a_session_is_told_when_limner_is_closed():
    async with Studio() as studio:
        events = studio.limner.events("m", follow=True)
        told: list[type[BaseException]] = []

        async def watch() -> None:
            try:
                await anext(events)
            except NotRunning as error:
                told.append(type(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await settle()
            studio.limner.manager.progress.stop()
        assert told == [NotRunning]


async def test_the_result_names_the_prompt_of_each_image():
    async with Studio() as studio:
        result = await studio.illustrate("m", tag("a cat"))
        assert result.prompts[result.placed[0].prompt_id] == "a cat"
        await studio.limner.regenerate("m", result.placed[0].image_url)
        await studio.tick(2_000)
        result = await studio.limner.finished("m")
        assert result.prompts[result.placed[0].prompt_id] == "a cat"


@pytest.mark.parametrize("tokens", [tag("a cat"), [tag("a cat")]], ids=["whole", "pieces"])
async def test_a_host_that_seals_itself_saves_its_text_first(tokens: Any):
    async with Studio() as studio:
        async for _ in studio.limner.illustrate("m", tokens, seal=False):
            pass
        await settle()
        assert studio.state("m") == "streaming"
        assert await studio.store.read("m") is None
        await studio.store.edit("m", tag("a cat") + " as the host keeps it")
        await studio.limner.seal("m")
        result = await studio.limner.finished("m")
        assert len(result.placed) == 1
        assert (await studio.text("m")).endswith(" as the host keeps it")


async def test_a_host_that_seals_itself_may_stop_early():
    async with Studio() as studio:
        async with aclosing(studio.limner.illustrate("m", [tag("a cat"), "more"], seal=False)) as text:
            async for _ in text:
                break
        await settle()
        assert studio.state("m") == "streaming"
        await studio.limner.seal("m", tag("a cat"))
        assert len((await studio.limner.finished("m")).placed) == 1
