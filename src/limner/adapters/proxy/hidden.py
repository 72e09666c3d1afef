"""Pictures of ours that stand where no picture is looked for.

Where a reply breaks off inside of a tag, our pictures come to stand behind its beginning, and what is written
on afterwards ends the tag: then they stand in it. The same goes for the address of a link, or an attribute,
that was not complete. They are found by being written exactly as we write them, whatever stands around.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from limner.text import ImageMatch
from limner.text.entities import decode_attribute, decode_markdown

# As `render_image` writes them; what stands before one of ours is never a backslash. No part can hold the
# beginning of another, so each character is read once.
_WRITTEN = re.compile(
    r'(?<!\\)!\[(?P<alt>[^"<>\[\]\\\r\n]*+)\]\((?P<src>[^\s()<>"\\]++)\)'
    r'|<img src="(?P<html_src>[^\s"<>]++)" alt="(?P<html_alt>[^"<>]*+)" title="[^"<>]*+">'
)


def hidden_pictures(text: str, seen: Iterable[ImageMatch]) -> Iterator[ImageMatch]:
    """What is written like a picture of ours and is none of those that were `seen`, in order."""
    starts = {image.start for image in seen}
    for found in _WRITTEN.finditer(text):
        start, end = found.span()
        if start in starts:
            continue
        if found["src"] is not None:
            yield ImageMatch(
                start, end, decode_markdown(found["src"]), "markdown", decode_markdown(found["alt"])
            )
        else:
            src, alt = decode_attribute(found["html_src"]), decode_attribute(found["html_alt"])
            yield ImageMatch(start, end, src, "html", alt)
