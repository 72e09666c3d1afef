"""When a failed attempt is repeated: the kinds, the doubling, the spread and the backend's own wish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner import errors
from limner.states import Problem, SessionSettings
from limner.states.retry import JITTER_PERCENT, RETRYABLE_KINDS, backoff_ms, is_retryable

SETTINGS = SessionSettings()
PROBLEM = Problem("unavailable")


@pytest.mark.parametrize("kind", ["rate_limited", "queue_full", "unavailable", "backend_error"])
def test_failures_of_the_moment_are_worth_another_attempt(kind: str):
    assert is_retryable(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "no_balance",
        "moderated",
        "bad_request",
        "wrong_address",
        "auth",
        "no_image",
        "not_an_image",
        "answer_too_large",
        "?",
    ],
)
def test_failures_that_will_come_again_are_not(kind: str):
    assert not is_retryable(kind)


def test_every_retryable_backend_kind_is_one_that_a_backend_error_has():
    kinds = {errors.BackendError.kind} | {error.kind for error in errors.BackendError.__subclasses__()}
    assert kinds >= RETRYABLE_KINDS - {"image_not_stored"}


@pytest.mark.parametrize(
    ("attempt", "least"), [(1, 1_000), (2, 2_000), (3, 4_000), (6, 30_000), (99, 30_000)]
)
def test_the_pause_doubles_up_to_its_limit_and_spreads_by_a_quarter(attempt: int, least: int):
    pauses = {backoff_ms(SETTINGS, f"p{n}", attempt, PROBLEM) for n in range(200)}
    assert least <= min(pauses)
    assert max(pauses) <= least * (100 + JITTER_PERCENT) // 100
    assert len(pauses) > 100, "prompts that failed together come back together"


def test_a_replay_gives_the_same_pause():
    assert backoff_ms(SETTINGS, "p", 2, PROBLEM) == backoff_ms(SETTINGS, "p", 2, PROBLEM)


def test_a_longer_pause_that_the_backend_asked_for_is_kept():
    assert backoff_ms(SETTINGS, "p", 1, Problem("rate_limited", "", 60_000)) == 60_000


def test_a_shorter_pause_that_the_backend_asked_for_does_not_shorten_ours():
    assert backoff_ms(SETTINGS, "p", 1, Problem("rate_limited", "", 1)) >= 1_000


@given(st.text(), st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_pause_is_bounded_whatever_the_settings(prompt_id: str, attempt: int, first: int, limit: int):
    settings = SessionSettings(backoff_ms=first, backoff_max_ms=limit)
    assert 0 <= backoff_ms(settings, prompt_id, attempt, PROBLEM) <= limit * 5 // 4


def test_a_prompt_id_with_a_lone_surrogate_has_a_pause_too():
    assert backoff_ms(SETTINGS, "\ud800", 1, PROBLEM) >= 1_000
