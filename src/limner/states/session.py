"""One message's session: from the first token, or the first click, to the one write.

Theory, on a page
-----------------

A session is a flat state machine, coupled with one small machine per prompt (`limner.states.prompt`). It is
of one of two kinds, which share everything but their beginning:

* **streaming**: `idle → streaming → sealed → [draining →] inserting → done`. Prompts are found and generated
  while the text runs. When the text is final, the last scan of it fixes the total: the session is *sealed*.
* **regeneration**: `idle → debouncing → sealed → [draining →] inserting → done`. Each click is a prompt and
  starts the debounce again; when it has been quiet for two seconds the batch is sealed.

`sealed` is passed through at once: if every prompt is settled the session goes on to `inserting`, else it
waits in `draining`. Only these two lead into `inserting`, and entering it is the only thing that commands a
new write. That is the whole proof of "exactly one write": there is no other arrow.

What comes late is declared, not hoped away. A click during `draining` re-opens the batch. A click during
`inserting` opens the *next* batch: its image is generated at once, and after the write the session debounces
again. A click on a message that is still streamed is refused. Cancelling works until `inserting` begins,
because from then on the write may have happened already, and a caller must not be told otherwise.

The end of a process is an event, too, told by the next process (`process_restarted`). Nothing that was under
way is any more, so the prompts go back to the line and a write is commanded again: the same write, which
finds out for itself whether it had happened. The time in which no process ran counts for no limit.

Guards look at the session after the prompt's own change: "all settled" counts the prompt that has just
settled. Actions run before the state changes. Whatever an event needs to decide is in the session or in
the event; there is no clock here and nothing to await.
"""

from __future__ import annotations

from statemachine import State

from limner.errors import InternalError
from limner.states.commands import InsertImages, SealStored
from limner.states.compiler import StrictChart, compile_chart
from limner.states.draft import SessionDraft
from limner.states.events import (
    CancelRequested,
    InsertionFailed,
    InsertionWritten,
    PromptFound,
    RegenerationRequested,
    StreamEnded,
)
from limner.states.prompt import PROMPT, SETTLED
from limner.states.values import (
    FoundPrompt,
    InsertionMode,
    OnDrainTimeout,
    Problem,
    Prompt,
    SessionKind,
    TimerKind,
)

# --- guards


def all_settled(subject: SessionDraft, cause: object) -> bool:
    """No prompt of the present batch is outstanding."""
    return subject.outstanding == 0


def is_regeneration(subject: SessionDraft, cause: object) -> bool:
    """The session began with a click."""
    return subject.session.kind is SessionKind.REGENERATION


def inserts_on_drain_timeout(subject: SessionDraft, cause: object) -> bool:
    """The host wants what is finished to be inserted when the wait ends."""
    return subject.settings.on_drain_timeout is OnDrainTimeout.INSERT


def has_next_batch(subject: SessionDraft, cause: object) -> bool:
    """Clicks came while the write was under way."""
    return any(prompt.batch > subject.batch for prompt in subject.prompts.values())


# --- actions


def _queued(found: FoundPrompt, batch: int) -> Prompt:
    return Prompt(found.id, found.id, found.text, found.occurrence, batch, PROMPT.initial)


def add_prompt(subject: SessionDraft, cause: PromptFound) -> None:
    """Line up a found prompt. One that is known already stays as it is."""
    if cause.prompt.id not in subject.prompts:
        subject.add_prompt(_queued(cause.prompt, subject.batch))


def take_final_scan(subject: SessionDraft, cause: StreamEnded) -> None:
    """Let the final text count: cancel what is gone from it, add what is new, and take its order."""
    final = {found.id: found for found in cause.prompts}
    for prompt in list(subject.prompts.values()):
        if prompt.id in final:
            continue
        if prompt.state not in SETTLED:
            subject.change_prompt(prompt.id, "prompt_cancelled", cause)
        elif prompt.image is not None:
            subject.prompts[prompt.id] = prompt._replace(unplaced_reason="prompt-gone")
    for found in final.values():
        if found.id not in subject.prompts:
            subject.add_prompt(_queued(found, subject.batch))
    gone = {key: prompt for key, prompt in subject.prompts.items() if key not in final}
    subject.prompts = {key: subject.prompts[key] for key in final} | gone


def add_regeneration(subject: SessionDraft, cause: RegenerationRequested) -> None:
    """Line up a clicked image's prompt for this batch."""
    _add_click(subject, cause, subject.batch)


def add_to_next_batch(subject: SessionDraft, cause: RegenerationRequested) -> None:
    """Line up a clicked image's prompt now, but keep its image for the write after the present one."""
    _add_click(subject, cause, subject.batch + 1)


