"""Earlier pictures out of a conversation, and their prompts back into it.

What a client keeps of a reply it sends along with the next request. Pictures mean nothing to the model there
and cost it thousands of tokens; without the tags it forgets how to ask for them. So each picture of ours is
taken out, and where its tag is gone (some clients drop comments and unknown tags) the tag takes its place.

A text that only had pictures added comes back exactly as the model wrote it, so that a server which keeps
what it has read before need not read it anew.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable

from limner.errors import PatternTooSlow
from limner.text import (
    ImageMatch,
    PromptPatterns,
    TagPattern,
    describe,
    extract_image_prompts,
    find_images,
    strip_illustrations,
)
from limner.text.layout import GUARD
from limner.workflows.logs import log

LONGEST_TAG = 4_000
KEEP_TAGS = 10_000

_STORED = re.compile(r"/limner/images/([0-9a-f]{64}\.(?:png|jpg|webp|gif|avif))(?:[?#]|$)")
_HAS_IMAGE = re.compile(r"!\[|<img[ \t\n\f\r/]", re.IGNORECASE)
# Not a CR that the text itself ended with.
_BEFORE = re.compile(r"(?:\r\n\r\n|\n\n|\r?\n)?\Z")
_PROGRESS_LINE = re.compile(r"^\[limner\] .*(?:\n|\Z)", re.MULTILINE)

PROGRESS_MARK = "[limner] "
"""How each line of progress begins that was sent as reasoning, so that it is known again."""


class TagMemory:
    """Which tag each picture was made from: the last ones of this process, at most `keep`."""

    def __init__(self, keep: int = KEEP_TAGS) -> None:
        self._keep = keep
        self._tags: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def note(self, address: str, prompt: str, tag: str) -> None:
        """Remember what stands in a text for a picture, as long as it is short enough to be kept."""
        if len(tag) > LONGEST_TAG:
            return
        key = _key(address)
        self._tags[key] = (prompt, tag)
        self._tags.move_to_end(key)
        while len(self._tags) > self._keep:
            self._tags.popitem(last=False)

    def of(self, address: str) -> tuple[str, str] | None:
        """The prompt and the tag of a picture; None where it is not known (any more)."""
        return self._tags.get(_key(address))


def without_pictures(text: str, patterns: PromptPatterns, memory: TagMemory) -> str:
    """`text` without pictures of ours, with the tags of all of them.

    Ours are those directly behind a tag, those that we store, every `data:` picture, and those whose
    description is that of a tag in the same text, wherever the client has moved them to.
    """
    if not _HAS_IMAGE.search(text):
        return text
    try:
        return _without_pictures(text, patterns, memory)
    except PatternTooSlow as error:
        log.warning("pattern_too_slow", pattern=error.pattern, limit_ms=error.limit_ms)
        return _without_pictures(text, patterns.without_regexes(), memory)


def without_progress(reasoning: str) -> str:
    """What a model thought, without the lines that we have told our progress in."""
    return _PROGRESS_LINE.sub("", reasoning) if PROGRESS_MARK in reasoning else reasoning


def is_ours(address: str) -> bool:
    """Whether a picture with this address is one of ours, as far as the address tells."""
    return address[:11].lower() == "data:image/" or _STORED.search(address) is not None


def _without_pictures(text: str, patterns: PromptPatterns, memory: TagMemory) -> str:
    text = strip_illustrations(text, patterns=patterns)
    present = Counter(_words(match.prompt) for match in extract_image_prompts(text, patterns))
    cuts: list[tuple[int, int, str]] = []
    for image in find_images(text, patterns):
        known = memory.of(image.src)
        words = _words(image.alt if known is None else known[0])
        has_tag = bool(words) and present[words] > 0
        if known is None and not has_tag and not is_ours(image.src):
            continue
        if has_tag:
            present[words] -= 1
            cuts.append((*_span(text, image), ""))
        else:
            tag = _tag_for(image.alt, patterns.patterns) if known is None else known[1]
            cuts.append((*_span(text, image), tag))
    return _cut(text, cuts)


def _cut(text: str, cuts: list[tuple[int, int, str]]) -> str:
    """`text` with each span replaced. What ends the text goes with the line breaks that we put before it."""
    end = len(text)
    for index in range(len(cuts) - 1, -1, -1):
        start, stop, tag = cuts[index]
        if tag or text[stop:end].strip():
            break
        before = _BEFORE.search(text, 0, start)
        start = before.start() if before else start
        cuts[index] = (start, end, "")
        end = start
    kept: list[str] = []
    done = 0
    for start, stop, tag in cuts:
        kept += (text[done:start], tag)
        done = stop
    return "".join((*kept, text[done:]))


def _span(text: str, image: ImageMatch) -> tuple[int, int]:
    return image.start, image.end + (len(GUARD) if text.startswith(GUARD, image.end) else 0)


def _tag_for(description: str, patterns: Iterable[str | TagPattern]) -> str:
    """A tag that asks for what the description says; empty where it says nothing or no tag can be written."""
    prompt = " ".join(description.split())
    for pattern in patterns:
        if prompt and isinstance(pattern, TagPattern):
            body = prompt.replace("\\", "").replace('"', '\\"') if pattern.quoted else prompt
            return "" if pattern.closer in body else f"{pattern.opener}{body}{pattern.closer}"
    return ""


def _words(prompt: str) -> str:
    """A prompt as a description keeps it, whichever way that was written: letters and digits."""
    return "".join(char for char in describe(prompt) if char.isalnum()).casefold()


def _key(address: str) -> str:
    stored = _STORED.search(address)
    if stored is not None:
        return stored.group(1)
    return hashlib.blake2b(address.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
