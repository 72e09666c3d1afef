"""A slow and simple detector, written from the rules and not from the code, to hold the real one against."""

from __future__ import annotations

import re
from collections.abc import Sequence

from limner.text import TagPattern

_LINE_START = r"(?:\A|(?<=[\r\n]))"

Found = tuple[str, str, int, int, int]


def detect(
    text: str, patterns: Sequence[TagPattern], *, in_code_fences: bool = True, reasoning: Sequence[str] = ()
) -> list[Found]:
    """Prompt, full match, start, end, occurrence of each prompt: at each position each rule is tried."""
    found: list[Found] = []
    pos = 0
    while pos < len(text):
        end = _step(text, pos, patterns, in_code_fences, reasoning, found)
        if end < 0:
            break
        pos = max(end, pos + 1)
    return found


def _step(
    text: str,
    pos: int,
    patterns: Sequence[TagPattern],
    in_code_fences: bool,
    reasoning: Sequence[str],
    found: list[Found],
) -> int:
    """The end of what begins at `pos`, `pos` where nothing does, -1 where the text to come decides."""
    for name in reasoning:
        block = re.compile(f"<{name}>.*?</{name}>", re.DOTALL).match(text, pos)
        if block:
            return block.end()
        if _beginning(f"<{name}>", text, pos) or text.startswith(f"<{name}>", pos):
            return -1
    if not in_code_fences:
        end = _fence(text, pos)
        if end != pos:
            return end
    for pattern in patterns:
        opener, closer = re.escape(pattern.opener), re.escape(pattern.closer)
        body = r'(?:[^"\\]|\\.)*' if pattern.quoted else ".*?"
        tag = re.compile(f"{opener}({body}){closer}", re.DOTALL).match(text, pos)
        if tag:
            prompt = tag[1].replace('\\"', '"') if pattern.quoted else tag[1]
            prompt = prompt.strip()
            if prompt:
                occurrence = sum(other[0] == prompt for other in found)
                found.append((prompt, tag[0], tag.start(), tag.end(), occurrence))
            return tag.end()
        parts = "|".join(re.escape(pattern.closer[:n]) for n in range(len(pattern.closer)))
        unclosed = rf"{opener}{body}(?:\\|{parts})\Z" if pattern.quoted else opener
        if _beginning(pattern.opener, text, pos) or re.compile(unclosed, re.DOTALL).match(text, pos):
            return -1
    return pos


def _beginning(opener: str, text: str, pos: int) -> bool:
    return len(text) - pos < len(opener) and opener.startswith(text[pos:])


def _fence(text: str, pos: int) -> int:
    for mark, info in (("`", "[^`\r\n]*"), ("~", "[^\r\n]*")):
        begin = rf"{_LINE_START} {{0,3}}"
        if re.compile(rf"{begin}(?:{mark}{{0,2}}|{mark}{{3,}}{info})\Z").match(text, pos):
            return -1
        opening = re.compile(rf"{begin}({mark}{{3,}})(?!{mark}){info}(?=[\r\n])").match(text, pos)
        if opening:
            end = rf"[\r\n] {{0,3}}{mark}{{{len(opening[1])},}}[ \t]*(?=[\r\n])"
            closing = re.compile(end).search(text, opening.end())
            return closing.end() if closing else -1
    return pos
