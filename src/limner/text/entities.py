"""Character references and escapes, decoded as HTML attributes and Markdown decode them."""

from __future__ import annotations

import re
from html import unescape
from html.entities import html5

_REFERENCE = re.compile(r"&(?:#[0-9]++;?|#[xX][0-9a-fA-F]++;?|[A-Za-z][A-Za-z0-9]*+;?)(=?)")
_MARKDOWN = re.compile(r"\\([!-/:-@\[-`{-~])|&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]*+);")
_REPLACEMENT = "\ufffd"
_LONGEST = 12  # more digits than any code point has, leading zeros aside


def decode_attribute(value: str) -> str:
    """The value of an HTML attribute as it is written, decoded.

    As the HTML standard has it for attributes, a name without a semicolon stays as it is before `=` or a
    letter or digit (13.2.5.73), so that `?a=1&copy=2` is left alone.
    """
    return _REFERENCE.sub(_decode_reference, value) if "&" in value else value


def _decode_reference(match: re.Match[str]) -> str:
    equals = match.group(1)
    reference = match.group()[: len(match.group()) - len(equals)]
    if reference[1] == "#":
        return _decode_number(reference) + equals
    if equals and not reference.endswith(";"):
        return match.group()
    return html5.get(reference[1:], reference) + equals


def _decode_number(reference: str) -> str:
    digits = reference[2:].rstrip(";")
    prefix = digits[:1] if digits[:1] in ("x", "X") else ""
    digits = digits[len(prefix) :].lstrip("0") or "0"
    # Not left to the library: Python refuses to read numbers of more than some thousands of digits.
    return _REPLACEMENT if len(digits) > _LONGEST else unescape(f"&#{prefix}{digits};")


def decode_markdown(value: str) -> str:
    """An address or a description in Markdown as it is written, decoded: backslash escapes and entities."""
    if "\\" not in value and "&" not in value:
        return value
    return _MARKDOWN.sub(_decode_markdown, value)


def _decode_markdown(match: re.Match[str]) -> str:
    if match.group(1):
        return match.group(1)
    reference = match.group()
    return _decode_number(reference) if reference[1] == "#" else html5.get(reference[1:], reference)
