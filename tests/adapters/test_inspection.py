"""Is it an image, and what kind?"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from limner.adapters.inspection import PillowInspector
from limner.errors import AnswerTooLarge, InvalidSetting, NoImage, NotAnImage

pytestmark = pytest.mark.anyio


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (640, 320)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("GIF", "image/gif"),
        ("AVIF", "image/avif"),
    ],
)
async def test_every_format_that_a_browser_shows_is_recognised(kind, media_type):
    data = file_of(picture(), kind)
    info = await PillowInspector().inspect(data)
    assert (info.media_type, info.width, info.height) == (media_type, 640, 320)
    assert info.data == data
    thumbnail = opened(info.thumbnail)
    assert thumbnail.size == (256, 128)
    assert f"image/{(thumbnail.format or '').lower()}" == info.thumbnail_media_type


async def test_a_jpeg_with_further_pictures_in_it_as_phones_write_them_is_a_jpeg():
    data = file_of(picture(), "MPO", save_all=True, append_images=[picture(size=(64, 32))])
    assert opened(data).format == "MPO"
    info = await PillowInspector().inspect(data)
    assert (info.media_type, info.width, info.height, info.data) == ("image/jpeg", 640, 320, data)
    alone = await PillowInspector(strip_metadata=True).inspect(data)
    assert (alone.media_type, opened(alone.data).format) == ("image/jpeg", "JPEG")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
async def test_every_kind_of_pixel_gets_a_thumbnail(mode):
    image = Image.new("I;16", (400, 200), 30_000) if mode == "I;16" else picture(mode, (400, 200))
    info = await PillowInspector().inspect(file_of(image, "PNG"))
    thumbnail = opened(info.thumbnail)
    assert thumbnail.size == (256, 128)
    if mode == "I;16":
        assert thumbnail.convert("L").getpixel((9, 9)) == pytest.approx(30_000 / 256, abs=2)


async def test_cmyk_gets_a_thumbnail():
    info = await PillowInspector().inspect(file_of(picture("CMYK"), "JPEG"))
    assert opened(info.thumbnail).size == (256, 128)


async def test_transparency_stays_in_the_thumbnail():
    image = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    info = await PillowInspector().inspect(file_of(image, "PNG"))
    assert opened(info.thumbnail).convert("RGBA").getpixel((5, 5))[3] == 0  # type: ignore[index]


async def test_a_small_image_is_not_enlarged():
    info = await PillowInspector().inspect(file_of(picture(size=(20, 10)), "PNG"))
    assert opened(info.thumbnail).size == (20, 10)


async def test_the_exif_orientation_is_honoured():
    exif = Image.Exif()
    exif[0x0112] = 6
    info = await PillowInspector().inspect(file_of(picture(size=(640, 320)), "JPEG", exif=exif))
    assert (info.width, info.height) == (320, 640)
    assert opened(info.thumbnail).size == (128, 256)


async def test_metadata_do_not_reach_the_thumbnail():
    data = file_of(picture(), "JPEG", comment=b"secret" * 50, icc_profile=b"profile" * 1000)
    info = await PillowInspector().inspect(data)
    assert b"secret" not in info.thumbnail
    assert b"profile" not in info.thumbnail


async def test_the_first_frame_of_an_animation_is_its_thumbnail():
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    info = await PillowInspector().inspect(data)
    red, _, blue = opened(info.thumbnail).convert("RGB").getpixel((20, 15))  # type: ignore[misc]
    assert red > 200 > blue


async def test_no_bytes_are_no_image():
    with pytest.raises(NoImage):
        await PillowInspector().inspect(b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
async def test_an_image_that_is_cut_short_is_none(kind):
    noisy = Image.effect_noise((300, 200), 80).convert("RGB")
    data = file_of(noisy, kind)
    with pytest.raises(NotAnImage, match="damaged or cut short"):
        await PillowInspector().inspect(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"error": "CUDA out of memory"}', 'it is JSON: {"error": "CUDA out of memory"}'),
        (b"<html>sign in</html>", "it is an HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "it is an SVG drawing"),
        (b"no", "it is text: no"),
        (b"\x00\x01", "it is data of an unknown kind"),
    ],
)
async def test_what_is_no_image_is_named(data, words):
    with pytest.raises(NotAnImage, match=words):
        await PillowInspector().inspect(data)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "ICO", "PPM"])
async def test_images_that_browsers_do_not_all_show_are_refused(kind):
    with pytest.raises(NotAnImage):
        await PillowInspector().inspect(file_of(picture(size=(32, 32)), kind))


async def test_too_many_bytes_are_refused():
    with pytest.raises(AnswerTooLarge, match="more than 100"):
        await PillowInspector(max_bytes=100).inspect(b"x" * 101)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few dozen bytes that says it is huge."""

    def part(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", header)
        + part(b"IDAT", zlib.compress(b"\0"))
        + part(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_001, 10_000, 12_000, 60_000])
