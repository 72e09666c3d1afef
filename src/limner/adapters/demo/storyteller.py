"""The embedded storyteller: a short story about whatever was typed, without a model or a network.

The same line gives the same story. Where it speaks of something that the offline painter knows (the sea, a
storm, a dragon), the story is set there; what it says otherwise is quoted in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from random import Random
from typing import TypeVar

import regex  # type: ignore[import-untyped]  # its stubs are a package of their own

from limner.adapters.demo.tales import HEROES, HOURS, PLACES, TALES, UNSAID, VISITORS, tale
from limner.adapters.painting.words import WORDS

LONGEST_QUOTE = 90
"""How many characters of a line are quoted; behind a longer piece stands an ellipsis."""

_READ_CHARACTERS = 4_000
_REQUEST = re.compile(
    r"(?:please[ ,]+)?(?:(?:can|could|would) you )?(?:please )?"
    r"(?:tell|write|give|make|draw|paint|show|sing|invent)(?: (?:me|us))? "
    r"(?:(?:a|an|the|another|some) )?(?:\w+ )?"
    r"(?:story|stories|tale|tales|poem|text|picture|pictures|song|fairy ?tale) (?:about|of|on|with) ",
    re.IGNORECASE,
)
_RIGHT_TO_LEFT = frozenset({"R", "AL"})
# Joiners belong to the words of many scripts and to pictures of people; the other format characters can turn
# a text round or hide in it.
_JOINERS = "\u200c\u200d"
_ISOLATE, _END_OF_ISOLATE = "\u2068", "\u2069"
# The tags' own characters, and quotation marks that would end the quotation, become their likenesses.
_LIKENESS = str.maketrans({"<": "‹", ">": "›", '"': "’", "“": "‘", "”": "’", "„": "‚", "`": "’"})
_MARKDOWN = re.compile(r"[\\*_\[\]#~|&]")

_PLACE_WORDS = {
    "sea": ("lighthouse", "sea", "boat"),
    "lake": ("lake",),
    "desert": ("desert",),
    "castle": ("castle",),
    "mountains": ("mountains",),
    "forest": ("forest",),
    "city": ("city",),
    "village": ("village",),
    "garden": ("flowers", "tree"),
}
_HOUR_WORDS = {
    "storm": ("storm", "rain", "lightning"),
    "snow": ("snow", "snowfall"),
    "night": ("night", "aurora", "magic"),
    "dusk": ("dusk", "fire"),
    "dawn": ("dawn",),
    "autumn": ("autumn", "mist"),
    "day": ("day", "desert", "flowers"),
}
_VISITOR_WORDS = {name: (name,) for name in ("dragon", "cat", "balloon", "birds", "figure")}

_Kind = TypeVar("_Kind")


def tell(line: str) -> str:
    """A story about `line`, in Markdown with image prompts in both kinds of tag.

    Whatever `line` is, nothing of it acts as Markdown, HTML or a tag.
    """
    said = readable(line)
    about = _REQUEST.sub("", said, count=1) or said
    rng = Random(f"story {said}")  # noqa: S311 - a choice of words
    asked = _asked_for(about)
    place = _chosen(PLACES, _PLACE_WORDS, asked, rng)
    hour = _chosen(HOURS, _HOUR_WORDS, asked, rng)
    visitor = _chosen(VISITORS, _VISITOR_WORDS, asked, rng)
    hero = rng.choice(HEROES)
    words = excerpt(about) or UNSAID
    comment, element = _comment_tag, _element_tag
    return tale(rng.choice(TALES)).format(
        line=_quoted(words),
        Name=hero.name,
        she=hero.she,
        She=hero.she.capitalize(),
        her=hero.her,
        him=hero.object,
        there=place.there,
        road=place.road,
        sound=place.sound,
        view=place.view,
        gift=place.gift,
        when=hour.when,
        light=hour.light,
        comes=visitor.comes,
        visitor=visitor.named,
        first=comment(f"{place.near}, {hour.painted}"),
        second=element(f"{words}: {place.far}, {hour.painted}"),
        third=comment(f"{visitor.painted}, {place.far}, {hour.painted}"),
        last=element(f"{place.near}, {hour.later}"),
    )


def readable(line: str) -> str:
    """`line` as one line that can be shown: no control characters, no lone surrogates, single spaces."""
    kept = "".join(map(_readable, line[:_READ_CHARACTERS]))
    return " ".join(kept.split()).strip(_JOINERS + " ")


def readable_lines(text: str) -> str:
    """`text` line by line as `readable` makes them, without empty lines at its ends."""
    return "\n".join(readable(line) for line in text.splitlines()).strip()


def _readable(ch: str) -> str:
    category = unicodedata.category(ch)
    if category in ("Cc", "Zl", "Zp"):
        return " "
    return "" if category[0] == "C" and ch not in _JOINERS else ch


def excerpt(line: str) -> str:
    """The beginning of a readable line, at most `LONGEST_QUOTE` characters, cut between words if it has any.

    A character is what a reader takes for one; one that many marks are piled on counts for more.
    """
    kept = ""
    for number, cluster in enumerate(regex.findall(r"\X", line), 1):
        if number > LONGEST_QUOTE or len(kept) + len(cluster) > 3 * LONGEST_QUOTE:
            break
        kept += cluster
    if kept == line:
        return line.rstrip(" .,;:") or line
    head, _, _ = kept.rpartition(" ")
    if len(head) >= len(kept) // 2:
        kept = head
    return kept.rstrip(" .,;:…") + "…"


def _asked_for(line: str) -> frozenset[str]:
    words = set(re.findall(r"[^\W\d_]+", line.casefold()))
    words |= {word.removesuffix("s") for word in words}
    return frozenset(thing for thing, names in WORDS.items() if words & set(names.split()))


def _chosen(
    kinds: Mapping[str, _Kind], words: Mapping[str, tuple[str, ...]], asked: frozenset[str], rng: Random
) -> _Kind:
    # Drawn in any case, so that a word more in the line does not change what else is chosen.
    drawn = rng.choice(tuple(kinds.values()))
    return next((kinds[name] for name, things in words.items() if asked & set(things)), drawn)


def _quoted(words: str) -> str:
    shown = _MARKDOWN.sub(r"\\\g<0>", words.translate(_LIKENESS))
    if any(unicodedata.bidirectional(ch) in _RIGHT_TO_LEFT for ch in words):
        return f"{_ISOLATE}{shown}{_END_OF_ISOLATE}"
    return shown


def _painted(words: str) -> str:
    # A backslash before the closing quotation mark would escape it.
    return words.translate(_LIKENESS).replace("\\", "∖")


def _comment_tag(words: str) -> str:
    return f'<!--img-prompt="{_painted(words)}"-->'


def _element_tag(words: str) -> str:
    return f'<img_prompt="{_painted(words)}">'
