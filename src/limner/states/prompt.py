"""One prompt's life: from its place in the line to a settled result.

The path that everybody hopes for is `queued → generating → completed`. A failed attempt that is worth
repeating waits in `waiting` and goes back to the end of the line, so that a retry obeys the global limit
like every other start. `completed`, `failed` and `cancelled` are final and together called *settled*;
no event leads out of them, which is why an image is never paid for twice.

Time limit: an image may take `image_timeout_ms` over all its attempts and the pauses between them. Time
spent in the line does not count, because a long line is not the backend's fault.

The end of a process: an attempt that it cut off is nobody's failure. It goes back to the line as if it had
not begun, with its time and its number; if the backend has given it a `job_id`, the next process asks for
that job instead of starting another. Only the cuts are counted: the image may be what ends the process.
"""

from __future__ import annotations

from typing import Protocol

from statemachine import State

from limner.states.commands import Abort, Command, Generate
from limner.states.compiler import StrictChart, compile_chart
from limner.states.events import GenerationAccepted, GenerationFailed, GenerationSucceeded
from limner.states.retry import backoff_ms, is_retryable
from limner.states.values import Problem, Prompt, SessionSettings, TimerKind


class PromptOwner(Protocol):
    """What a prompt needs of its session: the time, the settings, timers and a way to give commands."""

    now: int
    settings: SessionSettings

    def arm(self, kind: TimerKind, deadline: int, prompt_id: str = "") -> None:
        """Set a timer."""

    def disarm(self, kind: TimerKind, prompt_id: str = "") -> None:
        """Unset a timer, which must be armed."""

    def command(self, command: Command) -> None:
        """Tell the engine to do something once this event is committed."""


class PromptDraft:
    """A prompt while one event changes it; `result` gives the new value."""

    __slots__ = (
        "attempt",
        "image",
        "job_id",
        "owner",
        "problem",
        "prompt",
        "restarts",
        "spent_ms",
        "started_at",
    )

    def __init__(self, prompt: Prompt, owner: PromptOwner) -> None:
        self.prompt = prompt
        self.owner = owner
        self.attempt = prompt.attempt
        self.started_at = prompt.started_at
        self.spent_ms = prompt.spent_ms
        self.image = prompt.image
        self.problem = prompt.problem
        self.job_id = prompt.job_id
        self.restarts = prompt.restarts

    def result(self, state: str) -> Prompt:
        """The prompt after the event, in `state`."""
        old = self.prompt
        return Prompt(
            old.id,
            old.node_id,
            old.text,
            old.occurrence,
            old.batch,
            state,
            old.mode,
            old.target_url,
            self.attempt,
            self.started_at,
            self.spent_ms,
            self.image,
            self.problem,
            old.placed,
            old.unplaced_reason,
            self.job_id,
            self.restarts,
        )

    def pause_ms(self, problem: Problem) -> int:
        """How long to wait after this failure, in milliseconds."""
        return backoff_ms(self.owner.settings, self.prompt.id, self.attempt, problem)

    def used_ms(self) -> int:
        """How much of the time limit is used up, this attempt included."""
        return self.spent_ms + self.owner.now - self.started_at


def may_retry(subject: PromptDraft, cause: GenerationFailed) -> bool:
    """The failure is of a kind that passes, an attempt is left, and the pause fits the limit."""
    limit_ms = subject.owner.settings.image_timeout_ms
    return (
        _is_worth_another(subject, cause.problem)
        and subject.used_ms() + subject.pause_ms(cause.problem) < limit_ms
    )


def _is_worth_another(subject: PromptDraft, problem: Problem) -> bool:
    return is_retryable(problem.kind) and subject.attempt < subject.owner.settings.max_attempts


def may_begin_again(subject: PromptDraft, cause: object) -> bool:
    """The end of a process has not cut this image off too often yet."""
    return subject.restarts < subject.owner.settings.max_restarts


def start_attempt(subject: PromptDraft, cause: object) -> None:
    """Count the attempt and set the image's time limit."""
    owner = subject.owner
    subject.attempt += 1
    subject.started_at = owner.now
    left = owner.settings.image_timeout_ms - subject.spent_ms
    owner.arm(TimerKind.IMAGE, owner.now + left, subject.prompt.id)


def keep_job(subject: PromptDraft, cause: GenerationAccepted) -> None:
    """Keep the backend's name for the job, to ask for it after a restart."""
    subject.job_id = cause.job_id


def keep_image(subject: PromptDraft, cause: GenerationSucceeded) -> None:
    """Keep the image and forget earlier attempts' problems."""
    subject.image = cause.image
    subject.problem = None


