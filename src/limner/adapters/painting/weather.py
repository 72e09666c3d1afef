"""What is in the air before us, and the light that lies over the finished picture."""

from __future__ import annotations

from random import Random

from PIL import Image, ImageChops, ImageFilter

from limner.adapters.painting.canvas import Canvas, noise
from limner.adapters.painting.colour import lighter, mix
from limner.adapters.painting.scene import Scene


def paint_weather(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Snow, rain, embers or fireflies, whichever were asked for."""
    if "snowfall" in scene.things:
        for size, count, blur in ((0.0022, 260, 0.0), (0.004, 90, 0.002), (0.009, 26, 0.006)):
            flakes = canvas.stencil()
            for _ in range(count):
                r = size * rng.uniform(0.6, 1.2)
                flakes.ellipse((rng.random(), rng.random()), r / canvas.aspect, r, rng.randint(120, 240))
            canvas.fill(flakes.mask(blur=blur), (250, 252, 255))
    if "rain" in scene.things:
        drops = canvas.stencil()
        for _ in range(420):
            x, y, length = rng.uniform(-0.05, 1.05), rng.random(), rng.uniform(0.03, 0.085)
            drops.line([(x, y), (x - length * 0.16, y + length)], 0.0016, rng.randint(40, 130))
        canvas.fill(drops.mask(strength=0.7), lighter(scene.palette.horizon, 0.4))
    if "embers" in scene.things:
        _paint_sparks(canvas, rng, (255, 130, 40), 110)
    if "fireflies" in scene.things:
        _paint_sparks(canvas, rng, (220, 255, 150), 46)


def _paint_sparks(canvas: Canvas, rng: Random, colour: tuple[int, int, int], count: int) -> None:
    sparks = canvas.stencil()
    for _ in range(count):
        r = rng.uniform(0.0015, 0.0042)
        sparks.ellipse(
            (rng.random(), rng.random() ** 0.6),
            r / canvas.aspect,
            r * rng.uniform(1.0, 1.6),
            rng.randint(140, 255),
        )
    canvas.shine(sparks.mask(blur=0.012, strength=1.0), colour)
    canvas.shine(sparks.mask(blur=0.004, strength=1.0), colour)
    canvas.shine(sparks.mask(), lighter(colour, 0.6))


def paint_atmosphere(canvas: Canvas, scene: Scene, _rng: Random) -> None:
    """The light of the sky spills over dark edges, as it does in the eye and on film."""
    bright = canvas.image.point([max(0, v - 150) * 2 for v in range(256)] * 3)
    spill = bright.filter(ImageFilter.GaussianBlur(0.03 * canvas.unit)).point(
        [v // 3 for v in range(256)] * 3
    )
    canvas.image = ImageChops.screen(canvas.image, spill)
    warmth = mix(scene.palette.light, scene.palette.horizon, 0.5)
    canvas.image = Image.blend(
        canvas.image, ImageChops.soft_light(canvas.image, Image.new("RGB", canvas.image.size, warmth)), 0.35
    )


def paint_varnish(canvas: Canvas, _scene: Scene, rng: Random) -> None:
    """Canvas weave, grain, and edges that darken a little."""
    size = canvas.image.size
    weave = noise(rng, size)
    weave = Image.blend(
        weave.filter(ImageFilter.BoxBlur(1)), noise(rng, (size[0], max(1, size[1] // 3))).resize(size), 0.3
    )
    weave = weave.point([round(128 + (v - 128) * 0.17) for v in range(256)])
    canvas.image = ImageChops.soft_light(canvas.image, Image.merge("RGB", (weave, weave, weave)))
    edges = Image.radial_gradient("L").resize(size, Image.Resampling.BICUBIC)
    edges = edges.point([255 - round(max(0, v - 120) * 0.62) for v in range(256)])
    canvas.image = ImageChops.multiply(canvas.image, Image.merge("RGB", (edges, edges, edges)))
