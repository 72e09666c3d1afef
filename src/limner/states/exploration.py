"""Walks through everything that can happen to one session and checks what must always hold.

`explore` starts from an idle session and applies, in every state it reaches, every event that the world can
bring: prompts found and found again, the text rewritten at its end, clicks and double clicks, attempts that
succeed, fail for now or fail for good, answers that come too late, each armed timer, the write's three
outcomes, a cancel, and the end of the process at any moment, with a restart behind it. Breadth first, so that
a violation comes with the shortest way to it.

Two abstractions make the walk finite without hiding anything:

* Timers fire in *any* order, whatever their lengths. So what is found to hold, holds for all settings.
* Prompts are interchangeable: two sessions that differ only in which prompt is which are one state. So are
  two that differ only in what no rule looks at: why a prompt failed, or where an earlier batch's image went.

The six invariants are those of the design, by number:

1. At most one write of images per batch; none before it is sealed and all settled; none after a cancel.
2. Every non-final state can reach a final one; and if the world answers what it was asked, every run ends.
3. settled + outstanding = total, and a sealed batch's total does not change unless a click re-opens it.
4. Every (state, event) pair is declared or refused by a typed error, and a refusal changes nothing.
5. A settled prompt stays settled and is never generated again; a finished image is placed or listed.
6. A timer is armed exactly in the states that need it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from limner.errors import EventRefused
from limner.states.commands import InsertImages
from limner.states.core import handle
from limner.states.events import (
    PROCESS_RESTARTED,
    TIME_PASSED,
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
    StreamEnded,
    StreamStarted,
)
from limner.states.invariants import check_state, check_step, must_take, repeats_write
from limner.states.prompt import SETTLED
from limner.states.session import SESSION
from limner.states.values import (
    FoundPrompt,
    Image,
    InsertionMode,
    OnDrainTimeout,
    PlacedImage,
    Problem,
    Prompt,
    Session,
    SessionKind,
    SessionSettings,
    Timer,
    UnplacedImage,
)

FAR = 10**12
"""Where timers that do not fire stand, in ms: beyond every deadline that a step at time 0 can set."""

PASSING = Problem("unavailable", "try again")
LASTING = Problem("moderated", "never")
ENVIRONMENT_CHOICES = (PromptFound, RegenerationRequested, ProcessRestarted)
"""Events that nobody has to bring; without them every run must end."""

MOST_WITH_JOBS = 2
"""Up to so many prompts the backend gives some jobs an id."""

MOST_WITH_RETRIES = 2
"""Up to so many prompts somebody asks again for an image that failed; two show whether they are mixed up."""

MOST_BEGUN_AGAIN = 3
"""Up to so many prompts an image that a restart cuts off is begun again; with more it fails at the first.

What one image carries with it (a job's id, a number of cuts) makes a state another one, for each of the
prompts; with four prompts the walk would take twelve times as long, to see what three have shown.
"""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant's number, what was seen, and the events that lead there from an idle session."""

    invariant: int
    message: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.message}\n  after: {' → '.join(self.trace)}"


