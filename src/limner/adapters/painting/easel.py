"""One card in the making: the order of the layers, and how far the work is."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from random import Random

from PIL import Image, ImageFilter

from limner.adapters.painting import creatures, land, landmarks, sky, weather
from limner.adapters.painting.canvas import Canvas
from limner.adapters.painting.mount import prepare_mount
from limner.adapters.painting.scene import Scene, read_scene

Layer = Callable[[Canvas, Scene, Random], None]

LAYERS: tuple[Layer, ...] = (
    sky.paint_air,
    sky.paint_stars,
    sky.paint_light,
    sky.paint_aurora,
    sky.paint_clouds,
    sky.paint_lightning,
    land.paint_far_ridges,
    land.paint_water,
    creatures.paint_birds,
    creatures.paint_balloon,
    landmarks.paint_city,
    land.paint_middle_ground,
    landmarks.paint_castle,
    landmarks.paint_lighthouse,
    land.paint_haze,
    creatures.paint_boat,
    landmarks.paint_village,
    creatures.paint_dragon,
    land.paint_foreground,
    landmarks.paint_tree,
    creatures.paint_figure,
    creatures.paint_cat,
    weather.paint_atmosphere,
    weather.paint_weather,
    weather.paint_varnish,
)
"""Back to front, as one paints. A layer that the scene does not ask for does nothing."""

_PREVIEW_WIDTH = 240


class Easel:
    """Paints one card. Not for two threads at once.

    The same prompt, seed and size lead to the same picture: every layer has a random source of its own
    that is drawn from these alone, so changing one layer leaves the others as they were.
    """

    def __init__(self, prompt: str, seed: int, width: int, height: int) -> None:
        # A digest: random.seed() refuses text with lone surrogates.
        self._root = hashlib.sha256(f"{seed}:".encode() + prompt.encode("utf-8", "surrogatepass")).digest()
        self._scene = read_scene(prompt, self._random("scene"))
        mount = prepare_mount(prompt, width, height, self._random("mount"))
        self._card, self._window = mount.card, mount.window
        left, top, right, bottom = mount.window
        self._canvas = Canvas(right - left, bottom - top, self._scene.palette.horizon)
        self._painted = 0

    def paint_until(self, fraction: float) -> bytes:
        """Paint on until `fraction` (0.0 to 1.0) of the layers are done; return a preview (JPEG).

        The preview is small, and blurred less and less, which is how pictures of a diffusion model
        appear as well.
        """
        until = round(fraction * len(LAYERS))
        while self._painted < until:
            layer = LAYERS[self._painted]
            layer(self._canvas, self._scene, self._random(layer.__name__))
            self._painted += 1
        return self._preview(fraction)

    def finished(self) -> bytes:
        """Paint what is left and return the card as the bytes of a JPEG file."""
        self.paint_until(1.0)
        return _jpeg(self._mounted(), quality=90)

    def unmounted(self) -> bytes:
        """Paint what is left and return the picture alone, without mount and caption, as a JPEG file."""
        self.paint_until(1.0)
        return _jpeg(self._canvas.image, quality=85)

    def _mounted(self) -> Image.Image:
        card = self._card.copy()
        card.paste(self._canvas.image, self._window[:2])
        return card

    def _preview(self, fraction: float) -> bytes:
        card = self._mounted()
        small = card.resize(
            (_PREVIEW_WIDTH, max(1, round(card.height * _PREVIEW_WIDTH / card.width))),
            Image.Resampling.BILINEAR,
        )
        return _jpeg(small.filter(ImageFilter.GaussianBlur(5 * (1 - min(1.0, fraction)))), quality=70)

    def _random(self, purpose: str) -> Random:
        return Random(hashlib.sha256(self._root + purpose.encode()).digest())  # noqa: S311 - a picture, no secret


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    # JPEG, since every build of Pillow and every reader of messages has it; full colour resolution
    # because the thin gold lines bleed without it.
    image.save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
    return file.getvalue()
