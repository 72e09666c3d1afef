"""The sky, and what stands in it."""

from __future__ import annotations

import math
from random import Random

from PIL import Image, ImageChops, ImageFilter

from limner.adapters.painting.canvas import Canvas, cloudy, vertical_gradient
from limner.adapters.painting.colour import darker, lighter, mix
from limner.adapters.painting.scene import Scene


def paint_air(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """The sky's colours, with a little unevenness, as wet paint has it."""
    colours = scene.palette
    size = canvas.image.size
    end = scene.horizon + 0.04
    sky = vertical_gradient(
        size,
        [(0.0, colours.zenith), (end * 0.55, colours.sky), (end, colours.horizon), (1.0, colours.horizon)],
    )
    canvas.image = sky
    wash = cloudy(rng, size, (3, 5)).point([max(0, v - 110) // 3 for v in range(256)])
    canvas.fill(wash, lighter(colours.sky, 0.25))
    dark = cloudy(rng, size, (2, 4)).point([max(0, v - 120) // 3 for v in range(256)])
    canvas.fill(dark, darker(colours.zenith, 0.2))


def paint_stars(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Stars at night, thinning out towards the horizon, in a faint band of milky way."""
    if not scene.night or scene.mood == "storm":
        return
    size = canvas.image.size
    band = canvas.stencil()
    lean = rng.uniform(-0.35, 0.35)
    middle = rng.uniform(0.3, 0.7)
    band.polygon(
        [(middle - 0.1, -0.1), (middle + 0.14, -0.1), (middle + lean + 0.1, 0.8), (middle + lean - 0.1, 0.8)]
    )
    haze = ImageChops.multiply(band.mask(blur=0.09, strength=0.5), cloudy(rng, size, (6, 6)))
    canvas.shine(haze, mix(scene.palette.sky, (200, 180, 230), 0.6))
    stars, bright = canvas.stencil(), canvas.stencil()
    for _ in range(260):
        x, y = rng.random(), rng.random() ** 1.3 * scene.horizon
        if rng.random() > 1.1 - y / scene.horizon:
            continue
        r = rng.choice((0.0006, 0.0008, 0.0011)) * canvas.unit / canvas.width * 1.2
        stars.ellipse((x, y), r, r * canvas.aspect, rng.randint(120, 255))
    for _ in range(12):
        x, y = rng.random(), rng.uniform(0.02, 0.75) * scene.horizon
        r = rng.uniform(0.0016, 0.0024)
        bright.ellipse((x, y), r / canvas.aspect, r)
        for dx, dy in ((5.5, 0.28), (0.28, 5.5)):
            bright.ellipse((x, y), r * dx / canvas.aspect, r * dy, 150)
    canvas.shine(stars.mask(), (255, 250, 240))
    canvas.shine(bright.mask(blur=0.004), (190, 210, 255))
    canvas.shine(bright.mask(), (255, 255, 255))


def paint_light(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """The sun or the moon, and its light in the air."""
    light = scene.palette.light
    if scene.mood == "storm":
        canvas.glow(scene.light, 0.7, light, 0.35)
        return
    if scene.night:
        canvas.glow(scene.light, 0.62, mix(light, scene.palette.sky, 0.45), 0.5)
        canvas.glow(scene.light, 0.26, light, 0.5)
        _paint_moon(canvas, scene, rng)
        return
    canvas.glow(scene.light, 1.15, mix(light, scene.palette.horizon, 0.6), 0.5)
    canvas.glow(scene.light, 0.42, light, 0.6)
    radius = rng.uniform(0.042, 0.06)
    disc = canvas.stencil()
    disc.ellipse(scene.light, radius / canvas.aspect, radius)
    canvas.fill(disc.mask(blur=0.003), lighter(light, 0.5))


def _paint_moon(canvas: Canvas, scene: Scene, rng: Random) -> None:
    x, y = scene.light
    radius = rng.uniform(0.06, 0.082)
    disc = canvas.stencil()
    disc.ellipse((x, y), radius / canvas.aspect, radius)
    crescent = rng.random() < 0.35
    if crescent:
        disc.ellipse(
            (x + radius * 0.52 / canvas.aspect, y - radius * 0.2),
            radius * 0.94 / canvas.aspect,
            radius * 0.94,
            0,
        )
    canvas.fill(disc.mask(), (250, 247, 232))
    if crescent:
        return
    seas = canvas.stencil()
    for dx, dy, r in (
        (-0.3, -0.25, 0.34),
        (0.2, 0.1, 0.28),
        (-0.12, 0.42, 0.2),
        (0.45, -0.35, 0.16),
        (-0.5, 0.2, 0.16),
    ):
        seas.ellipse(
            (x + dx * radius / canvas.aspect, y + dy * radius), r * radius / canvas.aspect, r * radius
        )
    marks = ImageChops.multiply(seas.mask(blur=0.006, strength=0.45), disc.mask())
    canvas.fill(marks, (188, 192, 204))


def paint_clouds(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Banks of cloud, lit from below where the light stands low."""
    heavy = scene.mood in ("storm", "fire")
    banks = 6 if heavy else rng.randint(2, 4)
    wisps = cloudy(rng, canvas.image.size, (5, 10)).point(
        [min(255, max(0, (v - 70) * 3)) for v in range(256)]
    )
    for _ in range(banks):
        x, y = rng.uniform(-0.05, 1.05), rng.uniform(0.06, 0.82) * scene.horizon
        depth = y / scene.horizon
        length = rng.uniform(0.16, 0.34) * (1.25 if heavy else 1.0)
        height = (0.075 if heavy else 0.05) * (1.15 - 0.7 * depth)
        bank, belly = canvas.stencil(), canvas.stencil()
        for _ in range(26):
            off = rng.gauss(0, 0.38)
            swell = math.exp(-(off**2) * 2.2)
            r = height * rng.uniform(0.35, 1.0) * swell
            spot = (x + off * length, y - r * 0.6)
            bank.ellipse(spot, r * rng.uniform(1.5, 2.6) / canvas.aspect, r)
            belly.ellipse((spot[0], spot[1] + r * 0.75), r * 2.2 / canvas.aspect, r * 0.5)
        body = mix(scene.palette.horizon, scene.palette.sky, 0.35 + 0.3 * (1 - depth))
        if heavy:
            body = mix(scene.palette.sky, scene.palette.zenith, 0.45)
        if scene.night:
            body = mix(scene.palette.sky, scene.palette.horizon, 0.45)
        near_light = max(0.0, 1 - 2.4 * math.dist((x, y), scene.light))
        top = lighter(mix(body, scene.palette.light, 0.25 + 0.5 * near_light), 0.05)
        canvas.fill(ImageChops.multiply(bank.mask(blur=0.014, strength=0.8), wisps), top, body)
        glowing = ImageChops.multiply(belly.mask(blur=0.02, strength=0.5), bank.mask(blur=0.012))
        canvas.fill(
            glowing, darker(body, 0.12) if scene.light[1] < 0.32 else mix(body, scene.palette.light, 0.5)
        )


def paint_aurora(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Northern lights: a few curtains of green and violet."""
    if "aurora" not in scene.things:
        return
    for colour in ((70, 255, 170), (60, 220, 200), (170, 90, 255)):
        base, swing, phase = rng.uniform(0.22, 0.42), rng.uniform(0.04, 0.09), rng.uniform(0, 6.3)
        curtain = Image.new("L", canvas.image.size)
        stencil = canvas.stencil()
        for column in range(140):
            x = column / 139
            foot = base + swing * math.sin(phase + 5.2 * x) + 0.03 * math.sin(phase + 17 * x)
            tall = 0.2 + 0.1 * math.sin(phase * 2 + 23 * x) * math.sin(9 * x)
            stencil.polygon(
                [(x, foot), (x + 0.008, foot), (x + 0.008, foot - tall), (x, foot - tall)],
                round(70 + 110 * abs(math.sin(phase + 31 * x))),
            )
        curtain = stencil.mask().filter(ImageFilter.GaussianBlur(0.012 * canvas.unit))
        fade = vertical_gradient(
            canvas.image.size, [(0.0, (20, 20, 20)), (base, (210, 210, 210)), (1.0, (0, 0, 0))]
        )
        canvas.shine(ImageChops.multiply(curtain, fade.convert("L")), colour)


def paint_lightning(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """One forked flash."""
    if "lightning" not in scene.things:
        return
    flash = canvas.stencil()
    trunk = [(rng.uniform(0.25, 0.75), 0.0)]
    while trunk[-1][1] < scene.horizon:
        x, y = trunk[-1]
        trunk.append((x + rng.uniform(-0.035, 0.04), y + rng.uniform(0.02, 0.055)))
        if rng.random() < 0.22:
            branch = [trunk[-1]]
            lean = rng.choice((-1, 1))
            for _ in range(rng.randint(3, 6)):
                bx, by = branch[-1]
                branch.append((bx + lean * rng.uniform(0.005, 0.03), by + rng.uniform(0.015, 0.035)))
            flash.line(branch, 0.002, 200)
    flash.line(trunk, 0.0042)
    canvas.shine(flash.mask(blur=0.03), (170, 180, 255))
    canvas.shine(flash.mask(blur=0.006), (210, 215, 255))
    canvas.shine(flash.mask(), (255, 255, 255))
