"""Whatever stands in a prompt or an address: real parsers read the same message, with exactly the images.

A message is written from numbered words in Markdown dress, with prompt tags anywhere between them. After
placement it is rendered by a Markdown parser, the result is read by an HTML parser, and the words and the
images must come in the order of the source. Where Markdown was read otherwise than before, its dress shows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from justhtml import JustHTML
from markdown_it import MarkdownIt

from limner.text import (
    DEFAULT_PATTERNS,
    HTML,
    MARKDOWN,
    DeferredImage,
    InsertionMode,
    TagPattern,
    extract_image_prompts,
    place_images,
    same_url,
)
from tests.text.strategies import any_text, tag

REPLACE = InsertionMode.REPLACE_IMAGE
PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
COMMENT, ELEMENT = DEFAULT_PATTERNS

WORD = "\N{BULLET}"  # stands for a numbered word
TAG = "\N{WHITE SQUARE}"  # stands for a prompt tag

DRESS = ("•", "**•**", "*•*", "`•`", "[•](/page)", "• • •")
STARTS = st.sampled_from(("", "", "", "- ", "1. ", "> ", "> - ", "# ", " ", "   ", "| ", "- - "))
# Dressed words stand apart: `**a**` and `**b**` with nothing between them are no longer two strong words.
APART = st.lists(st.one_of(st.sampled_from(DRESS), st.just(TAG)), min_size=1, max_size=4).map(" ".join)
TOGETHER = st.lists(st.sampled_from((WORD, TAG)), min_size=1, max_size=4).map("".join)
LINES = st.tuples(STARTS, st.one_of(APART, TOGETHER)).map("".join)
MESSAGES = st.lists(st.one_of(LINES, LINES, st.just("")), min_size=1, max_size=7)
NEWLINES = st.sampled_from(("\n", "\n", "\r\n"))
# A parser of Markdown shows pictures of these schemes only; the others are held against parsers one by one.
TAILS = any_text(8)


def written(shape: str, prompts: Sequence[str], pattern: TagPattern) -> str:
    """The message; the prompts stand in its tags in turn, made different by a number."""
    words = tags = 0
    parts = []
    for char in shape:
        if char == WORD:
            words += 1
            parts.append(f"w{words}v")
        elif char == TAG:
            parts.append(tag(f"{prompts[tags % len(prompts)]} {tags}", pattern))
            tags += 1
        else:
            parts.append(char)
    return "".join(parts)


def without_tags(text: str, instead: str = "") -> str:
    """The text as hosts show it that hide the tags before they read the Markdown."""
    for match in reversed(extract_image_prompts(text)):
        text = text[: match.start] + instead + text[match.end :]
    return text


def read_with_marks(text: str) -> tuple[str, list[str]]:
    """What a reader would see if each tag were a word, and for each tag the text before it."""
    seen, _ = read(without_tags(text, TAG))
    parts = seen.split(TAG)
    return "".join(parts), ["".join(parts[: i + 1]) for i in range(len(parts) - 1)]


def read(markdown: str) -> tuple[str, list[tuple[str, str]]]:
    """What a reader sees: the text without white space; of each image the address, and the text before."""
    seen = ""
    images: list[tuple[str, str]] = []

    def walk(node: Any) -> None:
        nonlocal seen
        if node.name == "#text":
            seen += "".join(node.data.split())
        elif node.name == "img":
            images.append((node.attrs["src"], seen))
        for child in getattr(node, "children", None) or ():
            walk(child)

    walk(JustHTML(PARSER.render(markdown), sanitize=False).root)
    return seen, images


def words(text: str) -> list[str]:
    return re.findall(r"w\d+v", text)


def images_for(text: str, tails: Sequence[str]) -> list[DeferredImage]:
    return [
        DeferredImage(
            f"p{i}", match.prompt, match.occurrence, f"https://x.example/{i}?{tails[i % len(tails)]}"
        )
        for i, match in enumerate(extract_image_prompts(text))
    ]


def check_images(text: str, batch: Sequence[DeferredImage], images: Sequence[tuple[str, str]]) -> None:
    """Each image stands where its tag stands among the words."""
    assert len(images) == len(batch)
    tags = extract_image_prompts(text)
    for image, match, (src, before) in zip(batch, tags, images, strict=True):
        assert same_url(src, image.image_url)
        assert words(before) == words(without_tags(text[: match.start]))


PROMPTS = st.lists(any_text(16), min_size=1, max_size=3)


@settings(max_examples=400, deadline=None)
@given(MESSAGES, NEWLINES, PROMPTS, st.lists(TAILS, min_size=1), st.sampled_from(DEFAULT_PATTERNS))
@example([TAG, "**•**"], "\n", ["cat"], [""], ELEMENT)
@example(["- □", "  **•**", "- •"], "\n", ["cat"], [""], COMMENT)
@example(["•", "> □", "**•**"], "\n", ["cat"], [""], COMMENT)
def test_html_images_where_the_host_hides_the_tags(lines, newline, prompts, tails, pattern):
    text = written(newline.join(lines), prompts, pattern)
    batch = images_for(text, tails)
    placed = place_images(text, batch, profile=HTML)
    seen, images = read(without_tags(placed.text))
    assert (seen, [before for _, before in images]) == read_with_marks(text)
    check_images(text, batch, images)


@settings(max_examples=300, deadline=None)
@given(MESSAGES, NEWLINES, PROMPTS, st.lists(TAILS, min_size=1), st.sampled_from(DEFAULT_PATTERNS))
def test_markdown_images_where_the_host_hides_the_tags(lines, newline, prompts, tails, pattern):
    text = written(newline.join(lines), prompts, pattern)
    batch = images_for(text, tails)
    placed = place_images(text, batch, profile=MARKDOWN)
    seen, images = read(without_tags(placed.text))
    if pattern is ELEMENT:
        assert (seen, [before for _, before in images]) == read_with_marks(text)
    assert words(seen) == words(read_with_marks(text)[0])
    check_images(text, batch, images)


# Where the tags stay, a parser reads the prompts too, so here these are plain.
PLAIN = st.just(["a cat"])


@settings(max_examples=300, deadline=None)
@given(MESSAGES, NEWLINES, PLAIN, st.lists(TAILS, min_size=1), st.sampled_from(DEFAULT_PATTERNS))
def test_html_images_where_the_tags_stay(lines, newline, prompts, tails, pattern):
    text = written(newline.join(lines), prompts, pattern)
    batch = images_for(text, tails)
    placed = place_images(text, batch, profile=HTML)
    seen, images = read(placed.text)
    assert seen == read(text)[0]
    check_images(text, batch, images)


@settings(max_examples=300, deadline=None)
@given(MESSAGES, NEWLINES, PLAIN, st.lists(TAILS, min_size=1), st.sampled_from(DEFAULT_PATTERNS))
@example(["□ **•**", "•"], "\n", ["a cat"], [""], COMMENT)
@example(["- □ □", "  •"], "\n", ["a cat"], [""], COMMENT)
def test_markdown_images_where_the_tags_stay(lines, newline, prompts, tails, pattern):
    text = written(newline.join(lines), prompts, pattern)
    batch = images_for(text, tails)
    placed = place_images(text, batch, profile=MARKDOWN)
    seen, images = read(placed.text)
    # What follows a comment on its line was raw and is Markdown now: there the dress may go.
    assert words(seen) == words(read(text)[0])
    if pattern is ELEMENT:
        assert seen == read(text)[0]
    check_images(text, batch, images)


@settings(max_examples=200, deadline=None)
@given(MESSAGES, PROMPTS, st.lists(TAILS, min_size=1), st.sampled_from((HTML, MARKDOWN)))
def test_a_regenerated_image_takes_the_place_of_the_first(lines, prompts, tails, profile):
    text = written("\n".join(lines), prompts, ELEMENT)
    first = images_for(text, tails)
    placed = place_images(text, first, profile=profile)
    second = [
        replace(image, image_url=f"/new/{i}", mode=REPLACE, target_url=image.image_url)
        for i, image in enumerate(first)
    ]
    replaced = place_images(placed.text, second, profile=profile)
    assert read(without_tags(replaced.text))[0] == read(without_tags(placed.text))[0]
    check_images(text, second, read(without_tags(replaced.text))[1])


@settings(max_examples=200, deadline=None)
@given(MESSAGES, st.lists(TAILS, min_size=1))
@example(["□", "**•**"], [""])
def test_an_html_image_in_place_of_a_markdown_image_leaves_the_lines_as_they_were(lines, tails):
    shape = "\n".join(lines)
    count = shape.count(TAG)
    text = shape.replace(TAG, "![x](/old)")
    for number in range(count):
        text = text.replace("/old)", f"/old/{number})", 1)
    text = written(text, ["unused"], ELEMENT)
    batch = [
        DeferredImage("p", "cat", i, f"https://x.example/{i}?{tails[i % len(tails)]}", REPLACE, f"/old/{i}")
        for i in range(count)
    ]
    before, old = read(text)
    after, new = read(place_images(text, batch, profile=HTML).text)
    assert after == before
    assert [words(seen) for _, seen in new] == [words(seen) for _, seen in old]
