"""A text with its images as one HTML page that needs nothing else: no files, no network, no scripts."""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from html import escape, unescape
from importlib.resources import files
from pathlib import Path
from string import Template

from markdown_it import MarkdownIt

from limner.adapters.cli.outputs import Outputs
from limner.adapters.image_folder import MEDIA_TYPES
from limner.text import (
    ImageMatch,
    PromptMatch,
    PromptPatterns,
    describe,
    extract_image_prompts,
    find_images,
)
from limner.text.layout import GUARD

FOOTER = "Illustrated by Limner"

SHORTEST_OPENING = 60
"""Characters of a first paragraph with a drop cap: beside a shorter one it would hang into what follows."""

# Private-use characters: they stand for an image while Markdown is rendered, and no Markdown has a meaning
# for them. Those of the text itself are taken out.
_OPEN, _CLOSE = "\ue000", "\ue001"
_STAND_IN = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_ALONE = re.compile(f"<p>((?:\\s*{_OPEN}\\d+{_CLOSE})+)\\s*</p>")
_REASONING = re.compile(r"\s*<(think|thinking)>")
_TITLE = re.compile(r"<h1>(.*?)</h1>", re.DOTALL)
_OPENING = re.compile(r"(?<=</h1>\n)<p>([^<\ue000].*?)</p>", re.DOTALL)
_HTML_PAGE = re.compile(r"<(?:!doctype|html|body)\b", re.IGNORECASE)


def page_of(
    text: str,
    *,
    patterns: PromptPatterns,
    outputs: Outputs,
    captions: bool = True,
    footer: str = FOOTER,
    lang: str = "",
) -> str:
    """The page for an illustrated text.

    Prompts are hidden; with `captions` they stand under their images (sketches carry their own). Only
    images that Limner stored in the images folder are held in the page; others become links, so the page
    asks nobody for anything, and no text can draw other files of this machine into it. In a Markdown text,
    HTML is shown as it is written and does nothing; an HTML text is its author's and is taken as it is.
    """
    pictures = _Pictures(text, patterns, outputs, captions=captions)
    if outputs.is_html:
        return _html_page(text, pictures, footer, lang)
    body = _markdown_body(text, pictures)
    title = _TITLE.search(body)
    shown_title = re.sub(r"<[^>]*>", "", title[1]) if title else "An illustrated text"
    return _filled(shown_title, body, footer, lang)


class _Pictures:
    """The images of a text that are ours, with their prompts."""

    def __init__(self, text: str, patterns: PromptPatterns, outputs: Outputs, *, captions: bool) -> None:
        self._captions = captions
        self.prompts: Sequence[PromptMatch] = extract_image_prompts(text, patterns)
        self._prompt_ends = [prompt.end for prompt in self.prompts]
        self.images: list[ImageMatch] = []
        self._files: list[Path] = []
        for image in find_images(text, patterns):
            file = outputs.stored_image(image.src)
            if file is not None:
                self.images.append(image)
                self._files.append(file)

    def tag(self, number: int) -> str:
        """The image as `<img>` with its bytes inside."""
        file = self._files[number]
        media_type = MEDIA_TYPES[file.suffix]
        data = base64.b64encode(file.read_bytes()).decode()
        return f'<img src="data:{media_type};base64,{data}" alt="{self._caption(number)}">'

    def figure(self, number: int) -> str:
        """The image with its prompt as caption."""
        caption = f"<figcaption>{self._caption(number)}</figcaption>\n" if self._captions else ""
        return f"<figure>\n{self.tag(number)}\n{caption}</figure>\n"

    def _caption(self, number: int) -> str:
        image = self.images[number]
        before = bisect_right(self._prompt_ends, image.start) - 1
        return escape(describe(self.prompts[before].prompt if before >= 0 else image.alt))


def _markdown_body(text: str, pictures: _Pictures) -> str:
    source: list[str] = []
    pos = _end_of_reasoning(text)
    cuts = [(prompt.start, prompt.end, "") for prompt in pictures.prompts]
    cuts += [
        (image.start, image.end, f"{_OPEN}{number}{_CLOSE}") for number, image in enumerate(pictures.images)
    ]
    for start, end, instead in sorted(cuts):
        if start >= pos:
            source += (text[pos:start].translate(_NO_STAND_INS), instead)
            pos = end + len(GUARD) * text.startswith(GUARD, end)
    source.append(text[pos:].translate(_NO_STAND_INS))
    body: str = _markdown().render("".join(source))
    body = _OPENING.sub(_with_drop_cap, body)
    body = _ALONE.sub(
        lambda found: "".join(pictures.figure(int(n)) for n in _STAND_IN.findall(found[1])), body
    )
    return _STAND_IN.sub(lambda found: pictures.tag(int(found[1])), body)


def _with_drop_cap(found: re.Match[str]) -> str:
    words = _STAND_IN.sub("", unescape(re.sub(r"<[^>]*>", "", found[1])))
    if len(words.strip()) < SHORTEST_OPENING:
        return found[0]
    return f'<p class="opening">{found[1]}</p>'


_NO_STAND_INS = str.maketrans("", "", _OPEN + _CLOSE)


def _end_of_reasoning(text: str) -> int:
    """Where the text proper begins; models that think aloud do so at the beginning."""
    opener = _REASONING.match(text)
    if opener is None:
        return 0
    closer = f"</{opener[1]}>"
    end = text.find(closer, opener.end())
    return 0 if end < 0 else end + len(closer)


@cache
def _markdown() -> MarkdownIt:
    # Without HTML and without images of others: the page must do nothing and fetch nothing.
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")


def _html_page(text: str, pictures: _Pictures, footer: str, lang: str) -> str:
    parts: list[str] = []
    pos = 0
    for number, image in enumerate(pictures.images):
        parts += (text[pos : image.start], pictures.tag(number))
        pos = image.end
    body = "".join((*parts, text[pos:]))
    return body if _HTML_PAGE.search(text) else _filled("An illustrated text", body, footer, lang)


def _filled(title: str, body: str, footer: str, lang: str) -> str:
    template = (files("limner.adapters.cli") / "page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=title, body=body, footer=escape(footer), lang=f' lang="{escape(lang)}"' if lang else ""
    )
