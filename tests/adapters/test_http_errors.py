"""From a refusal to a typed error."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.http_errors import error_from_answer, retry_after_ms, words_from_body
from limner.errors import (
    AuthFailed,
    BackendError,
    BadRequest,
    Moderated,
    NoBalance,
    RateLimited,
    Unavailable,
)

NOW = datetime(2031, 5, 4, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, AuthFailed),
        (402, NoBalance),
        (403, AuthFailed),
        (404, BadRequest),
        (422, BadRequest),
        (429, RateLimited),
        (500, BackendError),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (418, BackendError),
    ],
)
def test_the_status_decides_the_kind(status, kind):
    error = error_from_answer("http://host/x", status, {}, b"", NOW)
    assert type(error) is kind
    assert str(error) == f"http://host/x answered {status}"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "moderation_blocked", Moderated),
        (400, "content_policy_violation", Moderated),
        (400, "contentFilter", Moderated),
        (429, "insufficient_quota", NoBalance),
        (400, "billing_hard_limit_reached", NoBalance),
    ],
)
def test_a_code_says_more_than_the_status(status, code, kind):
    body = json.dumps({"error": {"message": "No.", "code": code, "type": "x"}}).encode()
    assert type(error_from_answer("here", status, {}, body, NOW)) is kind


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "The model does not exist.", "type": "t"}}, "The model does not exist."),
        ({"error": "model not found"}, "model not found"),
        ({"detail": "Not Found"}, "Not Found"),
        (
            {"error": "OutOfMemoryError", "detail": "", "body": "", "errors": "CUDA out of memory"},
            "OutOfMemoryError: CUDA out of memory",
        ),
        (
            {"detail": [{"loc": ["body", "steps"], "msg": "not an integer", "type": "t"}]},
            "body.steps: not an integer",
        ),
        ({"message": "quota"}, "quota"),
        (["odd"], '["odd"]'),
        (
            {
                "error": {
                    "type": "prompt_outputs_failed_validation",
                    "message": "Failed",
                    "details": "",
                },
                "node_errors": {
                    "4": {
                        "class_type": "Loader",
                        "dependent_outputs": ["9"],
                        "errors": [{"message": "Value not in list", "details": "name: 'a' not in ['b']"}],
                    },
                    "5": {"class_type": "Empty", "errors": []},
                    "6": {"class_type": "Text", "errors": [{"message": "A"}, {"details": "B"}]},
                },
            },
            "Failed: node 4 (Loader): Value not in list: name: 'a' not in ['b']; node 6 (Text): A, B",
        ),
        (
            {
                "error": {
                    "type": "missing_node_type",
                    "message": "Node 'X' not found.",
                    "details": "Node ID '#3'",
                },
                "node_errors": {},
            },
            "Node 'X' not found.: Node ID '#3'",
        ),
        (
            {"error": {"message": "Prompt has no outputs", "details": ""}, "node_errors": []},
            "Prompt has no outputs",
        ),
    ],
)
def test_the_servers_own_words_are_kept_whatever_their_shape(body, words):
    assert words_from_body(json.dumps(body).encode()).text == words


def test_a_body_that_is_no_json_is_described():
    assert words_from_body(b"<html><h1>502 Bad Gateway</h1>").text.startswith("it is an HTML page: <html>")
    assert words_from_body(b"upstream gone").text == "upstream gone"


def test_words_stay_short_and_on_one_line():
    body = json.dumps({"error": {"message": "a\nb\x1b[31m " + "long " * 10_000}}).encode()
    words = words_from_body(body).text
    assert len(words) <= 300
    assert words.isprintable()


@given(st.binary(max_size=300))
def test_no_body_makes_the_translation_fail(body):
    error = error_from_answer("here", 500, {}, body, NOW)
    assert "\n" not in str(error)
    assert len(str(error)) < 500


@given(
    st.recursive(
        st.none() | st.text() | st.floats() | st.booleans(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    ["error", "detail", "errors", "message", "code", "type", "loc", "msg", "node_errors"]
                ),
                x,
            )
        ),
    )
)
def test_no_json_makes_the_translation_fail(parsed):
    error = error_from_answer("here", 400, {}, json.dumps(parsed).encode(), NOW)
    assert isinstance(error, BackendError)


def test_a_redirect_of_a_request_tells_the_new_address():
    error = error_from_answer("http://a", 301, {"location": "https://a/"}, b"", NOW)
    assert isinstance(error, BadRequest)
    assert "https://a/" in str(error)


@pytest.mark.parametrize(
    ("headers", "pause_ms"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after-ms": "1234", "retry-after": "9"}, 1234),
        ({"retry-after": "Sun, 04 May 2031 12:00:30 GMT"}, 30_000),
        ({"retry-after": "Sun, 04 May 2031 11:00:00 GMT"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1e300"}, 86_400_000),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
    ],
)
def test_the_pause_asked_for_is_understood_as_seconds_milliseconds_or_a_date(headers, pause_ms):
    assert retry_after_ms(headers, NOW) == pause_ms


def test_the_pause_reaches_the_error():
    error = error_from_answer("here", 429, {"retry-after": "2"}, b"", NOW)
    assert error.retry_after_ms == 2000
