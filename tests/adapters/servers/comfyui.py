"""A stand-in for ComfyUI: `/prompt`, `/ws`, `/history`, `/view`, `/queue`, `/interrupt`, as far as they go.

The protocol is that of the project's server.py, execution.py, main.py and comfy_execution/progress.py. One
job is worked on at a time, in order. Its messages go to the websocket of the client that queued it, or to
everybody if it names no client; `status` and `progress_state` go to everybody always. `execution_success`
is sent while the job is still in the queue, its history is written a moment later, and `executing` without a
node comes after that. Equal graphs are answered from memory, with the outputs of the first time or with none.
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import anyio.to_thread
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.adapters.servers.local import PATIENCE_S, RunningApp, in_pieces

WORKFLOW: dict[str, Any] = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "model.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "%prompt%", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": "%seed%",
            "steps": 4,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "limner"}},
}
"""The text-to-image workflow that comes with ComfyUI, with places in it."""

_CLASSES = {node["class_type"] for node in WORKFLOW.values()} | {"PreviewImage", "SaveImageWebsocket"}
_OUTPUTS = {"SaveImage", "PreviewImage", "SaveImageWebsocket"}
_WHOLE_NUMBERS = {"seed", "steps", "width", "height"}
_NO_BODY = Response(status_code=200)

Graph = dict[str, Any]


def picture_of(graph: Graph) -> bytes:
    """The image file that the server paints for a workflow: another one for another prompt or seed."""
    told = f"{graph['6']['inputs']['text']} {graph['3']['inputs']['seed']}"
    red, green, blue, _ = crc32(told.encode()).to_bytes(4, "big")
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (red, green, blue)).save(file, "PNG")
    return file.getvalue()


class Interruption(Exception):
    """What an interrupted node raises."""


@dataclass
class Job:
    """A job in the queue."""

    number: int
    id: str
    graph: Graph
    extra: dict[str, Any]
    targets: list[str]
    messages: list[list[Any]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    succeeded: bool = True

    @property
    def item(self) -> list[Any]:
        return [self.number, self.id, self.graph, self.extra, self.targets]


class ComfyServer:
    """Paints as ComfyUI does; a test sets how well. Set everything before the first request.

    `is_new`: it takes ids that clients choose, interrupts by id, names its previews, and sends
    `progress_state` and `execution_success`; an older one does none of that. `previews` are sent while the
    sampler steps. `hold_at`: places, of "prompt", "answer", "queue", "sampling", "history" and "view", where
    it stops until `release()`; `reached` is set when it has come to one. `late_history`: that many looks at
    the history come too early. `gives_again`: what it answers from memory has its outputs of the first time.
    `hang_up_after`: the server closes a websocket after so many messages.
    `failure`: what the sampler raises. `saved`: what the saving node puts out; `files`: what `/view` finds.
    `answers` overrides paths. With `piece_size` every body is sent in pieces of so many bytes. `stopped` is
    set when a job has been interrupted.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_new = True
        self.has_websockets = True
        self.previews: list[bytes] = []
        self.hold_at = ""
        self.late_history = 0
        self.gives_again = False
        self.hang_up_after: int | None = None
        self.failure: dict[str, str] | None = None
        self.saved: list[dict[str, str]] | None = None
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.answers: dict[str, Response] = {}
        self.paint: Callable[[Graph], bytes] = picture_of
        self.reached = threading.Event()
        self.stopped = threading.Event()
        self.piece_size: int | None = None
        self.received: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.interrupted: list[str] = []
        self.greeted: list[str] = []
        self.queue: list[Job] = []
        self.running: Job | None = None
        self.history: dict[str, Any] = {}
        self._seen: dict[str, dict[str, Any]] = {}
        self._sockets: dict[str, WebSocket] = {}
        self._knows_previews: set[str] = set()
        self._sent: dict[str, int] = {}
        self._executing: str | None = None
        self._interrupt = False
        self._number = 0
        self._worker: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._released = asyncio.Event()
        self._looked = asyncio.Event()
        self._changed = threading.Condition()
        self.app = Starlette(
            routes=[
                Route("/prompt", self._prompt, methods=["POST"]),
                Route("/history/{id}", self._get_history),
                Route("/queue", self._get_queue, methods=["GET"]),
                Route("/queue", self._post_queue, methods=["POST"]),
                Route("/interrupt", self._post_interrupt, methods=["POST"]),
                Route("/view", self._view),
                WebSocketRoute("/ws", self._websocket),
            ]
        )

    def close(self) -> None:
        """Stop working."""
        self.release()
        if self._loop is not None and self._worker is not None:
            self._loop.call_soon_threadsafe(self._worker.cancel)

    def release(self, hold_at: str = "") -> None:
        """Let the job that is held go on; hold at other places, or none, from now on."""
        self.hold_at = hold_at
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._released.set)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so at the server."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(condition, PATIENCE_S)

        assert await anyio.to_thread.run_sync(wait), "what the test waits for did not happen"

    def asked(self, path: str) -> list[Any]:
        """The bodies, or for a GET the query, of the requests for `path`."""
        return [body for _, asked, body in self.received if asked == path]

    def forget(self) -> None:
        """What a restart does: the queue and the history are gone."""
        self.queue.clear()
        self.history.clear()
        self.running = None

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # --- requests

    async def _note(self, request: Request) -> Any:
        self._loop = asyncio.get_running_loop()
        raw = await request.body()
        body = json.loads(raw) if raw else dict(request.query_params)
        path = "/" + request.url.path.split("/")[1]
        self.received.append((request.method, path, body))
        self.headers.append(dict(request.headers))
        self._notify()
        return body

    async def _prompt(self, request: Request) -> Response:
        body = await self._note(request)
        await self._hold("prompt")
        if "/prompt" in self.answers:
            return self.answers["/prompt"]
        job_id = str(uuid.uuid4())
        if self.is_new and (chosen := body.get("prompt_id")) is not None:
            if str(uuid.UUID(chosen)) != chosen:
                error = {
                    "type": "invalid_prompt_id",
                    "message": "prompt_id must be a valid UUID",
                    "details": "",
                }
                return JSONResponse({"error": error, "node_errors": {}}, 400)
            job_id = chosen
        fault, node_errors = _validated(body["prompt"])
        if fault is not None:
            return JSONResponse({"error": fault, "node_errors": node_errors}, 400)
        extra = dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        targets = [id_ for id_, node in body["prompt"].items() if node["class_type"] in _OUTPUTS]
        self.queue.append(Job(self._number, job_id, body["prompt"], extra, targets))
        self._number += 1
        await self._queue_updated()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        await self._hold("answer")
        return JSONResponse({"prompt_id": job_id, "number": self._number - 1, "node_errors": node_errors})

    async def _get_history(self, request: Request) -> Response:
        await self._note(request)
        if "/history" in self.answers:
            return self.answers["/history"]
        job_id = request.path_params["id"]
        entry = self.history.get(job_id)
        self._looked.set()
        return JSONResponse({} if entry is None else {job_id: entry})

    async def _get_queue(self, request: Request) -> Response:
        await self._note(request)
        if "/queue" in self.answers:
            return self.answers["/queue"]
        running = [] if self.running is None else [self.running.item]
        return JSONResponse({"queue_running": running, "queue_pending": [job.item for job in self.queue]})

    async def _post_queue(self, request: Request) -> Response:
        body = await self._note(request)
        self.queue = [job for job in self.queue if job.id not in body.get("delete", [])]
        await self._queue_updated()
        return _NO_BODY

    async def _post_interrupt(self, request: Request) -> Response:
        body = await self._note(request)
        if self.running is not None and (not self.is_new or body.get("prompt_id") in (None, self.running.id)):
            self.interrupted.append(self.running.id)
            self._interrupt = True
            self._released.set()
            self.stopped.set()
        return _NO_BODY

    async def _view(self, request: Request) -> Response:
        asked = await self._note(request)
        await self._hold("view")
        if "/view" in self.answers:
            return self.answers["/view"]
        key = (asked["filename"], asked.get("subfolder", ""), asked.get("type", "output"))
        if key not in self.files:
            return Response(status_code=404)
        return Response(self.files[key], media_type="image/png")

    # --- websockets

    async def _websocket(self, socket: WebSocket) -> None:
        self._loop = asyncio.get_running_loop()
        if not self.has_websockets:
            await socket.close()
            return
        await socket.accept()
        client = socket.query_params.get("clientId") or uuid.uuid4().hex
        self._sockets[client] = socket
        await self._tell(client, "status", {"status": self._queue_info(), "sid": client})
        if self.running is not None and self.running.extra.get("client_id") == client and self._executing:
            await self._tell(client, "executing", {"node": self._executing})
        self.greeted.append(client)
        self._notify()
        try:
            while True:
                said = json.loads(await socket.receive_text())
                if self.is_new and said.get("type") == "feature_flags":
                    if said["data"].get("supports_preview_metadata"):
                        self._knows_previews.add(client)
                    await self._tell(client, "feature_flags", {"supports_preview_metadata": True})
        except WebSocketDisconnect:
            pass
        finally:
            if self._sockets.get(client) is socket:
                del self._sockets[client]

    async def _tell(self, client: str | None, kind: str, data: dict[str, Any]) -> None:
        await self._send(client, json.dumps({"type": kind, "data": data}))

    async def _send(self, client: str | None, message: str | bytes) -> None:
        """Send to a client, or to all where none is named."""
        for name, socket in list(self._sockets.items()):
            if client is not None and name != client:
                continue
            try:
                await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))
                self._sent[name] = self._sent.get(name, 0) + 1
                if self._sent[name] == self.hang_up_after:
                    del self._sockets[name]
                    await socket.close(1012)
            except (WebSocketDisconnect, RuntimeError):
                self._sockets.pop(name, None)

    async def _queue_updated(self) -> None:
        self._notify()
        await self._tell(None, "status", {"status": self._queue_info()})

    def _queue_info(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": len(self.queue) + (self.running is not None)}}

    # --- work

    async def _work(self) -> None:
        while self.queue:
            await self._hold("queue")
            if not self.queue:
                return
            job = self.running = self.queue.pop(0)
            await self._queue_updated()
            await self._execute(job)
            status = "success" if job.succeeded else "error"
            entry = {
                "prompt": job.item,
                "outputs": job.outputs,
                "meta": {},
                "status": {"status_str": status, "completed": job.succeeded, "messages": job.messages},
            }
            for _ in range(self.late_history):
                self._looked.clear()
                await self._looked.wait()
            await self._hold("history")
            if self.running is job:
                self.history[job.id], self.running = entry, None
            await self._queue_updated()
            if (client := job.extra.get("client_id")) is not None:
                await self._tell(client, "executing", {"node": None, "prompt_id": job.id})

    async def _execute(self, job: Job) -> None:
        self._interrupt = False
        await self._message(job, "execution_start", {})
        signature = json.dumps(job.graph, sort_keys=True)
        cached = list(job.graph) if signature in self._seen else []
        if self.gives_again:
            job.outputs |= self._seen.get(signature, {})
        await self._message(job, "execution_cached", {"nodes": cached})
        node = ""
        try:
            for node in job.graph:
                if node not in cached:
                    await self._execute_node(job, node)
        except Interruption:
            job.succeeded = False
            await self._message(job, "execution_interrupted", self._where(job, node), everybody=True)
        except RuntimeError:
            job.succeeded = False
            assert self.failure is not None
            await self._message(job, "execution_error", {**self._where(job, node), **self.failure})
        else:
            self._seen[signature] = job.outputs
            if self.is_new:
                await self._message(job, "execution_success", {})
        self._executing = None

    async def _execute_node(self, job: Job, node: str) -> None:
        client = job.extra.get("client_id")
        kind = job.graph[node]["class_type"]
        self._executing = node
        if client is not None:
            await self._tell(client, "executing", {"node": node, "display_node": node, "prompt_id": job.id})
        if kind == "KSampler":
            await self._sample(job, node)
        if kind == "SaveImageWebsocket":
            await self._progress(job, node, 0, 1)
            await self._picture(job, node, self.paint(job.graph))
        elif kind in _OUTPUTS:
            job.outputs[node] = {"images": self._save(job, "temp" if kind == "PreviewImage" else "output")}
            if client is not None:
                executed = {"node": node, "output": job.outputs[node], "prompt_id": job.id}
                await self._tell(client, "executed", executed)
        await self._state(job, {node: {"value": 1, "max": 1, "state": "finished"}})

    async def _sample(self, job: Job, node: str) -> None:
        steps = job.graph[node]["inputs"]["steps"]
        for step in range(1, steps + 1):
            await self._progress(job, node, step, steps)
            if step <= len(self.previews):
                await self._picture(job, node, self.previews[step - 1])
            if step == steps // 2:
                await self._hold("sampling")
            if self._interrupt:
                raise Interruption
        if self.failure is not None:
            raise RuntimeError

    async def _progress(self, job: Job, node: str, value: int, of: int) -> None:
        await self._state(job, {node: {"value": value, "max": of, "state": "running"}})
        data = {"value": value, "max": of, "prompt_id": job.id, "node": node}
        await self._tell(job.extra.get("client_id"), "progress", data)

    async def _state(self, job: Job, nodes: dict[str, Any]) -> None:
        if self.is_new:
            await self._tell(None, "progress_state", {"prompt_id": job.id, "nodes": nodes})

    async def _picture(self, job: Job, node: str, picture: bytes) -> None:
        client = job.extra.get("client_id")
        if client in self._knows_previews:
            about = {"node_id": node, "prompt_id": job.id, "image_type": "image/png"}
            head = json.dumps(about).encode()
            await self._send(client, struct.pack(">II", 4, len(head)) + head + picture)
        else:
            await self._send(client, struct.pack(">II", 1, 2) + picture)

    def _save(self, job: Job, type_: str) -> list[dict[str, str]]:
        if self.saved is not None:
            return self.saved
        name = f"limner_{len(self.files):05}_.png"
        self.files[name, "", type_] = self.paint(job.graph)
        return [{"filename": name, "subfolder": "", "type": type_}]

    async def _message(self, job: Job, kind: str, data: dict[str, Any], *, everybody: bool = False) -> None:
        data = {**data, "prompt_id": job.id, "timestamp": 0}
        job.messages.append([kind, data])
        client = job.extra.get("client_id")
        if client is not None or everybody:
            await self._tell(client, kind, data)

    def _where(self, job: Job, node: str) -> dict[str, Any]:
        return {"node_id": node, "node_type": job.graph[node]["class_type"], "executed": [], "traceback": []}

    async def _hold(self, place: str) -> None:
        if place in self.hold_at.split():
            self._released.clear()
            self.reached.set()
            await self._released.wait()


class ComfyHost:
    """Where the stand-ins listen, one after the other."""

    def __init__(self) -> None:
        self.current: ComfyServer | None = None
        self._running = RunningApp(self, ws="wsproto")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.current is not None
        size = self.current.piece_size
        await self.current.app(scope, receive, send if size is None else in_pieces(send, size))

    def begin(self) -> ComfyServer:
        self.current = ComfyServer(self._running.url)
        return self.current

    def close(self) -> None:
        self._running.close()


def _validated(graph: Graph) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The error and the errors by node for a workflow, as the server's validation words them."""
    for id_, node in graph.items():
        if node.get("class_type") not in _CLASSES:
            message = f"Node '{node.get('class_type')}' not found. The custom node may not be installed."
            error = {"type": "missing_node_type", "message": message, "details": f"Node ID '#{id_}'"}
            return error, {}
    if not any(node["class_type"] in _OUTPUTS for node in graph.values()):
        return {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": ""}, {}
    faults: dict[str, Any] = {}
    for id_, node in graph.items():
        errors = [
            {
                "type": "invalid_input_type",
                "message": "Failed to convert an input value to a INT value",
                "details": f"{key}, {value}, invalid literal for int() with base 10: {value!r}",
            }
            for key, value in node["inputs"].items()
            if key in _WHOLE_NUMBERS and not isinstance(value, int)
        ]
        if errors:
            faults[id_] = {"errors": errors, "dependent_outputs": ["9"], "class_type": node["class_type"]}
    if not faults:
        return None, {}
    message = "Prompt outputs failed validation"
    return {"type": "prompt_outputs_failed_validation", "message": message, "details": ""}, faults
