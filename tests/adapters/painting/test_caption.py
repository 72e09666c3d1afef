"""Captions: which font, where lines break, what cannot be written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.adapters.painting import caption
from limner.adapters.painting.caption import Line, lay_out, line_width, readable


def text_of(lines: list[Line]) -> str:
    return " ".join("".join(run.text for run in line) for line in lines)


def test_a_short_caption_stays_on_one_line():
    lines = lay_out("A red fox.", 20, 600, 3)
    assert text_of(lines) == "A red fox."
    assert len(lines) == 1


def test_lines_of_a_caption_are_of_about_the_same_length():
    lines = lay_out("The old wizard walks through an enchanted forest at midnight with a lantern", 20, 600, 3)
    assert len(lines) == 2
    first, second = map(line_width, lines)
    assert min(first, second) / max(first, second) > 0.7


def test_nothing_is_lost_in_breaking():
    text = "The old wizard walks through an enchanted forest at midnight with a lantern"
    assert text_of(lay_out(text, 20, 400, 3)) == text


def test_a_caption_that_is_too_long_ends_in_an_ellipsis_behind_a_whole_word():
    lines = lay_out("one two three four five six seven eight nine ten eleven twelve", 20, 120, 2)
    assert len(lines) == 2
    assert text_of(lines).endswith("…")
    assert text_of(lines).rstrip("…").split()[-1] in ("four", "five", "six", "seven", "eight")


def test_a_word_longer_than_a_line_is_cut():
    lines = lay_out("x" * 300, 20, 200, 3)
    assert len(lines) == 3
    assert all(line_width(line) <= 200 for line in lines)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=120), st.integers(14, 40), st.integers(60, 500))
def test_no_line_is_wider_than_its_room_and_there_are_never_too_many(text, size, width):
    lines = lay_out(readable(text), size, width, 3)
    assert len(lines) <= 3
    assert all(line_width(line) <= width for line in lines)


def test_a_caption_shows_the_beginning_of_a_long_prompt():
    text = readable("word " * 20_000)
    assert text.startswith("word word")
    assert text.endswith("…")
    assert len(text) < 500


def test_control_characters_and_lone_surrogates_are_left_out():
    assert readable("\ud800a\x00\x1b[0m\tb\n\nc\u202e") == "a[0m b c"


def test_what_no_font_can_write_becomes_one_ellipsis(monkeypatch):
    monkeypatch.setattr(caption, "_OTHER_FONTS", ())
    caption._font_name.cache_clear()
    try:
        assert readable("fox 森の中 and forest") == "fox … and forest"
        assert readable("森の中") == ""
        assert readable("Äpfel à la crème") == "Apfel a la creme"
    finally:
        caption._font_name.cache_clear()


@pytest.mark.parametrize("text", ["", "   ", "\n\x00"])
def test_a_prompt_of_nothing_has_no_caption(text):
    assert readable(text) == ""
    assert lay_out("", 20, 100, 3) == []
