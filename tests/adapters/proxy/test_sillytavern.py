"""The scripts for SillyTavern in examples/: what they take out of a text, and what they leave."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.text import HTML, MARKDOWN, render_image
from tests.adapters.proxy.house import FOX

ROOT = Path(__file__).parents[3]
PICTURES, HALF_TAG = json.loads((ROOT / "examples" / "sillytavern_regex.json").read_text("utf-8"))
AI_OUTPUT = 2
DATA = "data:image/webp;base64,UklGRg=="


def applied(script: dict[str, Any], text: str) -> str:
    pattern = re.fullmatch("/(.*)/g", script["findRegex"])
    assert pattern is not None
    return re.sub(pattern[1].replace("$", r"\Z"), script["replaceString"], text)


def test_one_changes_what_is_sent_and_the_other_what_is_shown_of_what_the_model_said():
    assert [(script["promptOnly"], script["markdownOnly"]) for script in (PICTURES, HALF_TAG)] == [
        (True, False),
        (False, True),
    ]
    for script in (PICTURES, HALF_TAG):
        assert script["placement"] == [AI_OUTPUT]
        assert not script["disabled"]
        assert not script["runOnEdit"]


@given(prompts=st.lists(st.text(), min_size=1, max_size=3))
def test_the_pictures_below_a_reply_are_not_sent(prompts: list[str]):
    below = "".join(f"\n\n{render_image(MARKDOWN, DATA, prompt)}" for prompt in prompts)
    assert applied(PICTURES, f"Once {FOX}.{below}") == f"Once {FOX}."
    assert applied(PICTURES, f"Once {FOX}.{below}\n\nAnd on.") == f"Once {FOX}.\n\nAnd on."


@pytest.mark.parametrize("picture", ["![a map](http://a.example/map.png)", render_image(HTML, DATA, "a fox")])
def test_other_pictures_are_sent(picture: str):
    assert applied(PICTURES, f"Once {picture}") == f"Once {picture}"


def test_a_tag_is_hidden_from_its_beginning_to_its_end():
    text = f"Once.\n\n{FOX}\n\nMore."
    start, end = text.index(FOX), text.index(FOX) + len(FOX)
    for length in range(len(text) + 1):
        shown = applied(HALF_TAG, text[:length])
        assert shown == (text[:start] if start + 4 <= length < end else text[:length])
