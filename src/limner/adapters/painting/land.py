"""The land: ridges that fade with distance, water, woods and meadows."""

from __future__ import annotations

from random import Random

from PIL import Image, ImageChops

from limner.adapters.painting.canvas import Canvas, Point, Stencil, cloudy, ridge, smooth, vertical_gradient
from limner.adapters.painting.colour import Colour, darker, lighter, mix
from limner.adapters.painting.scene import Scene

_COLUMNS = 220
"""Points along a ridge line. More are not seen at 768 px."""


def has_water(scene: Scene) -> bool:
    """Whether the scene lies at a sea or a lake."""
    return scene.ground in ("sea", "lake")


def paint_far_ridges(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Mountains or hills behind everything else, three deep, with mist between them."""
    steep = scene.ground in ("mountains", "lake") or scene.snowy
    if scene.ground == "sea":
        _paint_headland(canvas, scene, rng)
        return
    for index in range(3):
        depth = index / 3
        profile = ridge(rng, rng.randint(3, 5) + index, 6, sharp=steep)
        height = (0.34 if steep else 0.17) * (1.0 - 0.25 * index)
        foot = scene.horizon + 0.01 + 0.025 * index
        line = [
            (i / _COLUMNS, foot - height * profile(i / _COLUMNS) ** (1.5 if steep else 1.0))
            for i in range(_COLUMNS + 1)
        ]
        colour = mix(
            mix(scene.palette.far, scene.palette.horizon, 0.35), scene.palette.near, 0.1 + 0.34 * depth
        )
        _paint_mass(canvas, line, colour, mix(colour, scene.palette.horizon, 0.45))
        if steep:
            _paint_facets(
                canvas,
                scene,
                rng,
                line,
                colour,
                snow=scene.snowy or scene.mood in ("day", "night") or index == 0,
            )
        _paint_mist(canvas, scene, foot, 0.05, 0.5)


def _paint_headland(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """A distant coast on one side of the sea, opposite to the light."""
    from_left = scene.away < 0
    profile = ridge(rng, 4, 5)
    for index in range(2):
        reach = (0.62, 0.36)[index]
        line: list[Point] = []
        for i in range(_COLUMNS + 1):
            x = i / _COLUMNS
            inward = x if from_left else 1 - x
            swell = max(0.0, 1 - inward / reach) ** 0.8
            line.append(
                (
                    x,
                    scene.horizon
                    - (0.09, 0.17)[index] * swell * (0.55 + 0.6 * profile((x + index * 0.37) % 1)),
                )
            )
        colour = mix(scene.palette.far, scene.palette.near, (0.08, 0.34)[index])
        _paint_mass(canvas, line, colour, mix(colour, scene.palette.horizon, 0.3), bottom=scene.horizon)


def _paint_mass(canvas: Canvas, line: list[Point], top: Colour, foot: Colour, bottom: float = 1.0) -> None:
    shape = canvas.stencil()
    shape.polygon([*line, (1.0, bottom), (0.0, bottom)])
    canvas.fill(shape.mask(), top, foot)


def _paint_facets(
    canvas: Canvas, scene: Scene, rng: Random, line: list[Point], colour: Colour, *, snow: bool
) -> None:
    """The lit and the shaded sides of mountains, and snow on their upper parts."""
    from_left = scene.away > 0
    lit, shaded, caps = canvas.stencil(), canvas.stencil(), canvas.stencil()
    highest = min(y for _, y in line)
    lowest = max(y for _, y in line)
    for i in range(2, len(line) - 2):
        x, y = line[i]
        slope = line[i + 2][1] - line[i - 2][1]
        faces_light = slope < 0 if from_left else slope > 0
        fall = 0.05 + 0.22 * (lowest - y)
        lean = rng.uniform(0.2, 0.5) * fall * (1 if slope > 0 else -1)
        facet = [line[i - 1], (x, y), line[i + 1], (x + lean, y + fall * rng.uniform(0.5, 1.0))]
        (lit if faces_light else shaded).polygon(facet)
        if snow and y < highest + 0.45 * (lowest - highest):
            reach = (highest + 0.5 * (lowest - highest) - y) * rng.uniform(0.35, 0.8)
            caps.polygon(
                [line[i - 1], (x, y), line[i + 1], (x + lean * 0.4, y + reach)], 255 if faces_light else 120
            )
    canvas.fill(shaded.mask(blur=0.003, strength=0.3), darker(colour, 0.4))
    canvas.fill(lit.mask(blur=0.003, strength=0.32), mix(colour, scene.palette.light, 0.6))
    if snow:
        canvas.fill(
            caps.mask(blur=0.0015, strength=0.75),
            lighter(mix(scene.palette.light, scene.palette.sky, 0.2), 0.2),
        )


def _paint_mist(canvas: Canvas, scene: Scene, y: float, thickness: float, strength: float) -> None:
    band = canvas.stencil()
    band.ellipse((0.5, y), 0.9, thickness)
    canvas.fill(band.mask(blur=0.04, strength=strength), mix(scene.palette.horizon, scene.palette.sky, 0.15))


def paint_water(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Sea or lake: the sky upside down, ripples that widen towards us, and the path of the light."""
    if not has_water(scene):
        return
    colours = scene.palette
    top = round(scene.horizon * canvas.height)
    size = (canvas.width, canvas.height - top)
    surface = vertical_gradient(
        size,
        [
            (0.0, mix(colours.horizon, colours.water, 0.35)),
            (0.35, mix(colours.water, colours.sky, 0.3)),
            (1.0, darker(mix(colours.water, colours.near, 0.45), 0.05)),
        ],
    )
    if scene.ground == "lake":
        mirrored = (
            canvas.image.crop((0, max(0, top - size[1]), canvas.width, top))
            .transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            .resize(size)
        )
        blurred = mirrored.resize((max(1, size[0] // 3), max(1, size[1] // 8))).resize(size)
        surface = ImageChops.blend(surface, blurred, 0.55)
    canvas.image.paste(surface, (0, top))
    light, dark = canvas.stencil(), canvas.stencil()
    for _ in range(420):
        depth = rng.random() ** 1.6
        y = scene.horizon + 0.004 + depth * (1 - scene.horizon)
        length = (0.006 + 0.05 * depth) * rng.uniform(0.4, 1.3)
        (light if rng.random() < 0.5 else dark).ellipse(
            (rng.random(), y), length, 0.0007 + 0.0034 * depth, rng.randint(40, 150)
        )
    canvas.fill(light.mask(), lighter(colours.horizon, 0.25))
    canvas.fill(dark.mask(), darker(colours.water, 0.45))
    path = canvas.stencil()
    for _ in range(230):
        depth = rng.random() ** 1.3
        y = scene.horizon + 0.003 + depth * (0.95 - scene.horizon)
        spread = 0.016 + 0.085 * depth
        x = scene.light[0] + rng.gauss(0, 0.5) * spread
        path.ellipse(
            (x, y),
            (0.006 + 0.022 * depth) * rng.uniform(0.3, 1.1),
            0.0009 + 0.003 * depth,
            rng.randint(110, 255),
        )
    canvas.shine(path.mask(blur=0.01, strength=0.55), colours.light)
    canvas.shine(path.mask(strength=0.9), lighter(colours.light, 0.3))
    edge = canvas.stencil()
    edge.rectangle(0, scene.horizon - 0.0015, 1, scene.horizon + 0.003)
    canvas.fill(edge.mask(blur=0.002, strength=0.5), lighter(colours.horizon, 0.3))


def paint_middle_ground(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Rolling land between the far ridges and our feet; nothing where there is water or a city."""
    if has_water(scene) or scene.ground == "city":
        return
    for index in range(2):
        profile = ridge(rng, 2 + index, 4)
        foot = scene.horizon + 0.09 + 0.09 * index
        line = [(i / _COLUMNS, foot - 0.1 * profile(i / _COLUMNS)) for i in range(_COLUMNS + 1)]
        colour = mix(scene.palette.far, scene.palette.near, 0.48 + 0.18 * index)
        if scene.snowy:
            colour = lighter(colour, 0.5 - 0.1 * index)
        if scene.ground == "desert":
            _paint_dunes(canvas, scene, rng, foot + 0.02, 0.1 + 0.16 * index)
            continue
        _paint_mass(canvas, line, mix(colour, scene.palette.light, 0.16), darker(colour, 0.18))
        if scene.ground in ("forest", "hills") or "forest" in scene.things:
            _paint_wood(canvas, rng, line, darker(colour, 0.22), 0.028 + 0.022 * index, 90 - 25 * index)
        _paint_mist(canvas, scene, foot + 0.03, 0.03, 0.4 if "mist" in scene.things else 0.18)


def _paint_dunes(canvas: Canvas, scene: Scene, rng: Random, foot: float, share: float) -> None:
    """A dune with a sharp crest; its side away from the light lies in shadow."""
    sand = mix(scene.palette.far, scene.palette.near, share)
    away = scene.away
    x, top = 0.5 + away * rng.uniform(-0.34, 0.1), foot - rng.uniform(0.1, 0.17)
    slope = [(-1.2, 1.25), (-0.7, 0.9), (-0.32, 0.42), (0.0, 0.0), (0.26, 0.46), (0.62, 0.86), (1.2, 1.1)]
    tall = foot - top + 0.03
    line = smooth([(x + away * dx * 0.8, top + dy * tall) for dx, dy in slope])
    if away < 0:
        line.reverse()
    _paint_mass(canvas, line, mix(sand, scene.palette.light, 0.3), darker(sand, 0.08))
    crest = min(range(len(line)), key=lambda i: line[i][1])
    lee = line[crest:] if away > 0 else line[crest::-1]
    # The edge of the shadow runs from the crest towards us in an S.
    edge = [(0.0, 0.0), (0.05, 0.3), (-0.05, 0.62), (0.05, 1.0), (0.26, 1.6), (0.2, 3.0)]
    s_curve = smooth([(x + away * dx * 0.8, top + dy * tall) for dx, dy in edge])
    shade = canvas.stencil()
    shade.polygon([*lee, (0.5 + away, 1.2), *reversed(s_curve)])
    canvas.fill(
        shade.mask(blur=0.002, strength=0.5),
        mix(sand, scene.palette.near, 0.6),
        mix(sand, scene.palette.near, 0.3),
    )


def _paint_wood(
    canvas: Canvas, rng: Random, line: list[Point], colour: Colour, tall: float, count: int
) -> None:
    """A row of firs along a line, in groups, the way they grow."""
    wood = canvas.stencil()
    density = ridge(rng, 5, 3)
    for _ in range(count):
        x = rng.random()
        if density(x) < rng.uniform(0.3, 0.62):
            continue
        y = line[round(x * (len(line) - 1))][1]
        draw_fir(wood, rng, (x, y + 0.012), tall * rng.uniform(0.6, 1.3), canvas.aspect)
    canvas.fill(wood.mask(), colour, mix(colour, (0, 0, 0), 0.25))


def draw_fir(stencil: Stencil, rng: Random, foot: Point, tall: float, aspect: float) -> None:
    """One fir tree; `tall` is a fraction of the picture's height."""
    x, y = foot
    stencil.rectangle(x - tall * 0.03 / aspect, y - tall * 0.2, x + tall * 0.03 / aspect, y)
    tiers = 6
    for tier in range(tiers):
        low = y - tall * (0.08 + 0.84 * tier / tiers)
        half = tall * 0.24 * (1 - tier / (tiers + 0.6)) * rng.uniform(0.85, 1.15) / aspect
        tip = low - tall * 0.3
        droop = tall * 0.035
        stencil.polygon(
            [
                (x - half, low + droop),
                (x - half * 0.3, low - droop * 0.5),
                (x, low + droop * 0.3),
                (x + half * 0.3, low - droop * 0.5),
                (x + half, low + droop),
                (x, max(tip, y - tall)),
            ]
        )


def paint_foreground(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """The dark ground that we stand on, with grass, flowers or large firs that frame the picture."""
    profile = ridge(rng, 2, 5)
    lean = 0.06 * scene.away
    base = 0.93 if has_water(scene) else 0.9
    line = [
        (i / _COLUMNS, base - 0.07 * profile(i / _COLUMNS) - lean * (i / _COLUMNS - 0.5))
        for i in range(_COLUMNS + 1)
    ]
    near = scene.palette.near
    if scene.snowy:
        near = lighter(near, 0.55)
    ground = darker(near, 0.1)
    _paint_mass(canvas, line, mix(ground, scene.palette.light, 0.12), darker(ground, 0.45))
    if scene.snowy or scene.ground == "desert":
        texture = cloudy(rng, canvas.image.size, (10, 16)).point([max(0, v - 120) // 2 for v in range(256)])
        shape = canvas.stencil()
        shape.polygon([*line, (1, 1), (0, 1)])
        canvas.fill(ImageChops.multiply(texture, shape.mask()), lighter(near, 0.4))
    else:
        _paint_grass(canvas, rng, line, darker(near, 0.22))
    if "flowers" in scene.things:
        _paint_flowers(canvas, scene, rng, line)
    if scene.ground == "forest" or ("forest" in scene.things and scene.ground != "city"):
        framing = canvas.stencil()
        for _ in range(11):
            edge = abs(rng.gauss(0, 0.13))
            x = edge if rng.random() < 0.5 else 1 - edge
            draw_fir(
                framing,
                rng,
                (x, 0.98 + rng.uniform(-0.03, 0.04)),
                rng.uniform(0.3, 0.68) * (1.15 - edge),
                canvas.aspect,
            )
        canvas.fill(framing.mask(), darker(scene.palette.near, 0.12), darker(scene.palette.near, 0.5))


def _paint_grass(canvas: Canvas, rng: Random, line: list[Point], colour: Colour) -> None:
    grass = canvas.stencil()
    for _ in range(340):
        x = rng.random()
        y = line[round(x * (len(line) - 1))][1] + rng.uniform(0.0, 0.03)
        tall, bend = rng.uniform(0.012, 0.042), rng.uniform(-0.012, 0.014)
        grass.polygon(
            [(x - 0.0014, y), (x + bend * 0.4, y - tall * 0.6), (x + bend, y - tall), (x + 0.0016, y)]
        )
    canvas.fill(grass.mask(), colour)


def _paint_flowers(canvas: Canvas, scene: Scene, rng: Random, line: list[Point]) -> None:
    colours: tuple[Colour, ...] = (
        (226, 66, 58),
        (240, 196, 76),
        (236, 228, 240),
        (170, 110, 210),
        (236, 130, 160),
    )
    for colour in rng.sample(colours, 3):
        heads = canvas.stencil()
        for _ in range(90):
            x = rng.random()
            y = line[round(x * (len(line) - 1))][1] + rng.uniform(-0.02, 1) * (1 - line[0][1])
            r = rng.uniform(0.003, 0.006) * (0.7 + 2 * max(0.0, y - 0.85))
            heads.ellipse((x, y), r / canvas.aspect, r * 0.85, rng.randint(150, 255))
        canvas.fill(heads.mask(), mix(colour, scene.palette.near, 0.15 if not scene.night else 0.5))


def paint_haze(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """The breath of the land: a broken veil along the horizon, thicker where mist was asked for."""
    strength = 0.75 if "mist" in scene.things else 0.28
    band = canvas.stencil()
    band.ellipse((0.5, scene.horizon + 0.03), 0.75, 0.1 if "mist" in scene.things else 0.05)
    veil = ImageChops.multiply(
        band.mask(blur=0.06, strength=strength), cloudy(rng, canvas.image.size, (4, 12))
    )
    canvas.fill(veil, mix(scene.palette.horizon, scene.palette.light, 0.3))
