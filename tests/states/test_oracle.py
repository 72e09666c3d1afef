"""python-statemachine's own engine and the compiled table agree on every state, event and guard outcome."""

from __future__ import annotations

from itertools import product
from typing import Any, cast

import pytest
from statemachine.exceptions import TransitionNotAllowed

from limner.errors import EventRefused
from limner.states import (
    PROMPT,
    SESSION,
    CancelRequested,
    GenerationAccepted,
    GenerationFailed,
    GenerationSucceeded,
    Image,
    InsertionFailed,
    InsertionMode,
    InsertionWritten,
    OnDrainTimeout,
    PlacedImage,
    Problem,
    Prompt,
    PromptFound,
    PromptMachine,
    RegenerationRequested,
    Session,
    SessionKind,
    SessionMachine,
    SessionSettings,
    StreamEnded,
    Timer,
    TimerKind,
)
from limner.states.compiler import StrictChart
from limner.states.draft import SessionDraft
from limner.states.prompt import PromptDraft, may_begin_again, may_retry
from limner.states.table import Table
from tests.states.story import LASTING, PASSING, click, found

NOW = 10_000


class Model:
    """Holds the engine's state, so that the engine can be put straight into one."""

    def __init__(self, state: str) -> None:
        self.state = state


def engine_step(chart: type[StrictChart], state: str, event: str, subject: Any, cause: Any) -> str | None:
    """The state after the event by the library's engine, or None for a refusal."""
    model = Model(state)
    machine = chart(model=model)
    try:
        machine.send(event, subject=subject, cause=cause)
    except TransitionNotAllowed:
        assert model.state == state
        return None
    return model.state


def table_step(table: Table, state: str, event: str, subject: Any, cause: Any) -> str | None:
    """The state after the event by the table, or None for a refusal."""
    try:
        return table.step(state, event, subject, cause)
    except EventRefused:
        return None


# --- sessions in every state, with every outcome of the guards


def session_in(
    state: str, kind: SessionKind, on_drain_timeout: OnDrainTimeout, outstanding: bool, next_batch: bool
) -> Session:
    """A session put straight into `state`, with the timers that the state needs."""
    clicked = "img-0" if kind is SessionKind.REGENERATION else None
    prompts = [Prompt("p0", "p0", "t", 0, 1, "completed", target_url=clicked, image=Image("new-0"))]
    timers = []
    if outstanding:
        prompts.append(Prompt("p1", "p1", "t", 0, 1, "generating", attempt=1))
        timers.append(Timer(NOW + 5, TimerKind.IMAGE, "p1"))
    if next_batch:
        prompts.append(
            Prompt("p2", "p2", "t", 0, 2, "queued", InsertionMode.REPLACE_IMAGE, target_url="img-0")
        )
    if state == "debouncing":
        timers.append(Timer(NOW + 7, TimerKind.DEBOUNCE))
    if state == "draining":
        timers.append(Timer(NOW + 9, TimerKind.DRAIN))
    return Session(
        id="s",
        message_id="m",
        kind=kind,
        settings=SessionSettings(on_drain_timeout=on_drain_timeout),
        opened_at=0,
        state=state,
        prompts={prompt.id: prompt for prompt in prompts},
        timers=tuple(sorted(timers)),
        outstanding=int(outstanding),
        last_request_at=9_000,
    )


SESSIONS = [
    session_in(*values)
    for values in product(SESSION.states, SessionKind, OnDrainTimeout, [False, True], [False, True])
]
PLACED = PlacedImage("p0", "new-0", "img-0")
SESSION_CAUSES: dict[str, list[object]] = {
    "prompt_found": [PromptFound(found("new")[0]), PromptFound(found("p0")[0])],
    "stream_ended": [StreamEnded(found("p0", "p1")), StreamEnded(found("new", "p1")), StreamEnded(())],
    "regeneration_requested": [
        click("img-0"),
        click("other"),
        RegenerationRequested("n", "t", 0, "img-0", InsertionMode.APPEND_AFTER_IMAGE),
    ],
    "written": [InsertionWritten((PLACED,)), InsertionWritten()],
    "write_failed": [InsertionFailed(Problem("storage_error", "full"))],
    "cancel_requested": [CancelRequested("enough")],
}


def session_cases(event: str) -> list[tuple[Session, object]]:
    """Every session with every cause of the event."""
    return list(product(SESSIONS, SESSION_CAUSES.get(event, [None])))


# --- prompts in every state, with every outcome of the guard

RETRY_OUTCOMES = list(product([PASSING, LASTING], [1, 3], [0, 119_999]))
"""Kind of failure × attempts used of three × milliseconds used of the image's limit."""

RESTARTS = (0, 3)
"""How often the end of a process has cut the image off, of three times at most."""


