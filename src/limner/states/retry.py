"""Whether and when a failed attempt is repeated: pure arithmetic, no clock and no dice."""

from __future__ import annotations

from zlib import crc32

from limner.states.values import Problem, SessionSettings

RETRYABLE_KINDS = frozenset(
    {
        "rate_limited",
        "queue_full",
        "unavailable",
        "backend_error",
        "job_lost",
        "step_failed",
        "image_not_stored",
    }
)
"""Failures that another attempt may mend.

An image that could not be stored, or not be worked over, is tried again without being made again; a job
that the backend has lost is begun anew. The other kinds will fail again: no credit, a refused prompt, a bad
request, a wrong key, or an answer that is no image or too large.
"""

JITTER_PERCENT = 25


def is_retryable(kind: str) -> bool:
    """Whether a failure of this kind is worth another attempt at all."""
    return kind in RETRYABLE_KINDS


def backoff_ms(settings: SessionSettings, prompt_id: str, attempt: int, problem: Problem) -> int:
    """The pause in milliseconds before the attempt after `attempt` (counted from 1).

    Doubles with each attempt from `backoff_ms` up to `backoff_max_ms`, plus up to 25 % that depends on
    the prompt and the attempt, so that prompts which failed together do not come back together, and a
    replay still gives the same numbers. A longer pause that the backend asked for is kept.
    """
    doubled = min(settings.backoff_ms << min(attempt - 1, 30), settings.backoff_max_ms)
    spread = doubled * JITTER_PERCENT // 100
    jitter = crc32(f"{prompt_id}/{attempt}".encode("utf-8", "surrogatepass")) % (spread + 1)
    return max(doubled + jitter, problem.retry_after_ms or 0)
