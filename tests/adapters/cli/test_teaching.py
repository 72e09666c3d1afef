"""What a model is told of the tags."""

from __future__ import annotations

from typing import get_args

import pytest

from limner.adapters.cli.errors import BadInput
from limner.adapters.cli.teaching import Writing, system_prompt
from limner.text import PRESETS, extract_image_prompts


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("writing", get_args(Writing))
def test_what_is_taught_is_what_is_found(writing: Writing, preset: str):
    (match,) = extract_image_prompts(system_prompt(PRESETS[preset], writing), PRESETS[preset])
    assert match.prompt == "DESCRIPTION"


def test_a_story_has_many_pictures():
    assert "three to six pictures, the first one early" in system_prompt(PRESETS["default"], "story")


def test_a_reply_has_few_and_ends_none_of_them_in_the_middle():
    told = system_prompt(PRESETS["default"], "reply")
    assert "one picture in a reply, at most two, and only where the scene changes" in told
    assert "Finish each prompt before your reply ends." in told


def test_a_regular_expression_teaches_nothing():
    with pytest.raises(BadInput, match="add --system TEXT or a --preset"):
        system_prompt([r"\[\[(.+?)\]\]"], "reply")
