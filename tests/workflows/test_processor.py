"""Having images made: under the limit, whatever the painter does, and without losing one that exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.errors import (
    AnswerTooLarge,
    AuthFailed,
    BackendError,
    BadRequest,
    Moderated,
    NoBalance,
    StorageError,
    Unavailable,
)
from limner.states import GenerationSucceeded
from limner.workflows.host import STORE_TIME_LIMIT_MS
from limner.workflows.ports import (
    Capabilities,
    GenerationRequest,
    ImageInfo,
    ProgressCallback,
)
from limner.workflows.progress_events import PromptProgress, Thumbnail
from limner.workflows.services import LAST_WORDS_MS
from tests.journeys.seeded import run_seeded, virtual_milliseconds
from tests.studio import FakeInspector, ScriptedStore, Studio, split, tag
from tests.support import FakeImageStore, FakePainter, ScriptedJournal, png, settle

pytestmark = pytest.mark.anyio

PAIR = tag("a cat") + tag("a dog")


# --- what a painter is asked


async def test_a_request_names_its_message_prompt_attempt_and_seed():
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [Unavailable("down"), png()]
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await studio.tick(2_000)
        first, second = studio.painter.requests
        assert (first.message_id, first.prompt, first.attempt) == ("m", "a cat", 1)
        assert (second.prompt_id, second.seed, second.attempt) == (first.prompt_id, first.seed, 2)
        assert 0 <= first.seed < 2**32


async def test_a_prompt_reaches_the_painter_as_it_was_meant_and_not_as_it_was_escaped():
    async with Studio() as studio:
        await studio.illustrate("m", tag(r"a sign that says \"open\" --> & <here>"))
        assert studio.painter.prompts == ['a sign that says "open" --> & <here>']


# --- what a painter may answer


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (None, "no_image"),
        (b"", "no_image"),
        ("a text", "no_image"),
        ({"images": []}, "no_image"),
        (42, "no_image"),
        (False, "no_image"),
        (b'{"error": "out of memory"}', "not_an_image"),
        (b"<html>", "not_an_image"),
        (b"\x00" * 1_000_000, "not_an_image"),
    ],
)
async def test_what_is_no_image_fails_alone_and_is_named(answer: object, kind: str):
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [answer]  # type: ignore[list-item]
        with capture_logs() as logs:
            result = await studio.illustrate("m", PAIR)
        assert [(f.prompt, f.problem.kind) for f in result.failed] == [("a cat", kind)]
        assert len(result.placed) == 1
        assert len(studio.store.image_writes("m")) == 1
        assert [entry["kind"] for entry in logs if entry["event"] == "generation_failed"] == [kind]


@pytest.mark.parametrize("made", [bytearray, memoryview])
async def test_bytes_of_any_kind_are_an_answer(made: Callable[[bytes], bytes]):
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [made(png())]
        assert len((await studio.illustrate("m", tag("a cat"))).placed) == 1


async def test_an_answer_larger_than_the_inspector_allows_fails_alone():
    class Strict(FakeInspector):
        async def inspect(self, data: bytes) -> ImageInfo:
            if len(data) > 1_000_000:
                raise AnswerTooLarge("too large")
            return await super().inspect(data)

    async with Studio(inspector=Strict()) as studio:
        studio.painter.answers["a cat"] = [png() + b"\x00" * 1_000_000]
        result = await studio.illustrate("m", PAIR)
        assert [f.problem.kind for f in result.failed] == ["answer_too_large"]
        assert len(result.placed) == 1


@pytest.mark.parametrize("error", [NoBalance, Moderated, BadRequest, AuthFailed])
async def test_a_refusal_that_will_be_repeated_is_not_asked_for_again(error: type[BackendError]):
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [error("no")]
        result = await studio.illustrate("m", PAIR)
        assert [f.problem.kind for f in result.failed] == [error.kind]
        assert studio.painter.prompts.count("a cat") == 1
        assert len(result.placed) == 1


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError(), KeyError("x"), OSError("reset"), ExceptionGroup("g", [OSError(), OSError()])],
)
async def test_a_painter_that_raises_anything_is_tried_again_and_then_fails_alone(error: Exception):
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [error]
        async for _ in studio.limner.illustrate("m", [PAIR]):
            pass
        await studio.tick(2_000)
        await studio.tick(4_000)
        result = await studio.limner.finished("m")
        [failed] = result.failed
        assert failed.problem.kind == "backend_error"
        assert type(error).__name__ in failed.problem.message
        assert studio.painter.prompts.count("a cat") == 3
        assert len(result.placed) == 1


async def test_an_image_that_came_at_the_second_attempt_shows_no_old_problem():
    async with Studio() as studio:
        studio.painter.answers["a cat"] = [Unavailable("down"), png()]
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await studio.tick(2_000)
        result = await studio.limner.finished("m")
        assert (len(result.placed), result.failed) == (1, ())


async def test_the_last_attempt_is_the_last():
    async with Studio(max_attempts=2) as studio:
        studio.painter.answers["a cat"] = [Unavailable("down")]
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await studio.tick(2_000)
        result = await studio.limner.finished("m")
        assert [f.problem.kind for f in result.failed] == ["unavailable"]
        assert len(studio.painter.requests) == 2


async def test_a_retry_without_any_pause_keeps_the_books_of_the_limit():
    async with Studio(backoff_ms=0, max_concurrent=1, max_per_message=1) as studio:
        studio.painter.answers["a cat"] = [Unavailable("down"), Unavailable("down"), png()]
        async for _ in studio.limner.illustrate("m", [PAIR]):
            pass
        for _ in range(5):
            await studio.tick(1)
        assert len((await studio.limner.finished("m")).placed) == 2
        assert studio.painter.most_at_once == 1
        assert (studio.limner.manager.processor.running, studio.limner.manager.processor.waiting) == (0, 0)


# --- storing what was painted


async def test_an_image_that_could_not_be_stored_is_stored_later_and_not_painted_again():
    async with Studio() as studio:
        studio.images.failures = {1: StorageError("disk full"), 2: OSError("still full")}
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await studio.tick(2_000)
        await studio.tick(4_000)
        assert len((await studio.limner.finished("m")).placed) == 1
        assert len(studio.painter.requests) == 1
        assert studio.images.calls == 3


async def test_an_image_that_can_never_be_stored_fails_alone_and_says_why():
    async with Studio() as studio:
        studio.images.failures = dict.fromkeys(range(1, 4), StorageError("disk full"))
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await studio.tick(2_000)
        await studio.tick(4_000)
        [failed] = (await studio.limner.finished("m")).failed
        assert failed.problem.kind == "image_not_stored"
        assert "disk full" in failed.problem.message
        assert len(studio.painter.requests) == 1


async def test_an_image_store_that_raises_anything_at_all_fails_that_image_alone():
    async with Studio() as studio:
        studio.images.failures = dict.fromkeys(range(1, 4), KeyError("bucket"))
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await studio.tick(2_000)
        await studio.tick(4_000)
        [failed] = (await studio.limner.finished("m")).failed
        assert failed.problem.kind == "image_not_stored"
        assert len(studio.painter.requests) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_image_store_that_hangs_is_given_up_and_asked_again(backend: str):
    class Hanging(FakeImageStore):
        async def put(self, data: bytes, media_type: str) -> str:
            if not self.calls:
                self.calls = 1
                await anyio.sleep_forever()
            return await super().put(data, media_type)

    async def scenario(seed: int) -> tuple[int, int, int]:
        images = Hanging()
        async with Studio(images=images, clock=virtual_milliseconds) as studio:
            start = virtual_milliseconds()
            result = await studio.illustrate("m", tag("a cat"))
            return len(result.placed), len(studio.painter.requests), virtual_milliseconds() - start

    placed, painted, took = run_seeded(backend, 1, scenario)
    assert (placed, painted) == (1, 1)
    assert STORE_TIME_LIMIT_MS < took < STORE_TIME_LIMIT_MS + 2_000


# --- the limit


async def test_never_more_at_once_than_the_limit_and_never_more_of_one_message():
    async with Studio(hold=True, max_concurrent=4, max_per_message=3) as studio:
        for message_id in ("m", "n"):
            async for _ in studio.limner.illustrate(message_id, ["".join(map(tag, "abcdef"))]):
                pass
        await settle()
        running = Counter(request.message_id for request in studio.painter.requests)
        assert running == {"m": 3, "n": 1}
        studio.painter.release_all()
        for message_id in ("m", "n"):
            assert len((await studio.limner.finished(message_id)).placed) == 6
        assert studio.painter.most_at_once == 4


async def test_a_message_with_fifty_prompts_does_not_starve_another():
    async with Studio(hold=True, max_concurrent=2, max_per_message=2) as studio:
        many = [f"many {number}" for number in range(50)]
        async for _ in studio.limner.illustrate("long", ["".join(map(tag, many))]):
            pass
        async for _ in studio.limner.illustrate("short", [tag("single")]):
            pass
        await settle()
        first, second = studio.painter.running
        studio.painter.release(first)
        await settle()
        studio.painter.release(second)
        await settle()
        assert "single" in studio.painter.prompts[:4]


async def test_a_thousand_prompts_are_all_painted_once_and_written_once():
    prompts = [f"picture {number}" for number in range(1_000)]
    async with Studio(max_concurrent=50, max_per_message=50) as studio:
        text = " ".join(map(tag, prompts))
        result = await studio.illustrate("m", text, size=4_000)
        assert sorted(studio.painter.prompts) == sorted(prompts)
        assert len(result.placed) == 1_000
        assert len(studio.store.image_writes("m")) == 1
        assert studio.painter.most_at_once <= 50


async def test_the_books_are_empty_when_all_is_done():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", ["".join(map(tag, "abcdef"))]):
            pass
        await settle()
        processor = studio.limner.manager.processor
        assert (processor.running, processor.waiting) == (3, 3)
        await studio.limner.cancel("m")
        await settle()
        assert (processor.running, processor.waiting) == (0, 0)
        assert processor.next_deadline() is None


# --- progress and previews


async def test_a_painters_progress_is_shown_and_never_goes_back():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await settle()
        report = studio.painter.reports["a cat"]
        fractions = []
        for told in (0.25, 0.75, 0.5, 7.0):
            report(told)
            fractions.append((await shown(studio)).fraction)
        assert fractions == [0.25, 0.75, 0.75, 1.0]


async def test_a_preview_is_shown_as_a_thumbnail_and_the_finished_image_takes_its_place():
    async with Studio(hold=True) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat"), "text"], seal=False):
            pass
        await settle()
        studio.painter.reports["a cat"](preview=b"\x89PNG half done")
        await settle()
        assert (await shown(studio)).thumbnail == Thumbnail(b"small \x89PNG half done", "image/png")
        studio.painter.release("a cat")
        await settle()
        thumbnail = (await shown(studio)).thumbnail
        assert thumbnail is not None
        assert thumbnail.final


async def test_of_many_previews_only_the_newest_is_worth_the_work():
    class Counting(FakeInspector):
        def __init__(self) -> None:
            self.seen: list[bytes] = []

        async def thumbnail(self, data: bytes) -> tuple[bytes, str] | None:
            self.seen.append(data)
            return await super().thumbnail(data)

    inspector = Counting()
    async with Studio(hold=True, inspector=inspector) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")], seal=False):
            pass
        await settle()
        for number in range(100):
            studio.painter.reports["a cat"](preview=b"%d" % number)
        await settle()
        assert inspector.seen == [b"99"]


async def test_a_preview_that_cannot_be_shown_does_not_harm_its_image():
    class Broken(FakeInspector):
        async def thumbnail(self, data: bytes) -> tuple[bytes, str] | None:
            raise ValueError("no thumbnail today")

    async with Studio(hold=True, inspector=Broken()) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await settle()
        studio.painter.reports["a cat"](preview=b"\x89PNG half done")
        await settle()
        studio.painter.release_all()
        assert len((await studio.limner.finished("m")).placed) == 1


async def test_a_preview_that_is_ready_after_its_image_does_not_take_its_place():
    class Slow(FakeInspector):
        def __init__(self) -> None:
            self.gate = anyio.Event()

        async def thumbnail(self, data: bytes) -> tuple[bytes, str] | None:
            with anyio.CancelScope(shield=True):  # as a worker thread is
                await self.gate.wait()
            return data, "image/png"

    inspector = Slow()
    async with Studio(hold=True, inspector=inspector) as studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")], seal=False):
            pass
        await settle()
        studio.painter.reports["a cat"](preview=b"\x89PNG half done")
        await settle()
        studio.painter.release_all()
        await settle()
        inspector.gate.set()
        await settle()
        thumbnail = (await shown(studio)).thumbnail
        assert thumbnail is not None
        assert thumbnail.final


async def shown(studio: Studio) -> PromptProgress:
    """What a person who looks now sees of the only prompt."""
    events = studio.limner.events("m")
    await anext(events)
    progress = await anext(events)
    assert isinstance(progress, PromptProgress)
    return progress


# --- being closed


async def test_closing_cancels_the_painters_calls_and_starts_no_other():
    studio = Studio(hold=True, max_concurrent=1)
    async with studio:
        async for _ in studio.limner.illustrate("m", [PAIR]):
            pass
        await settle()
        assert studio.painter.running == ["a cat"]
    assert studio.painter.cancelled == ["a cat"]
    assert studio.painter.prompts == ["a cat"]


async def test_closing_while_an_image_is_stored_lets_it_be_stored_and_recorded_for_the_next_process():
    class Slow(FakeImageStore):
        def __init__(self) -> None:
            super().__init__()
            self.gate = anyio.Event()

        async def put(self, data: bytes, media_type: str) -> str:
            await self.gate.wait()
            return await super().put(data, media_type)

    images, store, journal = Slow(), ScriptedStore(), MemoryJournal()
    studio = Studio(images=images, store=store, journal=journal)
    async with anyio.create_task_group() as tasks, studio:
        async for _ in studio.limner.illustrate("m", [tag("a cat")]):
            pass
        await settle()

        async def later() -> None:
            await settle()
            images.gate.set()

        tasks.start_soon(later)
    assert len(images.images) == 1
    # The write was not begun any more; the next process finds it commanded.
    assert [session.state for session in journal.contents.live] == ["inserting"]
    assert store.image_writes("m") == []
    async with Studio(images=images, store=store, journal=journal) as after:
        assert len((await after.limner.finished("m")).placed) == 1
        assert after.painter.requests == []
    assert len(store.image_writes("m")) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_journal_that_cannot_be_written_does_not_hold_up_the_end(backend: str):
    async def scenario(seed: int) -> int:
        store = ScriptedStore()
        journal = ScriptedJournal(lambda record: isinstance(record.event, GenerationSucceeded))
        async with Limner(
            FakePainter(),
            store=store,
            images=FakeImageStore(),
            inspector=FakeInspector(),
            journal=journal,
            clock=virtual_milliseconds,
            shutdown_timeout_ms=0,
        ) as limner:
            async for _ in limner.illustrate("m", [tag("a cat")]):
                pass
            await anyio.sleep(1)
            start = virtual_milliseconds()
        assert [session.state for session in journal.contents.live] == ["draining"]
        return virtual_milliseconds() - start

    assert run_seeded(backend, 1, scenario) == LAST_WORDS_MS


async def test_a_stopped_processor_wants_no_waking():
    studio = Studio(hold=True, max_concurrent=1, min_interval_ms=100)
    async with studio:
        async for _ in studio.limner.illustrate("m", [PAIR]):
            pass
        await settle()
        studio.limner.set_limits(max_concurrent=2)
        assert studio.limner.manager.processor.next_deadline() is not None
    assert studio.limner.manager.processor.next_deadline() is None


# --- what a painter that reports nothing, or is a bare function, can be


async def test_a_painter_written_as_a_coroutine_function_works():
    async def paint(prompt: str) -> bytes:
        return png(len(prompt))

    studio = Studio(painter=paint)  # type: ignore[arg-type]
    async with studio:
        assert len((await studio.illustrate("m", PAIR)).placed) == 2


async def test_a_painter_that_reports_from_a_finished_call_disturbs_nobody():
    class Chatty(FakePainter):
        async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
            self.report = report
            return await super().generate(request, report)

    painter = Chatty(capabilities=Capabilities(progress=True))
    store = ScriptedStore()
    async with Studio(painter=painter, store=store) as studio:
        async for _ in studio.limner.illustrate("m", split(tag("a cat"))):
            pass
        result = await studio.limner.finished("m")
        painter.report(0.1, b"\x89PNG too late")
        await settle()
        assert await studio.limner.finished("m") == result