def prompt_in(state: str, attempt: int, spent_ms: int, restarts: int = 0) -> Session:
    """A draining session with one prompt in `state`, with the timers that it needs."""
    timers = [Timer(NOW + 9, TimerKind.DRAIN)]
    if state == "generating":
        timers.append(Timer(NOW + 5, TimerKind.IMAGE, "p"))
    if state == "waiting":
        timers.append(Timer(NOW + 5, TimerKind.BACKOFF, "p"))
    prompt = Prompt(
        "p",
        "p",
        "t",
        0,
        1,
        state,
        attempt=attempt,
        started_at=NOW,
        spent_ms=spent_ms,
        job_id="job",
        restarts=restarts,
    )
    return Session(
        "s",
        "m",
        SessionKind.STREAMING,
        SessionSettings(),
        0,
        "draining",
        {"p": prompt},
        tuple(sorted(timers)),
        outstanding=1,
    )


def prompt_cause(event: str, problem: Problem) -> object:
    """What comes with the event."""
    if event == "generation_failed":
        return GenerationFailed("p", problem)
    if event == "generation_accepted":
        return GenerationAccepted("p", "another job")
    return GenerationSucceeded("p", Image("new")) if event == "generation_succeeded" else None


def twins(session: Session) -> tuple[SessionDraft, SessionDraft]:
    """Two drafts of one session that know nothing of each other."""
    return SessionDraft(session, NOW), SessionDraft(session, NOW)


def content(draft: SessionDraft) -> tuple[object, ...]:
    """All that an event can change in a session, the order of its prompts included."""
    return draft.result(), list(draft.prompts), draft.commands


@pytest.mark.parametrize("event", SESSION.events)
@pytest.mark.parametrize("state", SESSION.states)
def test_chart_and_table_do_the_same_to_a_session(state: str, event: str):
    cases = [(session, cause) for session, cause in session_cases(event) if session.state == state]
    assert len(cases) >= 16
    for session, cause in cases:
        by_engine, by_table = twins(session)
        expected = engine_step(SessionMachine, state, event, by_engine, cause)
        assert table_step(SESSION, state, event, by_table, cause) == expected
        assert content(by_table) == content(by_engine)
        if expected is None:
            assert content(by_table) == content(SessionDraft(session, NOW)), "a refusal ran an action"


@pytest.mark.parametrize("event", PROMPT.events)
@pytest.mark.parametrize("state", PROMPT.states)
def test_chart_and_table_do_the_same_to_a_prompt(state: str, event: str):
    for (problem, attempt, spent_ms), restarts in product(RETRY_OUTCOMES, RESTARTS):
        session = prompt_in(state, attempt, spent_ms, restarts)
        cause = prompt_cause(event, problem)
        results = []
        for owner, step, machine in zip(
            twins(session), (engine_step, table_step), (PromptMachine, PROMPT), strict=True
        ):
            draft = PromptDraft(session.prompts["p"], owner)
            after = step(machine, state, event, draft, cause)  # type: ignore[operator]
            results.append((after, draft.result(after or state), content(owner)))
        assert results[0] == results[1]


def test_every_guard_of_the_session_took_both_values_wherever_it_is_asked():
    asked = 0
    for (state, event), rows in SESSION.rows.items():
        cases = [case for case in session_cases(event) if case[0].state == state]
        for row in rows:
            for guard, _ in row.guards:
                values = {guard(SessionDraft(session, NOW), cause) for session, cause in cases}
                assert values == {True, False}, (state, event, guard.__name__)
                asked += 1
    assert asked >= 8


def test_every_condition_of_the_retry_guard_decides_once():
    def allowed(problem: Problem, attempt: int, spent_ms: int) -> bool:
        session = prompt_in("generating", attempt, spent_ms)
        draft = PromptDraft(session.prompts["p"], SessionDraft(session, NOW))
        return may_retry(draft, GenerationFailed("p", problem))

    outcomes = {case: allowed(*case) for case in RETRY_OUTCOMES}
    assert [case for case, value in outcomes.items() if value] == [(PASSING, 1, 0)]


def test_the_guard_of_a_new_beginning_took_both_values():
    drafts = [
        PromptDraft(session.prompts["p"], SessionDraft(session, NOW))
        for session in (prompt_in("generating", 1, 0, restarts) for restarts in RESTARTS)
    ]
    assert [may_begin_again(draft, None) for draft in drafts] == [True, False]


def test_no_guard_of_the_prompt_is_left_out_here():
    guards = {guard for rows in PROMPT.rows.values() for row in rows for guard, _ in row.guards}
    assert guards == {may_retry, may_begin_again}


@pytest.mark.parametrize(("chart", "table"), [(SessionMachine, SESSION), (PromptMachine, PROMPT)])
def test_the_table_has_the_charts_states_events_and_ends(chart: type[StrictChart], table: Table):
    assert table.states == tuple(state.id for state in chart.states)
    assert set(table.events) == {event.id for event in cast("Any", chart).events}
    assert table.final == {state.id for state in chart.final_states}
    assert table.initial == initial_by_engine(chart)


def initial_by_engine(chart: type[StrictChart]) -> object:
    """The state in which the library's engine begins."""
    return chart().current_state_value
