"""The surface that is painted on, and the strokes that every layer uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from limner.adapters.painting.colour import Colour, mix

Point = tuple[float, float]

# Shapes are drawn twice as large and then halved: Pillow's polygons have no smooth edges of their own.
OVERSAMPLING = 2


class Canvas:
    """An RGB picture of `width` × `height` px. All coordinates are fractions of its sides, 0.0 to 1.0.

    y grows downwards. `unit` is the shorter side in pixels, for sizes that shall not depend on the
    picture's proportions; `aspect` is width ÷ height.
    """

    def __init__(self, width: int, height: int, ground: Colour) -> None:
        self.width = width
        self.height = height
        self.unit = min(width, height)
        self.aspect = width / height
        self.image = Image.new("RGB", (width, height), ground)

    def stencil(self) -> Stencil:
        """An empty shape to draw with."""
        return Stencil(self.width, self.height)

    def fill(self, mask: Image.Image, top: Colour, bottom: Colour | None = None) -> None:
        """Paint through `mask` (L, canvas size) with one colour, or from `top` to `bottom` of the mask."""
        box = mask.getbbox()
        if box is None:
            return
        left, upper, right, lower = box
        size = (right - left, lower - upper)
        paint = (
            Image.new("RGB", size, top)
            if bottom is None
            else vertical_gradient(size, [(0.0, top), (1.0, bottom)])
        )
        self.image.paste(paint, (left, upper), mask.crop(box))

    def shine(self, mask: Image.Image, colour: Colour) -> None:
        """Add light through `mask`: it brightens what is there (screen blending) and never darkens."""
        light = Image.composite(
            Image.new("RGB", self.image.size, colour), Image.new("RGB", self.image.size), mask
        )
        self.image = ImageChops.screen(self.image, light)

    def glow(self, centre: Point, radius: float, colour: Colour, strength: float = 1.0) -> None:
        """A soft round light. `radius` is a fraction of `unit`, `strength` 0.0 to 1.0."""
        self.shine(self.disc_of_light(centre, radius, strength), colour)

    def disc_of_light(self, centre: Point, radius: float, strength: float = 1.0) -> Image.Image:
        """A mask that is bright in `centre` and fades out at `radius` (a fraction of `unit`)."""
        size = max(2, round(2 * radius * self.unit))
        falloff = ImageChops.invert(Image.radial_gradient("L")).resize(
            (size, size), Image.Resampling.BILINEAR
        )
        # Pillow's gradient is white at the corners; squaring lets the light fade as light does.
        falloff = falloff.point([round(strength * 255 * max(0.0, (v - 75) / 180) ** 2.2) for v in range(256)])
        mask = Image.new("L", self.image.size)
        mask.paste(
            falloff, (round(centre[0] * self.width) - size // 2, round(centre[1] * self.height) - size // 2)
        )
        return mask


class Stencil:
    """A shape, drawn enlarged and handed out as a smooth mask."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width * OVERSAMPLING, height * OVERSAMPLING)
        self._shape = Image.new("L", self._size)
        self._pen = ImageDraw.Draw(self._shape)

    def polygon(self, points: Sequence[Point], ink: int = 255) -> None:
        """A filled polygon; ink 0 cuts a hole."""
        if len(points) >= 3:
            self._pen.polygon([self._place(point) for point in points], fill=ink)

    def ellipse(self, centre: Point, radius_x: float, radius_y: float, ink: int = 255) -> None:
        """A filled ellipse; the radii are fractions of width and height."""
        x, y = self._place(centre)
        rx, ry = radius_x * self._size[0], radius_y * self._size[1]
        self._pen.ellipse([x - rx, y - ry, x + rx, y + ry], fill=ink)

    def rectangle(self, left: float, top: float, right: float, bottom: float, ink: int = 255) -> None:
        """A filled rectangle."""
        self._pen.rectangle([*self._place((left, top)), *self._place((right, bottom))], fill=ink)

    def line(self, points: Sequence[Point], thickness: float, ink: int = 255) -> None:
        """A line; `thickness` is a fraction of the shorter side."""
        pixels = max(1, round(thickness * min(self._size)))
        self._pen.line([self._place(point) for point in points], fill=ink, width=pixels, joint="curve")

    def taper(self, points: Sequence[Point], thickness: Sequence[float], ink: int = 255) -> None:
        """A line whose thickness changes from point to point (fractions of the shorter side)."""
        side = min(self._size)
        spots = [self._place(point) for point in points]
        for (start, end), width in zip(pairwise(spots), thickness, strict=False):
            self._pen.line([start, end], fill=ink, width=max(1, round(width * side)))
        for (x, y), width in zip(spots, thickness, strict=False):
            r = width * side / 2
            self._pen.ellipse([x - r, y - r, x + r, y + r], fill=ink)

    def mask(self, blur: float = 0.0, strength: float = 1.0) -> Image.Image:
        """The shape at canvas size; `blur` is a radius as a fraction of the shorter side."""
        shape = self._shape.reduce(OVERSAMPLING)
        if blur:
            shape = shape.filter(ImageFilter.GaussianBlur(blur * min(shape.size)))
        return shape if strength == 1.0 else shape.point([round(v * strength) for v in range(256)])

    def _place(self, point: Point) -> Point:
        return point[0] * self._size[0], point[1] * self._size[1]


