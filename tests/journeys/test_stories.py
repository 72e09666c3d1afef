"""Whole stories through the public face, with a real database and real files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import anyio
import anyio.lowlevel
import pytest

from limner import Limner, PromptProgress, SessionEnded, strip_illustrations
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.message_sqlite import SQLiteMessageStore
from limner.text import find_images
from limner.workflows.ports import GenerationRequest, StoredMessage
from tests.studio import tag
from tests.support import FakePainter, ManualClock, pieces, png

pytestmark = pytest.mark.anyio

STORY = (
    f"The lighthouse stood alone. {tag('a lighthouse at night')}\n\n"
    f'Then a ship came. <!--img-prompt="a ship in a storm"-->\n\nAnd a cat {tag("a cat, asleep")} slept.'
)


class CountingStore(SQLiteMessageStore):
    """Counts the writes that were done."""

    writes = 0

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        version = await super().write(message_id, text, expected=expected)
        self.writes += 1
        return version


class Desk:
    """A Limner on a database and a folder, and a clock that is moved by hand."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = ManualClock()
        self.painter = FakePainter()
        self.store = CountingStore(folder / "messages.sqlite3")
        self.limner = Limner(
            self.painter,
            store=self.store,
            images=FolderImageStore(folder / "images"),
            journal=folder / "journal.sqlite3",
            clock=self.clock,
            **settings,
        )

    def tick(self, milliseconds: int) -> None:
        self.clock.tick(milliseconds)
        self.limner.alarm.ring()

    async def message(self, message_id: str) -> StoredMessage:
        stored = await self.store.read(message_id)
        assert stored is not None
        return stored

    async def images(self, message_id: str) -> list[Path]:
        found = find_images((await self.message(message_id)).text)
        return [Path(unquote(urlparse(image.src).path)) for image in found]


@asynccontextmanager
async def desk(folder: Path, **settings: Any) -> AsyncIterator[Desk]:
    made = Desk(folder, **settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.store.aclose)
        await stack.enter_async_context(made.limner)
        yield made


async def stream(limner: Limner, message_id: str, text: str) -> str:
    return "".join([piece async for piece in limner.illustrate(message_id, pieces(text))])


async def test_a_story_is_streamed_written_once_clicked_twice_and_written_a_second_time(tmp_path: Path):
    async with desk(tmp_path) as here:
        assert await stream(here.limner, "m", STORY) == STORY
        result = await here.limner.finished("m")
        assert (len(result.placed), result.unplaced, result.failed) == (3, (), ())
        assert here.store.writes == 2  # the text, then all images
        before = await here.images("m")
        assert [path.read_bytes() for path in before] == [png(1), png(2), png(3)]

        # Two clicks within two seconds.
        await here.limner.regenerate("m", result.placed[0].image_url)
        here.tick(1_200)
        await here.limner.regenerate("m", result.placed[2].image_url)
        here.tick(2_000)
        second = await here.limner.finished("m")
        assert [image.replaced_url for image in second.placed] == [
            result.placed[0].image_url,
            result.placed[2].image_url,
        ]
        assert here.store.writes == 3
        after = await here.images("m")
        assert after[1] == before[1]
        assert {after[0], after[2]}.isdisjoint(before)
        assert all(path.is_file() for path in (*before, *after))
        assert strip_illustrations((await here.message("m")).text) == STORY


async def test_what_a_watcher_sees_leads_from_the_first_prompt_to_the_end(tmp_path: Path):
    async with desk(tmp_path) as here:
        seen: list[object] = []

        async def watch() -> None:
            seen.extend([event async for event in here.limner.events("m")])

        async with anyio.create_task_group() as tasks:
            await here.limner.observe("m", STORY[:10])
            tasks.start_soon(watch)
            await here.limner.observe("m", STORY)
            await here.limner.seal("m")
        end = seen[-1]
        assert isinstance(end, SessionEnded)
        thumbnails = {
            event.prompt_id
            for event in seen
            if isinstance(event, PromptProgress) and event.thumbnail and event.thumbnail.final
        }
        assert thumbnails == {image.prompt_id for image in end.result.placed}


