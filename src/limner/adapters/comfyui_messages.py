"""What a ComfyUI server says of a job: over its websocket, in its history, in its queue. No I/O here.

The protocol is that of the project's `server.py`, `execution.py` and `comfy_execution/progress.py`. Whatever
else a server or a proxy may send is ignored: a message that cannot be read costs a report, never the image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

from limner.adapters.sniffing import one_line
from limner.errors import AuthFailed, BackendError, NoBalance, RateLimited

HELLO = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
"""The first message to a server: previews shall say whose they are. Older servers ignore it."""

_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".avif")
BY_WEBSOCKET = "SaveImageWebsocket"
"""The class of nodes that send their images as previews and write no file."""

# A sampler takes nearly all of the time, loading, decoding and saving hardly any. Only the bar depends on it.
_SAMPLER_WEIGHT, _WEIGHT = 20, 1
_LONGEST_WORDS = 300

# How nodes that call paid services begin the messages of their exceptions.
_BY_WORDS: Mapping[str, type[BackendError]] = {
    "Unauthorized: Please login": AuthFailed,
    "Payment Required": NoBalance,
    "Rate Limit Exceeded": RateLimited,
}


class Interrupted(BackendError):
    """Somebody stopped the job at the server."""


class Report(NamedTuple):
    """News worth telling: the fraction done, an unfinished picture."""

    fraction: float | None = None
    preview: bytes | None = None


class OutputFile(NamedTuple):
    """A file that a job has made, as `/view` wants it named."""

    filename: str
    subfolder: str
    type: str


@dataclass(frozen=True, slots=True)
class QueueItem:
    """A job that waits or runs. `client_id` is whom the server tells of it."""

    id: str
    client_id: str | None
    is_running: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """A job's end: what its nodes have put out, and what went wrong, if anything did.

    `remembered` are those of the nodes to put something out that did not run, since the server has run them
    with the same inputs before. Their outputs of that time may be given again, or not.
    """

    outputs: Mapping[str, Any]
    failure: BackendError | None = None
    remembered: frozenset[str] = frozenset()


@dataclass(slots=True)
class JobMessages:
    """Listens to what a websocket says of one job. `classes` are the workflow's nodes and their classes.

    `outputs` and `pictures` are what nodes have put out as files and over the websocket, by node; of several
    pictures the first.

    The websocket also carries the messages of jobs that name no client, and some of everybody's: each is
    looked at for the job's id. Those without an id count while our job is at work, since a server works
    on one at a time.
    """

    where: str
    classes: Mapping[str, str]
    job_id: str = ""
    is_over: bool = False
    outputs: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    failure: BackendError | None = None
    remark: str = ""
    _shares: dict[str, float] = field(default_factory=dict)
    _reported: float = -1.0
    _node: str | None = None
    _is_ours: bool = False

    def take(self, message: str | bytes) -> Report | None:
        """Take note of a message; the report, if it is one to pass on."""
        return self._take_binary(message) if isinstance(message, bytes) else self._take_text(message)

    def _take_text(self, message: str) -> Report | None:
        try:
            told = json.loads(message)
        except (ValueError, RecursionError):
            return None
        data = told.get("data") if isinstance(told, dict) else None
        if not isinstance(data, dict) or not self._concerns_us(data):
            return None
        match told.get("type"):
            case "execution_start":
                return self._advanced()
            case "execution_cached":
                for node in _list(data.get("nodes")):
                    self._done(node)
            case "executing":
                self._executing(data.get("node"))
            case "progress":
                self._progress(data.get("node", self._node), data.get("value"), data.get("max"))
            case "progress_state":
                self._states(data.get("nodes"))
            case "executed":
                self._done(data.get("node"))
                if isinstance(data.get("output"), dict):
                    self.outputs[str(data.get("node"))] = data["output"]
            case "execution_success":
                self.is_over = True
            case "execution_error" if data.get("exception_type") == "ExecutionBlocked":
                # One branch of the workflow ends here; the others go on.
                self.remark = str(failure_from(self.where, "execution_error", data))
            case "execution_error" | "execution_interrupted" as event:
                self.is_over = True
                self.failure = failure_from(self.where, event, data)
            case _:
                return None
        return self._advanced()

    def _concerns_us(self, data: Mapping[str, Any]) -> bool:
        job = data.get("prompt_id")
        if job is not None:
            self._is_ours = job == self.job_id
        return self._is_ours

    def _executing(self, node: object) -> None:
        if self._node is not None:
            self._done(self._node)
        self._node = str(node) if node is not None else None
        if node is None:
            # Sent when the job is in the history already. (`execution_success` comes before that.)
            self.is_over = True
            self._is_ours = False

    def _states(self, nodes: object) -> None:
        for id_, state in nodes.items() if isinstance(nodes, dict) else ():
            if not isinstance(state, dict):
                continue
            if state.get("state") == "finished":
                self._done(id_)
            elif state.get("state") == "running":
                self._progress(id_, state.get("value"), state.get("max"))

    def _done(self, node: object) -> None:
        self._shares[str(node)] = 1.0

    def _progress(self, node: object, value: object, of: object) -> None:
        if not (_is_number(value) and _is_number(of)) or of <= 0:
            return
        share = min(1.0, max(0.0, value / of))
        self._shares[str(node)] = max(share, self._shares.get(str(node), 0.0))

    def _advanced(self) -> Report | None:
        """The fraction done, if it has grown: nodes that grow more nodes may move it back otherwise."""
        weights = {id_: _weight(kind) for id_, kind in self.classes.items()}
        done = sum(weight * self._shares.get(id_, 0.0) for id_, weight in weights.items())
        fraction = min(1.0, done / sum(weights.values()))
        if fraction <= self._reported:
            return None
        self._reported = fraction
        return Report(fraction)

    def _take_binary(self, message: bytes) -> Report | None:
        kind, body = _number(message), message[4:]
        node = self._node
        if kind == _PREVIEW:
            if not self._is_ours:
                return None
            picture = body[4:]  # behind a number for the file's type, which its bytes tell as well
        elif kind == _PREVIEW_WITH_METADATA:
            length = _number(body)
            metadata = _json_object(body[4 : 4 + length])
            if metadata.get("prompt_id") != self.job_id:
                return None
            node = str(metadata.get("node_id", node))
            picture = body[4 + length :]
        else:
            return None
        if node is not None and self.classes.get(node) == BY_WEBSOCKET:
            self.pictures.setdefault(node, picture)
            return None
        return Report(preview=picture) if picture else None


def failure_from(where: str, event: str, data: Mapping[str, Any]) -> BackendError:
    """The error for an `execution_error` or `execution_interrupted`, with the server's own words."""
    node = f"node {data.get('node_id')} ({data.get('node_type')})"
    if event == "execution_interrupted":
        return Interrupted(f"{where}: the job was interrupted in {one_line(node, 100)}", status=200)
    words = one_line(str(data.get("exception_message") or "").strip(), _LONGEST_WORDS)
    kind = next((kind for begin, kind in _BY_WORDS.items() if words.startswith(begin)), BackendError)
    exception = one_line(str(data.get("exception_type") or ""), 80)
    said = ": ".join(part for part in (exception, words) if part) or "no reason was given"
    return kind(f"{where} failed in {one_line(node, 100)}: {said}", status=200)


