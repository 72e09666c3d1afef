"""A session being told what happens to it, for tests that read as a sequence of times and events."""

from __future__ import annotations

from limner.states import (
    TIME_PASSED,
    Command,
    Event,
    FoundPrompt,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    Image,
    InsertImages,
    InsertionMode,
    InsertionWritten,
    PlacedImage,
    Problem,
    Prompt,
    PromptFound,
    RegenerationRequested,
    Session,
    SessionKind,
    SessionSettings,
    StreamEnded,
    StreamStarted,
    handle,
    next_deadline,
)

PASSING = Problem("unavailable", "try again")
LASTING = Problem("moderated", "never")
DEFAULTS = SessionSettings()


class Story:
    """One session; `at` gives it an event at a time in ms and keeps all commands."""

    def __init__(self, kind: SessionKind, settings: SessionSettings = DEFAULTS, opened_at: int = 0) -> None:
        self.session = Session("s", "m", kind, settings, opened_at)
        self.commands: list[Command] = []

    def at(self, now: int, *events: Event) -> tuple[Command, ...]:
        """Handle the events, all at `now`; return the commands of the last."""
        commands: tuple[Command, ...] = ()
        for event in events or (TIME_PASSED,):
            self.session, commands = handle(self.session, event, now)
            self.commands.extend(commands)
        return commands

    @property
    def state(self) -> str:
        """The session's state."""
        return self.session.state

    @property
    def deadline(self) -> int | None:
        """When it wants to be woken."""
        return next_deadline(self.session)

    @property
    def writes(self) -> list[tuple[str, ...]]:
        """The prompts of each write that was commanded."""
        return [command.prompt_ids for command in self.commands if isinstance(command, InsertImages)]

    def prompt(self, prompt_id: str) -> Prompt:
        """One prompt of the session."""
        return self.session.prompts[prompt_id]

    def states(self) -> dict[str, str]:
        """The state of each prompt, in order."""
        return {prompt.id: prompt.state for prompt in self.session.prompts.values()}


def found(*ids: str) -> tuple[FoundPrompt, ...]:
    """Prompts as a scan finds them."""
    return tuple(FoundPrompt(prompt_id, f"text of {prompt_id}") for prompt_id in ids)


def click(url: str, mode: InsertionMode = InsertionMode.REPLACE_IMAGE) -> RegenerationRequested:
    """A click on the image at `url`."""
    return RegenerationRequested("node", "text", 0, url, mode)


def started(prompt_id: str) -> GenerationStarted:
    """The prompt's turn has come."""
    return GenerationStarted(prompt_id)


def succeeded(prompt_id: str) -> GenerationSucceeded:
    """The prompt's image is there."""
    return GenerationSucceeded(prompt_id, Image(f"img-{prompt_id}"))


def failed(prompt_id: str, problem: Problem = LASTING) -> GenerationFailed:
    """The attempt failed."""
    return GenerationFailed(prompt_id, problem)


def written(session: Session) -> InsertionWritten:
    """The batch's finished images are all in the message, as the write put them there."""
    return InsertionWritten(
        tuple(
            PlacedImage(
                prompt.id,
                prompt.image.url,
                prompt.target_url if prompt.mode is InsertionMode.REPLACE_IMAGE else None,
            )
            for prompt in session.prompts.values()
            if prompt.batch == session.batch and prompt.image is not None and not prompt.unplaced_reason
        )
    )


def streaming(*ids: str, settings: SessionSettings = DEFAULTS) -> Story:
    """A session that streams; the prompts are found at time 0."""
    story = Story(SessionKind.STREAMING, settings)
    story.at(0, StreamStarted(), *(PromptFound(prompt) for prompt in found(*ids)))
    return story


def draining(*ids: str, settings: SessionSettings = DEFAULTS) -> Story:
    """A streaming session that ended at time 0 and waits for its prompts."""
    story = streaming(*ids, settings=settings)
    story.at(0, StreamEnded(found(*ids)))
    return story


def inserting(*ids: str, settings: SessionSettings = DEFAULTS) -> Story:
    """A streaming session whose write is under way; all prompts completed at time 0."""
    story = draining(*ids, settings=settings)
    for prompt_id in ids:
        story.at(0, started(prompt_id), succeeded(prompt_id))
    return story


def regenerating(*urls: str, settings: SessionSettings = DEFAULTS) -> Story:
    """A regeneration session with clicks at time 0; its prompts are s.1, s.2 …"""
    story = Story(SessionKind.REGENERATION, settings)
    story.at(0, *(click(url) for url in urls))
    return story


def rewriting(*urls: str, settings: SessionSettings = DEFAULTS) -> Story:
    """A regeneration session whose write is under way since its debounce ended."""
    story = regenerating(*urls, settings=settings)
    for prompt_id in list(story.session.prompts):
        story.at(0, started(prompt_id), succeeded(prompt_id))
    story.at(settings.debounce_ms)
    return story
