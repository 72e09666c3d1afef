"""From the words of a prompt to a scene."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.painting.colour import PALETTES
from limner.adapters.painting.scene import read_scene


@pytest.mark.parametrize(
    ("prompt", "mood", "ground", "things"),
    [
        ("A lighthouse over the stormy sea", "storm", "sea", {"lighthouse"}),
        ("DRAGONS above a burning castle", "fire", None, {"dragon", "castle", "embers"}),
        ("a mountain lake at sunrise", "dawn", "lake", set()),
        ("a neon skyline in the rain", "magic", "city", {"rain"}),
        ("camels in the desert, noon", "desert", "desert", set()),
        ("snowy pines", "snow", "forest", {"snowfall"}),
        ("two kittens", None, None, {"cat"}),
    ],
)
def test_words_choose_the_scene(prompt, mood, ground, things):
    scene = read_scene(prompt, Random(1))
    assert things <= scene.things
    assert mood in (None, scene.mood)
    assert ground in (None, scene.ground)


def test_parts_of_words_choose_nothing():
    assert read_scene("the seating in Lancaster, a catalogue", Random(1)).things == frozenset()


def test_snow_can_lie_at_night():
    scene = read_scene("snow at midnight", Random(1))
    assert (scene.mood, scene.night, scene.snowy) == ("night", True, True)


@given(st.text(max_size=200), st.integers())
def test_every_prompt_makes_a_scene_within_the_picture(prompt, seed):
    scene = read_scene(prompt, Random(seed))
    assert scene.mood in PALETTES
    assert 0 < scene.light[0] < 1
    assert 0 < scene.light[1] < scene.horizon < 0.7


def test_what_is_left_open_differs_from_seed_to_seed():
    moods = {read_scene("something", Random(seed)).mood for seed in range(30)}
    assert len(moods) > 2
