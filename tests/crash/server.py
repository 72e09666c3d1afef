"""The painter's server and the client that calls it.

The server does not die with its clients. What it knows is one file that is only ever added to, so the calls
can be counted over all lives, and a job that was begun is finished whoever has died meanwhile.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import anyio
from PIL import Image

from limner.errors import JobLost, Moderated, Unavailable
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

PAINTING_S = 1.5
"""How long a picture takes."""

Reach = Callable[[str], None]


class Line(NamedTuple):
    """One line of the server's file.

    `what`: "taken" (a job was begun, a picture is to be paid for) or "asked" (a job was asked for again by
    its id). `number` is the job's, `at` is virtual ms.
    """

    what: str
    life: int
    at: int
    number: int
    prompt_id: str
    prompt: str
    attempt: int


class Ledger:
    """The file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self) -> list[Line]:
        """All lines so far."""
        if not self._path.exists():
            return []
        return [Line(*json.loads(row)) for row in self._path.read_text().splitlines()]

    def add(self, line: Line) -> None:
        """Add a line, in one piece."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, (json.dumps(line) + "\n").encode())
        finally:
            os.close(file)


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
    """A `Generator` that calls the server.

    `resume`: the server names its jobs, and can be asked for one again. `alike`: it paints equal prompts
    alike, byte for byte, as servers that cache do. A prompt in `refused` is never painted; for a prompt id in
    `busy` the first attempt is turned away for now.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        life: int,
        clock: Callable[[], int],
        reach: Reach,
        resume: bool = False,
        alike: bool = False,
        refused: str = "",
        busy: str = "",
    ) -> None:
        self.capabilities = Capabilities(resume=resume)
        self._ledger = ledger
        self._life = life
        self._clock = clock
        self._reach = reach
        self._alike = alike
        self._refused = refused
        self._busy = busy

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Have it painted."""
        self._reach("painter: before the call")
        if request.job_id is not None:
            line = self._known(request.job_id)
            self._ledger.add(line._replace(what="asked", life=self._life, at=self._clock()))
            self._reach("painter: the job was asked for")
        else:
            line = self._take(request)
            self._reach("painter: the job was taken")
            if self.capabilities.resume:
                report(job_id=f"job {line.number}")
        await anyio.sleep(PAINTING_S / 2)
        self._reach("painter: while it paints")
        await anyio.sleep(PAINTING_S / 2)
        self._reach("painter: the answer has come")
        return self._answer(line)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _known(self, job_id: str) -> Line:
        for line in self._ledger.lines():
            if line.what == "taken" and job_id == f"job {line.number}":
                return line
        raise JobLost(job_id)

    def _take(self, request: GenerationRequest) -> Line:
        number = 1 + sum(line.what == "taken" for line in self._ledger.lines())
        asked = (request.prompt_id, request.prompt, request.attempt)
        line = Line("taken", self._life, self._clock(), number, *asked)
        self._ledger.add(line)
        return line

    def _answer(self, line: Line) -> bytes:
        if line.prompt == self._refused:
            raise Moderated("this is not painted here")
        if line.prompt_id == self._busy and line.attempt == 1:
            raise Unavailable("come again")
        if not self._alike:
            return picture(line.number)
        taken = (other for other in self._ledger.lines() if other.what == "taken")
        return picture(next(other.number for other in taken if other.prompt == line.prompt))
