"""Images are found as a browser and a Markdown parser would find them, never by a loose pattern."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from limner.text import TagPattern, find_images


def found(text: str, patterns: Sequence[str | TagPattern] | None = None) -> list[tuple[str, str]]:
    return [(image.src, image.syntax) for image in find_images(text, patterns)]


@pytest.mark.parametrize(
    ("text", "src"),
    [
        ('<img src="a.png">', "a.png"),
        ("<img src='a.png'>", "a.png"),
        ("<img src=a.png>", "a.png"),
        ("<img src=a/b/>", "a/b/"),
        ('<IMG SRC="a.png"/>', "a.png"),
        ('<img\n  alt="x > y"\n  src="a.png"\n/>', "a.png"),
        ('<img alt=\'"\' src="a.png">', "a.png"),
        ('<img alt=x src = "a.png" title>', "a.png"),
        ('<img/src="a.png">', "a.png"),
        ('<img alt="a"src="b.png">', "b.png"),
        ('<img data-src="no.png" srcset="no.png 2x" src="a.png">', "a.png"),
        ('<img src="a.png" src="b.png">', "a.png"),
        ('<img src="?a=1&amp;b=2">', "?a=1&b=2"),
        ('<img src="?a=1&copy=2&lt;&#x41;&#65">', "?a=1&copy=2<AA"),
        ('<img alt="src=b.png" src="a.png">', "a.png"),
        ('<img src="data:image/png;base64,AAA+/=">', "data:image/png;base64,AAA+/="),
        ('<img alt="a <img " src="a.png">', "a.png"),
    ],
)
def test_an_html_image_is_found_with_its_decoded_source(text, src):
    (image,) = find_images(f"before {text} behind")
    assert (image.src, image.syntax) == (src, "html")
    assert image.span == (7, 7 + len(text))


@pytest.mark.parametrize(
    "text",
    [
        '<img data-src="a.png">',
        '<img srcset="a.png 1x">',
        '<img src="">',
        "<img src>",
        "<img>",
        '<image src="a.png">',
        '<imgs src="a.png">',
        '<img-x src="a.png">',
        '< img src="a.png">',
        '<img src="a.png"',
        '<img src="a.png>',
        r'\<img src="a.png">',
        '<img alt="x" <p>',
    ],
)
def test_what_is_no_image_is_not_found(text):
    assert found(text) == []


def test_an_image_behind_a_broken_one_is_found():
    assert found("use <img, or <img alt=\"oops <img src='a.png'>") == [("a.png", "html")]


@pytest.mark.parametrize(
    ("text", "src", "alt"),
    [
        ("![a cat](a.png)", "a.png", "a cat"),
        ("![](a.png)", "a.png", ""),
        ('![a](a.png "title (x) ]")', "a.png", "a"),
        ("![a](a.png 'title')", "a.png", "a"),
        ("![a](a.png (title))", "a.png", "a"),
        ("![a](<a b.png>)", "a b.png", "a"),
        ("![a]( <a.png>\n'title' )", "a.png", "a"),
        ("![a](a_(b(c)).png)", "a_(b(c)).png", "a"),
        (r"![a](a\(b.png)", "a(b.png", "a"),
        (r"![a](a\b.png)", r"a\b.png", "a"),
        ("![a](?a=1&amp;b=2&copy=3)", "?a=1&b=2&copy=3", "a"),
        (r"![\[a\] &lt; [b] c](a.png)", "a.png", "[a] < [b] c"),
        ("![a [b](c) d](a.png)", "a.png", "a [b](c) d"),
        ("![a ![b](c.png) d](a.png)", "a.png", "a ![b](c.png) d"),
        ("![<img src=x>](a.png)", "a.png", "<img src=x>"),
        ("![a\nb](a.png)", "a.png", "a\nb"),
        ("![a](a.png?x=<y>)", "a.png?x=<y>", "a"),
    ],
)
def test_a_markdown_image_is_found_with_its_decoded_source(text, src, alt):
    (image,) = find_images(f"before {text} behind")
    assert (image.src, image.syntax, image.alt) == (src, "markdown", alt)
    assert image.span == (7, 7 + len(text))


@pytest.mark.parametrize(
    "text",
    [
        "![a] (a.png)",
        r"!\[a](a.png)",
        r"\![a](a.png)",
        r"![a\](a.png)",
        "[a](a.png)",
        "![a](a b.png)",
        "![a](a(b.png)",
        "![a](a.png",
        "![a]()",
        "![a](<a.png)",
        "![a](<a\nb.png>)",
        "![a](a.png 'x)",
        "![a\n\nb](a.png)",
        "![a\n \t\r\nb](a.png)",
        "![a][b]",
    ],
)
def test_what_is_no_markdown_image_is_not_found(text):
    assert found(text) == []


def test_images_come_in_the_order_of_the_text_in_both_syntaxes():
    text = '![a](a.png) <img src=b.png>\n[![c](c.png)](page) ![d](d.png)<img src="e.png">'
    assert [src for src, _ in found(text)] == ["a.png", "b.png", "c.png", "d.png", "e.png"]


def test_an_html_tag_is_atomic_for_markdown():
    assert found('![a <img alt="](no.png)" src="b.png">') == [("b.png", "html")]


def test_a_markdown_address_is_atomic_for_html():
    assert found("![a](<img src=b.png>)") == [("img src=b.png", "markdown")]


def test_nothing_inside_a_prompt_is_an_image():
    text = '<img_prompt="<img src=no.png> ![no](no.png)"><img src=yes.png>'
    assert found(text) == [("yes.png", "html")]
    assert len(found(text, [])) == 3


def test_no_image_reaches_across_a_prompt_tag():
    assert found('![a <img_prompt="x"> b](no.png)') == []
    assert found("<img alt='<img_prompt=\"x\">' src='no.png'>") == []


@pytest.mark.parametrize(
    "text",
    [
        "<img " * 200_000,
        '<img a="' * 120_000,
        "<img a='" * 120_000,
        "<img a='\" b=\"' c=" * 60_000,
        '<img a="<img " b c d ' * 50_000,
        "<img" + ' a="b"' * 160_000,
        "<img " + "a" * 1_000_000,
        "<img a=" + "b" * 1_000_000,
        "![" * 500_000,
        "]" * 1_000_000,
        "![](" * 250_000,
        "![](a (" * 140_000,
        '![](a "' * 140_000,
        "![](a '" * 140_000,
        "![](<" * 200_000,
        "![](a" + "\\(" * 500_000,
        "![](" + "(" * 1_000_000,
        "![a](" + " " * 1_000_000,
        "\n" * 1_000_000,
        "\r\n \t" * 250_000,
        "\\" * 1_000_000,
    ],
    ids=lambda text: repr(text[:14]),
)
def test_a_megabyte_of_beginnings_holds_no_image(text):
    assert found(text) == []


def test_a_megabyte_of_character_references_is_decoded():
    (image,) = find_images('<img src="' + "&#" + "1" * 1_000_000 + ";&amp;" + '">')
    assert image.src == "\ufffd&"
    (image,) = find_images(f'<img src="{"&amp" * 250_000}">')
    assert len(image.src) < 1_250_001
