"""Sessions and their histories as JSON, for programs. Times are ms since 1970 and, beside them, ISO 8601."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from limner.adapters.journal_format import event_body, prompt_body
from limner.adapters.journal_reader import SessionHistory, SessionSummary


def sessions_as_json(sessions: Sequence[SessionSummary]) -> str:
    """All of them, as one array with a session a line."""
    lines = ",\n".join(json.dumps(_summary(session)) for session in sessions)
    return f"[\n{lines}\n]" if lines else "[]"


def history_as_json(history: SessionHistory) -> str:
    """One session with its prompts and events, as one object."""
    session_id = history.summary.id
    prompts = [
        _without(json.loads(prompt_body(session_id, place, prompt).text), "is", "session", "place")
        for place, prompt in enumerate(history.prompts)
    ]
    events = [
        {**_time("at", row.at), **_without(json.loads(event_body(row).text), "is", "session", "at")}
        for row in history.events
    ]
    return json.dumps({**_summary(history.summary), "prompts": prompts, "events": events}, indent=2)


def _summary(session: SessionSummary) -> dict[str, Any]:
    return {
        "id": session.id,
        "message_id": session.message_id,
        "kind": session.kind,
        "state": session.state,
        "live": session.live,
        **_time("opened_at", session.opened_at),
        **_time("changed_at", session.changed_at),
        **_time("ended_at", session.ended_at),
        "counts": session.prompts._asdict(),
        "problem": None if session.problem is None else session.problem._asdict(),
        "missing": list(session.missing),
    }


def _time(name: str, moment: int | None) -> dict[str, int | str | None]:
    iso = None
    if moment is not None:
        # A host's clock may be beyond any year.
        with suppress(ValueError, OverflowError, OSError):
            iso = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    return {name: moment, f"{name}_iso": iso}


def _without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}
