"""What must hold in every state of a session and across every step, by the numbers of `exploration`.

These rules say a second time, and in another way, what the machines should do: from what the world asked for
and what a user was promised, not from transitions. That is why they notice when a transition is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from limner.states.commands import Abort, Command, Generate, InsertImages, SealStored
from limner.states.events import (
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
    PromptFound,
    RegenerationRequested,
    SessionEvent,
    StreamEnded,
    StreamStarted,
    TimePassed,
)
from limner.states.prompt import SETTLED
from limner.states.retry import backoff_ms, is_retryable
from limner.states.session import SESSION
from limner.states.values import (
    InsertionMode,
    OnDrainTimeout,
    Problem,
    Prompt,
    Session,
    SessionKind,
    SessionSettings,
    TimerKind,
)

Finding = tuple[int, str]
"""An invariant's number and what is wrong."""

_WELCOME: dict[type[SessionEvent], tuple[frozenset[str], SessionKind | None]] = {
    StreamStarted: (frozenset({"idle"}), SessionKind.STREAMING),
    PromptFound: (frozenset({"streaming"}), SessionKind.STREAMING),
    StreamEnded: (frozenset({"streaming"}), SessionKind.STREAMING),
    RegenerationRequested: (
        frozenset({"idle", "debouncing", "draining", "inserting"}),
        SessionKind.REGENERATION,
    ),
    InsertionWritten: (frozenset({"inserting"}), None),
    MessageVanished: (frozenset({"inserting"}), None),
    InsertionFailed: (frozenset({"inserting"}), None),
    CancelRequested: (frozenset({"idle", "streaming", "debouncing", "draining"}), None),
    ProcessRestarted: (frozenset({"streaming", "debouncing", "draining", "inserting"}), None),
}
"""In which states, and for which kind of session, an event must be taken; everywhere else it must not."""


def must_take(session: Session, event: Event) -> bool:
    """Whether the design promises that `session` takes `event`; else it must be refused (invariant 4).

    An answer to a command is taken as long as the command still stands; time always passes.
    """
    if isinstance(event, TimePassed):
        return True
    if isinstance(event, (GenerationStarted, GenerationAccepted, GenerationSucceeded, GenerationFailed)):
        prompt = session.prompts.get(event.prompt_id)
        wanted = "queued" if isinstance(event, GenerationStarted) else "generating"
        return prompt is not None and prompt.state == wanted
    states, kind = _WELCOME[type(event)]
    return session.state in states and kind in {None, session.kind}


def check_state(session: Session) -> Iterator[Finding]:
    """What must hold in a state by itself."""
    batch = [prompt for prompt in session.prompts.values() if prompt.batch == session.batch]
    settled = sum(prompt.state in SETTLED for prompt in batch)
    if settled + session.outstanding != len(batch):
        yield 3, f"{settled} settled + {session.outstanding} outstanding of {len(batch)}"
    if session.state == "inserting" and session.outstanding:
        yield 1, "inserting with prompts outstanding"
    if session.state == "draining" and not session.outstanding:
        yield 2, "draining with nothing outstanding"
    if session.state == "sealed":
        yield 2, "the session stopped in a state that it has to pass through"
    for prompt in session.prompts.values():
        yield from _check_prompt(prompt, session)
    armed = sorted((timer.kind, timer.prompt_id) for timer in session.timers)
    if armed != sorted(_timers_needed(session)):
        yield 6, f"in {session.state} the armed timers are {armed}"
    if list(session.timers) != sorted(session.timers):
        yield 6, "the timers are out of order"
    if (session.ended_at is not None) != (session.state in SESSION.final):
        yield 2, f"ended_at is {session.ended_at} in {session.state}"
    yield from _check_reasons(session)


def _check_prompt(prompt: Prompt, session: Session) -> Iterator[Finding]:
    if (prompt.state == "completed") != (prompt.image is not None):
        yield 5, f"a {prompt.state} prompt " + ("has an image" if prompt.image else "has no image")
    if prompt.placed is not None and prompt.unplaced_reason is not None:
        yield 5, "an image is both placed and unplaced"
    if prompt.restarts > session.settings.max_restarts:
        yield 2, f"begun again after {prompt.restarts} restarts of at most {session.settings.max_restarts}"
    if prompt.attempt > session.settings.max_attempts:
        yield 2, f"attempt {prompt.attempt} of at most {session.settings.max_attempts}"
    if prompt.state == "waiting" and prompt.job_id is not None:
        yield 5, "the next attempt would ask for the job that failed"
    if prompt.state in {"failed", "waiting"} and prompt.problem is None:
        yield 5, f"nobody knows why a prompt is {prompt.state}"
    if session.state in SESSION.final:
        if prompt.state not in SETTLED:
            yield 5, f"the session is {session.state} with a {prompt.state} prompt"
        if prompt.image is not None and prompt.placed is None and not prompt.unplaced_reason:
            yield 5, f"the session is {session.state} and an image is neither placed nor listed"


