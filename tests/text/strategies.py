"""Texts that are likely to hold what detection and placement care about."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from limner.text import DEFAULT_PATTERNS, PRESETS, TagPattern

# Patterns that get in each other's way: one opener begins another, two differ in the closer only, an escaped
# quote ends an opener, a closer holds another's opener.
AWKWARD = (
    TagPattern('<a b="', '"/>', quoted=True, name="slash"),
    TagPattern('<a b="', '">', quoted=True, name="same opener"),
    TagPattern("<a", "a>", quoted=False, name="prefix of the others"),
    TagPattern('<a b="<', '<"', quoted=False, name="longer"),
    TagPattern('x\\"', '"y', quoted=True, name="escaped"),
)
EVERY_PRESET = tuple(pattern for patterns in PRESETS.values() for pattern in patterns)
LINES = (TagPattern("IMG:", "\n", quoted=False, name="line"), *DEFAULT_PATTERNS)
FENCED = (
    TagPattern("```img\n", "\n```", quoted=False, name="fence"),
    TagPattern('```"', '"```', quoted=True, name="quoted fence"),
    *DEFAULT_PATTERNS,
)
CODE = (TagPattern("``", "``", quoted=False, name="code"), *DEFAULT_PATTERNS)

PATTERN_SETS = (DEFAULT_PATTERNS, EVERY_PRESET, AWKWARD, LINES, FENCED, CODE)

_DELIMITERS = sorted({part for patterns in PATTERN_SETS for p in patterns for part in (p.opener, p.closer)})
_PIECES = (
    *_DELIMITERS,
    *("<think>", "</think>", "<thinking>", "</thinking>"),
    *('"', "\\", '\\"', "\\\\", "<", ">", "-", "<!--", "-->", "a", "cat", " ", "   ", "    ", "\t"),
    *("\n", "\r", "\r\n", "\n\n", "`", "``", "```", "````", "~~~", "~~~~", "```py"),
    *("\0", "\ud800", "\udfff", "é", "😀", "\u2028"),
)


def pieces(*more: str, size: int = 24) -> st.SearchStrategy[str]:
    """Texts put together from delimiters, parts of delimiters and what may stand around them."""
    piece = st.one_of(
        st.sampled_from((*_PIECES, *more)),
        st.sampled_from(_DELIMITERS).flatmap(lambda d: st.integers(0, len(d)).map(lambda n: d[:n])),
        st.text(max_size=3),
    )
    return st.lists(piece, max_size=size).map("".join)


def pieces_for(patterns: Sequence[TagPattern], size: int = 14) -> st.SearchStrategy[str]:
    """Texts that are likely to hold tags of these patterns, whole and broken, and little else."""
    delimiters = sorted({part for p in patterns for part in (p.opener, p.closer)})
    marks = (
        "<think>",
        "</think>",
        "\n```",
        "\n~~~",
        "\n````",
        "\n```\n",
        " ```",
        "`",
        "\n",
        "\n   ",
        " ",
        "\r",
    )
    whole = st.sampled_from((*delimiters, *delimiters, *marks, '"', "\\", '\\"', "a"))
    part = st.sampled_from(delimiters).flatmap(lambda d: st.integers(1, len(d)).map(lambda n: d[:n]))
    return st.lists(st.one_of(whole, whole, part), max_size=size).map("".join)


def any_text(max_size: int = 60) -> st.SearchStrategy[str]:
    """Any code points at all, lone surrogates and NUL among them."""
    return st.text(alphabet=st.characters(exclude_categories=()), max_size=max_size)


@st.composite
def tagged_texts(draw: st.DrawFn, filler: st.SearchStrategy[str] | None = None) -> str:
    """Texts with some complete tags of the default patterns."""
    filler = pieces() if filler is None else filler
    prompts = st.one_of(st.sampled_from(("cat", "dog", "a cat, sleeping")), any_text(12))
    result = [draw(filler)]
    for _ in range(draw(st.integers(0, 4))):
        result.append(tag(draw(prompts), draw(st.sampled_from(DEFAULT_PATTERNS))))
        result.append(draw(filler))
    return "".join(result)


def tag(prompt: str, pattern: TagPattern = DEFAULT_PATTERNS[0]) -> str:
    """The tag of a prompt, as a model that knows the rules writes it."""
    # A lone backslash before a quote would be read as its escape.
    body = prompt.replace("\\", "/").replace('"', '\\"')
    return f"{pattern.opener}{body}{pattern.closer}"


def cuts(text: str) -> st.SearchStrategy[list[str]]:
    """The text in pieces, some of them empty."""
    places = st.lists(st.integers(0, len(text)), max_size=12).map(sorted)
    return places.map(lambda at: [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)])
