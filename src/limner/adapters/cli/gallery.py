"""Pictures in a terminal: each character cell shows two pixels, one above the other."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, UnidentifiedImageError
from rich.color import Color
from rich.style import Style
from rich.text import Text

TILE_WIDTH = 15
TILE_HEIGHT = 5
"""Character cells. A cell is about twice as high as wide, so this is the 3:2 of a card."""

_UPPER_HALF = "▀"


def tile(data: bytes | None, width: int = TILE_WIDTH, height: int = TILE_HEIGHT) -> list[Text]:
    """An image file as `height` lines of `width` cells; an empty frame for None or what is no image."""
    picture = None if data is None else _decoded(data, width, height * 2)
    if picture is None:
        return _empty(width, height)
    pixels = [Color.from_rgb(*rgb) for rgb in zip(*[iter(picture.tobytes())] * 3, strict=True)]
    lines = []
    for start in range(0, len(pixels), width * 2):
        line = Text()
        uppers, lowers = pixels[start : start + width], pixels[start + width : start + width * 2]
        for upper, lower in zip(uppers, lowers, strict=True):
            line.append(_UPPER_HALF, Style(color=upper, bgcolor=lower))
        lines.append(line)
    return lines


def _decoded(data: bytes, width: int, height: int) -> Image.Image | None:
    try:
        with Image.open(BytesIO(data)) as picture:
            return picture.convert("RGB").resize((width, height), Image.Resampling.BOX)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _empty(width: int, height: int) -> list[Text]:
    rim = "dim"
    inside = Text(f"│{' ' * (width - 2)}│", rim)
    return [
        Text(f"╭{'─' * (width - 2)}╮", rim),
        *(inside.copy() for _ in range(height - 2)),
        Text(f"╰{'─' * (width - 2)}╯", rim),
    ]