@dataclass(slots=True)
class Exploration:
    """What a walk saw. `refusals` counts the events that were refused, as they must be."""

    prompts: int
    on_drain_timeout: OnDrainTimeout
    states: int = 0
    edges: int = 0
    refusals: int = 0
    session_states: set[str] = field(default_factory=set)
    violations: list[Violation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Node:
    session: Session
    inserted_batches: int
    """How many batches' writes were commanded so far; the memory that invariant 1 needs."""


def explore(
    prompts: int,
    kind: SessionKind = SessionKind.STREAMING,
    on_drain_timeout: OnDrainTimeout = OnDrainTimeout.FAIL,
    *,
    max_violations: int = 10,
) -> Exploration:
    """Walk through everything that one session with at most `prompts` prompts can do.

    The walk stops early after `max_violations`, since one broken rule usually shows in many states.
    """
    settings = SessionSettings(
        max_attempts=2, max_restarts=int(prompts <= MOST_BEGUN_AGAIN), on_drain_timeout=on_drain_timeout
    )
    report = Exploration(prompts, on_drain_timeout)
    start = _Node(Session("s", "m", kind, settings, 0), 0)
    walk = _Walk(report, prompts, max_violations)
    walk.run(start)
    return report


class _Walk:
    def __init__(self, report: Exploration, prompts: int, max_violations: int) -> None:
        self.report = report
        self.prompts = prompts
        self.max_violations = max_violations
        self.parents: dict[Key, tuple[Key, str] | None] = {}
        self.fair_edges: dict[Key, set[Key]] = {}
        self.edges_back: dict[Key, set[Key]] = {}
        self.final: set[Key] = set()

    def run(self, start: _Node) -> None:
        start_key = _key(start)
        self.parents[start_key] = None
        queue = deque([(start_key, start)])
        while queue and len(self.report.violations) < self.max_violations:
            key, node = queue.popleft()
            self.report.session_states.add(node.session.state)
            for found in check_state(node.session):
                self._note(*found, key)
            self.fair_edges[key] = set()
            if node.session.state in SESSION.final:
                self.final.add(key)
            for event, session in self._moves(node.session):
                after = self._take(key, node, event, session)
                if after is None:
                    continue
                after_key = _key(after)
                self.report.edges += 1
                self.edges_back.setdefault(after_key, set()).add(key)
                if after_key != key and not isinstance(event, ENVIRONMENT_CHOICES):
                    self.fair_edges[key].add(after_key)
                if after_key not in self.parents:
                    self.parents[after_key] = (key, _label(event, session))
                    queue.append((after_key, after))
        self.report.states = len(self.parents)
        if len(self.report.violations) < self.max_violations:
            self._check_endings()

    def _moves(self, session: Session) -> Iterator[tuple[Event, Session]]:
        for event in events_for(
            session,
            self.prompts,
            jobs=self.prompts <= MOST_WITH_JOBS,
            retries=self.prompts <= MOST_WITH_RETRIES,
        ):
            yield event, session
        kinds = {(timer.kind, _role(timer, session)): index for index, timer in enumerate(session.timers)}
        for index in kinds.values():
            due = session.timers[index]._replace(deadline=0)
            rest = session.timers[:index] + session.timers[index + 1 :]
            yield TIME_PASSED, session._replace(timers=(due, *rest))

    def _take(self, key: Key, node: _Node, event: Event, session: Session) -> _Node | None:
        given = dict(session.prompts)
        try:
            after, commands = handle(session, event, 0)
        except EventRefused:
            self.report.refusals += 1
            if must_take(session, event):
                self._note(4, f"{_label(event, session)} was refused in {session.state}", key)
            if session.prompts != given:
                self._note(4, f"a refused {_label(event, session)} changed the session", key)
            return None
        except Exception as error:  # noqa: BLE001 - whatever else comes out is the violation that we look for
            self._note(4, f"{_label(event, session)} raised {error!r}", key)
            return None
        if session.prompts != given:
            self._note(4, f"{_label(event, session)} changed the session it was given", key)
        for found in check_step(session, event, after, commands, node.inserted_batches):
            self._note(*found, key, _label(event, session))
        inserted = node.inserted_batches
        if not repeats_write(session, event):
            inserted += sum(isinstance(command, InsertImages) for command in commands)
        return _Node(_normalised(after), inserted)

    def _check_endings(self) -> None:
        reachable = set(self.final)
        queue = deque(self.final)
        while queue:
            for before in self.edges_back.get(queue.popleft(), ()):
                if before not in reachable:
                    reachable.add(before)
                    queue.append(before)
        for key in self.parents:
            if key not in reachable:
                self._note(2, "no final state can be reached", key)
                return
        cycle = _node_on_cycle(self.fair_edges)
        if cycle is not None:
            self._note(2, "the session can run in a circle for ever", cycle)

    def _note(self, invariant: int, message: str, key: Key, last: str | None = None) -> None:
        trace: list[str] = [] if last is None else [last]
        while (step := self.parents.get(key)) is not None:
            key, label = step
            trace.append(label)
        self.report.violations.append(Violation(invariant, message, tuple(reversed(trace))))


def events_for(session: Session, limit: int, *, jobs: bool = True, retries: bool = True) -> Iterator[Event]:
    """Every event that the world can bring to `session`, the senseless ones included (invariant 4).

    `limit`: no more than so many prompts. `jobs`: the backend may give its jobs ids. `retries`:
    an image that failed may be asked for again.
    """
    known = tuple(
        FoundPrompt(prompt.id, prompt.text, prompt.occurrence)
        for prompt in session.prompts.values()
        if prompt.target_url is None
    )
    distinct = tuple({_signature(prompt, session): prompt for prompt in session.prompts.values()}.values())
    new = FoundPrompt(f"p{len(session.prompts)}", "new")
    room = len(session.prompts) < limit
    yield StreamStarted()
    if room:
        yield PromptFound(new)
        yield StreamEnded((new, *known))
        for mode in (InsertionMode.REPLACE_IMAGE, InsertionMode.APPEND_AFTER_IMAGE):
            yield RegenerationRequested("n", "text", 0, f"old{len(session.prompts)}", mode)
        if retries:
            yield RegenerationRequested("n", "text", 0, None, InsertionMode.APPEND_AFTER_PROMPT)
    yield from (PromptFound(found) for found in known[:1])
    yield StreamEnded(known)
    for prompt in distinct:
        if prompt.target_url is None:
            yield StreamEnded(tuple(found for found in known if found.id != prompt.id))
        elif room:
            yield RegenerationRequested("n", "text", 0, prompt.target_url, InsertionMode.REPLACE_IMAGE)
        yield GenerationStarted(prompt.id)
        if jobs:
            yield GenerationAccepted(prompt.id, "job")
        yield GenerationSucceeded(prompt.id, Image(f"new-{prompt.id}"))
        yield GenerationFailed(prompt.id, PASSING)
        yield GenerationFailed(prompt.id, LASTING)
    yield GenerationStarted("nobody")
    batch = tuple(
        prompt
        for prompt in session.prompts.values()
        if prompt.batch == session.batch and prompt.state == "completed" and prompt.unplaced_reason is None
    )
    placed = tuple(
        PlacedImage(p.id, p.image.url, p.target_url if p.mode is InsertionMode.REPLACE_IMAGE else None)
        for p in batch
        if p.image is not None
    )
    yield InsertionWritten(placed)
    if placed:
        lost = UnplacedImage(placed[0].prompt_id, placed[0].image_url, "image-gone")
        yield InsertionWritten(placed[1:], (lost,))
    yield MessageVanished()
    yield InsertionFailed(Problem("storage_error", "full"))
    yield CancelRequested()
    yield PROCESS_RESTARTED


def _normalised(session: Session) -> Session:
    timers = tuple(sorted(timer._replace(deadline=FAR) for timer in session.timers))
    prompts = {
        prompt.id: prompt._replace(started_at=0, spent_ms=0)
        if prompt.started_at or prompt.spent_ms
        else prompt
        for prompt in session.prompts.values()
    }
    return session._replace(timers=timers, prompts=prompts, last_request_at=0)


def _key(node: _Node) -> Key:
    session = node.session
    counts: dict[Key, int] = {}
    for prompt in session.prompts.values():
        signature = _signature(prompt, session)
        counts[signature] = counts.get(signature, 0) + 1
    timers = tuple(timer.kind for timer in session.timers if not timer.prompt_id)
    return (
        session.state,
        node.inserted_batches - session.batch,
        timers,
        frozenset(counts.items()),
        # These two follow from the rest, unless a rule is broken; so they make a broken rule visible.
        session.outstanding,
        session.state in {"failed", "cancelled"} and session.problem is None,
    )


def _signature(prompt: Prompt, session: Session) -> Key:
    if prompt.batch < session.batch:
        unexplained = prompt.image is not None and prompt.placed is None and not prompt.unplaced_reason
        return "earlier batch", prompt.state in SETTLED, unexplained
    settled = prompt.state in SETTLED
    return (
        prompt.state,
        prompt.batch - session.batch,
        settled or (prompt.attempt, prompt.restarts, prompt.job_id),
        prompt.mode,
        prompt.unplaced_reason is not None,
        prompt.state in {"failed", "waiting"} and prompt.problem is None,
        tuple(timer.kind for timer in session.timers if timer.prompt_id == prompt.id),
        # How many share the target decides whether a click joins them.
        prompt.target_url is not None
        and sum(other.target_url == prompt.target_url for other in session.prompts.values()),
        # In a regeneration none has a target that was asked for because it had failed; they share the prompt.
        prompt.target_url is None
        and sum(other.node_id == prompt.node_id for other in session.prompts.values()),
    )


def _role(timer: Timer, session: Session) -> Key:
    return _signature(session.prompts[timer.prompt_id], session) if timer.prompt_id else ()


def _label(event: Event, session: Session) -> str:
    if event is TIME_PASSED:
        timer: Timer = session.timers[0]
        return f"{timer.kind.name.lower()} timer" + (f" of {timer.prompt_id}" if timer.prompt_id else "")
    if isinstance(event, PromptFound):
        return f"{event.name}({event.prompt.id})"
    if isinstance(event, GenerationFailed):
        return f"{event.name}({event.prompt_id}, {event.problem.kind})"
    if isinstance(event, (GenerationStarted, GenerationAccepted, GenerationSucceeded)):
        return f"{event.name}({event.prompt_id})"
    if isinstance(event, StreamEnded):
        return f"{event.name}({', '.join(found.id for found in event.prompts)})"
    if isinstance(event, RegenerationRequested):
        return f"{event.name}({event.target_url}, {event.mode})"
    return event.name


def _node_on_cycle(edges: Mapping[Key, set[Key]]) -> Key | None:
    # Take away, again and again, the nodes that nothing leads to; what stays lies on or behind a circle.
    incoming = dict.fromkeys(edges, 0)
    for targets in edges.values():
        for target in targets:
            incoming[target] = incoming.get(target, 0) + 1
    free = deque(key for key, count in incoming.items() if count == 0)
    left = set(incoming)
    while free:
        key = free.popleft()
        left.discard(key)
        for target in edges.get(key, ()):
            incoming[target] -= 1
            if incoming[target] == 0:
                free.append(target)
    return next(iter(left), None)
