"""How an image is written into a text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from limner.text.images import ImageSyntax
from limner.text.urls import check_url, encode_url

_LONGEST_DESCRIPTION = 200
_SHORTEST_CUT = 150  # a word that is longer than what is left is cut itself

# Of ASCII punctuation, only what has no meaning in HTML, Markdown, tables, templates and prompt tags, in the
# middle of a line, stays as it is.
_NAMED = {'"': "&quot;", "&": "&amp;", "<": "&lt;", ">": "&gt;"}
_PUNCTUATION = [chr(code) for code in range(0x21, 0x7F) if not chr(code).isalnum()]
_AS_HTML = str.maketrans({c: _NAMED.get(c, f"&#{ord(c)};") for c in _PUNCTUATION if c not in ",.!?-"})
_AS_MARKDOWN = str.maketrans({c: " " for c in _PUNCTUATION if c not in ",.!?-'():;"})
_UNWANTED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")

# `&` in a Markdown address is itself, unless it begins what reads like an entity.
_ENTITY_LIKE = re.compile(r"&(?=[#A-Za-z0-9]+;)")


@dataclass(frozen=True, slots=True)
class Profile:
    """How images are written: `HTML` for hosts that render HTML, in Markdown or not; else `MARKDOWN`."""

    syntax: ImageSyntax


HTML = Profile("html")
MARKDOWN = Profile("markdown")


def render_image(profile: Profile, url: str, description: str) -> str:
    """The text of an image: `<img src="…" alt="…" title="…">` or `![…](…)`, always on one line.

    `description` may be any text, usually the prompt: white space is collapsed, it is cut at 200
    characters, and nothing in it can act as HTML, Markdown or a prompt tag. `url` is percent-encoded where it
    must be; `find_images` gives it back, equal by `same_url`.

    Raises `InvalidImageURL` for an address that is not http, https, file, `data:image/` or relative.
    """
    check_url(url)
    address = encode_url(url)
    text = describe(description)
    if profile.syntax == "html":
        address = address.replace("&", "&amp;")
        text = text.translate(_AS_HTML)
        return f'<img src="{address}" alt="{text}" title="{text}">'
    address = _ENTITY_LIKE.sub("&amp;", address)
    return f"![{' '.join(text.translate(_AS_MARKDOWN).split())}]({address})"


def describe(prompt: str) -> str:
    """A prompt as a description: one line, at most 200 characters, cut at a word.

    Control characters and lone surrogates are dropped.
    """
    words = _UNWANTED.sub("", " ".join(prompt.split()))
    text = " ".join(words.split())
    if len(text) <= _LONGEST_DESCRIPTION:
        return text
    head = text[:_LONGEST_DESCRIPTION]
    end = head.rfind(" ", _SHORTEST_CUT)
    if end < 0:
        end = len(head) - 1
        # Do not cut through what reads as one character: a letter with its accents, an emoji with modifiers.
        while end > 1 and (unicodedata.combining(text[end]) or text[end] in "\u200d\ufe0f"):
            end -= 1
    return f"{head[:end]}…"
