"""Faults of the parts that Limner stands on. Each strikes at the n-th call, once or for a while."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import anyio
import anyio.lowlevel

from limner.adapters.http_errors import error_from_answer
from limner.adapters.journal_sqlite import SQLiteJournal
from limner.adapters.limner import Limner
from limner.errors import EventRefused, StorageError, Unavailable
from limner.states import Event, Session
from limner.states.message import REQUESTS
from limner.workflows.ports import (
    Capabilities,
    GenerationRequest,
    Generator,
    ImageStore,
    JournalRecord,
    MessageStore,
    ProgressCallback,
    StoredMessage,
)

_Result = TypeVar("_Result")


@dataclass
class Nth:
    """Strikes at call number `number` (from 1) and at the `times` - 1 calls after it."""

    number: int
    times: int = 1
    calls: int = 0
    struck: int = 0

    def strikes(self) -> bool:
        """Count a call, and say whether it is to go wrong."""
        self.calls += 1
        strikes = self.number <= self.calls < self.number + self.times
        self.struck += strikes
        return strikes


# --- what can go wrong with a call


Call = Callable[[], Awaitable[Any]]
Wrong = Callable[[Call], Awaitable[Any]]
"""Takes the real call, and does something else."""


def raising(make: Callable[[], Exception]) -> Wrong:
    """Instead of the call, an error."""

    async def wrong(_: Call) -> NoReturn:
        await anyio.lowlevel.checkpoint()
        raise make()

    return wrong


async def lose_the_answer(call: Call) -> NoReturn:
    """It is done, and whoever asked for it never learns that."""
    await call()
    raise TimeoutError("the connection broke")


async def hang(_: Call) -> None:
    """No answer, ever."""
    await anyio.sleep_forever()


async def cut_short(call: Callable[[], Awaitable[bytes]]) -> bytes:
    """The connection ends in the middle of the picture."""
    picture = await call()
    return picture[: len(picture) // 2]


async def answer_late(call: Callable[[], Awaitable[bytes]]) -> bytes:
    """The picture comes after the image's time limit, from a painter that does not let itself be stopped."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(125)
        picture = await call()
    return picture  # noqa: RET504 - a scope may swallow a cancellation, so nothing may follow from within it


PASSING_PAINTER_FAULTS: dict[str, Wrong] = {
    "timeout": raising(lambda: TimeoutError("timed out")),
    "reset": raising(lambda: ConnectionResetError(104, "Connection reset by peer")),
    "unavailable": raising(lambda: Unavailable("no route to the host")),
    "429": raising(lambda: error_from_answer("the painter", 429, {"retry-after": "7"}, b"")),
    "500": raising(lambda: error_from_answer("the painter", 500, {}, b"<html>oh no</html>")),
    "the answer is lost": lose_the_answer,
}
LASTING_PAINTER_FAULTS: dict[str, tuple[Wrong, str]] = {
    "truncated image": (cut_short, "not_an_image"),
    "no answer": (hang, "image_timeout"),
    "late answer": (answer_late, "image_timeout"),
}
STORE_FAULTS: dict[str, Wrong] = {
    "StorageError": raising(lambda: StorageError("database is locked")),
    "OSError": raising(lambda: OSError(5, "Input/output error")),
    "TimeoutError": raising(lambda: TimeoutError("no answer")),
    "the answer is lost": lose_the_answer,
    "no answer": hang,
}


# --- parts whose calls go wrong


class FaultyPainter:
    """A `Generator` whose n-th call goes wrong."""

    def __init__(self, painter: Generator, nth: Nth, wrong: Wrong) -> None:
        self._painter = painter
        self._nth = nth
        self._wrong = wrong

    @property
    def capabilities(self) -> Capabilities:
        return self._painter.capabilities

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        async def call() -> bytes:
            return await self._painter.generate(request, report)

        painted: bytes = await (self._wrong(call) if self._nth.strikes() else call())
        return painted

    async def aclose(self) -> None:
        """Nothing to release."""