def vertical_gradient(size: tuple[int, int], stops: Sequence[tuple[float, Colour]]) -> Image.Image:
    """Colours from top to bottom; `stops` are (height from 0.0 to 1.0, colour), in order."""
    width, height = size
    column = Image.new("RGB", (1, height))
    pixels: list[Colour] = []
    for row in range(height):
        at = row / max(1, height - 1)
        pixels.append(_colour_at(at, stops))
    column.putdata(pixels)
    return column.resize((width, height))


def _colour_at(at: float, stops: Sequence[tuple[float, Colour]]) -> Colour:
    previous = stops[0]
    for stop in stops:
        if at <= stop[0]:
            span = stop[0] - previous[0]
            share = (at - previous[0]) / span if span else 1.0
            # Smoothstep: no visible edge where two gradients meet.
            share = share * share * (3 - 2 * share)
            return mix(previous[1], stop[1], share)
        previous = stop
    return stops[-1][1]


def noise(rng: Random, size: tuple[int, int]) -> Image.Image:
    """Even noise from `rng` (Pillow's own noise has a random source that cannot be seeded)."""
    return Image.frombytes("L", size, rng.randbytes(size[0] * size[1]))


def cloudy(rng: Random, size: tuple[int, int], cells: tuple[int, int], octaves: int = 4) -> Image.Image:
    """Soft noise, as in smoke and clouds: layers of ever finer noise, each half as strong."""
    field = Image.new("L", size, 128)
    for octave in range(octaves):
        grid = noise(rng, (max(2, cells[0] << octave), max(2, cells[1] << octave)))
        layer = grid.resize(size, Image.Resampling.BICUBIC)
        field = layer if octave == 0 else Image.blend(field, layer, 1 / (2 + octave))
    return field


def ridge(rng: Random, bumps: int, octaves: int, *, sharp: bool = False) -> Callable[[float], float]:
    """A height profile over x = 0.0 to 1.0 with heights of about 0.0 to 1.0.

    `bumps` is how many hills fit in, `octaves` how rough they are; `sharp` makes peaks, not hills.
    """
    tables = [[rng.random() for _ in range((bumps << octave) + 2)] for octave in range(octaves)]

    def height(x: float) -> float:
        total, weight, sum_of_weights = 0.0, 1.0, 0.0
        for octave, table in enumerate(tables):
            at = min(max(x, 0.0), 1.0) * (bumps << octave)
            cell = int(at)
            share = at - cell
            if not sharp:
                share = share * share * (3 - 2 * share)
            total += weight * (table[cell] + (table[cell + 1] - table[cell]) * share)
            sum_of_weights += weight
            weight *= 0.42
        return total / sum_of_weights

    return height


def smooth(points: list[Point], steps: int = 8) -> list[Point]:
    """A curve through all points (Catmull-Rom), as a list of points."""
    padded = [points[0], *points, points[-1]]
    curve: list[Point] = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for step in range(steps):
            t = step / steps
            curve.append((_spline(a[0], b[0], c[0], d[0], t), _spline(a[1], b[1], c[1], d[1], t)))
    return [*curve, points[-1]]


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
