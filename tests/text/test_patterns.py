"""Patterns are checked when they are configured, so that a text can no longer fail because of them."""

from __future__ import annotations

import pytest

from limner.errors import InvalidPattern, InvalidSetting
from limner.text import DEFAULT_PATTERNS, PRESETS, TagPattern, compile_patterns, extract_image_prompts


@pytest.mark.parametrize(
    ("preset", "text"),
    [
        ("default", '<!--img-prompt="a cat"-->'),
        ("default", '<img_prompt="a cat">'),
        ("pic", '<pic prompt="a cat">'),
        ("t2i", "<t2i>a cat</t2i>"),
        ("imggen", '<ImgGen="a cat">'),
        ("imggen-braces", '{{ImgGen="a cat"}}'),
    ],
)
def test_each_preset_finds_its_tag(preset, text):
    (match,) = extract_image_prompts(f"before {text} behind", PRESETS[preset])
    assert (match.prompt, match.full_match) == ("a cat", text)


def test_the_default_preset_is_the_default():
    assert PRESETS["default"] == DEFAULT_PATTERNS
    assert compile_patterns() == compile_patterns(DEFAULT_PATTERNS)


def test_presets_cannot_be_changed_by_accident():
    with pytest.raises(TypeError):
        PRESETS["mine"] = ()  # type: ignore[index]


def test_the_name_of_a_preset_is_not_magic_among_patterns():
    with pytest.raises(InvalidPattern, match="no group"):
        compile_patterns(["t2i"])


@pytest.mark.parametrize(
    ("pattern", "reason", "position"),
    [
        ("a(b", r"missing \)", 3),
        ("(a)**", "multiple repeat", 4),
        (r"(a)\1(?P<n>b)(?P=m)", "unknown group", None),
        ("abc", "no group", None),
        ("(a*)", "matches the empty text", None),
        ("(a)|", "matches the empty text", None),
        ("(?r)(a)b", "backwards", None),
        (r"(a)\L<names>", "undefined named list", None),
    ],
)
def test_a_bad_regex_is_refused_with_reason_and_position(pattern, reason, position):
    with pytest.raises(InvalidPattern, match=reason) as caught:
        compile_patterns([pattern])
    assert caught.value.pattern == pattern
    if position is not None:
        assert caught.value.position == position


@pytest.mark.parametrize("pattern", [None, 3, b"(a)"])
def test_what_is_no_pattern_at_all_is_refused(pattern):
    with pytest.raises(InvalidPattern, match="neither"):
        compile_patterns([pattern])


@pytest.mark.parametrize(
    ("opener", "closer", "quoted"),
    [("", ">", False), ("<", "", False), ("<a", '">', True), ('<a="', ">", True), ("<" * 201, ">", False)],
)
def test_delimiters_that_cannot_work_are_refused(opener, closer, quoted):
    with pytest.raises(InvalidPattern):
        TagPattern(opener, closer, quoted=quoted, name="bad")


@pytest.mark.parametrize("tag", ["", "a b", "<think>", "a>", "1st"])
def test_a_reasoning_tag_that_is_no_tag_name_is_refused(tag):
    with pytest.raises(InvalidSetting, match="reasoning_tags"):
        compile_patterns(reasoning_tags=[tag])


@pytest.mark.parametrize("limit", [0, -5])
def test_a_time_limit_that_leaves_no_time_is_refused(limit):
    with pytest.raises(InvalidSetting, match="time_limit_ms"):
        compile_patterns(time_limit_ms=limit)


def test_equal_settings_give_equal_objects_with_equal_hashes():
    one = compile_patterns([r"\[(.*?)\]"], in_code_fences=False)
    two = compile_patterns(iter([r"\[(.*?)\]"]), in_code_fences=False)
    assert one == two
    assert hash(one) == hash(two)
    assert one != compile_patterns([r"\[(.*?)\]"])


def test_a_lone_pattern_is_a_set_of_one():
    assert compile_patterns(r"\[(.*?)\]") == compile_patterns([r"\[(.*?)\]"])
    assert compile_patterns(DEFAULT_PATTERNS[0]).patterns == DEFAULT_PATTERNS[:1]  # type: ignore[arg-type]


def test_without_regexes_only_the_tags_are_left():
    patterns = compile_patterns([r"\[(.*?)\]", *DEFAULT_PATTERNS], in_code_fences=False)
    assert patterns.without_regexes() == compile_patterns(DEFAULT_PATTERNS, in_code_fences=False)
