"""What stands in a journal's file: the tables, and the rows of format 1.

Each row holds one JSON text, `body`, that is complete by itself, and the CRC-32 of it; the columns beside
them only serve to find the row. So a row can be told from garbage wherever in a damaged file it is found,
and a person can read the file with any SQLite shell. Texts are written in ASCII (`\\u…`), because SQLite's
own text refuses half a surrogate pair, which a broken stream may bring.

The state of each session stands in the file as it is, beside the events that led to it. Recovery reads the
state, so it does not depend on whether the next version's machines would decide the same; the events are the
history that people look at, and tests replay them.

A newer Limner that writes what this one could not read has to raise `FORMAT`; sample files of each
released format are in tests/adapters/journals and must stay readable for ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

from cattrs import Converter
from cattrs.cols import (
    is_namedtuple,
    namedtuple_dict_structure_factory,
    namedtuple_dict_unstructure_factory,
)
from cattrs.errors import BaseValidationError

from limner.states import (
    CancelRequested,
    Event,
    GenerationAccepted,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    InsertionFailed,
    InsertionWritten,
    MessageVanished,
    ProcessRestarted,
    Prompt,
    PromptFound,
    RegenerationRequested,
    Session,
    StreamEnded,
    StreamStarted,
    TimePassed,
)
from limner.states.values import NO_PROMPTS

FORMAT = 1
"""The number of the format that this version writes (SQLite's `user_version`)."""

APPLICATION_ID = int.from_bytes(b"Lmnr", "big")
"""Marks the file as a journal of Limner's (SQLite's `application_id`)."""

TABLES = """
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    message TEXT NOT NULL,
    live INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE INDEX sessions_live ON sessions (number) WHERE live;
CREATE INDEX sessions_message ON sessions (message);
CREATE TABLE prompts (
    number INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    crc INTEGER NOT NULL,
    UNIQUE (session, id)
);
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    body TEXT NOT NULL,
    crc INTEGER NOT NULL
);
CREATE INDEX events_session ON events (session);
"""

EVENTS: Mapping[str, type[Any]] = {
    kind.name: kind
    for kind in (
        StreamStarted,
        PromptFound,
        StreamEnded,
        RegenerationRequested,
        GenerationStarted,
        GenerationAccepted,
        GenerationSucceeded,
        GenerationFailed,
        InsertionWritten,
        MessageVanished,
        InsertionFailed,
        CancelRequested,
        ProcessRestarted,
        TimePassed,
    )
}
"""Every event by its name in the file."""

_Value = TypeVar("_Value")

_converter = Converter(prefer_attrib_converters=False)
_converter.register_unstructure_hook_factory(is_namedtuple, namedtuple_dict_unstructure_factory)
_converter.register_structure_hook_factory(is_namedtuple, namedtuple_dict_structure_factory)


class Is(StrEnum):
    """What a body is about; its first entry."""

    SESSION = "session"
    PROMPT = "prompt"
    EVENT = "event"


class BadRow(ValueError):
    """A row that is not what was written: damaged, or of something else."""


class Body(NamedTuple):
    """A row's JSON text and its checksum."""

    text: str
    crc: int


class EventRow(NamedTuple):
    """One line of a session's history: the event, when (ms), and the session's state after it."""

    session_id: str
    at: int
    event: Event
    state: str


def message_key(message_id: str) -> str:
    """A message's id as the column `message` has it."""
    return json.dumps(message_id)


def session_body(session: Session, changed_at: int) -> Body:
    """The row of a session, without its prompts."""
    fields = _converter.unstructure(session._replace(prompts=NO_PROMPTS))
    del fields["prompts"]
    return _body({"is": Is.SESSION, "changed_at": changed_at, **fields})


def prompt_body(session_id: str, place: int, prompt: Prompt) -> Body:
    """The row of one prompt; `place` is its place among the session's."""
    fields = _converter.unstructure(prompt)
    return _body({"is": Is.PROMPT, "session": session_id, "place": place, **fields})


def event_body(row: EventRow) -> Body:
    """The row of one event."""
    fields = {
        "is": Is.EVENT,
        "session": row.session_id,
        "at": row.at,
        "state": row.state,
        "event": row.event.name,
    }
    return _body(fields | _converter.unstructure(row.event))


def read_body(text: object, crc: object) -> dict[str, Any]:
    """The fields of a row. Raises `BadRow` unless they are just what was written."""
    if not isinstance(text, str) or crc32(text.encode("utf-8", "surrogatepass")) != crc:
        raise BadRow("the checksum does not match")
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise BadRow("no JSON") from error
    if not isinstance(fields, dict) or fields.get("is") not in tuple(Is):
        raise BadRow("neither a session nor a prompt nor an event")
    return fields


def to_session(fields: Mapping[str, Any], prompts: Iterable[Mapping[str, Any]]) -> Session:
    """The session of a row, with its prompts from theirs. Raises `BadRow`."""
    try:
        in_order = sorted(prompts, key=lambda prompt: int(prompt["place"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadRow("a prompt without its place") from error
    made = [to_prompt(prompt) for prompt in in_order]
    session = _structured({"prompts": {}, **fields}, Session)
    return session._replace(prompts={prompt.id: prompt for prompt in made})


def to_prompt(fields: Mapping[str, Any]) -> Prompt:
    """The prompt of a row. Raises `BadRow`."""
    return _structured(fields, Prompt)


def to_event(fields: Mapping[str, Any]) -> EventRow:
    """The event of a row. Raises `BadRow`."""
    name = fields.get("event")
    kind = EVENTS.get(name) if isinstance(name, str) else None
    if kind is None or not {"session", "at", "state"} <= fields.keys():
        raise BadRow(f"an unknown event {name!r}")
    return EventRow(fields["session"], fields["at"], _structured(fields, kind), fields["state"])


def _body(fields: Mapping[str, Any]) -> Body:
    text = json.dumps(fields, separators=(",", ":"))
    return Body(text, crc32(text.encode()))


def _structured(fields: Mapping[str, Any], kind: type[_Value]) -> _Value:
    try:
        return _converter.structure(fields, kind)
    except (BaseValidationError, ValueError, TypeError, KeyError) as error:
        raise BadRow(f"no {kind.__name__}: {type(error).__name__}") from error
