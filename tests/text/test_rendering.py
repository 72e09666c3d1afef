"""A rendered image is one image, whatever stands in its prompt and address."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from justhtml import JustHTML
from markdown_it import MarkdownIt

from limner.errors import InvalidImageURL
from limner.text import (
    HTML,
    MARKDOWN,
    PRESETS,
    Profile,
    describe,
    extract_image_prompts,
    find_images,
    render_image,
    same_url,
)
from tests.text.strategies import EVERY_PRESET, any_text, pieces

PROFILES = st.sampled_from((HTML, MARKDOWN))
DESCRIPTIONS = st.one_of(any_text(), pieces("![", "](", "<img src=x>", "{{", "}}", "|", "$1", "\\1", "`"))
URLS = st.one_of(
    any_text(20).map(lambda tail: f"https://x.example/{tail}"),
    st.sampled_from(("data:image/png;base64,", "/", "", "http://[::1]:8080/", "file:///"))
    .flatmap(lambda head: any_text(20).map(lambda tail: head + tail)),
    pieces("&amp;", "&copy;", "&#", "%", "%41", "(", ")", "'", "|", "[", "]", size=10).map(lambda t: f"/{t}"),
)  # fmt: skip


def rendered(profile: Profile, url: str, description: str) -> str:
    try:
        return render_image(profile, url, description)
    except InvalidImageURL:
        assume(False)
        raise


def test_an_html_image_has_source_description_and_title():
    assert render_image(HTML, "http://x/a.png?b=1&c=2", "a cat, asleep") == (
        '<img src="http://x/a.png?b=1&amp;c=2" alt="a cat, asleep" title="a cat, asleep">'
    )


def test_a_markdown_image_has_description_and_address():
    assert render_image(MARKDOWN, "http://x/a.png?b=1&c=2", "a cat, asleep") == (
        "![a cat, asleep](http://x/a.png?b=1&c=2)"
    )


def test_punctuation_of_a_description_is_written_as_references_in_html():
    image = render_image(HTML, "/a", """a "b" <c> & 'd' `e` {{f}} |g| $1 [h](i) *j* _k_ \\l !m? -n. =o;""")
    (found,) = find_images(image)
    assert found.alt == """a "b" <c> & 'd' `e` {{f}} |g| $1 [h](i) *j* _k_ \\l !m? -n. =o;"""
    alt = image.split('alt="')[1].split('" title')[0]
    assert not set(alt) & set("\"<>'`{}|$[]()*_\\=")


def test_only_harmless_punctuation_stays_in_a_markdown_description():
    image = render_image(MARKDOWN, "/a", '"a" [b] \\ <c> | *d* _e_ `f` $g$ {h} (i): j; it\'s ok, yes!')
    assert image == "![a b c d e f g h (i): j; it's ok, yes!](/a)"


def test_white_space_is_collapsed_and_controls_and_surrogates_are_dropped():
    assert describe("  a\n\n\tb\u2003c\0d\x7f\ud800 \x85 e ") == "a b cd e"


def test_a_long_description_is_cut_at_a_word():
    text = describe("word " * 100)
    assert text == "word " * 39 + "word…"
    assert len(describe("x" * 100_000)) == 200
    assert len(describe("a " + "x" * 100_000)) == 200
    assert describe("x" * 200) == "x" * 200
    assert describe("é" * 150) == "é" * 150


def test_a_letter_is_not_cut_from_its_accent():
    assert describe("e\u0301" * 150).endswith("e\u0301…")


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("/a b\"c'd<e>(f)`g|h\\i{j}", "/a%20b%22c%27d%3Ce%3E%28f%29%60g%7Ch%5Ci%7Bj%7D"),
        ("/100%/%zz/%41", "/100%25/%25zz/%41"),
        ("/é/\ud800", "/%C3%A9/%ED%A0%80"),
        ("http://[::1]:80/[a]", "http://[::1]:80/%5Ba%5D"),
        ("data:image/png;base64,AA+/BB==", "data:image/png;base64,AA+/BB=="),
        (" /a\n/b\t ", "/a/b"),
    ],
)
@pytest.mark.parametrize("profile", [HTML, MARKDOWN])
def test_an_address_is_encoded_where_it_must_be_and_nowhere_else(profile, url, written):
    (image,) = find_images(render_image(profile, url, ""))
    assert image.src == written


def test_what_reads_like_an_entity_in_an_address_stays_what_it_is():
    assert render_image(MARKDOWN, "?a&copy;=1&b", "") == "![](?a&amp;copy;=1&b)"
    assert find_images(render_image(MARKDOWN, "?a&copy;=1&b", ""))[0].src == "?a&copy;=1&b"
    assert find_images(render_image(HTML, "?a&copy;=1&b", ""))[0].src == "?a&copy;=1&b"


@settings(max_examples=300, deadline=None)
@given(PROFILES, URLS, DESCRIPTIONS)
def test_a_rendered_image_is_found_again_as_exactly_one(profile, url, description):
    image = rendered(profile, url, description)
    (found,) = find_images(image)
    assert found.span == (0, len(image))
    assert found.syntax == profile.syntax
    assert same_url(found.src, url)
    assert "\n" not in image
    assert "\r" not in image
    image.encode()  # no lone surrogate is left


@settings(deadline=None)
@given(PROFILES, URLS, DESCRIPTIONS)
def test_no_rendered_image_holds_a_prompt_of_any_preset(profile, url, description):
    image = rendered(profile, url, description)
    assert extract_image_prompts(image, EVERY_PRESET) == []
    assert extract_image_prompts(image + '">"--></t2i>"}}', PRESETS["default"]) == []


@settings(max_examples=200, deadline=None)
@given(URLS, DESCRIPTIONS)
def test_an_html_parser_reads_one_image_with_source_and_description(url, description):
    tree = JustHTML(f"<p>before {rendered(HTML, url, description)} behind</p>", sanitize=False)
    (image,) = tree.query("img")
    assert image.attrs is not None
    assert set(image.attrs) == {"src", "alt", "title"}
    assert same_url(image.attrs["src"] or "", url)
    assert image.attrs["alt"] == image.attrs["title"] == describe(description)
    (paragraph,) = tree.query("p")
    assert paragraph.to_text() == "before behind"


@settings(max_examples=200, deadline=None)
@given(URLS, DESCRIPTIONS)
def test_a_markdown_parser_reads_one_image_with_source_and_description(url, description):
    assume(not url.startswith(("file:", "data:")))  # this parser shows neither, whatever stands behind it
    parser = MarkdownIt("commonmark", {"html": True})
    (_, inline, _) = parser.parse(f"before {rendered(MARKDOWN, url, description)} behind")
    assert inline.children is not None
    before, image, behind = inline.children
    assert (before.content, image.type, behind.content) == ("before ", "image", " behind")
    assert same_url(str(image.attrs["src"]), url)
    assert image.content == find_images(rendered(MARKDOWN, url, description))[0].alt