class FaultyMessages:
    """A `MessageStore` whose n-th read, or n-th write, goes wrong."""

    def __init__(self, store: MessageStore, method: str, nth: Nth, wrong: Wrong) -> None:
        self._store = store
        self._method = method
        self._nth = nth
        self._wrong = wrong

    async def read(self, message_id: str) -> StoredMessage | None:
        return await self._do("read", lambda: self._store.read(message_id))

    async def write(self, message_id: str, text: str, *, expected: str | None) -> str:
        return await self._do("write", lambda: self._store.write(message_id, text, expected=expected))

    async def _do(self, method: str, call: Callable[[], Awaitable[_Result]]) -> _Result:
        strikes = method == self._method and self._nth.strikes()
        result: _Result = await (self._wrong(call) if strikes else call())
        return result


class FaultyImages:
    """An `ImageStore` whose n-th call goes wrong."""

    def __init__(self, store: ImageStore, nth: Nth, wrong: Wrong) -> None:
        self._store = store
        self._nth = nth
        self._wrong = wrong

    async def put(self, data: bytes, media_type: str) -> str:
        async def call() -> str:
            return await self._store.put(data, media_type)

        url: str = await (self._wrong(call) if self._nth.strikes() else call())
        return url


# --- the journal's file


Harm = Callable[[SQLiteJournal], AbstractContextManager[object]]
"""What is done to a journal's file for the time of one call."""


def harm(journal: SQLiteJournal, method: str, nth: Nth, harmed: Harm) -> None:
    """Let the n-th call of the journal's `method`, the part of it that runs in a thread, meet the harm."""
    work = getattr(journal, method)

    def meet(*args: object) -> object:
        if not nth.strikes():
            return work(*args)
        with harmed(journal):
            return work(*args)

    setattr(journal, method, meet)


def fill_disk(journal: SQLiteJournal, nth: Nth) -> None:
    """Let the disk be full from the n-th append on, until one has failed because it needed room."""
    append = journal._append

    def meet(records: Sequence[JournalRecord]) -> None:
        nth.calls += 1
        if nth.calls < nth.number or nth.struck:
            append(records)
            return
        connection = connection_of(journal)
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        try:
            append(records)
        except sqlite3.OperationalError as error:
            nth.struck += "disk is full" in str(error)
            raise
        finally:
            connection.execute("PRAGMA max_page_count = 1073741823")

    journal._append = meet  # type: ignore[method-assign]


def connection_of(journal: SQLiteJournal) -> sqlite3.Connection:
    """The journal's own connection."""
    connection = journal._connection
    assert connection is not None
    return connection


@contextmanager
def locked(journal: SQLiteJournal) -> Iterator[None]:
    """Somebody else holds SQLite's write lock."""
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def broken_disk(journal: SQLiteJournal) -> Iterator[None]:
    """The kernel refuses to make the file longer, which SQLite reports as an I/O error."""
    written = Path(f"{journal.path}-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class _Unreadable:
    """A connection to a disk that does not answer."""

    def __init__(self, statement: str, connection: sqlite3.Connection) -> None:
        self._statement = statement
        self._connection = connection

    def execute(self, statement: str, *args: Any) -> object:
        if statement.strip().startswith(self._statement):
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(statement, *args)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def failing_at(statement: str) -> Harm:
    """SQLite reports an I/O error at each statement that begins so."""

    @contextmanager
    def failing(journal: SQLiteJournal) -> Iterator[None]:
        hidden: Any = journal
        connection = hidden._connection
        hidden._connection = _Unreadable(statement, connection)
        try:
            yield
        finally:
            hidden._connection = connection

    return failing


def report_twice(limner: Limner, nth: Nth) -> None:
    """Let the n-th fact be told to the engine twice: a result, a write, a seal."""
    engine: Any = limner.manager.engine
    post = engine.post

    async def posted(message_id: str, event: Event, *, session_id: str | None = None) -> Session:
        session: Session = await post(message_id, event, session_id=session_id)
        if not isinstance(event, REQUESTS) and nth.strikes():
            with suppress(EventRefused):
                await post(message_id, event, session_id=session_id)
        return session

    engine.post = posted