def _check_reasons(session: Session) -> Iterator[Finding]:
    if session.state in {"failed", "cancelled"} and session.problem is None:
        yield 5, f"nobody knows why the session is {session.state}"
    fails = session.settings.on_drain_timeout is OnDrainTimeout.FAIL
    if session.problem is not None and session.problem.kind == "drain_timeout" and not fails:
        yield 1, "the drain timeout failed a session that was to insert what is finished"
    gave_up = any(
        p.problem is not None and p.problem.kind == "drain_timeout" for p in session.prompts.values()
    )
    if session.state == "inserting" and gave_up and fails:
        yield 1, "the drain timeout led to a write that was not wanted"


def _timers_needed(session: Session) -> Iterator[tuple[TimerKind, str]]:
    if session.state == "debouncing":
        yield TimerKind.DEBOUNCE, ""
    if session.state == "draining":
        yield TimerKind.DRAIN, ""
    for prompt in session.prompts.values():
        if prompt.state == "generating":
            yield TimerKind.IMAGE, prompt.id
        if prompt.state == "waiting":
            yield TimerKind.BACKOFF, prompt.id


def check_step(
    before: Session, event: Event, after: Session, commands: tuple[Command, ...], inserted_batches: int
) -> Iterator[Finding]:
    """What must hold across one step. `inserted_batches` writes were commanded before it, repetitions apart.

    What is due in `before` has to run as a step of its own (`TIME_PASSED`), as `limner.states.message` does.
    """
    if not must_take(before, event):
        yield 4, f"{event.name} was taken in {before.state}"
    inserts = [command for command in commands if isinstance(command, InsertImages)]
    repeated = repeats_write(before, event)
    for insert in inserts:
        inserted_batches += not repeated
        if after.state != "inserting":
            yield 1, f"a write was commanded on the way to {after.state}"
        if before.state == "inserting" and not repeated:
            yield 1, "a write was commanded during a write"
        wanted = tuple(
            prompt.id
            for prompt in after.prompts.values()
            if prompt.batch == after.batch and prompt.state == "completed" and not prompt.unplaced_reason
        )
        if insert.may_be_written != repeated:
            yield 1, "a write does not know whether it may have happened already"
        if insert.prompt_ids != wanted:
            yield 5, f"the write has {insert.prompt_ids}, finished are {wanted}"
    if inserted_batches > after.batch:
        yield 1, f"{inserted_batches} writes for {after.batch} batches"
    if after.state == "inserting" and (before.state != "inserting" or repeated) and len(inserts) != 1:
        yield 1, "inserting without a write"
    died = isinstance(event, ProcessRestarted) and before.state == "streaming"
    if commands.count(SealStored()) != died:
        yield 2, "a stream that has died is not sealed" if died else "a stream that lives is sealed"
    if {before.state, after.state} <= {"draining", "inserting"} and before.batch == after.batch:
        totals = [sum(p.batch == s.batch for p in s.prompts.values()) for s in (before, after)]
        if totals[0] != totals[1]:
            yield 3, f"the total of a sealed batch went from {totals[0]} to {totals[1]}"
    yield from _check_effect(event, after)
    yield from _check_prompts(before, event, after, commands)


def repeats_write(before: Session, event: Event) -> bool:
    """Whether the event has the write that is under way commanded again, to be finished or found finished."""
    return isinstance(event, ProcessRestarted) and before.state == "inserting"


