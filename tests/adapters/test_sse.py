"""Server-sent events: HTML standard, section 9.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.sse import EventParser, ServerSentEvent
from limner.errors import AnswerTooLarge


def parse(*chunks: bytes, flush: bool = False) -> list[ServerSentEvent]:
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.flush() if flush else events


def data_of(*chunks: bytes) -> list[str]:
    return [event.data for event in parse(*chunks)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lf_cr_and_crlf_end_a_line(end):
    assert data_of(b"data: one" + end + end + b"data: two" + end + end) == ["one", "two"]


def test_an_event_is_due_as_soon_as_its_last_byte_has_come_even_if_that_is_a_cr():
    assert data_of(b"data: now\r\r") == ["now"]


def test_a_crlf_that_is_cut_in_two_ends_one_line_not_two():
    assert data_of(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == ["a\nb"]


def test_several_data_lines_are_joined_by_line_feeds():
    assert data_of(b"data: one\ndata:\ndata: three\n\n") == ["one\n\nthree"]


def test_one_space_behind_the_colon_is_dropped_and_only_one():
    assert data_of(b"data:a\n\ndata: a\n\ndata:  a\n\n") == ["a", "a", " a"]


def test_comments_and_unknown_fields_say_nothing():
    assert parse(b": keep-alive\n\nid: 7\nretry: 10\nnonsense\n\n") == []


def test_a_named_event_keeps_its_name_and_the_next_one_does_not_inherit_it():
    assert parse(b"event: error\ndata: 1\n\ndata: 2\n\n") == [("error", "1"), ("message", "2")]


def test_an_event_without_data_is_no_event():
    assert parse(b"event: ping\n\n") == []


def test_a_byte_order_mark_at_the_beginning_is_skipped_and_only_there():
    assert data_of(b"\xef\xbb\xbfdata: a\n\ndata: \xef\xbb\xbfb\n\n") == ["a", "\ufeffb"]


def test_bytes_that_are_no_utf_8_are_replaced():
    assert data_of(b"data: \xff!\n\n") == ["\ufffd!"]


def test_what_the_end_of_the_stream_cuts_off_is_offered_by_flush():
    assert parse(b"data: [DONE]", flush=True) == [("message", "[DONE]")]
    assert parse(b"data: [DONE]\n", flush=True) == [("message", "[DONE]")]
    assert parse(b": bye", flush=True) == []


LINES = st.lists(
    st.one_of(
        st.just(""),
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12).map("data: {}".format),
        st.sampled_from([": comment", "event: x", "data", "données: é"]),
    ),
    max_size=12,
)


@given(st.data(), LINES, st.sampled_from(["\n", "\r", "\r\n"]))
def test_any_cutting_into_chunks_gives_the_same_events(data, lines, end):
    stream = "".join(f"{line}{end}" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert parse(*chunks) == parse(stream)


def feed_repeatedly(parser: EventParser, chunk: bytes) -> None:
    for _ in range(100):
        parser.feed(chunk)


def test_a_line_without_end_is_refused_before_it_fills_memory():
    with pytest.raises(AnswerTooLarge, match="more than 1000 bytes"):
        feed_repeatedly(EventParser(max_event_bytes=1000), b"x" * 99)


def test_an_event_of_endless_lines_is_refused_before_it_fills_memory():
    with pytest.raises(AnswerTooLarge, match="more than 1000 bytes"):
        feed_repeatedly(EventParser(max_event_bytes=1000), b"data: " + b"x" * 99 + b"\n")
