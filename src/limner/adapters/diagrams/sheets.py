"""Which machines are drawn, and the little that their tables cannot say: titles, the happy path, meanings.

The states' meanings stand here and nowhere else in the code. Those of guards, actions and events are the
first lines of their docstrings, and every arrow comes from the compiled table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from limner.states.prompt import PROMPT
from limner.states.session import SESSION
from limner.states.table import Table


@dataclass(frozen=True, slots=True)
class Sheet:
    """One machine with what its drawing needs besides the table.

    `name` is the stem of the file names. `happy_path` is the way that everybody hopes for, as state, event,
    state, event, … state; it is drawn bold and in one line. `group_title` names the states that share a way
    out (see `drawing.Group`). `meanings` says of every state in half a sentence what it is. `label_width` is
    the number of characters after which a label is broken, so that a long machine still fits a page's width.
    """

    name: str
    title: str
    table: Table
    happy_path: tuple[str, ...]
    group_title: str
    meanings: Mapping[str, str]
    label_width: int = 24


SESSION_SHEET = Sheet(
    name="session",
    title="A session: one message, from its first token or click to the one write",
    table=SESSION,
    happy_path=(
        "idle",
        "stream_started",
        "streaming",
        "stream_ended",
        "sealed",
        "total_fixed",
        "draining",
        "prompt_settled",
        "inserting",
        "written",
        "done",
    ),
    group_title="can be cancelled",
    meanings={
        "idle": "Nothing has happened yet.",
        "streaming": "Text arrives; prompts are found in it and generated at once.",
        "debouncing": "Clicks are collected and generated at once; each click starts the quiet time again.",
        "sealed": "The final text is scanned and the total is fixed; left in the same instant.",
        "draining": "Waits for the prompts that are not settled yet.",
        "inserting": "The one write is under way.",
        "done": "The write is made, or there is no message to write into.",
        "failed": "The present batch will not be inserted, and the reason is kept.",
        "cancelled": "Somebody wanted no more images; what is not written yet never will be.",
    },
    label_width=15,
)

PROMPT_SHEET = Sheet(
    name="prompt",
    title="A prompt: one image, from its place in the line to a settled result",
    table=PROMPT,
    happy_path=("queued", "generation_started", "generating", "generation_succeeded", "completed"),
    group_title="not settled",
    meanings={
        "queued": "Stands in the line and waits for its turn under the global limit.",
        "generating": "The backend is making the image.",
        "completed": "The image is made and stored.",
        "waiting": "An attempt failed; pauses before the next one.",
        "failed": "There will be no image, and the reason is kept.",
        "cancelled": "Nobody wants the image any more.",
    },
)

SHEETS = (SESSION_SHEET, PROMPT_SHEET)
