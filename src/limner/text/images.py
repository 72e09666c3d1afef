r"""Finding the images that stand in a text: HTML `<img>` and Markdown `![alt](url "title")`.

One pass from left to right, in the precedence of CommonMark: a complete `<img …>` is atomic, `\` before
punctuation escapes it, brackets nest, a blank line ends what is open. What stands inside a prompt tag is
prompt, and no image reaches across one. Every rule is written so that hostile text costs time in proportion
to its length; the comments say why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from limner.text.detection import extract_image_prompts
from limner.text.entities import decode_attribute, decode_markdown
from limner.text.matches import PromptMatch
from limner.text.patterns import PromptPatterns, TagPattern

ImageSyntax = Literal["html", "markdown"]


@dataclass(frozen=True, slots=True)
class ImageMatch:
    """An image in a text.

    `start` and `end` are offsets in characters; `src` and `alt` are decoded (HTML entities, in Markdown
    backslash escapes too); `syntax` says how it is written.
    """

    start: int
    end: int
    src: str
    syntax: ImageSyntax
    alt: str

    @property
    def span(self) -> tuple[int, int]:
        """`(start, end)`."""
        return self.start, self.end


# Attributes as in HTML, less what makes a tag ambiguous: no quotes or `<` in names and unquoted values. That
# also keeps the search linear: of all attempts that stand inside one another, at any place at most one is
# between attributes, one in a "value" and one in a 'value', for `<` ends an attempt that is between.
_SPACE = r"[ \t\n\f\r]"
_VALUE = r""""[^"]*+"|'[^']*+'|[^ \t\n\f\r"'<>`]++"""
_NAME = r"""[^ \t\n\f\r"'<>/=]++"""
_ATTRIBUTE = rf"{_NAME}(?:{_SPACE}*+={_SPACE}*+(?:{_VALUE})?+)?+"
_IMG = re.compile(rf"<[iI][mM][gG](?:[ \t\n\f\r/]++|{_ATTRIBUTE})*+>")
_NAMED_VALUE = re.compile(rf"({_NAME})(?:{_SPACE}*+={_SPACE}*+({_VALUE})?+)?+")

_TOKEN = re.compile(
    r"\\[!-/:-@\[-`{-~]"  # an escape
    r"|!?\["
    r"|\]"
    r"|<[iI][mM][gG](?=[ \t\n\f\r/])"
    r"|(?>\r\n?|\n)[ \t]*+[\r\n]"  # a blank line
)
_DESTINATION_OPENS = re.compile(r"\([ \t]*+(?:(?>\r\n?|\n)[ \t]*+)?+")
_DESTINATION_POINTED = re.compile(r"<((?:[^<>\r\n\\]|\\.)*+)>")
_BARE_PART = r"[^()\\\x00-\x20\x7f]++|\\[!-/:-@\[-`{-~]|\\"
_DESTINATION_CLOSES = re.compile(
    r"(?:[ \t\r\n]++(?:"
    r'"(?:[^"\\]++|\\.)*+"'
    r"|'(?:[^'\\]++|\\.)*+'"
    r"|\((?:[^()\\]++|\\.)*+\)"
    r"))?+[ \t\r\n]*+\)",
    re.DOTALL,
)


def _bare_destination(deepest: int) -> re.Pattern[str]:
    """An address without `<…>`: no white space, parentheses in balance.

    CommonMark asks for three levels of them at least, and lets a limit bound how often a character is read
    again.
    """
    body = f"(?:{_BARE_PART})*+"
    for _ in range(deepest):
        body = rf"(?:{_BARE_PART}|\({body}\))*+"
    return re.compile(f"(?!<){body}")


_DESTINATION_BARE = _bare_destination(8)


def find_images(
    text: str, patterns: PromptPatterns | Iterable[str | TagPattern] | None = None
) -> list[ImageMatch]:
    """The images in `text` outside of prompt tags, in order and without overlap; None: `DEFAULT_PATTERNS`.

    An `<img>` counts with its first `src`, whatever the quotes and the order; `data-src` and `srcset` do not
    count. Of images inside the description of a Markdown image only the outermost is reported. Images
    without an address are none. Comments and code are not looked at as such. Raises what
    `extract_image_prompts` raises.
    """
    return images_between(text, extract_image_prompts(text, patterns))


def images_between(text: str, prompts: Iterable[PromptMatch]) -> list[ImageMatch]:
    """The images of `text`, given its prompts in order."""
    images: list[ImageMatch] = []
    pos = 0
    for prompt in prompts:
        _scan(text, pos, prompt.start, images)
        pos = prompt.end
    _scan(text, pos, len(text), images)
    return images


def _scan(text: str, pos: int, end: int, images: list[ImageMatch]) -> None:
    """Add the images of `text[pos:end]`, reading it on its own."""
    brackets: list[tuple[int, bool]] = []  # where each open one begins, and whether it is an image's
    while (token := _TOKEN.search(text, pos, end)) is not None:
        start, pos = token.span()
        first = text[start]
        if first == "<":
            tag = _IMG.match(text, start, end)
            if tag is not None:
                pos = tag.end()
                _add_html(text, start, pos, images)
        elif first in "![":
            brackets.append((start, first == "!"))
        elif first == "]" and brackets:
            opened, is_image = brackets.pop()
            destination = _destination(text, pos, end)
            if destination is not None:
                alt = text[opened + 2 : start]
                pos, src = destination
                if is_image:
                    while images and images[-1].start > opened:
                        images.pop()
                    if src.strip():
                        images.append(ImageMatch(opened, pos, src, "markdown", decode_markdown(alt)))
        elif first in "\r\n":
            brackets.clear()


def _add_html(text: str, start: int, end: int, images: list[ImageMatch]) -> None:
    found: dict[str, str] = {}
    for attribute in _NAMED_VALUE.finditer(text, start + 4, end - 1):
        name = attribute.group(1).lower()
        if name in ("src", "alt") and name not in found:
            value = attribute.group(2) or ""
            found[name] = value[1:-1] if value[:1] in ('"', "'") else value
    src = decode_attribute(found.get("src", ""))
    if src.strip():
        images.append(ImageMatch(start, end, src, "html", decode_attribute(found.get("alt", ""))))


def _destination(text: str, pos: int, end: int) -> tuple[int, str] | None:
    """What stands in the parentheses behind a `]`: the position behind them, and the decoded address."""
    opens = _DESTINATION_OPENS.match(text, pos, end)
    if opens is None:
        return None
    start = opens.end()
    pointed = _DESTINATION_POINTED.match(text, start, end)
    if pointed is not None:
        raw, stop = pointed.group(1), pointed.end()
    else:
        bare = _DESTINATION_BARE.match(text, start, end)
        if bare is None:
            return None
        raw, stop = bare.group(), bare.end()
    closes = _DESTINATION_CLOSES.match(text, stop, end)
    return None if closes is None else (closes.end(), decode_markdown(raw))