def _check_effect(event: Event, after: Session) -> Iterator[Finding]:
    """What the event asked for is there."""
    if isinstance(event, PromptFound) and event.prompt.id not in after.prompts:
        yield 4, "a found prompt was swallowed"
    if isinstance(event, GenerationAccepted) and after.prompts[event.prompt_id].job_id != event.job_id:
        yield 5, "a job's id was swallowed, so it would be started again"
    if isinstance(event, StreamEnded):
        final = list(dict.fromkeys(found.id for found in event.prompts))
        if list(after.prompts)[: len(final)] != final:
            yield 4, "the prompts are not those of the final text, in its order"
        for prompt in after.prompts.values():
            if prompt.id in final:
                continue
            if prompt.state not in SETTLED or (prompt.image is not None and not prompt.unplaced_reason):
                yield 5, f"a {prompt.state} prompt is gone from the final text and still counts"
    if isinstance(event, RegenerationRequested):
        batch = after.batch + (after.state == "inserting")
        # An image that is missing is not made twice, so the one that is just being written serves as well.
        batches = {batch} if event.target_url is not None else {batch, after.batch}
        if not any(
            prompt.batch in batches
            and prompt.node_id == event.node_id
            and prompt.mode is event.mode
            and (prompt.target_url is None) == (event.target_url is None)
            and (
                prompt.mode is InsertionMode.APPEND_AFTER_IMAGE or prompt.state not in {"failed", "cancelled"}
            )
            for prompt in after.prompts.values()
        ):
            yield 4, "a click was swallowed"


def _check_prompts(
    before: Session, event: Event, after: Session, commands: tuple[Command, ...]
) -> Iterator[Finding]:
    lined_up = [command.prompt_id for command in commands if isinstance(command, Generate)]
    aborted = {command.prompt_id for command in commands if isinstance(command, Abort)}
    may_line_up = {"queued", "generating"} if isinstance(event, ProcessRestarted) else {"waiting"}
    for prompt_id in lined_up:
        if prompt_id in before.prompts and before.prompts[prompt_id].state not in may_line_up:
            yield 5, f"a {before.prompts[prompt_id].state} prompt was lined up again"
    for prompt_id, old in before.prompts.items():
        new = after.prompts.get(prompt_id)
        if new is None:
            yield 5, "a prompt disappeared"
        elif old.state in SETTLED and (new.state, new.image) != (old.state, old.image):
            yield 5, f"a settled prompt went from {old.state} to {new.state}"
        elif old.placed is not None and new.placed != old.placed:
            yield 5, "a placed image was forgotten"
        elif old.state == "waiting" and new.state == "queued" and prompt_id not in lined_up:
            yield 2, "a retry was not lined up"
        elif isinstance(event, ProcessRestarted):
            yield from _check_restart(old, new, before.settings, lined_up.count(prompt_id))
        elif old.state in {"queued", "generating"} and new.state in {"failed", "cancelled"}:
            if isinstance(event, GenerationFailed) and event.prompt_id == prompt_id:
                if _deserves_retry(event.problem, old, new, before.settings):
                    yield 2, f"a prompt failed after attempt {old.attempt} with time and attempts left"
            elif prompt_id not in aborted:
                yield 5, f"the work on a {old.state} prompt goes on though it is {new.state}"
    for prompt_id in after.prompts.keys() - before.prompts.keys():
        if lined_up.count(prompt_id) != 1 and after.prompts[prompt_id].state not in SETTLED:
            yield 2, "a new prompt was not lined up once"


def _check_restart(old: Prompt, new: Prompt, settings: SessionSettings, times: int) -> Iterator[Finding]:
    """What the end of a process may do to a prompt that was not settled."""
    if new.state == "queued" and times != 1:
        yield 2, f"a prompt in the line of a process that is gone was lined up {times} times"
    if old.state == "generating":
        wanted = "queued" if old.restarts < settings.max_restarts else "failed"
        if new.state != wanted:
            yield 5, f"cut off {old.restarts} times before, an image became {new.state}, not {wanted}"
        if new.state == "queued" and (new.attempt, new.restarts) != (old.attempt - 1, old.restarts + 1):
            yield 2, "an attempt that was cut off counts as made"
        if new.job_id != old.job_id:
            yield 5, "a job that can be asked for again was forgotten"
    elif new.state != old.state and old.state not in SETTLED:
        yield 5, f"the end of a process made a {old.state} prompt {new.state}"


def _deserves_retry(problem: Problem, old: Prompt, new: Prompt, settings: SessionSettings) -> bool:
    pause = backoff_ms(settings, old.id, old.attempt, problem)
    return (
        is_retryable(problem.kind)
        and old.attempt < settings.max_attempts
        and new.spent_ms + pause < settings.image_timeout_ms
    )
