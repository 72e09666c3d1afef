"""What a person sees of a streamed text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.visible import LONGEST_HELD, VisiblePiece, VisibleText
from limner.text import DEFAULT_PATTERNS, PRESETS

TEXTS = st.lists(
    st.sampled_from(
        ['<!--img-prompt="', '"-->', '<img_prompt="', '">', '\\"', "<", "!", "--", "a", " b\n", "é"]
    )
).map("".join)


def shown(*chunks: str, patterns=DEFAULT_PATTERNS) -> list[VisiblePiece]:
    visible = VisibleText(patterns)
    pieces = [piece for chunk in chunks for piece in visible.feed(chunk)] + visible.finish()
    merged: list[VisiblePiece] = []
    for piece in pieces:
        if merged and not piece.is_prompt and not merged[-1].is_prompt:
            piece = VisiblePiece(merged.pop().text + piece.text)
        merged.append(piece)
    return merged


def test_prose_is_shown_at_once_and_a_tag_when_it_is_complete():
    visible = VisibleText(DEFAULT_PATTERNS)
    assert visible.feed("a < b <!--img-pro") == [VisiblePiece("a < b ")]
    assert visible.feed('mpt="a fox, \\"Rey') == []
    assert visible.feed('nard\\""-->.') == [
        VisiblePiece('a fox, "Reynard"', is_prompt=True),
        VisiblePiece("."),
    ]


def test_every_preset_is_recognised():
    for tags in PRESETS.values():
        for tag in tags:
            pieces = shown(f"a{tag.opener}fox{tag.closer}b", patterns=tags)
            assert pieces == [VisiblePiece("a"), VisiblePiece("fox", is_prompt=True), VisiblePiece("b")]


@given(TEXTS, st.data())
def test_how_the_text_is_cut_makes_no_difference(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert shown(*chunks) == shown(text)


def test_a_tag_that_never_closes_hides_no_more_than_a_bounded_piece():
    visible = VisibleText(DEFAULT_PATTERNS)
    seen = sum(
        len(p.text) for _ in range(LONGEST_HELD) for p in visible.feed('<!--img-prompt="') + visible.feed("x")
    )
    assert seen >= 17 * LONGEST_HELD - LONGEST_HELD - 17


def test_a_text_cannot_steer_the_terminal():
    assert shown("a\x1b[2Jb\x07\x9b1mc\n") == [VisiblePiece("a[2Jb1mc\n")]
