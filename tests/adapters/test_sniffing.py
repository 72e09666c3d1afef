"""What some bytes look like, in a few words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.sniffing import describe, one_line


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"error": "out of memory"}', 'it is JSON: {"error": "out of memory"}'),
        (b"\n [1, 2]", "it is JSON: [1, 2]"),
        (b"<!DOCTYPE html><p>Login", "it is an HTML page: <!DOCTYPE html><p>Login"),
        (b"<svg xmlns='x'/>", "it is an SVG drawing, which Limner does not take: <svg xmlns='x'/>"),
        (b"<?xml version='1.0'?><svg/>", "it is an SVG drawing"),
        (b"<?xml version='1.0'?><Error/>", "it is XML"),
        (b"data:image/png;base64,AA", "it is a data: URI"),
        ("Fehler: Speicher voll – ä".encode(), "it is text: Fehler: Speicher voll – ä"),
        (b"\x89PNG\r\n\x1a\nxx", "it is a PNG file that is damaged"),
        (b"\x00\x00\x00\x20ftypavif", "it is an AVIF file that is damaged"),
        (b"\x00\x00\x00\x20ftypisom", "it is a video"),
        (b"\x00\x00\x00\x20ftypheic", "it is a HEIC image"),
        (b"RIFFxxxxWEBPVP8 ", "it is a WebP file that is damaged"),
        (b"\x01\x02\x03", "it is data of an unknown kind, beginning 01 02 03"),
    ],
)
def test_a_description_says_what_it_is(data, words):
    assert describe(data).startswith(words)


@given(st.binary(max_size=600))
def test_a_description_is_one_short_printable_line(data):
    words = describe(data)
    assert words.isprintable()
    assert len(words) <= 140


@given(st.text(max_size=500), st.integers(2, 60))
def test_one_line_is_printable_and_within_its_limit(text, limit):
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()


def test_a_megabyte_is_not_looked_through():
    assert describe(b"{" + b" " * 2**20 + b"}") == "it is JSON: {"
