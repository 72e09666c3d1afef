"""What is answered to conditional and partial requests, by RFC 9110."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from limner.adapters.web.conditional import Verdict, judge

ETAG = '"abc"'


def answer(method: str = "GET", size: int = 100, **headers: str) -> Verdict:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return judge(method, Headers(raw=raw), ETAG, size)


WHOLE = Verdict(200, 0, 100)


def test_without_conditions_everything_is_answered():
    assert answer() == WHOLE
    assert answer("HEAD") == WHOLE


@pytest.mark.parametrize("value", ['"abc"', 'W/"abc"', '"x", "abc"', '"x" , W/"abc" , "y"', "*", " * "])
def test_who_has_it_already_gets_nothing(value):
    assert answer(if_none_match=value) == Verdict(304)
    assert answer("HEAD", if_none_match=value) == Verdict(304)
    assert answer(if_none_match=value, range="bytes=0-1") == Verdict(304)


@pytest.mark.parametrize("value", ['"abcd"', "abc", '"a, abc"', "", '"*"', '"ABC"'])
def test_who_has_something_else_gets_everything(value):
    assert answer(if_none_match=value) == WHOLE


def test_the_lines_of_a_header_count_together():
    raw = [(b"if-none-match", b'"x"'), (b"if-none-match", b'"abc"')]
    assert judge("GET", Headers(raw=raw), ETAG, 100) == Verdict(304)


@pytest.mark.parametrize(
    ("value", "holds"), [('"abc"', True), ("*", True), ('"x"', False), ('W/"abc"', False)]
)
def test_who_wants_it_only_as_it_was_is_told_when_it_is_not(value, holds):
    assert answer(if_match=value) == (WHOLE if holds else Verdict(412))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=10-19", 10, 20),
        ("bytes=10-", 10, 100),
        ("bytes=99-", 99, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-100", 0, 100),
        ("bytes=-1000", 0, 100),
        ("bytes=50-1000", 50, 100),
        ("bytes=0-" + "9" * 40, 0, 100),
        ("Bytes=1-2", 1, 3),
        (" bytes = 1-2 ", 1, 3),
        ("bytes=,1-2,", 1, 3),
    ],
)
def test_a_range_is_answered_with_that_part(asked, start, stop):
    assert answer(range=asked) == Verdict(206, start, stop)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=" + "9" * 40 + "-"])
def test_a_range_behind_the_end_cannot_be_answered(asked):
    assert answer(range=asked) == Verdict(416)


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_nothing_has_no_parts(asked):
    assert answer(range=asked, size=0) == Verdict(416)


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=5-4",
        "bytes=a-b",
        "bytes=1",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes=0x1-2",
        "bytes=" + "9" * 5_000 + "-",
        "items=0-1",
        "bytes=0-1,5-6",
        "bytes=" + ",".join(["0-1"] * 1_000),
    ],
)
def test_what_is_no_single_range_is_answered_with_everything(asked):
    assert answer(range=asked) == WHOLE


def test_a_range_is_only_for_a_get():
    assert answer("HEAD", range="bytes=0-1") == WHOLE


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        ('"abc"', True),
        ('"old"', False),
        ('W/"abc"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),
        ("", False),
    ],
)
def test_the_rest_of_a_download_is_sent_only_where_it_still_is_the_same(condition, part):
    wanted = Verdict(206, 10, 20) if part else WHOLE
    assert answer(range="bytes=10-19", if_range=condition) == wanted
