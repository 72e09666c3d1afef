"""The embedded storyteller: whatever was typed, a story in clean English that takes it up."""

from __future__ import annotations

import re
import string

import pytest
import regex  # type: ignore[import-untyped]  # its stubs are a package of their own
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.demo.storyteller import LONGEST_QUOTE, excerpt, readable, readable_lines, tell
from limner.adapters.demo.tales import HEROES, HOURS, PLACES, TALES, UNSAID, VISITORS, tale
from limner.text import extract_image_prompts, find_images

LINES = (
    "a night at the lighthouse",
    "Wer hat die Sonne gestohlen?",
    "ひとりの画家が夜の海を描いていました。" * 9,
    "قصة عن قطة",
    "👩‍👩‍👧‍👦" * 120,
    "Z̷̡͎̗̋a̵͖̓l̶̢͝g̷o" * 40,
    "x" * 4_000,
    "",
    " \t\n ",
    "…",
    "{line} {0} {__class__}",
    '<!--img-prompt="mine"--> <img_prompt="mine"> <img src=x onerror=alert(1)>',
    "# **bold** [link](javascript:alert(1)) ![x](y) `code` \\",
    "\ud800 \x00 \u202e reversed",
)


def prose_of(story: str) -> str:
    return re.sub(r"<[^\n]*>", "", story)


@pytest.mark.parametrize("line", LINES)
def test_whatever_was_typed_there_is_a_story_with_four_pictures_in_both_kinds_of_tag(line):
    story = tell(line)
    assert story.startswith("# The ")
    tags = [match.full_match[:4] for match in extract_image_prompts(story)]
    assert tags == ["<!--", "<img", "<!--", "<img"]
    assert 200 <= len(prose_of(story).split()) <= 450


@given(st.text(max_size=300))
def test_nothing_that_was_typed_acts_as_a_tag_an_image_or_markup(line):
    story = tell(line)
    assert len(extract_image_prompts(story)) == 4
    assert find_images(story) == []
    prose = prose_of(story)
    assert not set(prose) & set("<>`")
    # A quotation ends where the storyteller ends it.
    assert prose.count("“") == prose.count("”")
    # One paragraph stays one.
    assert len(prose.splitlines()) in {len(prose_of(tale(name)).splitlines()) for name in TALES}
    story.encode()


@given(st.text(max_size=200))
def test_the_same_line_tells_the_same_story(line):
    assert tell(line) == tell(line)


def test_different_lines_tell_every_tale():
    titles = {tell(f"line {number}").partition("\n")[0] for number in range(60)}
    assert len(titles) == len(TALES)


def test_the_story_takes_up_the_words_and_is_set_where_they_say():
    story = tell("a dragon in the mountains in a storm")
    assert "“a dragon in the mountains in a storm”" in story
    prompts = [match.prompt for match in extract_image_prompts(story)]
    assert prompts[1].startswith("a dragon in the mountains in a storm: ")
    assert PLACES["mountains"].near in prompts[0]
    assert HOURS["storm"].painted in prompts[0]
    assert VISITORS["dragon"].painted in prompts[2]


@pytest.mark.parametrize(
    ("line", "quoted"),
    [
        ("Tell me a story about a fox.", "a fox"),
        ("please write a short poem about the moon", "the moon"),
        ("Can you tell us a fairy tale about two kings", "two kings"),
        ("write to my sister", "write to my sister"),
        ("", UNSAID),
        ("??!", "??!"),
    ],
)
def test_a_request_is_quoted_without_its_first_words(line, quoted):
    assert f"“{quoted}”" in tell(line)


def test_a_line_from_right_to_left_does_not_turn_the_sentence_round():
    assert "“\u2068قصة عن قطة\u2069”" in tell("قصة عن قطة")


def test_a_long_line_is_cut_between_words_and_never_inside_of_a_character():
    assert excerpt("word " * 100) == "word " * 17 + "word…"
    families = excerpt("👩‍👩‍👧‍👦" * 120)
    assert set(regex.findall(r"\X", families)) == {"👩‍👩‍👧‍👦", "…"}
    assert len(excerpt("e" + "\u0301" * 3_000)) <= 3 * LONGEST_QUOTE + 1


def test_what_cannot_be_shown_is_taken_out_before_anything_is_done_with_it():
    assert readable("a\x00b\u202ec\ud800d\t\te") == "a bcd e"
    assert readable_lines("\n one \n\n two\r\nthree\n") == "one\n\ntwo\nthree"


def test_every_tale_has_a_place_for_the_words_and_for_each_picture():
    for name in TALES:
        fields = [field for _, field, _, _ in string.Formatter().parse(tale(name)) if field]
        for tag in ("line", "first", "second", "third", "last"):
            assert fields.count(tag) == 1, f"{name}: {tag}"


def test_every_hero_has_the_pronouns_of_one_person():
    assert {(hero.she, hero.her, hero.object) for hero in HEROES} == {
        ("she", "her", "her"),
        ("he", "his", "him"),
    }
