"""What counts as an image prompt: tag patterns, presets, and their compiled form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType

from limner.errors import InvalidPattern, InvalidSetting
from limner.text.regions import CodeFence, PlainTag, QuotedTag, Reasoning, Region, RegionTable
from limner.text.user_regex import UserRegex

_LONGEST_DELIMITER = 200
_TAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_:-]{0,63}")


@dataclass(frozen=True, slots=True)
class TagPattern:
    r"""A tag with an exact opener and closer, in exactly this case and without optional white space.

    `quoted`: the body stands between double quotes, which `opener` ends and `closer` begins with. A
    backslash takes the character behind it along, so `\"` does not end the body; in the prompt `\"` becomes
    `"`, and all else stays as written. Not `quoted`: the body runs to the first closer and stays as written.

    Raises `InvalidPattern` for delimiters that are empty, longer than 200 characters, or do not fit `quoted`.
    """

    opener: str
    closer: str
    quoted: bool
    name: str

    def __post_init__(self) -> None:
        shown = f"{self.opener}…{self.closer}"
        if not self.opener or not self.closer:
            raise InvalidPattern(shown, "opener and closer must not be empty")
        if max(len(self.opener), len(self.closer)) > _LONGEST_DELIMITER:
            raise InvalidPattern(shown, f"opener and closer may have {_LONGEST_DELIMITER} characters")
        if self.quoted and not (self.opener.endswith('"') and self.closer.startswith('"')):
            raise InvalidPattern(
                shown, 'a quoted tag has an opener that ends and a closer that begins with "'
            )


DEFAULT_PATTERNS: tuple[TagPattern, ...] = (
    TagPattern('<!--img-prompt="', '"-->', quoted=True, name="comment"),
    TagPattern('<img_prompt="', '">', quoted=True, name="element"),
)
"""The tags that Limner asks models for: `<!--img-prompt="…"-->` and `<img_prompt="…">`."""

PRESETS: Mapping[str, tuple[TagPattern, ...]] = MappingProxyType(
    {
        "default": DEFAULT_PATTERNS,
        "pic": (TagPattern('<pic prompt="', '">', quoted=True, name="pic"),),
        "t2i": (TagPattern("<t2i>", "</t2i>", quoted=False, name="t2i"),),
        "imggen": (TagPattern('<ImgGen="', '">', quoted=True, name="imggen"),),
        "imggen-braces": (TagPattern('{{ImgGen="', '"}}', quoted=True, name="imggen-braces"),),
    }
)
"""Named pattern sets for the tags of other hosts."""


@dataclass(frozen=True)
class PromptPatterns:
    """A compiled set of patterns, made by `compile_patterns`. Equal settings give equal, hashable objects."""

    patterns: tuple[str | TagPattern, ...]
    in_code_fences: bool
    reasoning_tags: tuple[str, ...]
    time_limit_ms: int
    table: RegionTable = field(init=False, repr=False, compare=False)
    regexes: tuple[UserRegex, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        regions: list[Region] = [Reasoning(f"<{tag}>", f"</{tag}>", -1) for tag in self.reasoning_tags]
        if not self.in_code_fences:
            regions.append(CodeFence())
        regexes: list[UserRegex] = []
        for order, pattern in enumerate(self.patterns):
            if isinstance(pattern, TagPattern):
                kind = QuotedTag if pattern.quoted else PlainTag
                regions.append(kind(pattern.opener, pattern.closer, order))
            else:
                regexes.append(UserRegex(pattern, order))
        object.__setattr__(self, "table", RegionTable(regions))
        object.__setattr__(self, "regexes", tuple(regexes))

    def without_regexes(self) -> PromptPatterns:
        """The same set without its user regexes: what is left to work with after `PatternTooSlow`."""
        return replace(self, patterns=tuple(p for p in self.patterns if isinstance(p, TagPattern)))


def compile_patterns(
    patterns: Iterable[str | TagPattern] = DEFAULT_PATTERNS,
    *,
    in_code_fences: bool = True,
    reasoning_tags: Sequence[str] = ("think", "thinking"),
    time_limit_ms: int = 100,
) -> PromptPatterns:
    """Check and compile patterns for use by everything else in `limner.text`.

    A `str` is a regular expression in the syntax of the `regex` module, which contains that of `re`; the
    first of its groups that takes part in a match is the prompt. Where several patterns match at one place,
    the earlier in `patterns` wins. `in_code_fences`: whether prompts in fenced code blocks count.
    `reasoning_tags`: names of the tags (`<think>…</think>`) inside which nothing is a prompt.
    `time_limit_ms`: the processor time that user regexes may take on one scan of a text of up to 100 000
    characters, and proportionally more on a longer one.

    Raises `InvalidPattern` for a regex that does not compile (with the position), has no group, can match the
    empty text or searches backwards; `InvalidSetting` for a tag name or a limit that cannot be meant.
    """
    if isinstance(patterns, str | TagPattern):  # a lone string is an iterable of its characters
        patterns = (patterns,)
    chosen = tuple(patterns)
    for pattern in chosen:
        if not isinstance(pattern, str | TagPattern):
            raise InvalidPattern(repr(pattern), "it is neither a string nor a TagPattern")
    if isinstance(reasoning_tags, str):
        reasoning_tags = (reasoning_tags,)
    for tag in reasoning_tags:
        if not _TAG_NAME.fullmatch(tag):
            raise InvalidSetting(f"reasoning_tags: {tag!r} is not the name of a tag, such as 'think'")
    if time_limit_ms <= 0:
        raise InvalidSetting(f"time_limit_ms must be positive, not {time_limit_ms}")
    return _compiled(chosen, bool(in_code_fences), tuple(reasoning_tags), time_limit_ms)


@lru_cache(maxsize=128)
def _compiled(
    patterns: tuple[str | TagPattern, ...],
    in_code_fences: bool,
    reasoning_tags: tuple[str, ...],
    time_limit_ms: int,
) -> PromptPatterns:
    return PromptPatterns(patterns, in_code_fences, reasoning_tags, time_limit_ms)


def as_patterns(patterns: PromptPatterns | Iterable[str | TagPattern] | None) -> PromptPatterns:
    """`patterns` compiled, if they are not yet; None stands for the defaults."""
    if isinstance(patterns, PromptPatterns):
        return patterns
    return compile_patterns() if patterns is None else compile_patterns(patterns)
