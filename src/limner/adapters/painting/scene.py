"""From the words of a prompt to what shall be painted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from limner.adapters.painting.colour import PALETTES, Palette
from limner.adapters.painting.words import WORDS

# A prompt may have 100 kB; a scene is made of its first words.
_READ_CHARACTERS = 2_000

_ASKED_BY: dict[str, tuple[str, ...]] = {}
for _thing, _names in WORDS.items():
    for _name in _names.split():
        _ASKED_BY[_name] = (*_ASKED_BY.get(_name, ()), _thing)

# The colours come from the first of these that was asked for; the rarer wish goes first.
_MOODS = ("fire", "storm", "magic", "dusk", "dawn", "night", "desert", "autumn", "snow", "day")
_GROUNDS = ("lake", "sea", "city", "desert", "forest", "mountains")
_FEATURES_ON_LAND = frozenset({"village", "flowers", "tree", "castle"})


@dataclass(frozen=True, slots=True)
class Scene:
    """What to paint.

    `mood` names the palette, `ground` the land, `things` everything else that was asked for. `light` is
    where the sun or moon stands and `horizon` where sky and land meet, as fractions of the picture's
    sides. `night` says that the light is a moon, `snowy` that snow lies on the ground.
    """

    mood: str
    ground: str
    things: frozenset[str]
    palette: Palette
    light: tuple[float, float]
    horizon: float
    night: bool
    snowy: bool

    @property
    def lamps_lit(self) -> bool:
        """Whether it is dark enough for lamps and lit windows."""
        return self.night or self.mood in ("dusk", "storm", "fire")

    @property
    def away(self) -> int:
        """The side that the light is not on: 1 for right, -1 for left."""
        return 1 if self.light[0] < 0.5 else -1


def read_scene(prompt: str, rng: Random) -> Scene:
    """Find what the prompt asks for; `rng` decides what it leaves open."""
    asked: set[str] = set()
    for word in re.findall(r"[^\W\d_]+", prompt[:_READ_CHARACTERS].casefold()):
        asked.update(_ASKED_BY.get(word) or _ASKED_BY.get(word.removesuffix("s"), ()))
    mood = _mood(asked, rng)
    night = "night" in asked or mood in ("night", "magic")
    side = rng.choice((-1, 1))
    high = night or mood in ("day", "snow", "desert", "storm")
    return Scene(
        mood=mood,
        ground=_ground(asked, rng),
        things=frozenset(asked),
        palette=PALETTES[mood].varied(rng),
        light=(
            0.5 + side * rng.uniform(0.14, 0.3),
            rng.uniform(0.16, 0.28) if high else rng.uniform(0.36, 0.46),
        ),
        horizon=rng.uniform(0.58, 0.66),
        night=night,
        snowy="snow" in asked,
    )


def _mood(asked: set[str], rng: Random) -> str:
    for mood in _MOODS:
        if mood in asked:
            return mood
    if "dragon" in asked:
        return rng.choice(("dusk", "fire", "storm"))
    if "rain" in asked:
        return "storm"
    return rng.choice(("dawn", "dusk", "day", "night", "autumn"))


def _ground(asked: set[str], rng: Random) -> str:
    for ground in _GROUNDS:
        if ground in asked:
            return ground
    if asked & _FEATURES_ON_LAND:
        return rng.choice(("hills", "hills", "mountains"))
    return rng.choice(("hills", "mountains", "lake", "forest"))
