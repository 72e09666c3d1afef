"""What the storyteller has to tell: the tales, and the places, hours and visitors that they are set with.

A tale takes up the reader's words only inside quotation marks, as something that was written or said. So its
grammar holds whatever was typed, in any language; what the words are about decides where and when it happens.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Place:
    """Where it happens.

    `there` is where people live there; `road` a sentence on how one comes there; `sound` and `view` what is
    heard and seen; `gift` what one brings from there. `near` and `far` are for the painter.
    """

    there: str
    road: str
    sound: str
    view: str
    gift: str
    near: str
    far: str


@dataclass(frozen=True, slots=True)
class Hour:
    """When it happens: `when`, a sentence about the `light`, the painter's words for it and for `later`."""

    when: str
    light: str
    painted: str
    later: str


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who comes by: a sentence in which it `comes`, the words for it alone, and the painter's."""

    comes: str
    named: str
    painted: str


@dataclass(frozen=True, slots=True)
class Hero:
    """Who it happens to."""

    name: str
    she: str
    her: str

    @property
    def object(self) -> str:
        """The pronoun behind a verb."""
        return "him" if self.she == "he" else "her"


PLACES = {
    "sea": Place(
        "on the coast",
        "The road ended at the water, as roads on that coast did.",
        "the sea turning over in its sleep",
        "a grey bay with one boat in it",
        "a shell with the sea still in it",
        "a small harbour, boats on a calm sea",
        "a lighthouse on a cliff above the sea, gulls",
    ),
    "lake": Place(
        "by the lake",
        "The path kept to the shore and took its time.",
        "water against a wooden pier",
        "a lake with the whole sky lying in it",
        "a flat stone, still wet, that fitted the hand",
        "a wooden pier on a quiet lake, reeds",
        "a wide lake with hills behind it, a small boat",
    ),
    "forest": Place(
        "at the edge of the forest",
        "The path went in between the trees and did not say where it came out.",
        "wind in the tops of the firs",
        "a clearing with one old tree in it",
        "a fir cone, tightly closed",
        "a path into a deep forest, tall firs",
        "a clearing in the forest with a single old tree",
    ),
    "mountains": Place(
        "in the mountains",
        "The path climbed for an hour, rested on a ledge, and climbed again.",
        "a stream a long way down",
        "a row of peaks, each a little paler than the one before it",
        "a grey stone with a white line all the way round it",
        "a hut below snowy mountain peaks",
        "a row of mountain peaks, a valley with a winding river",
    ),
    "city": Place(
        "in the old town",
        "The street turned three times, as if it wanted to be sure that nobody followed.",
        "a tram that sang in a curve far away",
        "a hundred roofs, and under each of them somebody awake",
        "a tram ticket to a stop that was closed years ago",
        "a narrow street in an old city, lit windows",
        "the rooftops and towers of an old city",
    ),
    "castle": Place(
        "below the castle",
        "The way up had more steps in it than the way down, everybody said so.",
        "a door somewhere in the towers that would not stay shut",
        "a courtyard with a well in the middle",
        "a key that was too large for any lock nearby",
        "a castle on a hill, lit windows, a winding road",
        "the towers of an old castle above a valley",
    ),
    "village": Place(
        "in the village",
        "The lane ran between two hedges and knew everybody.",
        "a dog that barked twice and then thought better of it",
        "seven roofs and a church that leaned a little",
        "a loaf of bread, still warm",
        "a village with cottages and a small church",
        "a village among fields, smoke over the roofs",
    ),
    "desert": Place(
        "on the border of the desert",
        "The road went on for a while under the sand; one could feel it with the feet.",
        "sand that ran down a dune and stopped",
        "a line of dunes, and on the last of them a single palm",
        "a handful of sand that ran neither slower nor faster than time",
        "an oasis with palms at the foot of the dunes",
        "wide desert dunes, a caravan of camels far away",
    ),
    "garden": Place(
        "behind the garden wall",
        "The gate was open, which it never was, and beyond it the gravel had been raked.",
        "bees, and behind the bees nothing at all",
        "an apple tree in the middle of high grass",
        "an apple with one leaf on it",
        "a garden full of flowers, an old wall, a gate",
        "an apple tree in blossom in a wide meadow",
    ),
}
"""By the word for it. The order says which counts where a line speaks of several."""

