"""The painter's server and the client that calls it.

The server does not die with its clients. What it knows is one file that is only ever added to, so the calls
can be counted over all lives, and a job that was begun is finished whoever has died meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import anyio
from PIL import Image

from limner.errors import BackendError, JobLost
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback
from tests.crash.place import add_row, rows_of

Reach = Callable[[str], None]


class Line(NamedTuple):
    """One line of the server's file.

    `what`: "taken" (a job was begun, a picture is to be paid for) or "asked" (a job was asked for again by
    its id). `number` is the job's, `at` is ms.
    """

    what: str
    life: int
    at: int
    number: int
    message_id: str
    prompt_id: str
    prompt: str
    attempt: int


Fate = Callable[[Line], BackendError | None]
"""What the server has against a job, if anything."""


def lines_of(ledger: Path) -> tuple[Line, ...]:
    """All lines of the server's file."""
    return tuple(Line(*row) for row in rows_of(ledger))


def picture(number: int) -> bytes:
    """The picture that job `number` is paid for with: every one differs."""
    buffer = BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 99)).save(buffer, "PNG")
    return buffer.getvalue()


def number_of(data: bytes) -> int:
    """Which job's picture this is; -1 for what cannot be decoded whole."""
    try:
        with Image.open(BytesIO(data)) as image:
            red, green, _ = image.convert("RGB").tobytes()[:3]
    except OSError:
        return -1
    return red + 256 * green


class Client:
    """A `Generator` that calls the server, whose file is `ledger`.

    `kind`: "plain", "jobs" (the server names its jobs, and can be asked for one again) or "alike" (it paints
    equal prompts of a message alike, byte for byte, as servers that cache do). `painting_s` is how long a job
    takes, by its number.
    """

    def __init__(
        self,
        ledger: Path,
        kind: str,
        fate: Fate,
        *,
        life: int,
        clock: Callable[[], int],
        reach: Reach,
        painting_s: Callable[[int], float],
    ) -> None:
        self.capabilities = Capabilities(resume=kind == "jobs")
        self._ledger = ledger
        self._kind = kind
        self._fate = fate
        self._life = life
        self._clock = clock
        self._reach = reach
        self._painting_s = painting_s

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Have it painted."""
        self._reach("painter: before the call")
        if request.job_id is not None:
            line = self._known(request.job_id)
            add_row(self._ledger, line._replace(what="asked", life=self._life, at=self._clock()))
            self._reach("painter: the job was asked for")
        else:
            line = self._take(request)
            self._reach("painter: the job was taken")
            if self.capabilities.resume:
                report(job_id=name_of(line))
        await anyio.sleep(self._painting_s(line.number) / 2)
        self._reach("painter: while it paints")
        await anyio.sleep(self._painting_s(line.number) / 2)
        self._reach("painter: the answer has come")
        problem = self._fate(line)
        if problem is not None:
            raise problem
        return self._painted(line)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _taken(self) -> list[Line]:
        return [line for line in lines_of(self._ledger) if line.what == "taken"]

    def _known(self, job_id: str) -> Line:
        for line in self._taken():
            if name_of(line) == job_id:
                return line
        raise JobLost(job_id)

    def _take(self, request: GenerationRequest) -> Line:
        number = 1 + len(self._taken())
        asked = (request.message_id, request.prompt_id, request.prompt, request.attempt)
        line = Line("taken", self._life, self._clock(), number, *asked)
        add_row(self._ledger, line)
        return line

    def _painted(self, line: Line) -> bytes:
        if self._kind != "alike":
            return picture(line.number)
        asked = (line.message_id, line.prompt)
        return picture(next(job.number for job in self._taken() if (job.message_id, job.prompt) == asked))


def name_of(line: Line) -> str:
    """The server's name for a job."""
    return f"job {line.number}"