async def test_a_decompression_bomb_is_refused_before_it_is_decoded(side):
    with pytest.raises(AnswerTooLarge, match="pixels"):
        await PillowInspector().inspect(bomb(side, side))


async def test_an_unfinished_picture_gets_a_thumbnail_or_none():
    inspector = PillowInspector(thumbnail_px=64)
    data, media_type = await inspector.thumbnail(file_of(picture(), "PNG")) or (b"", "")
    assert media_type in ("image/webp", "image/png")
    assert opened(data).size == (64, 32)
    for nothing in (b"", b"text", bomb(60_000, 60_000)):
        assert await inspector.thumbnail(nothing) is None


async def test_where_nobody_sees_unfinished_pictures_they_are_not_looked_at():
    inspector = PillowInspector(previews=False)
    assert await inspector.thumbnail(file_of(picture(), "PNG")) is None
    assert (await inspector.inspect(file_of(picture(), "PNG"))).thumbnail


async def test_no_time_is_spent_on_a_small_png_of_a_photograph(monkeypatch):
    thorough: list[tuple[int, int]] = []
    save = Image.Image.save

    def counted(image: Image.Image, *args: Any, **options: Any) -> None:
        if options.get("optimize"):
            thorough.append(image.size)
        save(image, *args, **options)

    drawing = Image.new("RGB", (256, 256), "white")
    for at in range(0, 256, 16):
        ImageDraw.Draw(drawing).line([(at, 0), (255 - at, 255)], fill="black")
    photo = file_of(Image.effect_mandelbrot((320, 240), (-2, -1.5, 1, 1.5), 100).convert("RGB"), "JPEG")
    drawn = file_of(drawing, "PNG")
    monkeypatch.setattr(Image.Image, "save", counted)
    assert (await PillowInspector().inspect(photo)).thumbnail_media_type == "image/webp"
    assert thorough == []
    assert (await PillowInspector().inspect(drawn)).thumbnail_media_type == "image/png"
    assert thorough == [(256, 256)]


async def test_the_smaller_of_webp_and_png_is_taken():
    flat = await PillowInspector().inspect(file_of(Image.new("1", (256, 256)), "PNG"))
    photo = await PillowInspector().inspect(file_of(Image.effect_noise((256, 256), 90).convert("RGB"), "PNG"))
    assert photo.thumbnail_media_type == "image/webp"
    assert len(flat.thumbnail) < 200


@given(
    st.binary(min_size=1, max_size=300),
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]),
    st.integers(0, 400),
    st.booleans(),
)
async def test_damaged_files_are_images_or_typed_errors_and_nothing_else(noise, kind, at, strip):
    data = file_of(picture(size=(16, 16)), kind)
    damaged = data[:at] + noise + data[at + len(noise) :]
    try:
        info = await PillowInspector(strip_metadata=strip).inspect(damaged)
    except (NotAnImage, AnswerTooLarge):
        return
    assert info.width * info.height <= 64_000_000


@pytest.mark.parametrize("setting", ["max_bytes", "max_pixels", "thumbnail_px", "workers"])
def test_a_limit_of_nothing_is_refused(setting: str):
    with pytest.raises(InvalidSetting, match=setting):
        PillowInspector(**{setting: 0})  # type: ignore[arg-type]  # one of the four numbers
