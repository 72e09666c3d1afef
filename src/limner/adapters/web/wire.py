"""What is seen of a message, as JSON. The same forms in events and in answers."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode

from limner.states import Problem
from limner.states.outcome import Counts, Result
from limner.text import TagPattern
from limner.workflows.history import HistoryEntry
from limner.workflows.progress_events import (
    ProgressEvent,
    PromptProgress,
    SessionEnded,
    SessionProgress,
    Thumbnail,
)
from limner.workflows.watching import TextProgress

JSON = dict[str, Any]


def event_form(event: ProgressEvent | TextProgress) -> tuple[str, JSON]:
    """An event's name and its data."""
    if isinstance(event, SessionProgress):
        return "session", session_form(event)
    if isinstance(event, PromptProgress):
        return "prompt", prompt_form(event)
    if isinstance(event, SessionEnded):
        return "ended", ended_form(event.result)
    return "text", {
        "message": event.message_id,
        "start": event.start,
        "text": event.text,
        "final": event.final,
    }


def session_form(progress: SessionProgress) -> JSON:
    """How far a session is."""
    return {
        "message": progress.message_id,
        "session": progress.session_id,
        "kind": progress.kind.value,
        "state": progress.state,
        "counts": counts_form(progress.counts),
    }


def counts_form(counts: Counts) -> JSON:
    """How many images wait, run, and so on."""
    return counts._asdict()


def prompt_form(progress: PromptProgress) -> JSON:
    """How far an image is. The preview's address is relative to the app."""
    return {
        "message": progress.message_id,
        "session": progress.session_id,
        "prompt_id": progress.prompt_id,
        "prompt": progress.prompt,
        "state": progress.state,
        "attempt": progress.attempt,
        "fraction": progress.fraction,
        "preview": _preview_address(progress),
        "image_url": progress.image_url,
        "target_url": progress.target_url,
        "occurrence": progress.occurrence,
        "problem": _problem_form(progress.problem),
    }


def ended_form(result: Result) -> JSON:
    """The end of a session, with what became of every image."""
    return {
        "message": result.message_id,
        "session": result.session_id,
        "kind": result.kind.value,
        "state": result.state,
        "result": result_form(result),
    }


def result_form(result: Result) -> JSON:
    """What became of every image."""
    return {
        "placed": [image._asdict() for image in result.placed],
        "unplaced": [image._asdict() for image in result.unplaced],
        "failed": [
            {
                "prompt_id": failed.prompt_id,
                "prompt": failed.prompt,
                "problem": _problem_form(failed.problem),
            }
            for failed in result.failed
        ],
        "cancelled": list(result.cancelled),
        "problem": _problem_form(result.problem),
    }


def history_form(entries: Iterable[HistoryEntry]) -> list[JSON]:
    """The events that the machines took, oldest first."""
    return [
        {
            "at": entry.at_ms,
            "session": entry.session_id,
            "machine": entry.machine,
            "event": entry.event,
            "before": entry.before,
            "after": entry.after,
            "detail": entry.detail,
        }
        for entry in entries
    ]


def tags_form(patterns: Iterable[str | TagPattern]) -> list[JSON]:
    """The tags among the patterns; regular expressions are not for browsers."""
    return [
        {"opener": pattern.opener, "closer": pattern.closer, "quoted": pattern.quoted}
        for pattern in patterns
        if isinstance(pattern, TagPattern)
    ]


def version_of(thumbnail: Thumbnail) -> str:
    """16 hexadecimal digits that are different for a different picture."""
    return sha256(thumbnail.data).hexdigest()[:16]


def _preview_address(progress: PromptProgress) -> str | None:
    if progress.thumbnail is None:
        return None
    query = {
        "message": progress.message_id,
        "prompt": progress.prompt_id,
        "v": version_of(progress.thumbnail),
    }
    return "preview?" + urlencode(query, quote_via=quote, safe="", errors="surrogatepass")


def _problem_form(problem: Problem | None) -> JSON | None:
    return None if problem is None else {"kind": problem.kind, "message": problem.message}