def read_history(where: str, answer: object, job_id: str) -> Finished | None:
    """What `/history/{id}` says, None while the job is not in it."""
    entry = answer.get(job_id) if isinstance(answer, dict) else None
    if not isinstance(entry, dict):
        return None
    outputs = entry.get("outputs")
    outputs = outputs if isinstance(outputs, dict) else {}
    status = entry.get("status")
    messages = _list(status.get("messages")) if isinstance(status, dict) else []
    if not isinstance(status, dict) or status.get("status_str") != "error":
        return Finished(outputs, remembered=_remembered(entry.get("prompt"), messages))
    for message in messages:
        match message:
            case ["execution_error" | "execution_interrupted" as event, dict() as data]:
                return Finished(outputs, failure_from(where, event, data))
    return Finished(outputs, BackendError(f"{where} failed without a reason", status=200))


def _remembered(item: object, messages: Iterable[object]) -> frozenset[str]:
    """The nodes that the job was to run for their outputs and that the server has not run again."""
    match item:
        case [_, _, _, _, list() as targets, *_]:
            cached = [
                str(node)
                for message in messages
                if isinstance(message, list) and len(message) == 2 and message[0] == "execution_cached"
                for node in _list(message[1].get("nodes") if isinstance(message[1], dict) else None)
            ]
            return frozenset(cached).intersection(map(str, targets))
    return frozenset()


def read_queue(answer: object) -> Iterator[QueueItem]:
    """The jobs that `/queue` tells of: the one at work first, then those that wait."""
    told = answer if isinstance(answer, dict) else {}
    for name, is_running in (("queue_running", True), ("queue_pending", False)):
        for item in _list(told.get(name)):
            match item:
                case [_, str(id_), _, {"client_id": str(client_id)}, *_]:
                    yield QueueItem(id_, client_id, is_running)
                case [_, str(id_), *_]:
                    yield QueueItem(id_, None, is_running)


def output_files(outputs: Mapping[str, Any], order: Iterable[str]) -> list[OutputFile]:
    """The files among `outputs`, saved ones before temporary ones, otherwise by `order` of their nodes."""
    ranks = {node: rank for rank, node in enumerate(order)}
    files = [
        file
        for node in sorted(outputs, key=lambda node: ranks.get(node, len(ranks)))
        for kind in _list(list(outputs[node].values()) if isinstance(outputs[node], dict) else None)
        for told in _list(kind)
        if (file := _file(told)) is not None
    ]
    return sorted(files, key=lambda file: file.type != "output")


def is_image(file: OutputFile) -> bool:
    """Whether a file is an image by its name: videos and sounds are put out in the same way."""
    return file.filename.lower().endswith(_IMAGE_SUFFIXES) and file.type in ("output", "temp")


def _file(told: object) -> OutputFile | None:
    match told:
        case dict() if isinstance(name := told.get("filename"), str) and name:
            return OutputFile(name, str(told.get("subfolder") or ""), str(told.get("type") or "output"))
    return None


def _weight(node_class: str) -> int:
    name = node_class.casefold()
    return _SAMPLER_WEIGHT if "sampler" in name and "select" not in name else _WEIGHT


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _number(data: bytes) -> int:
    """The number at the beginning of `data`, four bytes."""
    return int.from_bytes(data[:4], "big")


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
