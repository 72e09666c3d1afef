"""Earlier pictures out of a conversation, and their prompts back into it.

What a client keeps of a reply it sends along with the next request. Pictures mean nothing to the model there
and cost it thousands of tokens; without the tags it forgets how to ask for them. So each picture of ours is
taken out, and where its tag is gone (some clients drop comments and unknown tags) the tag takes its place.

Surely ours is a picture whose address this process has given out, one below `/limner/images/`, and a `data:`
picture with the description of a prompt. In what the model said every `data:` picture is ours, since models
write none; but not in code, which may well be about such pictures. Pictures of other servers are never ours.

A text that only had pictures added comes back exactly as the model wrote it, so that a server which keeps
what it has read before need not read it anew. What was closed before them, a tag or a code block in which
the text broke off, is open again, as long as this process remembers that it closed it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from limner.adapters.proxy.code import Code
from limner.adapters.proxy.hidden import hidden_pictures
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
_BEFORE_IN_BETWEEN = re.compile(r"(?:\r\n\r\n|\n\n)?\Z")
# By how much of a text the place before a picture is known again, and how far back that is looked for.
_LAST_LETTERS = 30
_LAST_WORDS = 200
# With the empty line that parts it from what the model thought.
_PROGRESS_LINE = re.compile(
    r"(?:\n\n)?\[limner\] (?:painting:|waiting:|\d+/\d+ (?:painted|no picture of)).*(?:\n|\Z)"
)
# A thought that the client sends along in the text; it ends where another begins, so each is read once.
_THOUGHT = re.compile(r"<(think|thinking)>((?:(?!</?think).)*+)</\1>\n?+", re.DOTALL)

_Entry = TypeVar("_Entry", bound=tuple[str, ...])

PROGRESS_MARK = "[limner] "
"""How each line of progress begins that was sent as reasoning, so that it is known again."""


class _Recent(Generic[_Entry]):
    """The last entries: at most `keep`, with at most `characters` in their texts."""

    def __init__(self, keep: int, characters: int) -> None:
        self._keep = keep
        self._characters = characters
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def put(self, key: str, entry: _Entry) -> None:
        self.drop(key)
        self._characters -= _length(entry)
        self._entries[key] = entry
        while len(self._entries) > self._keep or self._characters < 0:
            _, oldest = self._entries.popitem(last=False)
            self._characters += _length(oldest)

    def get(self, key: str) -> _Entry | None:
        return self._entries.get(key)

    def drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._characters += _length(entry)


def _length(entry: tuple[str, ...]) -> int:
    return sum(map(len, entry))


class TagMemory:
    """Which tag each picture was made from: the last ones of this process.

    At most `keep` of them, with at most `characters` in all.
    """

    def __init__(self, keep: int = KEEP_TAGS, characters: int = KEEP_CHARACTERS) -> None:
        self._tags = _Recent[tuple[str, str]](keep, characters)
        self._described = _Recent[tuple[str, str]](keep, characters)
        self._ends = _Recent[tuple[str]](keep, characters)

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

    def note_ends(self, prompt: str, text: str, ends: str) -> None:
        """Remember that we put `ends` behind `text`, before the first picture, to close what was open.

        Or that nothing was put there: then what looks the same was written by the model.
        """
        place = _place(prompt, text[-_LAST_WORDS:] + ends)
        if ends:
            self._ends.put(place, (ends,))
        else:
            self._ends.drop(place)

    def ends(self, description: str, before: str) -> str:
        """What we put at the end of the text before the picture with this description; mostly nothing."""
        [ends] = self._ends.get(_place(description, before)) or ("",)
        return ends if before.endswith(ends) else ""


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


def without_thoughts_of_ours(text: str) -> str:
    """`text` without our progress in the thoughts that it holds, and without those that were nothing else.

    SillyTavern puts what a model thought before its reply when it has the reply continued.
    """
    return _THOUGHT.sub(_without_ours, text) if PROGRESS_MARK in text else text


def _without_ours(thought: re.Match[str]) -> str:
    kept = without_progress(thought[2])
    if kept == thought[2]:
        return thought[0]
    return thought[0].replace(thought[2], kept) if kept.strip() else ""


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
    seen = images_between(text, prompts)
    hidden = {image.start: image for image in hidden_pictures(text, seen)}
    cuts: list[_Cut] = []
    for image in sorted((*seen, *hidden.values()), key=lambda image: image.start):
        if (cuts and image.start < cuts[-1].end) or not judge.is_ours(image):
            continue
        known = memory.of(image.src)
        words = _words(image.alt if known is None else known[0])
        tag = ""
        if words and judge.tags[words] > 0:
            judge.tags[words] -= 1
        elif image.start not in hidden:  # a tag inside of another would break that one
            known = known or memory.described(image.alt)
            tag = _tag_for(image.alt, patterns.patterns) if known is None else known[1]
        end = image.end + (len(GUARD) if text.startswith(GUARD, image.end) else 0)
        cuts.append(_Cut(image, end, tag))
    return _without(text, cuts, memory)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A picture that goes, up to `end`, and the tag in its place."""

    image: ImageMatch
    end: int
    tag: str


def _without(text: str, cuts: Sequence[_Cut], memory: TagMemory) -> str:
    """`text` without the pictures. What no tag takes the place of goes with what we put before it.

    At the end of the text that is also what a client makes of the line breaks, and blanks behind it.
    """
    kept: list[str] = []
    end = len(text)
    is_end = True
    for cut in reversed(cuts):
        behind = text[cut.end : end]
        is_end = is_end and not cut.tag and not behind.strip()
        kept += ("" if is_end else behind, cut.tag)
        end = cut.image.start
        if not cut.tag:
            breaks = _BEFORE if is_end else _BEFORE_IN_BETWEEN
            found = breaks.search(text, max(0, end - _BEFORE_LENGTH), end)
            end = found.start() if found else end
            end -= len(memory.ends(cut.image.alt, text[max(0, end - _LAST_WORDS) : end]))
    kept.append(text[:end])
    return "".join(reversed(kept))


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


def _place(description: str, before: str) -> str:
    """Where a picture stands, however the client has rewritten the white space before it."""
    return _digest(f"{_words(description)}\0{''.join(before.split())[-_LAST_LETTERS:]}")


def _key(address: str) -> str:
    stored = _STORED.search(address)
    if stored is not None:
        return stored.group(1)
    return _digest(address)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
