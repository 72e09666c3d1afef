"""Colours, and the palettes for the times and moods of a scene."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from random import Random

Colour = tuple[int, int, int]


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` at share 0.0, `second` at 1.0, and the straight line in between."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def lighter(colour: Colour, share: float) -> Colour:
    """`colour` moved towards white by `share`."""
    return mix(colour, (255, 255, 255), share)


def darker(colour: Colour, share: float) -> Colour:
    """`colour` moved towards black by `share`."""
    return mix(colour, (0, 0, 0), share)


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one mood, from the zenith down to the painter's feet.

    Distance is told by colour alone: ridges run from `far`, which is nearly the sky's, to `near`.
    """

    zenith: Colour
    sky: Colour
    horizon: Colour
    light: Colour
    far: Colour
    near: Colour
    water: Colour

    def varied(self, rng: Random, amount: int = 9) -> Palette:
        """This palette, every colour a shade different, so that two equal prompts differ too."""
        shades: dict[str, Colour] = {}
        for field in fields(self):
            red, green, blue = getattr(self, field.name)
            shades[field.name] = (
                _shade(red, rng, amount),
                _shade(green, rng, amount),
                _shade(blue, rng, amount),
            )
        return replace(self, **shades)


def _shade(channel: int, rng: Random, amount: int) -> int:
    return min(255, max(0, channel + rng.randint(-amount, amount)))


PALETTES = {
    "day": Palette(
        (52, 108, 170),
        (124, 178, 212),
        (241, 229, 203),
        (255, 246, 214),
        (148, 176, 194),
        (36, 66, 52),
        (58, 120, 150),
    ),
    "dawn": Palette(
        (70, 88, 148),
        (222, 152, 156),
        (255, 218, 168),
        (255, 236, 196),
        (170, 138, 164),
        (46, 38, 66),
        (120, 112, 150),
    ),
    "dusk": Palette(
        (40, 30, 84),
        (182, 72, 94),
        (255, 172, 92),
        (255, 214, 140),
        (140, 78, 108),
        (28, 18, 42),
        (96, 60, 98),
    ),
    "night": Palette(
        (6, 10, 32), (20, 36, 82), (72, 102, 150), (236, 240, 255), (48, 68, 110), (8, 12, 26), (22, 44, 84)
    ),
    "fire": Palette(
        (26, 8, 18), (128, 34, 22), (255, 156, 58), (255, 206, 110), (116, 44, 32), (20, 8, 12), (110, 40, 26)
    ),
    "snow": Palette(
        (92, 124, 166),
        (168, 192, 214),
        (244, 236, 230),
        (255, 250, 240),
        (176, 194, 214),
        (62, 82, 108),
        (112, 146, 176),
    ),
    "storm": Palette(
        (28, 36, 50),
        (78, 94, 108),
        (176, 182, 172),
        (226, 232, 224),
        (98, 114, 124),
        (20, 28, 34),
        (54, 78, 90),
    ),
    "magic": Palette(
        (32, 18, 78),
        (118, 66, 160),
        (252, 180, 200),
        (255, 232, 244),
        (126, 92, 164),
        (26, 14, 48),
        (84, 66, 146),
    ),
    "desert": Palette(
        (62, 132, 176),
        (190, 204, 192),
        (252, 224, 176),
        (255, 244, 208),
        (222, 176, 128),
        (124, 66, 40),
        (90, 150, 160),
    ),
    "autumn": Palette(
        (86, 120, 156),
        (208, 186, 158),
        (255, 222, 160),
        (255, 238, 190),
        (190, 142, 104),
        (82, 34, 22),
        (110, 120, 124),
    ),
}
"""By mood. The names are those that `scene` uses."""
