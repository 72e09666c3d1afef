"""The card that a picture is painted on: parchment, gold rules, corner ornaments and the caption."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from limner.adapters.painting.canvas import cloudy, noise
from limner.adapters.painting.caption import draw_lines, lay_out, readable
from limner.adapters.painting.colour import Colour, mix

_PARCHMENT: Colour = (240, 229, 204)
_PARCHMENT_SHADE: Colour = (214, 194, 154)
_INK: Colour = (58, 40, 28)
_GOLD: Colour = (176, 132, 52)
_BRIGHT_GOLD: Colour = (232, 196, 112)

# Below this a caption would be too small to read, so the picture takes the room.
_SMALLEST_CAPTIONED = 200


@dataclass(frozen=True, slots=True)
class Mount:
    """A card with the scribe's part done, and the place that is left for the limner (a box in pixels)."""

    card: Image.Image
    window: tuple[int, int, int, int]


def prepare_mount(prompt: str, width: int, height: int, rng: Random) -> Mount:
    """Make the card: everything but the picture."""
    card = _parchment(width, height, rng)
    side = min(width, height)
    margin = max(3, round(side * 0.05))
    bottom = height - margin
    text = readable(prompt) if side >= _SMALLEST_CAPTIONED else ""
    if text:
        size = max(14, round(side * 0.042))
        leading = size * 1.32
        lines = lay_out(text, size, round(width - 2.6 * margin), 3 if height >= 0.6 * width else 2)
        block = leading * (len(lines) - 1)
        bottom = round(height - margin * 0.75 - block - size * 1.3 - margin * 0.55)
        draw_lines(card, lines, width / 2, height - margin * 0.75 - block, leading, _INK)
    window = (margin, margin, width - margin, bottom)
    _draw_frame(card, window, max(1, round(side / 256)))
    return Mount(card, window)


def _parchment(width: int, height: int, rng: Random) -> Image.Image:
    size = (width, height)
    stains = cloudy(rng, size, (4, 3)).point([round(v * 0.5) for v in range(256)])
    sheet = Image.composite(
        Image.new("RGB", size, _PARCHMENT_SHADE), Image.new("RGB", size, _PARCHMENT), stains
    )
    fibres = (
        noise(rng, size)
        .filter(ImageFilter.BoxBlur(1))
        .point([round(128 + (v - 128) * 0.22) for v in range(256)])
    )
    sheet = ImageChops.soft_light(sheet, Image.merge("RGB", (fibres, fibres, fibres)))
    worn = Image.new("L", size, 255)
    ImageDraw.Draw(worn).rectangle([1, 1, width - 2, height - 2], fill=0)
    worn = worn.filter(ImageFilter.GaussianBlur(max(2, min(size) * 0.02))).point(
        [min(255, v) for v in range(256)]
    )
    return Image.composite(Image.new("RGB", size, mix(_PARCHMENT_SHADE, (96, 66, 34), 0.6)), sheet, worn)


def _draw_frame(card: Image.Image, window: tuple[int, int, int, int], line: int) -> None:
    pen = ImageDraw.Draw(card)
    left, top, right, bottom = window
    for distance, colour, width in (
        (1, _INK, 1),
        (2, _BRIGHT_GOLD, 2 * line),
        (2 + 2 * line, _GOLD, line),
        (5 + 4 * line, _GOLD, 1),
    ):
        box = [
            left - distance - width,
            top - distance - width,
            right + distance + width - 1,
            bottom + distance + width - 1,
        ]
        pen.rectangle(box, outline=colour, width=width)
    reach = 4 * line + 5
    for x, y in (
        (left - reach, top - reach),
        (right + reach, top - reach),
        (left - reach, bottom + reach),
        (right + reach, bottom + reach),
    ):
        r = 2.6 * line + 2
        pen.polygon([(x - r, y), (x, y - r), (x + r, y), (x, y + r)], fill=_BRIGHT_GOLD, outline=_INK)
        r = r * 0.42
        pen.polygon([(x - r, y), (x, y - r), (x + r, y), (x, y + r)], fill=(136, 34, 30))
