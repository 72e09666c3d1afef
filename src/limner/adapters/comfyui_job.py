"""One attempt at one image with ComfyUI, as far as it has got."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from limner.adapters.comfyui_messages import JobMessages
from limner.errors import BackendError

_T = TypeVar("_T")


@dataclass(slots=True)
class Job:
    """A job at the server, from before it is queued to its end.

    `client_id` is this job's alone, so that it can be told in the queue also while its `id` is not known.
    `is_sent`: the server may have it. `is_over`: it has left the queue. `misses` are looks in a row that
    found it nowhere, `troubles` looks in a row that failed, `late_looks` those after its end that came too
    early. `faults` is what the server has found wrong with parts of the workflow that it leaves out.

    `connected` is set once the websocket is open or known not to open, `accepted` once the id is known,
    `news` when there is something to look at.
    """

    messages: JobMessages
    client_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    id: str = ""
    is_sent: bool = False
    is_over: bool = False
    socket_is_open: bool = False
    misses: int = 0
    troubles: int = 0
    late_looks: int = 0
    faults: str = ""
    connected: anyio.Event = field(default_factory=anyio.Event)
    accepted: anyio.Event = field(default_factory=anyio.Event)
    news: anyio.Event = field(default_factory=anyio.Event)

    def accept(self, id_: str) -> None:
        """The server has the job under this id."""
        self.id = self.messages.job_id = id_
        self.is_sent = True
        self.accepted.set()


async def with_grace(call: Callable[[], Awaitable[_T]], grace_s: float) -> _T:
    """Await `call`; when cancelled, give it up to `grace_s` more to come to its end, and then be cancelled.

    A request that is torn off while the server takes it leaves a job behind that nobody knows.
    """
    answers: list[_T] = []
    failures: list[BackendError] = []
    done = anyio.Event()
    shield = anyio.CancelScope(shield=True)

    async def shielded() -> None:
        with shield:
            # Errors are carried out of the task group by hand, since it would wrap them into a group.
            try:
                answers.append(await call())
            except BackendError as error:
                failures.append(error)
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(shielded)
        try:
            await done.wait()
        except anyio.get_cancelled_exc_class():
            shield.deadline = anyio.current_time() + grace_s
            raise
    if failures:
        raise failures[0]
    return answers[0]