def note_problem(subject: PromptDraft, cause: GenerationFailed) -> None:
    """Keep what went wrong."""
    problem = cause.problem
    # Why there is no other attempt, where that is not clear from the problem itself. (What the attempt took
    # is in `spent_ms` by now.)
    if _is_worth_another(subject, problem) and problem.retry_after_ms is not None:
        limit_ms = subject.owner.settings.image_timeout_ms
        if subject.spent_ms + subject.pause_ms(problem) >= limit_ms:
            pause_s, limit_s = problem.retry_after_ms / 1000, limit_ms / 1000
            why = f"a pause of {pause_s:g} s would pass the time limit of {limit_s:g} s"
            problem = problem._replace(message=f"{problem.message}; {why}")
    subject.problem = problem


def forget_job(subject: PromptDraft, cause: object) -> None:
    """The backend's job has failed; another attempt is another job."""
    subject.job_id = None


def take_back_attempt(subject: PromptDraft, cause: object) -> None:
    """The attempt was cut off: as if it had not begun. Its job, if it has one, goes on at the backend."""
    subject.owner.disarm(TimerKind.IMAGE, subject.prompt.id)
    subject.attempt -= 1
    subject.restarts += 1


def note_cut_off(subject: PromptDraft, cause: object) -> None:
    """Keep that the end of a process cut the image off too often."""
    subject.owner.disarm(TimerKind.IMAGE, subject.prompt.id)
    times = subject.restarts + 1
    subject.problem = Problem("process_ended", f"the process ended {times} times while the image was made")


def note_timeout(subject: PromptDraft, cause: object) -> None:
    """Keep that the image's time limit passed."""
    seconds = subject.owner.settings.image_timeout_ms / 1000
    subject.problem = Problem("image_timeout", f"not finished within {seconds:g} s")


def note_drain_timeout(subject: PromptDraft, cause: object) -> None:
    """Keep that the session stopped waiting; an earlier problem says more, so it stays."""
    subject.problem = subject.problem or Problem("drain_timeout", "the message stopped waiting for it")


def disarm_limit(subject: PromptDraft, cause: object) -> None:
    """The attempt is over: unset its time limit and count the time it took."""
    subject.owner.disarm(TimerKind.IMAGE, subject.prompt.id)
    subject.spent_ms = subject.used_ms()


def schedule_retry(subject: PromptDraft, cause: GenerationFailed) -> None:
    """Set the pause's timer, and count the pause as used."""
    pause = subject.pause_ms(cause.problem)
    subject.spent_ms += pause
    subject.owner.arm(TimerKind.BACKOFF, subject.owner.now + pause, subject.prompt.id)


def disarm_backoff(subject: PromptDraft, cause: object) -> None:
    """Unset the pause's timer."""
    subject.owner.disarm(TimerKind.BACKOFF, subject.prompt.id)


def line_up(subject: PromptDraft, cause: object) -> None:
    """Ask for another turn under the global limit."""
    subject.owner.command(Generate(subject.prompt.id))


def stop_work(subject: PromptDraft, cause: object) -> None:
    """Take the prompt out of the line, or stop the backend's call."""
    subject.owner.command(Abort(subject.prompt.id))


class PromptMachine(StrictChart):
    """The declaration. `limner diagrams` draws it; `PROMPT` is its compiled form."""

    queued = State(initial=True)
    generating = State()
    completed = State(final=True)
    waiting = State()
    failed = State(final=True)
    cancelled = State(final=True)

    generation_started = queued.to(generating, on=start_attempt)
    generation_accepted = generating.to(generating, internal=True, on=keep_job)
    generation_succeeded = generating.to(completed, on=[disarm_limit, keep_image])
    generation_failed = generating.to(
        waiting, cond=may_retry, on=[disarm_limit, note_problem, forget_job, schedule_retry]
    ) | generating.to(failed, on=[disarm_limit, note_problem])
    backoff_elapsed = waiting.to(queued, on=line_up)
    image_timed_out = generating.to(failed, on=[note_timeout, stop_work])
    prompt_abandoned = (
        queued.to(failed, on=[note_drain_timeout, stop_work])
        | generating.to(failed, on=[disarm_limit, note_drain_timeout, stop_work])
        | waiting.to(failed, on=[disarm_backoff, note_drain_timeout])
    )
    prompt_cancelled = (
        queued.to(cancelled, on=stop_work)
        | generating.to(cancelled, on=[disarm_limit, stop_work])
        | waiting.to(cancelled, on=disarm_backoff)
    )
    process_restarted = (
        queued.to(queued, internal=True, on=line_up)
        | generating.to(queued, cond=may_begin_again, on=[take_back_attempt, line_up])
        | generating.to(failed, on=note_cut_off)
        | waiting.to(waiting, internal=True)
    )


PROMPT = compile_chart(PromptMachine)
SETTLED = PROMPT.final
