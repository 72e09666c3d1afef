"""Compares what lies on the disk with what was promised. Each broken promise is one line, a violation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from limner.adapters.journal_format import EventRow
from limner.errors import EventRefused
from limner.states import Prompt, Session, SessionKind, is_final
from limner.states.message import replay
from limner.states.outcome import result_of
from limner.text import PromptMatch, extract_image_prompts, find_images, normalise_url, strip_illustrations
from limner.workflows.prompts import prompt_id
from tests.crash.evidence import Evidence
from tests.crash.host import Script
from tests.crash.place import ADDRESS
from tests.crash.server import Line, name_of


class _Attempt(NamedTuple):
    """One attempt at one image. `session` is its session's place among the message's."""

    session: int
    prompt_id: str
    attempt: int


class Case(NamedTuple):
    """What was to happen to a message: its script, the kind of painter (see `Client`), the host's habit.

    `refused` is the prompt that is never painted; `may_fail` is a kind of problem that others may fail with.
    """

    script: Script
    painter: str
    refused: str
    stream_again: bool = True
    may_fail: str = ""


def judge(case: Case, kills: Sequence[Evidence], end: Evidence) -> list[str]:
    """All violations. `kills` is what was found after each life that was killed, `end` what came out."""
    found = [
        *(
            f"life {life.life}: {told}"
            for life in (*kills, end)
            for told in check_journal(life.sessions, life.events)
        ),
        *_the_text(case, kills, end),
        *_every_session(case, end),
        *_images_in_their_places(case, end),
        *_kept_images(kills, end),
        *_one_write_each(end),
        *_calls(case, kills, end),
        *_what_was_told(kills, end),
    ]
    return list(dict.fromkeys(found))


def check_journal(sessions: Sequence[Session], events: Mapping[str, Sequence[EventRow]]) -> Iterator[str]:
    """Replaying the events gives each state on the way, and in the end the session that is stored."""
    for stored in sessions:
        opened = Session(stored.id, stored.message_id, stored.kind, stored.settings, stored.opened_at)
        rows = events[stored.id]
        session = opened
        try:
            for row, after in zip(rows, replay(opened, ((row.event, row.at) for row in rows)), strict=True):
                if after.state != row.state:
                    yield f"replayed, {row.event.name} leads to {after.state} and not to {row.state}"
                session = after
        except EventRefused as refusal:
            yield f"cannot be replayed: {refusal}"
        else:
            if session != stored or list(session.prompts) != list(stored.prompts):
                yield f"replayed, a session is {session} and not {stored}"


def expected_text(case: Case, kills: Sequence[Evidence]) -> str | None:
    """A stream dies with its process, and what the store holds then is the text from there on."""
    for kill in kills:
        if kill.text is None and not case.stream_again:
            return None
        if kill.text is not None and kill.live is not None and kill.live.state == "streaming":
            return strip_illustrations(kill.text)
    return case.script.text


def _the_text(case: Case, kills: Sequence[Evidence], end: Evidence) -> Iterator[str]:
    expected = expected_text(case, kills)
    text = None if end.text is None else strip_illustrations(end.text)
    if text != expected:
        yield f"the text is {text!r} and not {expected!r}"


def _every_session(case: Case, end: Evidence) -> Iterator[str]:
    for session in end.sessions:
        if not is_final(session):
            yield f"a session never ended, it is {session.state}"
            continue
        result = result_of(session)
        listed = [placed.prompt_id for placed in result.placed]
        listed += [unplaced.prompt_id for unplaced in result.unplaced]
        listed += [failed.prompt_id for failed in result.failed]
        if sorted([*listed, *result.cancelled]) != sorted(session.prompts):
            yield f"not every prompt is listed once: {result}"
        for unplaced in result.unplaced:
            if session.prompts[unplaced.prompt_id].unplaced_reason is None:
                yield f"an image is unplaced for no reason: {result}"
        for prompt in session.prompts.values():
            if prompt.state == "failed" and not _had_to_fail(case, prompt, session):
                yield f"one failed that had no reason to: {prompt}"
        if session.kind is SessionKind.REGENERATION and len(result.placed) + len(result.failed) < len(listed):
            yield f"a click came to nothing: {result}"
    last = [session.state for session in end.sessions if session.kind is SessionKind.STREAMING][-1:]
    if end.text is not None and last != ["done"]:
        yield f"the message's session is {last}"


def _had_to_fail(case: Case, prompt: Prompt, session: Session) -> bool:
    problem = prompt.problem.kind if prompt.problem is not None else ""
    if problem == "process_ended":
        return prompt.restarts == session.settings.max_restarts
    return problem == case.may_fail or (problem == "moderated" and prompt.text == case.refused)


def _images_in_their_places(case: Case, end: Evidence) -> Iterator[str]:
    """Behind each tag stands the one image that was painted for it last; behind one that failed none."""
    text = end.text or ""
    sessions = {session.kind: session for session in end.sessions}
    streamed = sessions[SessionKind.STREAMING].prompts if end.text is not None else {}
    clicks = [
        prompt
        for session in end.sessions
        if session.kind is SessionKind.REGENERATION
        for prompt in session.prompts.values()
    ]
    tags = extract_image_prompts(text)
    for tag, behind in zip(tags, _images_behind(text, tags), strict=True):
        first = streamed.get(prompt_id(case.script.message_id, tag.prompt, tag.occurrence))
        if first is None or first.state not in {"completed", "failed"}:
            yield f"{tag.full_match} ({tag.occurrence}) was forgotten: {first}"
            continue
        on_this = [click for click in clicks if click.node_id == first.id]
        if len(on_this) != int(case.script.clicks and first.state == "completed"):
            yield f"clicks on {first}: {on_this}"
        wanted = next((click for click in on_this if click.state == "completed"), first)
        urls = [] if wanted.image is None else [wanted.image.url]
        if behind != urls:
            yield f"behind {tag.full_match} ({tag.occurrence}) stand {behind} and not {urls}: {text}"
        elif urls:
            yield from _painted_for(case, wanted, urls[0], end)
    if sum(map(len, _images_behind(text, tags))) != len(find_images(text)):
        yield f"there are other images in the text: {text}"


def _images_behind(text: str, tags: Sequence[PromptMatch]) -> list[list[str]]:
    images = find_images(text)
    bounds = [*(tag.start for tag in tags), len(text)]
    return [
        [normalise_url(image.src) for image in images if start < image.start < end]
        for start, end in pairwise(bounds)
    ]


def _painted_for(case: Case, prompt: Prompt, url: str, end: Evidence) -> Iterator[str]:
    jobs = {line.number: line for line in end.ledger if line.what == "taken"}
    job = jobs.get(end.images.get(file_of(url), 0))
    # Whoever paints equal prompts alike cannot be asked for which of them.
    if job is None or job.prompt != prompt.text or (case.painter != "alike" and job.prompt_id != prompt.id):
        yield f"{url} was painted for {job} and stands for {prompt}"


def file_of(url: str) -> str:
    """The file's name of an image's address."""
    return url.removeprefix(f"{ADDRESS}/").partition("#")[0]


def _kept_images(kills: Sequence[Evidence], end: Evidence) -> Iterator[str]:
    """What is recorded as completed is stored, stays so for ever, and is not paid for again."""
    ended = {session.id: session for session in end.sessions}
    for life in (*kills, end):
        for place, session in enumerate(life.sessions):
            for prompt in session.prompts.values():
                if prompt.image is None:
                    continue
                if file_of(prompt.image.url) not in life.images:
                    yield f"a completed image was not stored: {prompt}, but only {life.images}"
                if session.id not in ended or ended[session.id].prompts[prompt.id].image != prompt.image:
                    yield f"a completed image was lost: {prompt}"
                for line in end.ledger[len(life.ledger) :]:
                    if line.prompt_id == prompt.id and _attempt(line, end).session == place:
                        yield f"a completed image was painted again: {line}"


def _one_write_each(end: Evidence) -> Iterator[str]:
    """Each batch that placed anything was one version of the message; no other version added an image."""
    written: list[list[str]] = []
    standing: set[str] = set()
    for text in end.versions:
        images = {normalise_url(image.src) for image in find_images(text)}
        if images - standing:
            written.append(sorted(images - standing))
        standing = images
    batches: dict[tuple[str, int], list[str]] = {}
    for session in end.sessions:
        for prompt in session.prompts.values():
            if prompt.placed is not None:
                batches.setdefault((session.id, prompt.batch), []).append(prompt.placed.image_url)
    if sorted(written) != sorted(sorted(batch) for batch in batches.values()):
        yield f"{len(written)} writes for {len(batches)} batches: {written}, {batches}"


def _calls(case: Case, kills: Sequence[Evidence], end: Evidence) -> Iterator[str]:
    """One job per attempt, and one more for each kill by which it was lost."""
    begun = Counter(_attempt(line, end) for line in end.ledger if line.what == "taken")
    lost = Counter(
        _attempt(line, end)
        for kill in kills
        for line in kill.ledger
        if line.what == "taken" and line.life == kill.life and _was_lost(case, line, kill)
    )
    for attempt, times in begun.items():
        if times > 1 + lost[attempt]:
            yield f"{times} jobs for {attempt}, {lost[attempt]} of which were lost by a kill"


def _was_lost(case: Case, line: Line, kill: Evidence) -> bool:
    """Whether the kill came before the record of the job's result; of a named job, of its name."""
    known = [
        session.prompts[line.prompt_id] for session in kill.sessions if line.prompt_id in session.prompts
    ]
    if not known or known[-1].state != "generating" or known[-1].attempt != line.attempt:
        return False
    if case.painter != "jobs":
        return True
    # The name is told at once, and virtual time stands still while it is written down; real time does not.
    at_once = not kill.points or kill.last.at == line.at
    return at_once and known[-1].job_id != name_of(line)


def _attempt(line: Line, end: Evidence) -> _Attempt:
    """Which attempt a job was for. A message that is streamed again has the same prompts again."""
    place = max(
        (
            place
            for place, session in enumerate(end.sessions)
            if line.prompt_id in session.prompts and session.opened_at <= line.at
        ),
        default=-1,
    )
    return _Attempt(place, line.prompt_id, line.attempt)


def _what_was_told(kills: Sequence[Evidence], end: Evidence) -> Iterator[str]:
    """What a host was told stays true: a click is not lost, and an end stays that end."""
    for life in (*kills, end):
        targets = {prompt.target_url for session in life.sessions for prompt in session.prompts.values()}
        ended = {session.id: session for session in life.sessions if is_final(session)}
        for told in life.told:
            if told.how == "accepted" and told.what not in targets:
                yield f"a click was accepted and forgotten: {told}"
            if told.how == "ended":
                result = result_of(ended[told.what]) if told.what in ended else None
                if result is None or told.placed != tuple(image.image_url for image in result.placed):
                    yield f"a session that ended is another now: {told}, {result}"
