"""Trying a generator for real: one picture, and what was found out on the way.

What the trial has seen and what the adapter claims are two things: a claim holds for the best of the servers
that an adapter is for.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol, runtime_checkable

import anyio

from limner.adapters.http import took_the_connection
from limner.adapters.inspection import PillowInspector
from limner.errors import (
    AnswerTooLarge,
    AuthFailed,
    BackendError,
    JobLost,
    Moderated,
    NoBalance,
    NoImage,
    NotAnImage,
    QueueFull,
    RateLimited,
    Unavailable,
)
from limner.workflows.host import call_host
from limner.workflows.ports import Capabilities, GenerationRequest, Generator, ImageInfo

# Nobody says these before having looked at who asks. (A path or method that is not there, a limit or a fault
# may be told to anybody.)
_OF_WHO_MAY_ASK = (NoImage, NotAnImage, Moderated, NoBalance)
_ANSWERS = (*_OF_WHO_MAY_ASK, AuthFailed, RateLimited, QueueFull, JobLost, AnswerTooLarge)


@runtime_checkable
class FindsOut(Protocol):
    """A generator that finds out what its server can."""

    @property
    def findings(self) -> str:
        """What was found out so far, in a few words; empty where that is nothing."""


class TooSlow(BackendError):
    """The time that the trial was given is over."""

    kind = "image_timeout"
    hint = "Give it more time, or see in the service's own log whether it is at work."


@dataclass(slots=True)
class Trial:
    """What was found out.

    `reachable`: somebody answered, or at least took the connection (False: nobody did). `authorised`: who
    asks was let in (False: was not). Both are None where that is not known. `capabilities` are what the
    adapter claims; `reports` (of a fraction), `previews` and `job_ids` are what was seen, `findings` what the
    generator says of its server.
    """

    backend: str
    capabilities: Capabilities
    reachable: bool | None = None
    authorised: bool | None = None
    seconds: float = 0.0
    reports: int = 0
    previews: int = 0
    job_ids: list[str] = field(default_factory=list)
    findings: str = ""
    image: ImageInfo | None = None
    error: BackendError | None = None


async def try_out(generator: Generator, name: str, prompt: str, time_limit_s: float) -> Trial:
    """Have one picture made, and look at it."""
    trial = Trial(name, generator.capabilities)

    def report(
        fraction: float | None = None, preview: bytes | None = None, job_id: str | None = None
    ) -> None:
        trial.reports += fraction is not None
        trial.previews += preview is not None
        if job_id is not None and job_id not in trial.job_ids:
            trial.job_ids.append(job_id)

    request = GenerationRequest("limner-backends-test", "limner-backends-test", prompt, secrets.randbits(32))
    began = monotonic()
    try:
        with anyio.fail_after(time_limit_s):
            data = await call_host(generator.generate(request, report))
        trial.reachable = trial.authorised = True
        trial.image = await PillowInspector().inspect(data)
    except TimeoutError:
        trial.error = TooSlow(f"no image within {time_limit_s:g} s")
    except BackendError as error:
        trial.error = error
    if trial.error is not None and trial.reachable is None:
        is_heard = bool(trial.reports or trial.previews or trial.job_ids)
        trial.reachable = True if is_heard else _is_reachable(trial.error)
        trial.authorised = _is_authorised(trial.error)
    trial.findings = generator.findings if isinstance(generator, FindsOut) else ""
    trial.seconds = monotonic() - began
    return trial


def _is_reachable(error: BackendError) -> bool | None:
    if error.status is not None or isinstance(error, _ANSWERS) or took_the_connection(error):
        return True
    return False if isinstance(error, Unavailable) else None


def _is_authorised(error: BackendError) -> bool | None:
    if isinstance(error, AuthFailed):
        return False
    return True if isinstance(error, _OF_WHO_MAY_ASK) else None
