"""What people have built, and single trees."""

from __future__ import annotations

import math
from random import Random

from PIL import ImageChops

from limner.adapters.painting.canvas import Canvas, Point, Stencil, ridge, vertical_gradient
from limner.adapters.painting.colour import Colour, darker, lighter, mix
from limner.adapters.painting.scene import Scene

_LAMPLIGHT: Colour = (255, 206, 120)
_NEON: tuple[Colour, ...] = ((90, 240, 255), (255, 110, 210), (255, 214, 120))


def paint_city(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Three rows of towers, the nearer the darker, with lit windows from dusk on."""
    if scene.ground != "city":
        return
    lit = scene.lamps_lit
    for row in range(3):
        colour = mix(
            mix(scene.palette.far, scene.palette.horizon, 0.25), scene.palette.near, (0.12, 0.5, 0.86)[row]
        )
        towers, windows = canvas.stencil(), canvas.stencil()
        skyline = ridge(rng, 3, 2)
        x = -0.02
        while x < 1.02:
            wide = rng.uniform(0.03, 0.062) * (0.7 + 0.35 * row)
            tall = (0.1 + 0.4 * skyline(x) ** 1.6) * (1.0 - 0.13 * row) * rng.uniform(0.6, 1.15)
            top = scene.horizon + 0.06 + 0.075 * row - tall
            _draw_tower_block(towers, rng, x, top, wide, canvas.aspect)
            if lit or row == 2:
                _draw_windows(windows, rng, x, top, wide, scene.horizon + 0.3, row)
            x += wide * rng.uniform(0.82, 1.25)
        canvas.fill(towers.mask(), colour, mix(colour, scene.palette.horizon, 0.34 - 0.1 * row))
        if lit:
            lamps = rng.choice(_NEON) if scene.mood == "magic" else _LAMPLIGHT
            canvas.shine(windows.mask(blur=0.006, strength=0.55), lamps)
            canvas.fill(windows.mask(strength=0.5 + 0.2 * row), lighter(lamps, 0.15))
        else:
            canvas.fill(windows.mask(strength=0.3), lighter(colour, 0.4))
        haze = canvas.stencil()
        haze.ellipse((0.5, scene.horizon + 0.1 + 0.075 * row), 0.9, 0.06)
        canvas.fill(haze.mask(blur=0.05, strength=0.42), mix(scene.palette.horizon, scene.palette.sky, 0.3))


def _draw_tower_block(towers: Stencil, rng: Random, x: float, top: float, wide: float, aspect: float) -> None:
    towers.rectangle(x, top, x + wide, 1)
    style = rng.randrange(5)
    if style == 0:
        inset = wide * 0.24
        towers.rectangle(x + inset, top - 0.022, x + wide - inset, top)
        towers.rectangle(x + wide / 2 - 0.0012, top - 0.07, x + wide / 2 + 0.0012, top)
    elif style == 1:
        towers.polygon([(x, top), (x + wide / 2, top - wide * aspect * 0.55), (x + wide, top)])
    elif style == 2:
        towers.polygon([(x, top), (x + wide, top - 0.03), (x + wide, top)])
    elif style == 3:
        towers.rectangle(x + wide * 0.12, top - 0.012, x + wide * 0.5, top)


def _draw_windows(
    windows: Stencil, rng: Random, x: float, top: float, wide: float, bottom: float, row: int
) -> None:
    columns = max(2, round(wide / 0.0095))
    pitch = wide / columns
    pane_w, pane_h = pitch * 0.45, 0.0105
    burning = rng.uniform(0.25, 0.6)
    y = top + 0.014
    while y < min(bottom, 1.0):
        for column in range(columns):
            if rng.random() < burning:
                left = x + pitch * (column + 0.28)
                windows.rectangle(left, y, left + pane_w, y + pane_h * 0.62, rng.randint(90, 255))
        y += 0.0185 + 0.003 * row


def paint_castle(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """A castle on its rock, towers roofed with cones, a banner on the keep."""
    if "castle" not in scene.things:
        return
    centre = 0.5 + 0.16 * scene.away
    ground = scene.horizon + 0.045
    rock, stone, shade, roofs, windows = (canvas.stencil() for _ in range(5))
    rough = ridge(rng, 5, 4)
    hill: list[Point] = [(centre - 0.3, ground + 0.12)]
    for i in range(31):
        t = i / 30 * 2 - 1
        hill.append((centre + 0.27 * t, ground + 0.09 - 0.15 * (1 - abs(t) ** 1.7) + 0.025 * rough(i / 30)))
    rock.polygon([*hill, (centre + 0.3, ground + 0.12)])
    base = ground - 0.035
    to_light = -1 if scene.light[0] < centre else 1
    towers = (
        (-0.125, 0.03, 0.12),
        (-0.062, 0.038, 0.19),
        (0.0, 0.052, 0.255),
        (0.07, 0.036, 0.175),
        (0.13, 0.03, 0.115),
    )
    _draw_wall(stone, centre - 0.14, centre + 0.145, base - 0.075, base + 0.07)
    for offset, wide, tall in sorted(towers, key=lambda tower: tower[2]):
        tall *= rng.uniform(0.92, 1.1)
        left, right, top = centre + offset - wide / 2, centre + offset + wide / 2, base - tall
        stone.rectangle(left, top, right, base + 0.06)
        lip = wide * 0.14
        stone.rectangle(left - lip, top, right + lip, top + 0.016)
        if to_light < 0:
            shade.rectangle(left + wide * 0.55, top, right + lip, base + 0.06)
        else:
            shade.rectangle(left - lip, top, right - wide * 0.55, base + 0.06)
        peak = top - wide * canvas.aspect * 1.5
        roofs.polygon([(left - lip * 1.4, top), (centre + offset, peak), (right + lip * 1.4, top)])
        for level in range(2):
            y = top + 0.034 + 0.052 * level
            windows.rectangle(centre + offset - 0.0032, y, centre + offset + 0.0032, y + 0.016)
            windows.ellipse((centre + offset, y), 0.0032, 0.0045)
        if wide > 0.05:
            roofs.line([(centre + offset, peak), (centre + offset, peak - 0.045)], 0.003)
            roofs.polygon(
                [
                    (centre + offset, peak - 0.045),
                    (centre + offset + 0.034, peak - 0.034),
                    (centre + offset, peak - 0.02),
                ]
            )
    wall = mix(mix(scene.palette.far, scene.palette.near, 0.5), scene.palette.light, 0.06)
    fade = vertical_gradient(
        canvas.image.size,
        [(0.0, (255,) * 3), (ground, (255,) * 3), (ground + 0.11, (0,) * 3), (1.0, (0,) * 3)],
    )
    canvas.fill(
        ImageChops.multiply(rock.mask(), fade.convert("L")),
        mix(scene.palette.far, scene.palette.near, 0.6),
        mix(scene.palette.far, scene.palette.near, 0.85),
    )
    canvas.fill(stone.mask(), mix(wall, scene.palette.light, 0.2), wall)
    canvas.fill(shade.mask(strength=0.42), darker(wall, 0.45))
    canvas.fill(roofs.mask(), mix(darker(scene.palette.near, 0.05), (130, 44, 44), 0.4))
    canvas.shine(windows.mask(blur=0.011, strength=0.9), _LAMPLIGHT)
    canvas.fill(
        windows.mask(), lighter(_LAMPLIGHT, 0.25) if scene.night or scene.mood != "day" else darker(wall, 0.6)
    )
    veil = canvas.stencil()
    veil.ellipse((centre, ground + 0.075), 0.4, 0.035)
    canvas.fill(veil.mask(blur=0.03, strength=0.45), mix(scene.palette.horizon, scene.palette.far, 0.3))


def _draw_wall(stone: Stencil, left: float, right: float, top: float, bottom: float) -> None:
    stone.rectangle(left, top, right, bottom)
    teeth = 24
    pitch = (right - left) / teeth
    for tooth in range(teeth):
        stone.rectangle(left + pitch * tooth, top - 0.011, left + pitch * (tooth + 0.55), top)


def paint_village(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """A handful of cottages with smoking chimneys and lit windows."""
    if "village" not in scene.things:
        return
    on_water = scene.ground in ("sea", "lake")
    spots = [
        (0.5 + scene.away * (0.06 + 0.1 * slot + rng.uniform(-0.02, 0.02)), below)
        for slot, below in zip(range(5), rng.sample((0.06, 0.08, 0.1, 0.13, 0.16), 5), strict=True)
    ]
    if on_water:
        _paint_shore(canvas, scene, rng)
    for x, below in sorted(spots, key=lambda spot: spot[1]):
        y = scene.horizon + (0.26 * below + 0.01 if on_water else below)
        size = 0.05 if on_water else 0.045 + 0.26 * below
        wall, roof, lamp, smoke = (canvas.stencil() for _ in range(4))
        wide = size / canvas.aspect
        wall.rectangle(x - wide, y - size * 0.75, x + wide, y + size * 0.1)
        wall.rectangle(x + wide * 0.45, y - size * 1.72, x + wide * 0.66, y - size * 0.9)
        roof.polygon(
            [
                (x - wide * 1.22, y - size * 0.68),
                (x - wide * 0.62, y - size * 1.5),
                (x + wide * 0.62, y - size * 1.5),
                (x + wide * 1.22, y - size * 0.68),
            ]
        )
        for off in (-0.55, 0.35):
            lamp.rectangle(x + wide * off, y - size * 0.5, x + wide * (off + 0.24), y - size * 0.22)
        lamp.rectangle(x - wide * 0.16, y - size * 0.42, x + wide * 0.1, y + size * 0.08, 130)
        for puff in range(9):
            rise = puff / 8
            smoke.ellipse(
                (x + wide * 0.55 + 0.03 * rise * rise, y - size * 1.75 - 0.11 * rise),
                wide * (0.1 + 0.34 * rise),
                size * (0.1 + 0.2 * rise),
                round(150 * (1 - rise)),
            )
        colour = mix(mix(scene.palette.far, scene.palette.near, 0.55), (170, 130, 100), 0.2)
        canvas.fill(smoke.mask(blur=0.012, strength=0.7), lighter(scene.palette.horizon, 0.2))
        canvas.fill(wall.mask(), colour, darker(colour, 0.3))
        canvas.fill(
            roof.mask(),
            lighter(darker(scene.palette.near, 0.1), 0.75 if scene.snowy else 0.05),
            darker(scene.palette.near, 0.25),
        )
        canvas.shine(lamp.mask(blur=0.015, strength=0.9), _LAMPLIGHT)
        canvas.fill(lamp.mask(), _LAMPLIGHT)


def _paint_shore(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """A spit of land for houses to stand on."""
    rough = ridge(rng, 4, 3)
    start = 0.5 - 0.06 * scene.away
    top = [
        (
            start + scene.away * 0.62 * i / 30,
            scene.horizon + 0.028 - 0.05 * min(1.0, i / 9) * (0.6 + 0.5 * rough(i / 30)),
        )
        for i in range(31)
    ]
    land = canvas.stencil()
    land.polygon(
        [
            *top,
            (start + scene.away * 0.62, scene.horizon + 0.075),
            (start + scene.away * 0.2, scene.horizon + 0.06),
        ]
    )
    colour = mix(scene.palette.far, scene.palette.near, 0.7)
    canvas.fill(land.mask(), lighter(colour, 0.5) if scene.snowy else colour, darker(colour, 0.4))


def paint_lighthouse(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """A lighthouse on a rock, its beam across the sky when it is dark enough."""
    if "lighthouse" not in scene.things:
        return
    x = 0.5 + 0.32 * scene.away
    foot = scene.horizon + 0.06
    top = foot - 0.36
    rock, tower, bands, lamp = (canvas.stencil() for _ in range(4))
    rough = ridge(rng, 6, 4)
    rock.polygon(
        [
            (x - 0.2, foot + 0.1),
            *[
                (
                    x - 0.2 + 0.4 * i / 24,
                    foot + 0.09 - 0.12 * math.sin(math.pi * i / 24) ** 0.7 * (0.75 + 0.4 * rough(i / 24)),
                )
                for i in range(25)
            ],
            (x + 0.2, foot + 0.1),
        ]
    )
    wide = 0.034 / canvas.aspect * 1.5
    tower.polygon([(x - wide, foot), (x - wide * 0.62, top), (x + wide * 0.62, top), (x + wide, foot)])
    for band in range(3):
        low, high = 0.2 + 0.27 * band, 0.2 + 0.27 * band + 0.13
        w1, w2 = wide * (1 - 0.38 * low), wide * (1 - 0.38 * high)
        y1, y2 = foot + (top - foot) * low, foot + (top - foot) * high
        bands.polygon([(x - w1, y1), (x - w2, y2), (x + w2, y2), (x + w1, y1)])
    cap = canvas.stencil()
    cap.rectangle(x - wide * 0.86, top - 0.008, x + wide * 0.86, top + 0.004)
    cap.rectangle(x - wide * 0.5, top - 0.05, x + wide * 0.5, top - 0.008)
    cap.polygon([(x - wide * 0.7, top - 0.048), (x, top - 0.09), (x + wide * 0.7, top - 0.048)])
    lamp.rectangle(x - wide * 0.36, top - 0.045, x + wide * 0.36, top - 0.012)
    stone = mix(
        mix(scene.palette.far, scene.palette.near, 0.2), (240, 234, 224), 0.55 if not scene.night else 0.2
    )
    canvas.fill(rock.mask(), mix(scene.palette.near, scene.palette.far, 0.3), darker(scene.palette.near, 0.2))
    foam = canvas.stencil()
    foam.ellipse((x, foot + 0.098), 0.21, 0.007)
    canvas.fill(foam.mask(blur=0.004, strength=0.7), lighter(scene.palette.horizon, 0.35))
    canvas.fill(tower.mask(), stone, darker(stone, 0.25))
    canvas.fill(bands.mask(), mix(stone, (176, 48, 44), 0.8))
    canvas.fill(cap.mask(), darker(scene.palette.near, 0.1))
    centre = (x, top - 0.029)
    if scene.lamps_lit or scene.mood == "dawn":
        beam = canvas.stencil()
        away = -1 if x > 0.5 else 1
        beam.polygon([centre, (x + away * 1.1, top - 0.24), (x + away * 1.1, top - 0.02)], 150)
        beam.polygon([centre, (x - away * 0.6, top + 0.09), (x - away * 0.6, top + 0.0)], 60)
        canvas.shine(beam.mask(blur=0.014, strength=0.42), (255, 240, 190))
        canvas.glow(centre, 0.28, (255, 230, 170), 0.9)
    canvas.fill(lamp.mask(), (255, 248, 214))


def paint_tree(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """One broad tree in the foreground, in leaf or in blossom."""
    if "tree" not in scene.things:
        return
    x = 0.5 + 0.28 * scene.away
    trunk = canvas.stencil()
    tips: list[Point] = []

    def grow(start: Point, angle: float, length: float, thick: float, depth: int) -> None:
        end = (start[0] + math.sin(angle) * length / canvas.aspect, start[1] - math.cos(angle) * length)
        trunk.taper([start, end], [thick, thick * 0.72])
        if depth == 0:
            tips.append(end)
            return
        for turn in (-1, 1):
            grow(
                end,
                angle + turn * rng.uniform(0.22, 0.62),
                length * rng.uniform(0.68, 0.86),
                thick * 0.66,
                depth - 1,
            )

    grow((x, 0.95), rng.uniform(-0.1, 0.1), 0.16, 0.034, 6)
    canvas.fill(trunk.mask(), darker(scene.palette.near, 0.25))
    leaf = {
        "autumn": (206, 104, 40),
        "magic": (236, 150, 200),
        "snow": (228, 234, 242),
        "dawn": (236, 168, 184),
    }.get(scene.mood, (74, 120, 60))
    for share in (0.55, 0.25, 0.0):
        leaves = canvas.stencil()
        for tip in tips:
            for _ in range(7):
                r = rng.uniform(0.004, 0.012)
                leaves.ellipse(
                    (
                        tip[0] + rng.gauss(0, 0.02) / canvas.aspect,
                        tip[1] + rng.gauss(0, 0.02) - 0.012 * (0.55 - share),
                    ),
                    r / canvas.aspect,
                    r * 0.8,
                    rng.randint(120, 255),
                )
        canvas.fill(leaves.mask(), mix(mix(leaf, scene.palette.light, 0.12), scene.palette.near, share))