async def test_messages_share_one_limit_and_each_is_finished(tmp_path: Path):
    async def paint(request: GenerationRequest) -> bytes:
        for _ in range(10):  # long enough for another one to begin
            await anyio.lowlevel.checkpoint()
        return png(request.seed)

    async with desk(tmp_path, max_concurrent=2, max_per_message=2) as here:
        for prompt in ("a lighthouse at night", "a ship in a storm", "a cat, asleep"):
            here.painter.answers[prompt] = [paint]
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(stream, here.limner, f"m{number}", STORY)
        for number in range(8):
            assert len((await here.limner.finished(f"m{number}")).placed) == 3
        assert here.painter.most_at_once == 2
        assert len(here.painter.requests) == 24
        assert here.store.writes == 16


async def test_two_hundred_messages_at_once_are_all_illustrated(tmp_path: Path):
    async with desk(tmp_path, max_concurrent=16) as here:
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(stream, here.limner, f"m{number}", STORY)
        for number in range(200):
            result = await here.limner.finished(f"m{number}")
            assert [image.image_url for image in result.placed] == [
                image.src for image in find_images((await here.message(f"m{number}")).text)
            ]
            assert len(result.placed) == 3
        assert here.store.writes == 400
        assert here.limner.sessions() == ()


async def test_a_person_edits_while_images_are_made_and_both_survive(tmp_path: Path):
    async with desk(tmp_path) as here:
        here.painter.hold()
        await stream(here.limner, "m", STORY)
        stored = await here.message("m")
        edited = "A preface.\n\n" + stored.text.replace("stood alone", "stood by the sea")
        await here.store.write("m", edited, expected=stored.version)
        here.painter.release_all()
        assert len((await here.limner.finished("m")).placed) == 3
        assert strip_illustrations((await here.message("m")).text) == edited


async def test_a_reply_is_streamed_again_over_the_old_one(tmp_path: Path):
    async with desk(tmp_path) as here:
        await stream(here.limner, "m", STORY)
        await here.limner.finished("m")
        again = f"Another reply, with {tag('an owl')}."
        await stream(here.limner, "m", again)
        assert len((await here.limner.finished("m")).placed) == 1
        assert strip_illustrations((await here.message("m")).text) == again
        assert len(await here.images("m")) == 1


async def test_a_failure_leaves_its_tag_and_a_click_elsewhere_still_works(tmp_path: Path):
    async with desk(tmp_path) as here:
        here.painter.answers["a ship in a storm"] = [b"<html>not today</html>"]
        await stream(here.limner, "m", STORY)
        result = await here.limner.finished("m")
        assert [(f.prompt, f.problem.kind) for f in result.failed] == [("a ship in a storm", "not_an_image")]
        assert len(result.placed) == 2
        assert '<!--img-prompt="a ship in a storm"-->\n\nAnd' in (await here.message("m")).text
        await here.limner.regenerate("m", result.placed[0].image_url)
        here.tick(2_000)
        assert len((await here.limner.finished("m")).placed) == 1


async def test_what_was_stored_by_one_process_can_be_regenerated_by_the_next(tmp_path: Path):
    async with desk(tmp_path) as first:
        await stream(first.limner, "m", STORY)
        old = (await first.limner.finished("m")).placed[1].image_url
    async with desk(tmp_path) as second:
        # Nothing is remembered; the prompt is read off the message.
        await second.limner.regenerate("m", old)
        second.tick(2_000)
        [placed] = (await second.limner.finished("m")).placed
        assert placed.replaced_url == old
        assert second.painter.prompts == ["a ship in a storm"]
        assert len(await second.images("m")) == 3


async def test_broken_unicode_survives_the_database(tmp_path: Path):
    text = "broken \ud83d and NUL \x00 " + tag("a \udc00 cat")
    async with desk(tmp_path) as here:
        await stream(here.limner, "m\ud83d", text)
        assert len((await here.limner.finished("m\ud83d")).placed) == 1
        assert strip_illustrations((await here.message("m\ud83d")).text) == text
