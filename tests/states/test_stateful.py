"""One message in a random world: streams, clicks, cancels, a real limiter and real times.

The world performs the commands as an engine does: it lines prompts up, starts them when the limiter says so,
answers, writes. After every step the invariants are checked; in the end everything is answered and the
session has to end.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from limner.errors import EventRefused, MessageBusy
from limner.states import (
    TIME_PASSED,
    Abort,
    CancelRequested,
    Event,
    FoundPrompt,
    Generate,
    GenerationFailed,
    GenerationStarted,
    GenerationSucceeded,
    Image,
    InsertImages,
    InsertionFailed,
    InsertionMode,
    InsertionWritten,
    MessageVanished,
    OnDrainTimeout,
    Problem,
    PromptFound,
    RegenerationRequested,
    Session,
    SessionSettings,
    StreamEnded,
    StreamStarted,
    UnplacedImage,
    is_final,
    next_deadline,
)
from limner.states.exploration import events_for
from limner.states.invariants import check_state, check_step, must_take
from limner.states.limiter import JobId, Limiter, Limits
from limner.states.message import Opening, deliver
from limner.states.outcome import result_of
from tests.states.scripts import GAPS
from tests.states.story import LASTING, PASSING, written

PROMPTS = [FoundPrompt(f"p{n}", f"text {n}") for n in range(5)]
MESSAGE = "m"


class World(RuleBasedStateMachine):
    """Everything around the core, for one message."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.serial = 0
        self.live: Session | None = None
        self.limiter = Limiter(Limits(2, 2, 0))
        self.running: list[JobId] = []
        self.written_batches: dict[str, int] = {}
        self.images: list[str] = ["old-0", "old-1"]

    # --- performing what the core commands

    def bring(self, event: Event) -> bool:
        """Bring an event to the message, check each step, perform its commands; False: it was refused."""
        self.serial += 1
        settings = SessionSettings(on_drain_timeout=list(OnDrainTimeout)[self.serial % 2])
        opening = Opening(f"s{self.serial}", MESSAGE, settings)
        before = self.live
        promised = before is not None and not self._due(before) and must_take(before, event)
        try:
            steps = deliver(self.live, event, self.now, opening)
        except MessageBusy:
            return False
        except EventRefused:
            if promised:
                raise
            return False
        for step in steps:
            if before is None or before.id != step.session.id:
                before = Session(step.session.id, MESSAGE, step.session.kind, step.session.settings, self.now)
            count = self.written_batches.get(before.id, 0)
            assert list(check_step(before, step.event, step.session, step.commands, count)) == []
            self._perform(step.session, step.commands)
            before = step.session
            self.live = None if is_final(before) else before
            if is_final(before):
                self._check_result(before)
        self._start_jobs()
        return True

    def _due(self, session: Session) -> bool:
        deadline = next_deadline(session)
        return deadline is not None and deadline <= self.now

    def _perform(self, session: Session, commands: tuple[object, ...]) -> None:
        for command in commands:
            if isinstance(command, Generate):
                self.limiter.submit(JobId(session.id, command.prompt_id), MESSAGE)
            elif isinstance(command, Abort):
                job = JobId(session.id, command.prompt_id)
                if not self.limiter.withdraw(job, MESSAGE):
                    self._leave(job)
            elif isinstance(command, InsertImages):
                self.written_batches[session.id] = self.written_batches.get(session.id, 0) + 1

    def _leave(self, job: JobId) -> None:
        if job in self.running:
            self.running.remove(job)
            self.limiter.finish(job)

    def _start_jobs(self) -> None:
        for job in self.limiter.start_due(self.now):
            assert len(self.running) < self.limiter.limits.max_concurrent
            self.running.append(job)
            assert self.live is not None
            assert self.live.id == job.session_id
            assert self.bring(GenerationStarted(job.prompt_id))

    def _check_result(self, session: Session) -> None:
        result = result_of(session)
        listed = [
            *(placed.prompt_id for placed in result.placed),
            *(unplaced.prompt_id for unplaced in result.unplaced),
            *(failure.prompt_id for failure in result.failed),
            *result.cancelled,
        ]
        assert sorted(listed) == sorted(session.prompts)

    # --- what the world brings

    @precondition(lambda self: self.live is None)
    @rule()
    def stream_starts(self) -> None:
        assert self.bring(StreamStarted())

    @precondition(lambda self: self.live is not None and self.live.state == "streaming")
    @rule(prompt=st.sampled_from(PROMPTS))
    def prompt_is_found(self, prompt: FoundPrompt) -> None:
        self.bring(PromptFound(prompt))

    @precondition(lambda self: self.live is not None and self.live.state == "streaming")
    @rule(prompts=st.lists(st.sampled_from(PROMPTS), max_size=4))
    def stream_ends(self, prompts: list[FoundPrompt]) -> None:
        self.bring(StreamEnded(tuple(prompts)))

    @rule(data=st.data(), mode=st.sampled_from(InsertionMode))
    def somebody_clicks(self, data: st.DataObject, mode: InsertionMode) -> None:
        url = data.draw(st.sampled_from(self.images))
        self.bring(RegenerationRequested("node", "text", 0, url, mode))

    # Seldom, or hardly a session would come to its end.
    @rule(chance=st.integers(0, 9), event=st.sampled_from([CancelRequested(), StreamStarted()]))
    def somebody_interrupts(self, chance: int, event: Event) -> None:
        if chance == 9:
            self.bring(event)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), problem=st.sampled_from([None, None, PASSING, LASTING]))
    def an_attempt_ends(self, data: st.DataObject, problem: Problem | None) -> None:
        self._answer(data.draw(st.sampled_from(self.running)), problem)

    def _answer(self, job: JobId, problem: Problem | None) -> None:
        self._leave(job)
        if problem is None:
            self.bring(GenerationSucceeded(job.prompt_id, Image(f"{job.session_id}-{job.prompt_id}")))
        else:
            self.bring(GenerationFailed(job.prompt_id, problem))

    @precondition(lambda self: self.live is not None and self.live.state == "inserting")
    @rule(outcome=st.sampled_from(["written", "written", "partly", "gone", "failed"]))
    def the_write_ends(self, outcome: str) -> None:
        assert self.live is not None
        event = written(self.live)
        self.images.extend(placed.image_url for placed in event.placed)
        if outcome == "partly" and event.placed:
            lost = event.placed[0]
            unplaced = UnplacedImage(lost.prompt_id, lost.image_url, "image-gone")
            event = InsertionWritten(event.placed[1:], (unplaced,))
        other: dict[str, Event] = {
            "gone": MessageVanished(),
            "failed": InsertionFailed(Problem("storage_error", "full")),
        }
        assert self.bring(other.get(outcome, event))

    @rule(gap=GAPS)
    def time_passes(self, gap: int) -> None:
        self.now += gap
        self.bring(TIME_PASSED)

    @rule()
    def the_next_deadline_comes(self) -> None:
        deadline = next_deadline(self.live) if self.live else None
        if deadline is not None:
            self.now = max(self.now, deadline)
            assert self.bring(TIME_PASSED)

    @rule(at_once=st.integers(1, 4), of_one=st.integers(1, 4))
    def the_limits_change(self, at_once: int, of_one: int) -> None:
        # Lower limits are reached as jobs finish, which the checks above would not know.
        if at_once >= len(self.running):
            self.limiter.change(Limits(at_once, of_one, 0))
            self._start_jobs()

    @precondition(lambda self: self.live is not None)
    @rule(choice=st.integers(0, 10**6))
    def something_senseless_comes(self, choice: int) -> None:
        assert self.live is not None
        senseless = [event for event in events_for(self.live, 8) if not must_take(self.live, event)]
        # A new stream and a click are refused by a session; the message may answer them all the same.
        senseless = [event for event in senseless if not isinstance(event, StreamStarted)]
        if senseless and not self._due(self.live):
            before = self.live
            assert not self.bring(senseless[choice % len(senseless)])
            assert self.live is before

    # --- what must hold

    @invariant()
    def the_state_is_sound(self) -> None:
        if self.live is not None:
            assert list(check_state(self.live)) == []

    @invariant()
    def a_batch_is_written_at_most_once(self) -> None:
        if self.live is not None:
            assert self.written_batches.get(self.live.id, 0) <= self.live.batch

    @invariant()
    def just_the_queued_prompts_wait_and_just_the_generating_ones_run(self) -> None:
        states = [prompt.state for prompt in self.live.prompts.values()] if self.live else []
        assert self.limiter.waiting == states.count("queued")
        assert self.limiter.running == len(self.running) == states.count("generating")

    def teardown(self) -> None:
        """In a world that answers, the session ends."""
        for _ in range(300):
            if self.live is None:
                return
            if self.live.state == "streaming":
                self.bring(StreamEnded(tuple(PROMPTS[:2])))
            elif self.live.state == "inserting":
                self.bring(written(self.live))
            elif self.running:
                self._answer(self.running[0], None)
            else:
                self.the_next_deadline_comes()
        raise AssertionError(f"the session is still {self.live and self.live.state}")


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
