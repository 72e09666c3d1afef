"""What the sinks share: texts for the eye, files from addresses, thumbnails, a Limner in the background."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from PIL import Image

from limner.adapters.image_folder import FolderImageStore
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.sinks.background import BackgroundLimner
from limner.adapters.sinks.picture_files import local_path, picture_bytes
from limner.adapters.sinks.reading import ReadableStream, readable
from limner.adapters.sinks.thumbnail_store import ThumbnailStore
from limner.errors import InvalidSetting, NotRunning, StorageError
from limner.text import compile_patterns
from tests.studio import split, tag
from tests.support import FakePainter, png

pytestmark = pytest.mark.anyio

PATTERNS = compile_patterns()


# --- texts


def test_a_readable_text_has_neither_tags_nor_their_images_nor_gaps():
    text = f"Once.\n\n{tag('a cat')}![a cat](u.png)\n\nThen ![a logo](l.png).\n"
    assert readable(text, PATTERNS) == "Once.\n\nThen ![a logo](l.png)."


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_shows_everything_but_tags_however_it_is_cut(size):
    stream = ReadableStream(PATTERNS)
    text = f"A\tfamily 👨‍👩‍👧 {tag('a cat')} and <b>bold</b> <img"
    shown = "".join(map(stream.feed, split(text, size))) + stream.finish()
    assert shown == "A\tfamily 👨‍👩‍👧  and <b>bold</b> <img"


def test_an_open_tag_is_held_back():
    stream = ReadableStream(PATTERNS)
    assert stream.feed('Look: <img_prompt="a c') == "Look: "
    assert stream.feed('at">!') == "!"


# --- files


async def test_the_file_of_an_address_is_found_whatever_its_name(tmp_path: Path):
    url = await FolderImageStore(tmp_path / "ä b#").put(png(), "image/png")
    path = local_path(f"{url}#2")
    assert path is not None
    assert path.read_bytes() == png()
    assert await picture_bytes(url) == (png(), ".png")


@pytest.mark.parametrize("url", ["https://a.test/1.png", "/images/1.png", "file://elsewhere/1.png"])
async def test_other_addresses_have_no_file(url):
    assert local_path(url) is None
    assert await picture_bytes(url) is None


@pytest.mark.parametrize("url", ["data:image/png;base64,AAEC", "DATA:image/png,%00%01%02"])
async def test_bytes_in_an_address_are_read(url):
    assert await picture_bytes(url) == (b"\x00\x01\x02", ".png")


@pytest.mark.parametrize("url", ["data:image/png;base64,%", "data:image/png;base64,", "data:image/png"])
async def test_a_broken_address_is_refused(url):
    with pytest.raises(StorageError, match="data: address"):
        await picture_bytes(url)


async def test_a_file_that_is_gone_is_refused(tmp_path: Path):
    with pytest.raises(StorageError, match="cannot read the image"):
        await picture_bytes((tmp_path / "gone.png").as_uri())


# --- thumbnails


async def test_a_thumbnail_is_an_address_of_a_small_image(tmp_path: Path):
    large = tmp_path / "large.png"
    Image.effect_noise((300, 200), 80).save(large)
    url = await ThumbnailStore(100).put(large.read_bytes(), "image/png")
    found = await picture_bytes(url)
    assert found is not None
    small = tmp_path / "small"
    small.write_bytes(found[0])
    with Image.open(small) as image:
        assert image.size == (100, 67)


async def test_what_is_no_image_has_no_thumbnail():
    with pytest.raises(StorageError, match="no thumbnail"):
        await ThumbnailStore().put(b"nonsense", "image/png")


# --- in the background; for hosts on asyncio


def in_memory() -> Limner:
    return Limner(FakePainter(), store=MemoryMessageStore(), journal=MemoryJournal())


def test_a_limner_starts_once_and_ends_when_it_is_told():
    async def scene() -> None:
        background = BackgroundLimner(in_memory)
        first, second = await asyncio.gather(background.start(), background.start())
        assert first is second
        async for _ in first.illustrate("m", "Hello"):
            pass
        await background.stop()
        await background.stop()
        with pytest.raises(NotRunning):
            await first.seal("m")
        third = await background.start()
        assert third is not first
        await background.stop()

    asyncio.run(scene())


def test_a_limner_that_cannot_start_says_why_and_may_be_started_again():
    made = [lambda: Limner("nobody"), in_memory]

    async def scene() -> None:
        background = BackgroundLimner(lambda: made.pop(0)())
        with pytest.raises(InvalidSetting, match="nobody"):
            await background.start()
        assert isinstance(await background.start(), Limner)
        await background.stop()

    asyncio.run(scene())


def test_who_is_cancelled_while_it_starts_leaves_it_to_the_next_caller():
    made: list[Limner] = []
    begun = asyncio.Event()

    def make() -> Limner:
        begun.set()
        made.append(in_memory())
        return made[-1]

    async def scene() -> None:
        background = BackgroundLimner(make)
        impatient = asyncio.create_task(background.start())
        await begun.wait()
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        assert await background.start() is made[0]
        assert len(made) == 1
        await background.stop()

    asyncio.run(scene())