def _add_click(subject: SessionDraft, cause: RegenerationRequested, batch: int) -> None:
    # Two clicks on one image to be replaced are one regeneration, unless the first has failed already:
    # then the second click means "try again".
    subject.last_request_at = subject.now
    # So are two requests for the image that a prompt has none of, also where the first is just being written.
    target = None if cause.target_url is None else subject.successor_of(cause.target_url)
    batches = {batch} if target is not None else {batch, subject.batch}
    for prompt in subject.prompts.values():
        if (
            prompt.batch in batches
            and prompt.state not in {"failed", "cancelled"}
            and prompt.unplaced_reason is None
            and _asks_for_the_same(prompt, cause, target)
        ):
            return
    subject.add_prompt(
        Prompt(
            id=f"{subject.session.id}.{len(subject.prompts) + 1}",
            node_id=cause.node_id,
            text=cause.text,
            occurrence=cause.occurrence,
            batch=batch,
            state=PROMPT.initial,
            mode=InsertionMode.APPEND_AFTER_PROMPT if target is None else cause.mode,
            target_url=target,
        )
    )


def _asks_for_the_same(prompt: Prompt, cause: RegenerationRequested, target: str | None) -> bool:
    if target is None:
        return prompt.target_url is None and prompt.node_id == cause.node_id
    replaces = InsertionMode.REPLACE_IMAGE
    return prompt.target_url == target and prompt.mode is replaces and cause.mode is replaces


def arm_debounce(subject: SessionDraft, cause: object) -> None:
    """Start the two quiet seconds."""
    subject.arm(TimerKind.DEBOUNCE, subject.now + subject.settings.debounce_ms)


def disarm_debounce(subject: SessionDraft, cause: object) -> None:
    """Stop waiting for quiet."""
    subject.disarm(TimerKind.DEBOUNCE)


def arm_drain(subject: SessionDraft, cause: object) -> None:
    """Start the limit on the wait for outstanding prompts."""
    subject.arm(TimerKind.DRAIN, subject.now + subject.settings.drain_timeout_ms)


def disarm_drain(subject: SessionDraft, cause: object) -> None:
    """Stop the limit on the wait."""
    subject.disarm(TimerKind.DRAIN)


def seal_stored(subject: SessionDraft, cause: object) -> None:
    """Command the seal with the text that the store holds, since no more of it will come."""
    subject.command(SealStored())


def wait_out_debounce(subject: SessionDraft, cause: object) -> None:
    """What is left of the quiet time, if anything; but not in the past, where nobody could have clicked."""
    subject.disarm(TimerKind.DEBOUNCE)
    due = subject.last_request_at + subject.settings.debounce_ms
    subject.arm(TimerKind.DEBOUNCE, max(subject.now, due))


def insert_batch(subject: SessionDraft, cause: object) -> None:
    """Command the one write of this batch."""
    subject.command(InsertImages(_finished_ids(subject)))


def finish_write(subject: SessionDraft, cause: object) -> None:
    """Command the write that was under way once more, to be finished or found finished."""
    subject.command(InsertImages(_finished_ids(subject), may_be_written=True))


def _finished_ids(subject: SessionDraft) -> tuple[str, ...]:
    return tuple(
        prompt.id
        for prompt in subject.prompts.values()
        if prompt.batch == subject.batch and prompt.state == "completed" and prompt.unplaced_reason is None
    )


def abandon_outstanding(subject: SessionDraft, cause: object) -> None:
    """Stop waiting for what is not settled."""
    subject.tell_unsettled("prompt_abandoned", cause)


def cancel_outstanding(subject: SessionDraft, cause: object) -> None:
    """Stop all work that is still under way."""
    subject.tell_unsettled("prompt_cancelled", cause)


def note_drain_timeout(subject: SessionDraft, cause: object) -> None:
    """The session fails for want of time; its finished images stay listed."""
    seconds = subject.settings.drain_timeout_ms / 1000
    subject.problem = Problem("drain_timeout", f"not every image was settled within {seconds:g} s")
    subject.explain_unplaced("drain-timeout")


def note_cancel(subject: SessionDraft, cause: CancelRequested) -> None:
    """The session is cancelled; its finished images stay listed."""
    subject.problem = Problem("cancelled", cause.reason)
    subject.explain_unplaced("session-cancelled")


def note_write_failed(subject: SessionDraft, cause: InsertionFailed) -> None:
    """The write failed for good; the images stay listed."""
    subject.problem = cause.problem
    subject.explain_unplaced("write-failed")


def note_message_gone(subject: SessionDraft, cause: object) -> None:
    """There is no message to write into; the images stay listed."""
    subject.problem = Problem("message_gone", "the message was deleted before its images were written")
    subject.explain_unplaced("message-gone")


