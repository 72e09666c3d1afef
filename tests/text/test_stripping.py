"""The model gets its text back as it wrote it."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from limner.text import (
    HTML,
    MARKDOWN,
    DeferredImage,
    InsertionMode,
    extract_image_prompts,
    find_images,
    place_images,
    same_url,
    strip_illustrations,
)
from tests.text.strategies import pieces, tagged_texts

PROFILES = st.sampled_from((HTML, MARKDOWN))
FILLER = pieces("![", "](", "<img ", "src='", "<!--limner-->", "\n- ", "\n> ", "\n<!--", "\n  ", "1. ")


STEPS = st.lists(
    st.tuples(PROFILES, st.sampled_from(tuple(InsertionMode)), st.integers(0, 5)), min_size=1, max_size=4
)
BEHIND = InsertionMode.APPEND_AFTER_PROMPT


def deferred(text: str, name: int, mode: InsertionMode, choice: int) -> list[DeferredImage]:
    """An image for each prompt of the text; in the image modes for some image that stands there."""
    standing = [image.src for image in find_images(text)]
    target = standing[choice % len(standing)] if standing else None
    mode = mode if target else BEHIND
    return [
        DeferredImage(
            f"p{index}",
            prompt.prompt,
            prompt.occurrence,
            f"/{name}/{index}",
            mode if target else BEHIND,
            target,
        )
        for index, prompt in enumerate(extract_image_prompts(text))
    ]


@settings(max_examples=400, deadline=None)
@given(tagged_texts(FILLER), STEPS)
@example('<img_prompt="cat"><!--limner-->\nx', [(HTML, BEHIND, 0), (MARKDOWN, BEHIND, 0)])
@example('<!--img-prompt="cat"--> <img_prompt="dog">\n![', [(MARKDOWN, BEHIND, 0)])
@example('> - <!--img-prompt="cat\n\n"--> <img_prompt="dog">\nx', [(MARKDOWN, BEHIND, 0), (HTML, BEHIND, 0)])
def test_stripping_undoes_placing_whatever_was_appended_and_replaced(text, steps):
    assume(not find_images(text))
    illustrated = text
    for number, (profile, mode, choice) in enumerate(steps):
        batch = deferred(illustrated, number, mode, choice)
        illustrated = place_images(illustrated, batch, profile=profile).text
        assert strip_illustrations(illustrated) == text


def test_only_images_directly_behind_a_tag_are_taken_for_ours():
    text = '<img_prompt="cat"> <img src=/1>\n![x](/2)'
    assert strip_illustrations(text) == text


def test_images_that_the_caller_knows_are_taken_out_wherever_they_stand():
    text = 'a ![x](/ours/1)<!--limner--> b <img src="/theirs"> c <img src=/ours/2>'
    assert strip_illustrations(text, is_ours=lambda url: url.startswith("/ours/")) == (
        'a  b <img src="/theirs"> c '
    )


def test_the_caller_is_asked_with_the_decoded_address():
    text = '<img src="/a?b=1&amp;c=2">'
    assert strip_illustrations(text, is_ours={"/a?b=1&c=2"}.__contains__) == ""


@pytest.mark.parametrize("profile", [HTML, MARKDOWN])
def test_a_run_of_images_behind_a_tag_goes_as_a_whole(profile):
    text = 'x\n<!--img-prompt="cat"--> y'
    images = [DeferredImage(f"p{i}", "cat", 0, f"/{i}") for i in range(5)]
    placed = place_images(text, images, profile=profile).text
    assert all(any(same_url(f"/{i}", image.src) for image in find_images(placed)) for i in range(5))
    assert strip_illustrations(placed) == text


def test_prompt_tags_stay():
    assert strip_illustrations('<img_prompt="cat"><img src=/1> x') == '<img_prompt="cat"> x'


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_placing_put_before_a_markdown_image_goes_with_it_whatever_line_breaks_the_text_has(newline):
    text = newline.join(("Once", '> <!--img-prompt="cat"--> x', "> y", '<!--img-prompt="dog"-->', ""))
    images = [DeferredImage(prompt, prompt, 0, f"/{prompt}") for prompt in ("cat", "dog")]
    placed = place_images(text, images, profile=MARKDOWN).text
    assert len(find_images(placed)) == 2
    assert strip_illustrations(placed) == text


def test_a_lone_line_feed_before_an_image_in_a_text_of_crlf_is_taken_along():
    # As earlier versions placed it, or a host that rewrites line breaks leaves it.
    text = 'Once\r\n<!--img-prompt="cat"-->{}x\r\n'
    assert strip_illustrations(text.format("\n![cat](/1)")) == text.format("")


@pytest.mark.parametrize(
    "unit",
    [
        '<!--img-prompt="a\nb"-->',
        '<!--img-prompt="a\rb"-->',
        '<!--img-prompt="a b"-->',
        '<!--img-prompt="a\nb"-->\n![a b](/1)',
        '<!--img-prompt="a b"-->\r\n',
        '<img_prompt="a\nb"><img src=/1><!--limner-->',
    ],
)
def test_a_megabyte_of_tags_and_images_is_read_once(unit):
    # Work in proportion to the square of the length would take many minutes here.
    count = 1_000_000 // len(unit)
    bare = strip_illustrations(unit)
    assert strip_illustrations(unit * count) == bare * count