HOURS = {
    "storm": Hour(
        "in the middle of a storm",
        "The storm went once round the house, tried the shutters and began again from the front.",
        "in a thunderstorm, dark clouds",
        "after the storm, a clear evening sky",
    ),
    "snow": Hour(
        "on the first day of snow",
        "It snowed so quietly that one had to look up to be sure.",
        "in winter, falling snow",
        "deep snow in the pink light of morning",
    ),
    "night": Hour(
        "late at night",
        "There was a moon, and it was in no hurry.",
        "at night, a full moon and stars",
        "at dawn, pink sky",
    ),
    "dusk": Hour(
        "at dusk",
        "The light was going, and it took the small things with it first.",
        "at dusk, a red evening sky",
        "at night, stars",
    ),
    "dawn": Hour(
        "before sunrise",
        "In the east somebody had begun to rub the dark off the sky with a thumb.",
        "at dawn, pink sky",
        "on a bright summer day",
    ),
    "autumn": Hour(
        "on a day in October",
        "The leaves came down one at a time, like people who leave a party early.",
        "in autumn, golden leaves",
        "in autumn at dusk, mist over the fields",
    ),
    "day": Hour(
        "on a bright afternoon",
        "The afternoon stood still and held its light like a full glass.",
        "on a bright summer day",
        "at dusk, a red evening sky",
    ),
}
"""By the word for it, in the order in which they count."""

VISITORS = {
    "dragon": Visitor(
        "Something with wings crossed the sky, too large for a bird and too quiet for its size.",
        "a dragon that nobody had ordered",
        "a dragon with spread wings in the sky",
    ),
    "cat": Visitor(
        "A cat came along the wall, sat down, and looked as though it had arranged all this.",
        "a cat that belonged to no one in particular",
        "a cat on a wall",
    ),
    "balloon": Visitor(
        "A balloon came over the rise, striped like a sweet, and nobody was to be seen in its basket.",
        "a striped balloon with an empty basket",
        "a hot-air balloon in the sky",
    ),
    "birds": Visitor(
        "A flock of birds went up all at once, drew one long word on the sky, and took it back.",
        "a flock of birds, each with its own opinion of the wind",
        "a flock of birds in the sky",
    ),
    "figure": Visitor(
        "A figure with a lantern went by in the distance, and raised a hand as one does to a neighbour.",
        "a stranger with a lantern, seen from behind",
        "a wanderer with a lantern",
    ),
}
"""By the word for it, in the order in which they count."""

HEROES = (
    Hero("Mara", "she", "her"),
    Hero("Ansel", "he", "his"),
    Hero("Ilse", "she", "her"),
    Hero("Tobias", "he", "his"),
    Hero("Wren", "she", "her"),
    Hero("Oskar", "he", "his"),
)

TALES = ("order", "letter", "margin", "smallest-room", "price-of-a-night")


@functools.cache
def tale(name: str) -> str:
    """One of `TALES`, in which stand in braces:

    {line} the reader's words; {Name} {she} {She} {her} {him} the hero's; {there} {road} {sound} {view} {gift}
    the place's; {when} {light} the hour's; {comes} {visitor} the visitor's; and the tags: {first} the place
    at its hour, {second} the reader's words there, {third} the visitor, {last} the place later.
    """
    return (files("limner.adapters.demo") / "tales" / f"{name}.md").read_text(encoding="utf-8")


UNSAID = "the rest of this page"
"""The line where nothing was typed that could be read."""
