"""Images that come as text."""

from __future__ import annotations

import base64

import pytest

from limner.adapters.image_text import image_from_text
from limner.errors import NoImage, NotAnImage

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("data", [b"x", b"xy", b"xyz", bytes(range(256)), b"\xff" * 1_000_000])
async def test_base64_is_decoded_with_and_without_a_data_prefix(data):
    text = base64.b64encode(data).decode()
    assert await image_from_text(text) == data
    assert await image_from_text(f"data:image/png;base64,{text}") == data


async def test_line_breaks_and_missing_padding_are_forgiven():
    assert await image_from_text("eHl6\neHl6\r\neA") == b"xyzxyzx"


@pytest.mark.parametrize("nothing", [None, ""])
async def test_nothing_is_no_image(nothing):
    with pytest.raises(NoImage):
        await image_from_text(nothing)


@pytest.mark.parametrize(
    "broken",
    ["%%%", "<html>", "ab-_", "x", "data:image/png,raw", "data:nothing", "\ud800", "é", 7, ["x"], True],
)
async def test_anything_else_is_not_an_image(broken):
    with pytest.raises(NotAnImage) as caught:
        await image_from_text(broken)
    assert len(str(caught.value)) < 200
