"""What ends the tag in which a text breaks off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.text import DEFAULT_PATTERNS, PRESETS, TagPattern, compile_patterns, extract_image_prompts
from limner.text.unfinished import missing_end
from tests.text.strategies import PATTERN_SETS, pieces


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ('A <!--img-prompt="an old light', '"-->'),
        ('A <!--img-prompt="', '"-->'),
        ('A <!--img-prompt="an old light"', "-->"),
        ('A <!--img-prompt="an old light"--', ">"),
        ('A <img_prompt="an old light', '">'),
        ('A <img_prompt="an old light"', ">"),
        # An escape takes the quote along that would end the tag, unless it is itself escaped.
        ('A <img_prompt="an old light\\', '\\">'),
        ('A <img_prompt="an old light\\"', '">'),
        ('A <img_prompt="an old light\\\\', '">'),
        ('<img_prompt="a fox"> and <!--img-prompt="a', '"-->'),
    ],
)
def test_a_tag_that_is_open_is_ended_as_it_would_end(text: str, end: str):
    assert missing_end(text) == end


@pytest.mark.parametrize("text", ["<!--", "A <!--img", '<!--img-prompt="a"--><!--img-prompt='])
def test_a_comment_that_is_about_to_become_a_tag_is_ended_as_a_comment(text: str):
    assert missing_end(text) == "-->"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A fox.",
        '<img_prompt="a fox">',
        "A <img_pro",
        "A <!-",
        'A <img_prompt="a "quoted" fox',
        "<!-- a note",
        '<think>I could write <img_prompt="a',
    ],
)
def test_a_text_that_ends_in_no_tag_misses_nothing(text: str):
    assert missing_end(text) == ""


@pytest.mark.parametrize(
    ("text", "end"), [("<t2i>a fox", "</t2i>"), ("<t2i>a fox</t", "2i>"), ("<t2i>a </t2i", ">"), ("<t2i", "")]
)
def test_a_tag_without_quotes_is_ended_with_what_is_missing_of_its_closer(text: str, end: str):
    assert missing_end(text, PRESETS["t2i"]) == end


def test_a_regular_expression_has_no_end_that_is_known():
    assert missing_end("[[draw: a", [r"\[\[draw: (.+?)\]\]"]) == ""


def test_code_that_holds_no_prompts_is_left_alone():
    patterns = compile_patterns(in_code_fences=False)
    assert missing_end('```\n<img_prompt="a', patterns) == ""
    assert missing_end('```\n```\n<img_prompt="a', patterns) == '">'


@pytest.mark.parametrize("patterns", PATTERN_SETS)
@given(text=pieces())
def test_what_is_ended_is_open_no_more(patterns: tuple[TagPattern, ...], text: str):
    assert missing_end(text + missing_end(text, patterns), patterns) == ""


@given(
    prompt=st.text(alphabet='ab "\\-<>', min_size=1),
    cut=st.integers(0),
    tag=st.sampled_from(DEFAULT_PATTERNS),
)
def test_a_tag_that_is_cut_and_ended_is_one_tag(prompt: str, cut: int, tag: TagPattern):
    body = prompt.replace("\\", "\\\\").replace('"', '\\"')
    text = f"{tag.opener}{body[: cut % (len(body) + 1)]}"
    ended = text + missing_end(text)
    assert [match.full_match for match in extract_image_prompts(ended)] in ([ended], [])
    assert extract_image_prompts(f'{ended}<img_prompt="next">')[-1].full_match == '<img_prompt="next">'
