"""What the tests of a generator hand it: a request, and something that notes what it reports."""

from __future__ import annotations

import threading

import anyio

from limner.workflows.ports import GenerationRequest


def make_request(
    prompt: str = "a red fox in the snow",
    seed: int = 7,
    job_id: str | None = None,
    *,
    keeps_job: bool = False,
) -> GenerationRequest:
    """A request for one image. `keeps_job` is what it says to a call that is being cancelled."""
    return GenerationRequest(
        "prompt-1", "message-1", prompt, seed, job_id=job_id, keeps_job=lambda: keeps_job
    )


class ProgressRecorder:
    """A `ProgressCallback` that keeps what a generator reports, in order.

    `threads` are the idents of the threads that reported. `late` counts the reports since `end` was called.
    """

    def __init__(self) -> None:
        self.fractions: list[float] = []
        self.previews: list[bytes] = []
        self.job_ids: list[str] = []
        self.threads: set[int] = set()
        self.late = 0
        self._is_over = False
        self._job_told = anyio.Event()

    def __call__(
        self, fraction: float | None = None, preview: bytes | None = None, job_id: str | None = None
    ) -> None:
        """Note a report."""
        self.threads.add(threading.get_ident())
        self.late += self._is_over
        if fraction is not None:
            self.fractions.append(fraction)
        if preview is not None:
            self.previews.append(preview)
        if job_id is not None:
            self.job_ids.append(job_id)
            self._job_told.set()

    def end(self) -> None:
        """The call is over: whatever is reported from now on comes too late."""
        self._is_over = True

    async def job_told(self) -> str:
        """Wait for a job's id; returns the first one."""
        await self._job_told.wait()
        return self.job_ids[0]
