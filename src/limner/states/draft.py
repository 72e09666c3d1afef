"""A session while one event changes it: what guards look at and actions change."""

from __future__ import annotations

from bisect import insort

from limner.errors import EventRefused
from limner.states.commands import Command, Generate
from limner.states.prompt import PROMPT, SETTLED, PromptDraft
from limner.states.values import Prompt, Session, Timer, TimerKind


class SessionDraft:
    """A session while one event changes it; `result` gives the new value.

    The given session is not touched: prompts and timers are copied when the first one changes.
    """

    __slots__ = (
        "batch",
        "commands",
        "ended_at",
        "last_request_at",
        "now",
        "outstanding",
        "problem",
        "prompts",
        "session",
        "settings",
        "state",
        "timers",
    )

    def __init__(self, session: Session, now: int) -> None:
        self.session = session
        self.now = now
        self.settings = session.settings
        self.state = session.state
        self.prompts = dict(session.prompts)
        self.timers = list(session.timers)
        self.batch = session.batch
        self.outstanding = session.outstanding
        self.last_request_at = session.last_request_at
        self.problem = session.problem
        self.ended_at = session.ended_at
        self.commands: list[Command] = []

    def result(self) -> Session:
        """The session after the event."""
        old = self.session
        return Session(
            old.id,
            old.message_id,
            old.kind,
            old.settings,
            old.opened_at,
            self.state,
            self.prompts,
            tuple(self.timers),
            self.batch,
            self.outstanding,
            self.last_request_at,
            self.problem,
            self.ended_at,
        )

    def arm(self, kind: TimerKind, deadline: int, prompt_id: str = "") -> None:
        """Set a timer."""
        insort(self.timers, Timer(deadline, kind, prompt_id))

    def disarm(self, kind: TimerKind, prompt_id: str = "") -> None:
        """Unset a timer, which must be armed."""
        for index, timer in enumerate(self.timers):
            if timer.kind is kind and timer.prompt_id == prompt_id:
                del self.timers[index]
                return
        raise AssertionError(f"{kind.name} timer of {prompt_id or 'the session'} was not armed")

    def command(self, command: Command) -> None:
        """Tell the engine to do something once this event is committed."""
        self.commands.append(command)

    def add_prompt(self, prompt: Prompt) -> None:
        """Take in a new prompt and line it up at once."""
        self.prompts[prompt.id] = prompt
        if prompt.batch == self.batch:
            self.outstanding += 1
        self.command(Generate(prompt.id))

    def change_prompt(self, prompt_id: str, event: str, cause: object) -> bool:
        """Run one event of one prompt; say whether that settled it. Raises `EventRefused`."""
        prompt = self.prompts.get(prompt_id)
        if prompt is None:
            raise EventRefused(PROMPT.name, "unknown", event, f"no prompt {prompt_id!r} in this session")
        draft = PromptDraft(prompt, self)
        state = PROMPT.step(prompt.state, event, draft, cause)
        self.prompts[prompt_id] = draft.result(state)
        if state not in SETTLED:
            return False
        if prompt.batch == self.batch:
            self.outstanding -= 1
        return True

    def tell_unsettled(self, event: str, cause: object) -> None:
        """Run one event through every prompt that is not settled yet."""
        for prompt in list(self.prompts.values()):
            if prompt.state not in SETTLED:
                self.change_prompt(prompt.id, event, cause)

    def explain_unplaced(self, reason: str) -> None:
        """Give every finished image that will not be placed any more the reason for it."""
        for prompt in list(self.prompts.values()):
            if prompt.image is not None and prompt.placed is None and prompt.unplaced_reason is None:
                self.prompts[prompt.id] = prompt._replace(unplaced_reason=reason)

    def successor_of(self, url: str) -> str:
        """The image that stands where `url` stood, after the writes of this session."""
        # Batch after batch, since a content-addressed store may give one URL again: a → b, then b → a.
        batch = 0
        for prompt in self.prompts.values():
            placed = prompt.placed
            if placed is not None and placed.replaced_url == url and prompt.batch > batch:
                url, batch = placed.image_url, prompt.batch
        return url
