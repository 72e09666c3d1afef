"""What became of a session, told per image: the answer that a user gets and nothing is missing from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from limner.states.session import SESSION
from limner.states.values import PlacedImage, Problem, Session, SessionKind, UnplacedImage


class FailedPrompt(NamedTuple):
    """A prompt without an image: what it asked for, and why there is none."""

    prompt_id: str
    prompt: str
    problem: Problem


class Counts(NamedTuple):
    """How far the present batch is. `queued`, `generating` and `waiting` (for a retry) are outstanding."""

    total: int = 0
    queued: int = 0
    generating: int = 0
    waiting: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def settled(self) -> int:
        """Completed, failed and cancelled together."""
        return self.completed + self.failed + self.cancelled

    @property
    def outstanding(self) -> int:
        """All that is not settled."""
        return self.queued + self.generating + self.waiting


class Result(NamedTuple):
    """The end of a session.

    Every prompt of the session is in exactly one of `placed`, `unplaced`, `failed` and `cancelled` (ids).
    `state` is 'done', 'failed' or 'cancelled'; `problem` says why it is not 'done', or that the message
    was gone. `prompts` gives each prompt's text by its id.
    """

    session_id: str
    message_id: str
    kind: SessionKind
    state: str
    placed: tuple[PlacedImage, ...]
    unplaced: tuple[UnplacedImage, ...]
    failed: tuple[FailedPrompt, ...]
    cancelled: tuple[str, ...]
    problem: Problem | None
    prompts: Mapping[str, str]


def count_batch(session: Session) -> Counts:
    """The counts of the session's present batch. A click that waits for the next batch is not in them."""
    tally = dict.fromkeys(Counts._fields, 0)
    for prompt in session.prompts.values():
        if prompt.batch == session.batch:
            tally[prompt.state] += 1
            tally["total"] += 1
    return Counts(**tally)


def result_of(session: Session) -> Result:
    """What became of an ended session. Raises `ValueError` for one that has not ended."""
    if session.state not in SESSION.final:
        raise ValueError(f"session {session.id!r} has not ended, it is {session.state}")
    prompts = session.prompts.values()
    unknown = Problem("internal_error", "no reason was kept")
    return Result(
        session_id=session.id,
        message_id=session.message_id,
        kind=session.kind,
        state=session.state,
        placed=tuple(prompt.placed for prompt in prompts if prompt.placed is not None),
        unplaced=tuple(
            UnplacedImage(prompt.id, prompt.image.url, prompt.unplaced_reason or unknown.message)
            for prompt in prompts
            if prompt.image is not None and prompt.placed is None
        ),
        failed=tuple(
            FailedPrompt(prompt.id, prompt.text, prompt.problem or unknown)
            for prompt in prompts
            if prompt.state == "failed"
        ),
        cancelled=tuple(prompt.id for prompt in prompts if prompt.state == "cancelled"),
        problem=session.problem,
        prompts={prompt.id: prompt.text for prompt in prompts},
    )
