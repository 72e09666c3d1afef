"""Trying a generator for real: one picture, and what was found out on the way."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from time import monotonic

import anyio

from limner.adapters.inspection import PillowInspector
from limner.errors import AuthFailed, BackendError, Unavailable
from limner.workflows.ports import Capabilities, GenerationRequest, Generator, ImageInfo


@dataclass(slots=True)
class Trial:
    """What was found out. `reachable` and `authorised` are None where the trial did not get that far."""

    backend: str
    capabilities: Capabilities
    reachable: bool | None = None
    authorised: bool | None = None
    seconds: float = 0.0
    reports: int = 0
    previews: int = 0
    job_ids: list[str] = field(default_factory=list)
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
            data = await generator.generate(request, report)
        trial.reachable = trial.authorised = True
        trial.image = await PillowInspector().inspect(data)
    except TimeoutError:
        trial.error = BackendError(f"no image within {time_limit_s:g} s")
    except BackendError as error:
        trial.error = error
        trial.reachable = not isinstance(error, Unavailable)
        if trial.reachable:
            trial.authorised = not isinstance(error, AuthFailed)
    trial.seconds = monotonic() - began
    return trial
