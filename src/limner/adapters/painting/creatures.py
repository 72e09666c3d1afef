"""Whatever moves: people, animals, boats, balloons."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random

from limner.adapters.painting.canvas import Canvas, Point, Stencil, smooth
from limner.adapters.painting.colour import Colour, darker, lighter, mix
from limner.adapters.painting.land import has_water
from limner.adapters.painting.scene import Scene


class _Place:
    """Turns the coordinates of a figure into those of the canvas.

    A figure is drawn about (0, 0) with a size of about 1 and y downwards; `size` is its height as a
    fraction of the picture's, `flip` mirrors it.
    """

    def __init__(
        self, canvas: Canvas, x: float, y: float, size: float, *, flip: bool = False, turn: float = 0.0
    ) -> None:
        self._x, self._y, self._size = x, y, size
        self._side = -1 if flip else 1
        self._aspect = canvas.aspect
        self._cos, self._sin = math.cos(turn), math.sin(turn)

    def __call__(self, x: float, y: float) -> Point:
        x, y = x * self._cos - y * self._sin, x * self._sin + y * self._cos
        return self._x + self._side * x * self._size / self._aspect, self._y + y * self._size

    def all(self, points: list[Point]) -> list[Point]:
        return [self(x, y) for x, y in points]


def paint_birds(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """A loose flock of far birds; a few also where nobody asked, for they give a sky its depth."""
    asked = "birds" in scene.things
    if not asked and (scene.night or rng.random() < 0.4):
        return
    flock = canvas.stencil()
    x, y = rng.uniform(0.25, 0.7), rng.uniform(0.16, 0.36)
    for _ in range(17 if asked else 6):
        size = rng.uniform(0.012, 0.034 if asked else 0.02)
        place = _Place(
            canvas, x + rng.gauss(0, 0.09), y + rng.gauss(0, 0.055), size, turn=rng.uniform(-0.25, 0.25)
        )
        lift = rng.uniform(0.15, 0.6)
        wing = smooth([(-1.0, -lift * 0.6), (-0.5, -lift), (0.0, 0.0), (0.5, -lift), (1.0, -lift * 0.6)], 5)
        under = [(px * 0.97, py + 0.2 * (1 - abs(px)) + 0.05) for px, py in reversed(wing)]
        flock.polygon(place.all([*wing, *under]))
    canvas.fill(flock.mask(strength=0.85), darker(scene.palette.near, 0.1))


def paint_boat(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """A sailing boat under way, with its reflection."""
    if "boat" not in scene.things or not has_water(scene):
        return
    x = scene.light[0] + 0.2 * scene.away
    y = scene.horizon + rng.uniform(0.09, 0.13)
    size = rng.uniform(0.24, 0.3)
    flip = scene.away < 0
    hull, sails, lines = canvas.stencil(), canvas.stencil(), canvas.stencil()
    for mirrored in (False, True):
        place = _Place(canvas, x, y, size, flip=flip)

        def at(points: list[Point], place: _Place = place, mirrored: bool = mirrored) -> list[Point]:
            return place.all([(px, -py * 0.6 + 0.02 if mirrored else py) for px, py in points])

        ink = 60 if mirrored else 255
        hull.polygon(
            at(
                smooth(
                    [
                        (-0.44, -0.13),
                        (-0.3, -0.1),
                        (0.1, -0.1),
                        (0.5, -0.17),
                        (0.4, -0.06),
                        (0.28, 0.0),
                        (-0.32, 0.0),
                        (-0.44, -0.13),
                    ],
                    6,
                )
            ),
            ink,
        )
        lines.line(at([(0.05, -0.1), (0.05, -1.02)]), 0.0035, ink)
        lines.line(at([(0.48, -0.16), (0.74, -0.22)]), 0.003, ink)
        sails.polygon(
            at(smooth([(0.02, -0.98), (-0.22, -0.62), (-0.42, -0.2), (-0.1, -0.17), (0.02, -0.17)], 6)),
            round(ink * 0.95),
        )
        sails.polygon(
            at([*smooth([(0.08, -0.95), (0.32, -0.56), (0.7, -0.23)], 6), (0.3, -0.17), (0.08, -0.19)]),
            round(ink * 0.9),
        )
    cloth = mix((244, 234, 214), scene.palette.light, 0.3)
    if scene.night:
        cloth = mix(cloth, scene.palette.water, 0.4)
    canvas.fill(sails.mask(), cloth, mix(cloth, scene.palette.horizon, 0.4))
    canvas.fill(lines.mask(), darker(scene.palette.near, 0.2))
    canvas.fill(hull.mask(), mix(scene.palette.near, (92, 50, 34), 0.45), darker(scene.palette.near, 0.2))
    wake = canvas.stencil()
    wake.ellipse((x, y + 0.006), 0.1, 0.004)
    canvas.fill(wake.mask(blur=0.003, strength=0.55), lighter(scene.palette.horizon, 0.3))


def paint_balloon(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Hot-air balloons, one near and two far."""
    if "balloon" not in scene.things:
        return
    spots = (
        (rng.uniform(0.28, 0.44), 0.3, 0.2),
        (rng.uniform(0.62, 0.72), 0.2, 0.09),
        (rng.uniform(0.78, 0.9), 0.34, 0.06),
    )
    for x, y, size in spots:
        first: Colour = rng.choice(((196, 62, 52), (226, 160, 60), (62, 110, 150), (120, 70, 130)))
        fade = 0.55 - 2.4 * size
        envelope = smooth([(0, -0.62), (-0.4, -0.5), (-0.5, -0.18), (-0.32, 0.14), (-0.1, 0.36)], 6)
        for stripe in range(7):
            part = canvas.stencil()
            left, right = 1 - 2 * stripe / 7, 1 - 2 * (stripe + 1) / 7
            place = _Place(canvas, x, y, size)
            edge = [(px * left, py) for px, py in envelope] + [
                (px * right, py) for px, py in reversed(envelope)
            ]
            part.polygon(place.all(edge))
            colour = mix(first if stripe % 2 else (244, 228, 196), scene.palette.horizon, max(0.0, fade))
            canvas.fill(part.mask(), lighter(colour, 0.12), darker(colour, 0.25))
        basket = canvas.stencil()
        place = _Place(canvas, x, y, size)
        for side in (-0.1, 0.1):
            basket.line(place.all([(side, 0.36), (side * 0.8, 0.56)]), 0.0018)
        basket.polygon(place.all([(-0.09, 0.54), (0.09, 0.54), (0.075, 0.68), (-0.075, 0.68)]))
        canvas.fill(basket.mask(), mix(scene.palette.near, scene.palette.horizon, max(0.0, fade)))


