"""Earlier pictures out of a conversation, and their prompts back into it.

What a client keeps of a reply it sends along with the next request. Pictures mean nothing to the model there
and cost it thousands of tokens; without the tags it forgets how to ask for them. So each picture of ours is
taken out, and where its tag is gone (some clients drop comments and unknown tags) the tag takes its place.

Surely ours is a picture whose address this process has given out, one below `/limner/images/`, and a `data:`
picture with the description of a prompt. In what the model said every `data:` picture is ours, since models
write none; but not in code, which may well be about such pictures. Pictures of other servers are never ours.

A text that only had pictures added comes back exactly as the model wrote it, so that a server which keeps
what it has read before need not read it anew.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property

from limner.adapters.proxy.code import Code
from limner.errors import PatternTooSlow
from limner.text import ImageMatch, PromptMatch, PromptPatterns, TagPattern, describe, extract_image_prompts
from limner.text.images import images_between
from limner.text.layout import GUARD
from limner.text.stripping import spans_behind, without_spans
from limner.workflows.logs import log

LONGEST_TAG = 4_000
KEEP_TAGS = 10_000
KEEP_CHARACTERS = 4_000_000

_STORED = re.compile(r"/limner/images/([0-9a-f]{64}\.(?:png|jpg|webp|gif|avif))(?:[?#]|$)")
# Where Open WebUI keeps the pictures that it takes out of a reply.
_MOVED = re.compile(r"(?:https?://[^/?#]++|(?!//))(?:/[^/?#]++)*?/api/v1/files/[^/?#]++/content\Z")
_HAS_IMAGE = re.compile(r"!\[|<img[ \t\n\f\r/]", re.IGNORECASE)
# Not a CR that the text itself ended with.
_BEFORE = re.compile(r"(?:\r\n\r\n|\n\n|\r?\n)?\Z")
_BEFORE_LENGTH = 4
_PROGRESS_LINE = re.compile(r"^\[limner\] .*(?:\n|\Z)", re.MULTILINE)

PROGRESS_MARK = "[limner] "
"""How each line of progress begins that was sent as reasoning, so that it is known again."""


class _Recent:
    """The last entries: at most `keep`, with at most `characters` in their texts."""

    def __init__(self, keep: int, characters: int) -> None:
        self._keep = keep
        self._characters = characters
        self._entries: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def put(self, key: str, entry: tuple[str, str]) -> None:
        self._characters += _length(self._entries.pop(key, ("", ""))) - _length(entry)
        self._entries[key] = entry
        while len(self._entries) > self._keep or self._characters < 0:
            _, oldest = self._entries.popitem(last=False)
            self._characters += _length(oldest)

    def get(self, key: str) -> tuple[str, str] | None:
        return self._entries.get(key)


def _length(entry: tuple[str, str]) -> int:
    return len(entry[0]) + len(entry[1])


class TagMemory:
    """Which tag each picture was made from: the last ones of this process.

    At most `keep` of them, with at most `characters` in all.
    """

    def __init__(self, keep: int = KEEP_TAGS, characters: int = KEEP_CHARACTERS) -> None:
        self._tags = _Recent(keep, characters)
        self._described = _Recent(keep, characters)

    def note(self, address: str, prompt: str, tag: str) -> None:
        """Remember what stands in a text for a picture, as long as it is short enough to be kept."""
        if len(tag) > LONGEST_TAG:
            return
        self._tags.put(_key(address), (prompt, tag))
        self._described.put(_digest(_words(prompt)), (prompt, tag))

    def of(self, address: str) -> tuple[str, str] | None:
        """The prompt and the tag of a picture; None where it is not known (any more)."""
        return self._tags.get(_key(address))

    def described(self, description: str) -> tuple[str, str] | None:
        """The prompt and the tag of the last picture with this description; None where there is none."""
        words = _words(description)
        return self._described.get(_digest(words)) if words else None


def without_pictures(
    text: str, patterns: PromptPatterns, memory: TagMemory, *, said_by_model: bool = True
) -> str:
    """`text` without pictures of ours, with the tags of all of them.

    With `said_by_model` those are all `data:` pictures outside of code, besides those that are surely ours.
    """
    if not _HAS_IMAGE.search(text):
        return text
    try:
        return _without_pictures(text, patterns, memory, said_by_model)
    except PatternTooSlow as error:
        log.warning("pattern_too_slow", pattern=error.pattern, limit_ms=error.limit_ms)
        return _without_pictures(text, patterns.without_regexes(), memory, said_by_model)


def without_progress(reasoning: str) -> str:
    """What a model thought, without the lines that we have told our progress in."""
    return _PROGRESS_LINE.sub("", reasoning) if PROGRESS_MARK in reasoning else reasoning


def is_ours(address: str) -> bool:
    """Whether a picture with this address is one of ours, as far as the address tells."""
    return _is_data(address) or _STORED.search(address) is not None


def _is_data(address: str) -> bool:
    return address[:11].lower() == "data:image/"


class _Judge:
    """Says which pictures of a text are ours."""

    def __init__(
        self, text: str, prompts: Sequence[PromptMatch], memory: TagMemory, said_by_model: bool
    ) -> None:
        self.tags = Counter(_words(prompt.prompt) for prompt in prompts)
        self._text = text
        self._prompts = prompts
        self._memory = memory
        self._said_by_model = said_by_model

    @cached_property
    def _code(self) -> Code:
        return Code(self._text, ((prompt.start, prompt.end) for prompt in self._prompts))

    def belongs(self, prompt: PromptMatch, image: ImageMatch) -> bool:
        """Whether a picture directly behind a tag is one of ours."""
        described = _words(image.alt) == _words(prompt.prompt)
        if described and (_is_data(image.src) or _MOVED.match(image.src)):
            return True
        return self.is_ours(image)

    def is_ours(self, image: ImageMatch) -> bool:
        """Whether a picture anywhere in the text is one of ours."""
        if self._memory.of(image.src) is not None or _STORED.search(image.src):
            return True
        words = _words(image.alt)
        if not _is_data(image.src):
            # A tag answers for one picture, so what is left over stays.
            return bool(words and self.tags[words] > 0 and _MOVED.match(image.src))
        if words and (words in self.tags or self._memory.described(image.alt) is not None):
            return True
        return self._said_by_model and image.start not in self._code


def _without_pictures(text: str, patterns: PromptPatterns, memory: TagMemory, said_by_model: bool) -> str:
    prompts = extract_image_prompts(text, patterns)
    images = {image.start: image for image in images_between(text, prompts)}
    judge = _Judge(text, prompts, memory, said_by_model)
    text = without_spans(text, spans_behind(text, prompts, images, judge.belongs))
    prompts = extract_image_prompts(text, patterns)
    judge = _Judge(text, prompts, memory, said_by_model)
    cuts: list[tuple[int, int, str]] = []
    for image in images_between(text, prompts):
        if not judge.is_ours(image):
            continue
        known = memory.of(image.src)
        words = _words(image.alt if known is None else known[0])
        if words and judge.tags[words] > 0:
            judge.tags[words] -= 1
            cuts.append((*_span(text, image), ""))
            continue
        known = known or memory.described(image.alt)
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
        # From where it may begin: from the text's start on it would go through all the pictures before it.
        before = _BEFORE.search(text, max(0, start - _BEFORE_LENGTH), start)
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
    return _digest(address)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
