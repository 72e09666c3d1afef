"""The page: everything inside, nothing from outside, and nothing in it that acts."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
from justhtml import JustHTML

from limner.adapters.cli.outputs import Outputs
from limner.adapters.cli.page import page_of
from limner.adapters.image_folder import FolderImageStore
from limner.text import compile_patterns
from tests.support import png

PATTERNS = compile_patterns()

# Names as `FolderImageStore` gives them.
A = f"{'a' * 64}.png"
B = f"{'b' * 64}.png"
SECRET = b"nobody else may read this"


@pytest.fixture
def page(tmp_path: Path):
    """Makes the page of a text; `A` and `B` in `pictures/` are images of the run."""
    (tmp_path / "pictures").mkdir()
    for number, name in enumerate((A, B)):
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
    html = page(f'# A & B\n\nText.\n\n<!--img-prompt="a <fox>"-->\n![a fox](pictures/{A})\n\nEnd.\n')
    (figure,) = elements(html, "figure")
    assert figure.query("figcaption")[0].to_text() == "a <fox>"
    (image,) = figure.query("img")
    assert image.attrs["alt"] == "a <fox>"
    assert image.attrs["src"].startswith("data:image/png;base64,")
    assert "img-prompt" not in html
    assert elements(html, "title")[0].to_text() == "A & B"


def test_sketches_carry_their_caption_themselves(page):
    html = page(f'<!--img-prompt="a fox"-->\n![a fox](pictures/{A})\n', captions=False)
    assert elements(html, "figcaption") == []
    assert elements(html, "img")[0].attrs["alt"] == "a fox"


def test_an_image_in_the_middle_of_a_sentence_stays_there(page):
    html = page(f'A <img_prompt="fox">![fox](pictures/{A}) runs.')
    (paragraph,) = elements(html, "article p")
    assert len(paragraph.query("img")) == 1
    assert elements(html, "figure") == []


LONG = "A keeper of a lighthouse wrote, and each evening she read to the sea what she had written."


@pytest.mark.parametrize(
    ("opening", "has_drop_cap"),
    [
        (LONG, True),
        (f"“{LONG}”", True),
        ("A", False),
        (f"![fox](pictures/{A}) {LONG}", False),
        (f"![fox](pictures/{A})\n\n{LONG}", False),
        (f"*{LONG}*", False),
        ("&amp;" * 20, False),
    ],
)
def test_only_a_first_paragraph_of_some_length_gets_a_drop_cap(page, opening, has_drop_cap):
    html = page(f"# Title\n\n{opening}\n\n![fox](pictures/{B})\n\n{LONG}\n")
    assert len(elements(html, "p.opening")) == has_drop_cap
    assert "h1 + p" not in html


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


@pytest.mark.parametrize(
    "name",
    [
        "..%2Fpictures%2F..%2Fsecret.txt",
        "..%2fsecret.txt",
        "%2E%2E%2Fsecret.txt",
        "..%5Csecret.txt",
        "%00",
        "private.png",
        f"x%2F..%2F{A}",
        f"{A}%0A",
        f"{'c' * 64}.txt",
        f"{'C' * 64}.png",
        f"{'d' * 64}.png",
        f"{'e' * 64}.png",
        f"{'f' * 64}.png",
        f"../pictures/{A}",
        f"{A}?x",
    ],
)
@pytest.mark.parametrize("is_html", [False, True])
def test_a_text_cannot_draw_files_into_the_page_that_limner_did_not_make(page, tmp_path, name, is_html):
    pictures = tmp_path / "pictures"
    for place in (tmp_path, pictures):
        (place / "secret.txt").write_bytes(SECRET)
    for own in ("private.png", f"{'c' * 64}.txt", f"{'C' * 64}.png"):
        (pictures / own).write_bytes(SECRET)
    (pictures / f"{'d' * 64}.png").symlink_to(tmp_path / "secret.txt")
    (pictures / f"{'e' * 64}.png").symlink_to(pictures / "private.png")
    (pictures / f"{'f' * 64}.png").mkdir()
    address = f"pictures/{name}"
    html = page(f'<img src="{address}">' if is_html else f"![y]({address})", is_html=is_html)
    assert "data:" not in html.replace("img-src data:", "")
    assert base64.b64encode(SECRET).decode() not in html


def test_an_absolute_path_in_an_address_leads_nowhere(page, tmp_path):
    (tmp_path / "secret.txt").write_bytes(SECRET)
    html = page(f"![y](pictures/{quote(str(tmp_path / 'secret.txt'), safe='')})")
    assert elements(html, "img") == []
    assert base64.b64encode(SECRET).decode() not in html


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "avif"])
@pytest.mark.parametrize("fragment", ["", "#2"])
def test_every_image_that_the_store_names_is_held_in_the_page(page, tmp_path, kind, fragment):
    store = FolderImageStore(tmp_path / "pictures", "pictures/")
    url = anyio.run(store.put, b"the bytes of an image", f"image/{kind}")
    (image,) = elements(page(f"![y]({url}{fragment})"), "img")
    assert image.attrs["src"].endswith(base64.b64encode(b"the bytes of an image").decode())


def test_reasoning_at_the_beginning_is_left_out(page):
    html = page("<think>hm, a fox?</think>\n\n# Title\n\nText.")
    assert "hm, a fox?" not in html
    assert elements(html, "h1")[0].to_text() == "Title"


def test_an_html_text_stays_what_it_is_with_its_images_inside(page):
    text = f'<!doctype html><html><body><p>A</p><img_prompt="x"><img src="pictures/{B}"></body></html>'
    html = page(text, is_html=True)
    assert html.startswith(
        '<!doctype html><html><body><p>A</p><img_prompt="x"><img src="data:image/png;base64,'
    )
    assert "pictures/" not in html


def test_a_piece_of_html_gets_a_page_around_it(page):
    html = page(f'<p>A</p><img_prompt="x"><img src="pictures/{B}">', is_html=True)
    assert html.startswith("<!doctype html>")
    assert len(elements(html, "article img")) == 1


def test_placeholders_of_the_template_in_a_text_are_only_text(page):
    html = page("$body $title ${footer} $$")
    assert elements(html, "article p")[0].to_text() == "$body $title ${footer} $$"