def paint_dragon(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """A dragon in flight against the light; it breathes fire when the scene is one of fire."""
    if "dragon" not in scene.things:
        return
    flip = scene.away > 0
    with_castle = "castle" in scene.things
    size = rng.uniform(0.34, 0.38) if with_castle else rng.uniform(0.44, 0.5)
    place = _Place(
        canvas,
        (0.5 - 0.2 * scene.away) if with_castle else scene.light[0] + 0.14 * scene.away,
        0.36 if with_castle else 0.44,
        size,
        flip=flip,
        turn=rng.uniform(-0.12, 0.05),
    )
    body = canvas.stencil()
    spine = smooth(
        [
            (-0.86, 0.3),
            (-0.66, 0.4),
            (-0.44, 0.3),
            (-0.24, 0.12),
            (0.0, 0.06),
            (0.2, 0.02),
            (0.36, -0.12),
            (0.48, -0.24),
            (0.6, -0.22),
        ],
        9,
    )
    _draw_tapering(body, place, spine, [0.004, 0.012, 0.024, 0.05, 0.085, 0.078, 0.046, 0.034, 0.036], size)
    body.polygon(
        place.all(
            smooth(
                [(-0.84, 0.3), (-0.92, 0.2), (-1.04, 0.22), (-0.97, 0.29), (-0.95, 0.38), (-0.84, 0.31)], 4
            )
        )
    )
    body.polygon(
        place.all(
            smooth(
                [
                    (0.55, -0.3),
                    (0.66, -0.31),
                    (0.8, -0.22),
                    (0.79, -0.19),
                    (0.68, -0.19),
                    (0.58, -0.16),
                    (0.53, -0.22),
                    (0.55, -0.3),
                ],
                5,
            )
        )
    )
    body.polygon(place.all([(0.6, -0.19), (0.76, -0.145), (0.74, -0.13), (0.58, -0.15)]))
    body.polygon(place.all([(0.57, -0.28), (0.42, -0.42), (0.6, -0.31)]))
    body.polygon(place.all([(0.61, -0.29), (0.5, -0.44), (0.64, -0.31)]))
    for i in range(8, 62, 4):
        (x1, y1), (x2, y2) = spine[i], spine[i + 2]
        body.polygon(
            place.all(
                [
                    (x1, y1 - 0.02),
                    (x1 - 0.02, y1 - 0.05 - 0.045 * math.sin(math.pi * i / 66)),
                    (x2, y2 - 0.02),
                ]
            )
        )
    for shift in (0.0, 0.15):
        body.polygon(
            place.all(
                smooth(
                    [
                        (-0.14 + shift, 0.08),
                        (-0.13 + shift, 0.22),
                        (-0.2 + shift, 0.29),
                        (-0.13 + shift, 0.3),
                        (-0.06 + shift, 0.2),
                        (-0.02 + shift, 0.08),
                    ],
                    5,
                )
            )
        )
    far_wing = _wing(place, 0.78, -0.12, 0.9)
    near_wing = _wing(place, 1.0, 0.0, 1.0)
    hide = mix(scene.palette.near, scene.palette.zenith, 0.12)
    behind, front, skin = canvas.stencil(), canvas.stencil(), canvas.stencil()
    behind.polygon(far_wing[0])
    front.polygon(near_wing[0])
    for rib in near_wing[1]:
        skin.line(rib, 0.004)
    canvas.fill(behind.mask(), mix(hide, scene.palette.sky, 0.32))
    canvas.fill(body.mask(), lighter(hide, 0.06), darker(hide, 0.3))
    canvas.fill(front.mask(), mix(hide, scene.palette.sky, 0.14), darker(hide, 0.2))
    canvas.fill(skin.mask(strength=0.6), darker(hide, 0.5))
    eye = canvas.stencil()
    eye.ellipse(place(0.635, -0.25), 0.0032 / canvas.aspect, 0.0032)
    canvas.shine(eye.mask(blur=0.004), (255, 170, 60))
    canvas.fill(eye.mask(), (255, 220, 120))
    if "embers" in scene.things:
        _paint_breath(canvas, rng, place)


def _draw_tapering(
    stencil: Stencil, place: _Place, curve: list[Point], widths: list[float], size: float
) -> None:
    """A body along a curve; the widths belong to points at equal distances on it."""
    thick: list[float] = []
    for i in range(len(curve)):
        at = i / (len(curve) - 1) * (len(widths) - 1)
        cell = min(int(at), len(widths) - 2)
        thick.append(2 * size * (widths[cell] + (widths[cell + 1] - widths[cell]) * (at - cell)))
    stencil.taper(place.all(curve), thick)


def _wing(place: _Place, reach: float, lean: float, lift: float) -> tuple[list[Point], list[list[Point]]]:
    """The outline of a bat-like wing, and its finger bones."""
    shoulder = (0.12, 0.0)
    wrist = (0.1 + lean, -0.42 * lift)
    tips = [(-0.34, -0.8), (-0.62, -0.5), (-0.62, -0.16), (-0.42, 0.04)]
    fingers = [(x * reach + lean, y * lift) for x, y in tips]
    outline: list[Point] = [shoulder, wrist]
    outline += smooth(
        [wrist, ((wrist[0] + fingers[0][0]) / 2 + 0.03, (wrist[1] + fingers[0][1]) / 2 - 0.07), fingers[0]], 6
    )
    for first, second in pairwise(fingers):
        middle = ((first[0] + second[0]) / 2, (first[1] + second[1]) / 2)
        # The skin hangs towards the wrist between two fingers.
        sag = (middle[0] + (wrist[0] - middle[0]) * 0.28, middle[1] + (wrist[1] - middle[1]) * 0.28)
        outline += smooth([first, sag, second], 6)
    outline += smooth([fingers[-1], (-0.2, 0.02), (-0.1, 0.1)], 6)
    return place.all(outline), [place.all([wrist, finger]) for finger in fingers] + [
        place.all([shoulder, wrist])
    ]


def _paint_breath(canvas: Canvas, rng: Random, place: _Place) -> None:
    for share, colour in ((1.0, (200, 60, 10)), (0.66, (255, 140, 20)), (0.36, (255, 236, 150))):
        flame = canvas.stencil()
        for step in range(40):
            t = step / 39
            spot = place(0.8 + 0.62 * t * (0.6 + 0.4 * share), -0.16 + 0.26 * t * t + rng.gauss(0, 0.035) * t)
            r = (0.012 + 0.09 * t) * share * rng.uniform(0.5, 1.0) * 0.5
            flame.ellipse(spot, r / canvas.aspect, r, round(255 * (1 - 0.75 * t)))
        canvas.shine(flame.mask(blur=0.012), colour)


def paint_figure(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """Somebody in a cloak, seen from behind, looking into the picture; with a lantern when it is dark."""
    if "figure" not in scene.things:
        return
    x = 0.5 + 0.2 * scene.away * rng.uniform(0.6, 1.2)
    size = rng.uniform(0.27, 0.33)
    place = _Place(canvas, x, 0.94, size, flip=scene.away > 0)
    cloak, trim = canvas.stencil(), canvas.stencil()
    cloak.polygon(
        place.all(
            smooth(
                [
                    (-0.1, -0.8),
                    (-0.17, -0.66),
                    (-0.2, -0.4),
                    (-0.29, -0.03),
                    (-0.1, 0.02),
                    (0.12, 0.01),
                    (0.27, -0.03),
                    (0.19, -0.4),
                    (0.15, -0.67),
                    (0.09, -0.8),
                    (-0.1, -0.8),
                ],
                7,
            )
        )
    )
    cloak.polygon(
        place.all(
            smooth(
                [
                    (-0.11, -0.78),
                    (-0.12, -0.9),
                    (-0.03, -1.0),
                    (0.06, -0.98),
                    (0.11, -0.88),
                    (0.09, -0.77),
                    (-0.11, -0.78),
                ],
                7,
            )
        )
    )
    cloak.polygon(
        place.all(
            smooth(
                [(0.12, -0.64), (0.26, -0.52), (0.36, -0.5), (0.35, -0.45), (0.22, -0.44), (0.13, -0.5)], 5
            )
        )
    )
    trim.polygon(
        place.all(
            smooth(
                [
                    (0.09, -0.97),
                    (0.14, -0.84),
                    (0.155, -0.66),
                    (0.19, -0.4),
                    (0.275, -0.03),
                    (0.245, -0.02),
                    (0.165, -0.4),
                    (0.13, -0.66),
                    (0.09, -0.97),
                ],
                6,
            )
        )
    )
    colour = mix(
        darker(scene.palette.near, 0.25), rng.choice(((120, 30, 34), (30, 52, 92), (54, 74, 48))), 0.32
    )
    staff = canvas.stencil()
    staff.line(place.all([(0.35, -0.92), (0.36, 0.01)]), 0.0052)
    canvas.fill(staff.mask(), darker(scene.palette.near, 0.45))
    canvas.fill(cloak.mask(), colour, darker(colour, 0.5))
    canvas.fill(trim.mask(blur=0.002, strength=0.6), mix(colour, scene.palette.light, 0.65))
    if scene.lamps_lit:
        lamp = place(0.4, -0.84)
        canvas.glow(lamp, 0.3, (255, 190, 100), 0.85)
        flame = canvas.stencil()
        flame.ellipse(lamp, 0.008 / canvas.aspect, 0.011)
        canvas.fill(flame.mask(blur=0.001), (255, 244, 206))


def paint_cat(canvas: Canvas, scene: Scene, rng: Random) -> None:
    """A sitting cat, seen from behind."""
    if "cat" not in scene.things:
        return
    x = 0.5 + 0.16 * scene.away
    place = _Place(canvas, x, 0.93, rng.uniform(0.3, 0.36), flip=rng.random() < 0.5)
    fur = canvas.stencil()
    body = [(0.0, -0.66), (-0.13, -0.6), (-0.19, -0.42), (-0.25, -0.18), (-0.21, -0.02), (0.0, 0.01)]
    head = [(0.0, -0.88), (-0.09, -0.87), (-0.165, -0.77), (-0.15, -0.66), (-0.08, -0.59), (0.0, -0.57)]
    for half in (body, head):
        mirrored = [(-px, py) for px, py in reversed(half)]
        fur.polygon(place.all(smooth([*half, *mirrored[1:]], 7)))
    for side in (-1, 1):
        fur.polygon(place.all([(side * 0.162, -0.76), (side * 0.16, -1.0), (side * 0.035, -0.87)]))
    tail = smooth([(0.2, -0.04), (0.38, -0.03), (0.48, -0.14), (0.44, -0.3), (0.5, -0.38)], 8)
    fur.taper(place.all(tail), [0.026] * (len(tail) - 6) + [0.022, 0.02, 0.018, 0.015, 0.012, 0.008])
    colour = darker(scene.palette.near, 0.3)
    rim = canvas.stencil()
    edge = [(-0.13, -0.6), (-0.19, -0.42), (-0.25, -0.18), (-0.21, -0.03)]
    rim.line(place.all(smooth(edge, 7)), 0.004)
    canvas.fill(fur.mask(), mix(colour, scene.palette.light, 0.08), darker(colour, 0.4))
    canvas.fill(rim.mask(blur=0.002, strength=0.5), mix(colour, scene.palette.light, 0.7))
