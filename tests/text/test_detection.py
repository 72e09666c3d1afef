"""What is a prompt, and what is not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings

from limner.errors import PatternTooSlow
from limner.text import (
    DEFAULT_PATTERNS,
    PRESETS,
    PromptPatterns,
    TagPattern,
    compile_patterns,
    extract_image_prompts,
)
from tests.text.strategies import any_text, tag


def prompts(text: str, patterns: PromptPatterns | Iterable[str | TagPattern] | None = None) -> list[str]:
    return [match.prompt for match in extract_image_prompts(text, patterns)]


def test_prompts_come_in_the_order_of_the_text_with_their_offsets():
    text = 'A <img_prompt="cat"> and <!--img-prompt="dog"-->.'
    first, second = extract_image_prompts(text)
    assert (first.prompt, text[first.start : first.end]) == ("cat", '<img_prompt="cat">')
    assert (second.prompt, text[second.start : second.end]) == ("dog", '<!--img-prompt="dog"-->')


def test_equal_prompts_are_numbered_whatever_their_tags():
    text = '<img_prompt="cat"><img_prompt="dog"><!--img-prompt=" cat "-->'
    assert [(m.prompt, m.occurrence) for m in extract_image_prompts(text)] == [
        ("cat", 0),
        ("dog", 0),
        ("cat", 1),
    ]


def test_escaped_quotes_do_not_end_a_prompt_and_are_unescaped():
    assert prompts(r'<img_prompt="a \"big\" cat">') == ['a "big" cat']


def test_other_escapes_stay_as_written():
    assert prompts(r'<img_prompt="a\\b\n\c">') == [r"a\\b\n\c"]


def test_an_escaped_backslash_before_the_quote_does_not_escape_the_quote():
    assert prompts(r'<img_prompt="path\\"> more">') == [r"path\\"]


def test_anything_may_stand_between_the_quotes():
    body = "a\nb --> <c> <think> ``` {{x}} \0 \ud800 \r\n d"
    assert prompts(f'<!--img-prompt="{body}"-->') == [body]


@settings(deadline=None)
@given(any_text())
def test_whatever_a_prompt_is_its_tag_gives_it_back(prompt):
    expected = prompt.replace("\\", "/").strip()
    for pattern in DEFAULT_PATTERNS:
        assert prompts(tag(prompt, pattern)) == ([expected] if expected else [])


def test_white_space_around_a_prompt_is_trimmed():
    assert prompts('<img_prompt="\n  a cat\t">') == ["a cat"]


def test_blank_prompts_are_skipped_and_not_counted():
    assert prompts('<img_prompt=""><img_prompt=" \n "><img_prompt="cat">') == ["cat"]


@pytest.mark.parametrize(
    "text",
    [
        '<IMG_PROMPT="cat">',
        '<img_prompt ="cat">',
        '<img_prompt= "cat">',
        "<img_prompt='cat'>",
        '<img_prompt="cat" >',
        '<!-- img-prompt="cat"-->',
        '<img_prompt="cat"',
        '<img_prompt="cat',
        '<img_prompt="cat\\">',
    ],
)
def test_tags_are_exact(text):
    assert prompts(text) == []


def test_a_tag_that_fails_at_its_quote_hides_nothing_behind_it():
    assert prompts('<img_prompt="cat>\n"Look," she said. <img_prompt="dog">') == ["dog"]


def test_a_tag_that_is_never_closed_holds_back_the_rest():
    text = '<img_prompt="cat> <t2i>dog</t2i>'
    assert prompts(text, (*DEFAULT_PATTERNS, *PRESETS["t2i"])) == []
    assert prompts(text + '"', (*DEFAULT_PATTERNS, *PRESETS["t2i"])) == []
    assert prompts(text + '".', (*DEFAULT_PATTERNS, *PRESETS["t2i"])) == ["dog"]


def test_a_tag_inside_a_prompt_is_prompt():
    assert prompts('<!--img-prompt="a <img_prompt=\\"b\\">"-->') == ['a <img_prompt="b">']


def test_a_plain_tag_runs_to_its_first_closer_and_is_not_unescaped():
    assert prompts(r"<t2i>a \"b\" <t2i>c</t2i></t2i>", PRESETS["t2i"]) == [r"a \"b\" <t2i>c"]


# --- reasoning and code


def test_nothing_in_a_reasoning_block_is_a_prompt():
    assert prompts('<think>or <img_prompt="cat">?</think><img_prompt="dog">') == ["dog"]
    assert prompts('<thinking><img_prompt="cat"></thinking><img_prompt="dog">') == ["dog"]


def test_a_reasoning_block_that_is_not_closed_reaches_to_the_end():
    assert prompts('<img_prompt="cat"><think><img_prompt="dog">') == ["cat"]


def test_what_begins_first_wins():
    assert prompts('<img_prompt="<think>"> <img_prompt="</think>">') == ["<think>", "</think>"]
    assert prompts('<think><img_prompt="</think>"><img_prompt="cat">') == ["cat"]


def test_reasoning_tags_can_be_chosen():
    text = '<think><img_prompt="cat"></think><plan><img_prompt="dog"></plan>'
    assert prompts(text, compile_patterns(reasoning_tags=["plan"])) == ["cat"]
    assert prompts(text, compile_patterns(reasoning_tags=())) == ["cat", "dog"]


FENCES = compile_patterns(in_code_fences=False)


def test_prompts_in_code_fences_count_unless_the_user_says_not():
    text = '```\n<img_prompt="cat">\n```\n<img_prompt="dog">'
    assert prompts(text) == ["cat", "dog"]
    assert prompts(text, FENCES) == ["dog"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('~~~\n<img_prompt="a">\n~~~\n<img_prompt="b">', ["b"]),
        ('```\n<img_prompt="a">\n~~~\n<img_prompt="b">', []),
        ('````\n```\n<img_prompt="a">\n````\n<img_prompt="b">', ["b"]),
        ('```\n<img_prompt="a">\n`````  \n<img_prompt="b">', ["b"]),
        ('```\n<img_prompt="a">\n``` no\n<img_prompt="b">', []),
        ('   ```\n<img_prompt="a">\n  ```\n<img_prompt="b">', ["b"]),
        ('    ```\n<img_prompt="a">', ["a"]),
        ('```\n    ```\n<img_prompt="a">', []),
        ('``\n<img_prompt="a">', ["a"]),
        ('x ```\n<img_prompt="a">', ["a"]),
        ('```x `y` <img_prompt="a">\n<img_prompt="b">', ["a", "b"]),
        ('~~~ `x`\n<img_prompt="a">\n~~~\n<img_prompt="b">', ["b"]),
        ('```py <img_prompt="a">\n```\n<img_prompt="b">', ["b"]),
        ('```\r\n<img_prompt="a">\r\n```\r\n<img_prompt="b">', ["b"]),
        ('```\r<img_prompt="a">\r```\r<img_prompt="b">', ["b"]),
        ('```\n<img_prompt="a">', []),
        ('<img_prompt="a\n```\n"> <img_prompt="b">', ["a\n```", "b"]),
        ('```\n<think>\n```\n<img_prompt="b">', ["b"]),
        ('<think>\n```\n</think><img_prompt="b">', ["b"]),
        ('```\n```\n```\n<img_prompt="a">\n```\n<img_prompt="b">', ["b"]),
    ],
)
def test_code_fences_follow_commonmark(text, found):
    assert prompts(text, FENCES) == found


# --- several patterns, user regexes


def test_of_several_patterns_at_one_place_the_earlier_wins():
    long = TagPattern("<a>", "</a>", quoted=False, name="long")
    short = TagPattern("<a", ">", quoted=False, name="short")
    assert prompts("<a>x</a>", [long, short]) == ["x"]
    assert prompts("<a>x</a><a b>", [short, long]) == ["b"]
    assert prompts("<a>x</a>", [r"<a>(.)", long]) == ["x"]


def test_the_leftmost_wins_over_the_earlier_pattern():
    assert prompts("[a (b] c)", [r"\((.*?)\)", r"\[(.*?)\]"]) == ["a (b"]


def test_the_first_group_that_took_part_is_the_prompt():
    assert prompts("img:cat; pic:dog;", [r"img:(.*?);|pic:(.*?);"]) == ["cat", "dog"]


def test_a_user_regex_in_whose_match_no_group_took_part_finds_nothing():
    assert prompts("skip [cat]", [r"skip|\[(.*?)\]"]) == ["cat"]


def test_a_group_between_double_quotes_is_unescaped_as_in_the_built_in_tags():
    pattern = r'(?s)<draw what="((?:[^"\\]|\\.)*)">|<draw>(.*?)</draw>'
    assert prompts(r'<draw what="a \"b\""><draw>\"c\"</draw>', [pattern]) == ['a "b"', r"\"c\""]


def test_what_a_user_regex_takes_of_an_unclosed_tag_no_longer_holds_back_the_rest():
    tags = (*PRESETS["t2i"], *DEFAULT_PATTERNS)
    assert prompts('<t2i> [ <img_prompt="a">', tags) == []
    assert prompts('<t2i> [ <img_prompt="a">', (r"<(t2i)> \[", *tags)) == ["t2i", "a"]


def test_a_user_regex_is_not_looked_for_in_reasoning_or_fences():
    patterns = compile_patterns([r"\[(.*?)\]"], in_code_fences=False)
    assert prompts("<think>[a]</think>[b]\n```\n[c]\n```\n[d]", patterns) == ["b", "d"]


def test_a_user_regex_and_a_tag_do_not_overlap():
    assert prompts('<img_prompt="a [b]"> [c <img_prompt="d"> e]', [*DEFAULT_PATTERNS, r"\[(.*?)\]"]) == [
        "a [b]",
        'c <img_prompt="d"> e',
    ]


def test_matches_that_are_empty_only_in_their_place_are_passed_over():
    assert prompts("xxx [cat]", [r"(?=(x))|\[(.*?)\]"]) == ["cat"]


def test_a_pattern_that_backtracks_without_bound_is_given_up():
    patterns = compile_patterns([r"\[((?:x|xx)+)y\]"], time_limit_ms=30)
    with pytest.raises(PatternTooSlow) as caught:
        extract_image_prompts("[" + "x" * 80 + "z]y]", patterns)
    assert caught.value.limit_ms == 30


def test_many_matches_that_are_slow_together_are_given_up_too():
    patterns = compile_patterns([r"(?=(x))"], time_limit_ms=5)
    with pytest.raises(PatternTooSlow):
        extract_image_prompts("x" * 90_000, patterns)


# --- size


def test_a_megabyte_of_text_with_a_thousand_prompts():
    text = "".join(f'{"word " * 200}<img_prompt="picture {i}">' for i in range(1_000))
    assert len(text) > 1_000_000
    assert prompts(text) == [f"picture {i}" for i in range(1_000)]


@pytest.mark.parametrize(
    "text",
    [
        '<img_prompt="' * 80_000,
        "<!--" * 250_000,
        '<img_prompt="' + '\\"' * 500_000,
        '<img_prompt="' + "\\" * 1_000_001,
        '<img_prompt="x" ' * 60_000,
        "<t2i>" * 200_000,
        "<think>" * 140_000,
        "```x`\n" * 170_000,
        "`" * 1_000_000,
    ],
    ids=lambda text: text[:16],
)
def test_a_megabyte_that_means_nothing_finds_nothing(text):
    tags = [pattern for patterns in PRESETS.values() for pattern in patterns]
    assert prompts(text, compile_patterns(tags)) == []
    assert prompts(text, compile_patterns(tags, in_code_fences=False)) == []
