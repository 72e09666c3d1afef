"""What is not picture is taken out of an image file, and the picture stays as it is."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from limner.adapters.inspection import PillowInspector
from limner.adapters.metadata import without_metadata
from tests.support import png

pytestmark = pytest.mark.anyio

SECRET = "a cat, steps: 20, seed: 7"
ARTIST, ORIENTATION = 0x013B, 0x0112


def picture(mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((61, 40)).convert(mode)


def exif(orientation: int = 1) -> Image.Exif:
    data = Image.Exif()
    data[ARTIST] = SECRET
    if orientation != 1:
        data[ORIENTATION] = orientation
    return data


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def stripped(data: bytes) -> bytes:
    return without_metadata(data, opened(data))


def png_text() -> PngImagePlugin.PngInfo:
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", SECRET)
    text.add_itxt("workflow", SECRET)
    text.add_text("prompt", SECRET, zip=True)
    return text


WITH_SECRETS = {
    "png": lambda: file_of(picture(), "PNG", pnginfo=png_text(), exif=exif()),
    "jpeg": lambda: file_of(picture(), "JPEG", exif=exif(), comment=SECRET, xmp=SECRET.encode()),
    "progressive jpeg": lambda: file_of(picture(), "JPEG", progressive=True, exif=exif(), comment=SECRET),
    "jpeg with restarts": lambda: file_of(picture(), "JPEG", restart_marker_blocks=1, comment=SECRET),
    "cmyk jpeg": lambda: file_of(picture("CMYK"), "JPEG", comment=SECRET),
    "a phone's jpeg": lambda: file_of(
        picture(), "MPO", save_all=True, append_images=[picture()], exif=exif(), comment=SECRET
    ),
    "webp": lambda: file_of(picture(), "WEBP", exif=exif(), xmp=SECRET.encode()),
    "lossless webp": lambda: file_of(picture("RGBA"), "WEBP", lossless=True, xmp=SECRET.encode()),
    "gif": lambda: file_of(picture("P"), "GIF", comment=SECRET),
}
"""Each holds the secret, in every place that Pillow can write it to."""


@pytest.mark.parametrize("kind", WITH_SECRETS)
def test_metadata_go_and_the_picture_stays_to_the_last_pixel(kind: str):
    before = WITH_SECRETS[kind]()
    assert SECRET.encode() in before
    after = stripped(before)
    assert SECRET.encode() not in after
    assert len(after) < len(before)
    assert opened(after).getexif().get(ARTIST) is None
    assert not {"parameters", "workflow", "prompt", "comment", "xmp"} & set(opened(after).info)
    assert opened(after).mode == opened(before).mode
    assert opened(after).tobytes() == opened(before).tobytes()


@pytest.mark.parametrize("kind", WITH_SECRETS)
def test_a_file_without_metadata_stays_as_it_is(kind: str):
    bare = stripped(WITH_SECRETS[kind]())
    assert stripped(bare) == bare


def test_avif_is_encoded_again_and_looks_the_same():
    before = file_of(picture(), "AVIF", exif=exif(), xmp=SECRET.encode())
    assert SECRET.encode() in before
    after = stripped(before)
    assert SECRET.encode() not in after
    difference = max(
        abs(a - b) for a, b in zip(opened(before).tobytes(), opened(after).tobytes(), strict=True)
    )
    assert difference <= 8


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_shown_as_it_was(kind: str, orientation: int):
    before = opened(file_of(picture(), kind, exif=exif(orientation)))
    after = opened(without_metadata(file_of(picture(), kind, exif=exif(orientation)), before))
    assert after.getexif().get(ARTIST) is None
    assert ImageOps.exif_transpose(after).size == ImageOps.exif_transpose(before).size
    if kind != "AVIF":
        assert ImageOps.exif_transpose(after).tobytes() == ImageOps.exif_transpose(before).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_the_colour_profile_stays(kind: str):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert opened(stripped(file_of(picture(), kind, icc_profile=profile))).info["icc_profile"] == profile


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_an_animation_stays_one(kind: str):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    before = file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=70, loop=3)
    after = opened(stripped(before))
    assert getattr(after, "n_frames", 1) == 3
    assert after.info["loop"] == opened(before).info["loop"]
    for number in range(3):
        after.seek(number)
        expected = opened(before)
        expected.seek(number)
        assert after.convert("RGB").tobytes() == expected.convert("RGB").tobytes()
        assert after.info["duration"] == expected.info["duration"]


def test_what_is_appended_behind_the_end_of_a_picture_goes_too():
    for kind in ("PNG", "JPEG", "GIF"):
        assert SECRET.encode() not in stripped(file_of(picture("L"), kind) + SECRET.encode())


@pytest.mark.parametrize(("kind", "end"), [("PNG", 12), ("GIF", 1), ("JPEG", 2)])
def test_a_picture_that_lacks_only_its_end_is_still_one(kind: str, end: int):
    whole = file_of(picture("L"), kind)
    assert opened(stripped(whole[:-end])).tobytes() == opened(whole).tobytes()


async def test_an_inspector_takes_metadata_out_only_where_it_is_told_to():
    file = WITH_SECRETS["png"]()
    assert (await PillowInspector().inspect(file)).data == file
    info = await PillowInspector(strip_metadata=True).inspect(file)
    assert info.data == stripped(file)
    assert (info.media_type, info.width, info.height) == ("image/png", 61, 40)


async def test_equal_pictures_with_different_metadata_become_one_file():
    inspector = PillowInspector(strip_metadata=True)
    assert (await inspector.inspect(WITH_SECRETS["png"]())).data == (
        await inspector.inspect(file_of(picture(), "PNG"))
    ).data
    assert (await inspector.inspect(png())).data == png()
