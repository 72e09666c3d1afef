"""A stream of events is cut where one event ends and the next begins, and no byte is lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.proxy.events import EventCutter, data_of, event_of, parsed

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(
    st.one_of(LINE_ENDS, st.sampled_from([b"data: {}", b"data:1", b": comment", b"event: x", b"\xff\x00"]))
).map(b"".join)


def fed(chunks: list[bytes], **settings: int) -> tuple[list[tuple[bytes, bool]], bytes]:
    cutter = EventCutter(**settings)
    pieces = [piece for chunk in chunks for piece in cutter.feed(chunk)]
    return pieces, cutter.rest()


@given(STREAMS, st.integers(1, 9), st.integers(1, 40))
def test_no_byte_is_lost_or_changed(stream, size, limit):
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    pieces, rest = fed(chunks, max_event_bytes=limit)
    assert b"".join(piece for piece, _ in pieces) + rest == stream


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_an_event_is_given_out_as_soon_as_its_blank_line_is_there(end, size):
    stream = b"data: 1" + end + end + b": c" + end + b"data: 2" + end + end + b"data: 3"
    pieces, rest = fed([stream[at : at + size] for at in range(0, len(stream), size)])
    assert [data_of(piece) for piece, whole in pieces if whole] == ["1", "2"]
    assert data_of(rest) == "3"


def test_an_event_that_is_too_large_passes_in_pieces_and_the_next_is_read_again():
    large = b"data: " + b"x" * 100 + b"\n\n"
    pieces, rest = fed([large[:60], large[60:], b"data: 1\n\n"], max_event_bytes=50)
    assert b"".join(piece for piece, whole in pieces if not whole) == large
    assert [piece for piece, whole in pieces if whole] == [b"data: 1\n\n"]
    assert rest == b""


def test_data_in_several_lines_are_one():
    assert parsed(data_of(b'event: x\ndata: {"a":\r\ndata: 1}\n\n')) == {"a": 1}


@pytest.mark.parametrize("data", ["", "{", "[1]", "7", '{"a": 1', "[" * 100_000])
def test_what_is_no_chunk_is_none(data):
    assert parsed(data) is None


def test_half_a_surrogate_pair_goes_through():
    assert json.loads(event_of({"a": "\ud800"})[6:]) == {"a": "\ud800"}


def test_a_large_event_in_small_pieces_is_not_copied_for_each_of_them():
    cutter = EventCutter()
    copied = 0
    for _ in range(10_000):
        cutter.feed(b"x" * 64)
        # What a piece costs is what is held in one: the pieces stay as they came until the event is whole.
        copied = max(copied, *(len(part) for part in cutter._open))
    assert copied == 64
    assert cutter.feed(b"\n\n") == [(b"x" * 640_000 + b"\n\n", True)]