def note_written(subject: SessionDraft, cause: InsertionWritten) -> None:
    """Keep where each image of the batch went, or why it went nowhere."""
    for prompt_id in [p.prompt_id for p in cause.placed] + [u.prompt_id for u in cause.unplaced]:
        if prompt_id not in subject.prompts:
            raise InternalError(f"session {subject.session.id} was told of an unknown prompt {prompt_id!r}")
    for placed in cause.placed:
        prompt = subject.prompts[placed.prompt_id]
        subject.prompts[prompt.id] = prompt._replace(placed=placed)
    for unplaced in cause.unplaced:
        prompt = subject.prompts[unplaced.prompt_id]
        subject.prompts[prompt.id] = prompt._replace(unplaced_reason=unplaced.reason)
    for prompt in list(subject.prompts.values()):
        if prompt.batch == subject.batch and prompt.image and not (prompt.placed or prompt.unplaced_reason):
            subject.prompts[prompt.id] = prompt._replace(unplaced_reason="not-reported")


def open_next_batch(subject: SessionDraft, cause: object) -> None:
    """Turn to the clicks that came during the write: two seconds from the last of them.

    A click on an image that this write replaced is meant for its successor. Who clicked both is served once.
    """
    subject.batch += 1
    batch = [prompt for prompt in subject.prompts.values() if prompt.batch == subject.batch]
    subject.outstanding = sum(prompt.state not in SETTLED for prompt in batch)
    wanted: set[str] = set()
    for prompt in batch:
        if prompt.target_url is None:
            continue
        target = subject.successor_of(prompt.target_url)
        subject.prompts[prompt.id] = prompt._replace(target_url=target)
        if prompt.mode is InsertionMode.REPLACE_IMAGE and prompt.state not in {"failed", "cancelled"}:
            if target in wanted and prompt.state not in SETTLED:
                subject.change_prompt(prompt.id, "prompt_cancelled", cause)
            wanted.add(target)
    due = max(subject.now, subject.last_request_at + subject.settings.debounce_ms)
    subject.arm(TimerKind.DEBOUNCE, due)


class SessionMachine(StrictChart):
    """The declaration. `limner diagrams` draws it; `SESSION` is its compiled form."""

    idle = State(initial=True)
    streaming = State()
    debouncing = State()
    sealed = State()
    draining = State()
    inserting = State()
    done = State(final=True)
    failed = State(final=True)
    cancelled = State(final=True)

    stream_started = idle.to(streaming, unless=is_regeneration)
    prompt_found = streaming.to(streaming, internal=True, on=add_prompt)
    stream_ended = streaming.to(sealed, on=take_final_scan)

    regeneration_requested = (
        idle.to(debouncing, cond=is_regeneration, on=[add_regeneration, arm_debounce])
        | debouncing.to(debouncing, internal=True, on=[add_regeneration, disarm_debounce, arm_debounce])
        | draining.to(debouncing, cond=is_regeneration, on=[add_regeneration, disarm_drain, arm_debounce])
        | inserting.to(inserting, internal=True, cond=is_regeneration, on=add_to_next_batch)
    )
    debounce_elapsed = debouncing.to(sealed)

    total_fixed = sealed.to(inserting, cond=all_settled, on=insert_batch) | sealed.to(draining, on=arm_drain)

    prompt_settled = (
        streaming.to(streaming, internal=True)
        | debouncing.to(debouncing, internal=True)
        | draining.to(inserting, cond=all_settled, on=[disarm_drain, insert_batch])
        | draining.to(draining, internal=True)
        | inserting.to(inserting, internal=True)
    )
    drain_timed_out = draining.to(
        inserting, cond=inserts_on_drain_timeout, on=[abandon_outstanding, insert_batch]
    ) | draining.to(failed, on=[abandon_outstanding, note_drain_timeout])

    written = inserting.to(
        debouncing, cond=has_next_batch, on=[note_written, open_next_batch]
    ) | inserting.to(done, on=note_written)
    message_gone = inserting.to(done, on=[cancel_outstanding, note_message_gone])
    write_failed = inserting.to(failed, on=[cancel_outstanding, note_write_failed])

    cancel_requested = (
        idle.to(cancelled, on=note_cancel)
        | streaming.to(cancelled, on=[cancel_outstanding, note_cancel])
        | debouncing.to(cancelled, on=[disarm_debounce, cancel_outstanding, note_cancel])
        | sealed.to(cancelled, on=[cancel_outstanding, note_cancel])
        | draining.to(cancelled, on=[disarm_drain, cancel_outstanding, note_cancel])
    )

    process_restarted = (
        streaming.to(streaming, internal=True, on=seal_stored)
        | debouncing.to(debouncing, internal=True, on=wait_out_debounce)
        | draining.to(inserting, cond=all_settled, on=[disarm_drain, insert_batch])
        | draining.to(draining, internal=True, on=[disarm_drain, arm_drain])
        | inserting.to(inserting, internal=True, on=finish_write)
    )


SESSION = compile_chart(SessionMachine)
