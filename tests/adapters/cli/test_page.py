"""The page: everything inside, nothing from outside, and nothing in it that acts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from justhtml import JustHTML

from limner.adapters.cli.outputs import Outputs
from limner.adapters.cli.page import page_of
from limner.text import compile_patterns
from tests.support import png

PATTERNS = compile_patterns()


@pytest.fixture
def page(tmp_path: Path):
    """Makes the page of a text; `pictures/a.png` and `pictures/b.png` are images of the run."""
    (tmp_path / "pictures").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / "pictures" / name).write_bytes(png(number))

    def make(text: str, **settings) -> str:
        is_html = settings.pop("is_html", False)
        outputs = Outputs(
            text=tmp_path / "x.md",
            images=tmp_path / "pictures",
            page=tmp_path / "x.html",
            profile="markdown",
            base_url="pictures/",
            is_html=is_html,
        )
        return page_of(text, patterns=PATTERNS, outputs=outputs, **settings)

    return make


def elements(html: str, selector: str):
    return JustHTML(html, sanitize=False).query(selector)


def test_prompts_are_hidden_and_images_are_figures_with_their_prompt(page):
    html = page('# A & B\n\nText.\n\n<!--img-prompt="a <fox>"-->\n![a fox](pictures/a.png)\n\nEnd.\n')
    (figure,) = elements(html, "figure")
    assert figure.query("figcaption")[0].to_text() == "a <fox>"
    (image,) = figure.query("img")
    assert image.attrs["alt"] == "a <fox>"
    assert image.attrs["src"].startswith("data:image/png;base64,")
    assert "img-prompt" not in html
    assert elements(html, "title")[0].to_text() == "A & B"


def test_sketches_carry_their_caption_themselves(page):
    html = page('<!--img-prompt="a fox"-->\n![a fox](pictures/a.png)\n', captions=False)
    assert elements(html, "figcaption") == []
    assert elements(html, "img")[0].attrs["alt"] == "a fox"


def test_an_image_in_the_middle_of_a_sentence_stays_there(page):
    html = page('A <img_prompt="fox">![fox](pictures/a.png) runs.')
    (paragraph,) = elements(html, "article p")
    assert len(paragraph.query("img")) == 1
    assert elements(html, "figure") == []


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://elsewhere.test/x.png)",
        '<img src="https://elsewhere.test/x.png">',
        "![x](../secret.png)",
        "![x](pictures/../secret.png)",
        "![x](pictures/none.png)",
        "<script>alert(1)</script>",
        '<iframe src="https://elsewhere.test"></iframe>',
        "[x](javascript:alert(1))",
        '<style>@import "https://elsewhere.test"</style>',
        "\ue0000\ue001",
    ],
)
def test_a_page_asks_nobody_for_anything_and_does_nothing(page, tmp_path, text):
    (tmp_path / "secret.png").write_bytes(png(7))
    html = page(text)
    article = elements(html, "article")[0]
    for name in ("img", "script", "iframe", "style", "link", "object"):
        assert article.query(name) == []
    assert not re.search(r"""(href|src)=["']?javascript:""", html)
    assert "default-src 'none'" in html


def test_reasoning_at_the_beginning_is_left_out(page):
    html = page("<think>hm, a fox?</think>\n\n# Title\n\nText.")
    assert "hm, a fox?" not in html
    assert elements(html, "h1")[0].to_text() == "Title"


def test_an_html_text_stays_what_it_is_with_its_images_inside(page):
    text = '<!doctype html><html><body><p>A</p><img_prompt="x"><img src="pictures/b.png"></body></html>'
    html = page(text, is_html=True)
    assert html.startswith(
        '<!doctype html><html><body><p>A</p><img_prompt="x"><img src="data:image/png;base64,'
    )
    assert "pictures/" not in html


def test_a_piece_of_html_gets_a_page_around_it(page):
    html = page('<p>A</p><img_prompt="x"><img src="pictures/b.png">', is_html=True)
    assert html.startswith("<!doctype html>")
    assert len(elements(html, "article img")) == 1


def test_placeholders_of_the_template_in_a_text_are_only_text(page):
    html = page("$body $title ${footer} $$")
    assert elements(html, "article p")[0].to_text() == "$body $title ${footer} $$"
