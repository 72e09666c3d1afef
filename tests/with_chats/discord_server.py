"""A stand-in for Discord: its gateway and the part of its HTTP API that a bot with buttons uses.

It keeps messages as Discord does and refuses what Discord refuses: empty messages, more than 2000 characters,
more than ten files, files that were announced but not sent.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Iterator
from itertools import count
from typing import Any

from aiohttp import BodyPartReader, WSMsgType, web

BOT = {"id": "1000", "username": "limner", "discriminator": "0", "avatar": None, "bot": True}
PERSON = {"id": "2000", "username": "ada", "discriminator": "0", "avatar": None}
CHANNEL = "3000"


class DiscordServer:
    """`messages` by their id, `changes` as (seconds, method) of every call that showed something."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.changes: list[tuple[float, str]] = []
        self.statuses: list[str] = []
        self.interactions: list[int] = []
        self.refused: list[str] = []
        self.ready = asyncio.Event()
        self.url = ""
        self._ids: Iterator[int] = count(5000)
        self._sequence = count(1)
        self._socket: web.WebSocketResponse | None = None
        self._deflate = zlib.compressobj()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/users/@me", self._me),
                web.get("/api/oauth2/applications/@me", self._application),
                web.get("/api/gateway/bot", self._gateway_address),
                web.get("/api/gateway", self._gateway_address),
                web.get("/gateway/", self._gateway),
                web.post("/api/channels/{channel}/messages", self._create),
                web.patch("/api/channels/{channel}/messages/{message}", self._edit),
                web.delete("/api/channels/{channel}/messages/{message}", self._delete),
                web.post("/api/interactions/{interaction}/{token}/callback", self._callback),
            ]
        )
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/api"

    @property
    def gateway(self) -> str:
        """The address of the websocket."""
        return self.url.replace("http", "ws").replace("/api", "/gateway/")

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    # --- what people do

    async def say(self, text: str) -> None:
        """A person writes to the bot, in a direct message."""
        message = self._message(PERSON, {"content": text})
        await self._dispatch("MESSAGE_CREATE", message)

    async def click(self, message_id: str, custom_id: str) -> None:
        """A person clicks a button."""
        await self._dispatch(
            "INTERACTION_CREATE",
            {
                "id": str(next(self._ids)),
                "application_id": BOT["id"],
                "type": 3,
                "token": "interaction-token",
                "version": 1,
                "channel_id": CHANNEL,
                "channel": {"id": CHANNEL, "type": 1},
                "user": PERSON,
                "message": self.messages[message_id],
                "data": {"custom_id": custom_id, "component_type": 2},
                "entitlements": [],
                "authorizing_integration_owners": {},
                "attachment_size_limit": 10_000_000,
            },
        )

    def replies(self) -> list[dict[str, Any]]:
        """The bot's messages."""
        return [message for message in self.messages.values() if message["author"] == BOT]

    def buttons(self, message: dict[str, Any]) -> list[str]:
        """The ids of the buttons of a message."""
        return [button["custom_id"] for row in message["components"] for button in row["components"]]

    # --- the gateway

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        socket = self._socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._deflate = zlib.compressobj()
        await self._send({"op": 10, "d": {"heartbeat_interval": 40_000}})
        async for frame in socket:
            if frame.type is not WSMsgType.TEXT:
                continue
            payload = json.loads(frame.data)
            if payload["op"] == 2:
                await self._dispatch(
                    "READY",
                    {
                        "v": 10,
                        "user": BOT,
                        "guilds": [],
                        "session_id": "s",
                        "resume_gateway_url": self.gateway,
                        "application": {"id": BOT["id"], "flags": 0},
                    },
                )
                self.ready.set()
            elif payload["op"] == 1:
                await self._send({"op": 11})
        return socket

    async def _dispatch(self, event: str, data: object) -> None:
        await self._send({"op": 0, "t": event, "s": next(self._sequence), "d": data})

    async def _send(self, payload: object) -> None:
        assert self._socket is not None
        data = self._deflate.compress(json.dumps(payload).encode()) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self._socket.send_bytes(data)

    # --- the HTTP API

    async def _me(self, request: web.Request) -> web.Response:
        return _json(BOT)

    async def _application(self, request: web.Request) -> web.Response:
        about = {"name": "limner", "icon": None, "description": "", "bot_public": False, "flags": 0}
        more = {"bot_require_code_grant": False, "verify_key": "", "rpc_origins": [], "owner": PERSON}
        return _json({"id": BOT["id"], **about, **more})

    async def _gateway_address(self, request: web.Request) -> web.Response:
        limit = {"total": 1000, "remaining": 999, "reset_after": 0, "max_concurrency": 1}
        return _json({"url": self.gateway, "shards": 1, "session_start_limit": limit})

    async def _create(self, request: web.Request) -> web.Response:
        payload, files = await _body(request)
        return self._answer("POST", self._message(BOT, payload), payload, files)

    async def _edit(self, request: web.Request) -> web.Response:
        payload, files = await _body(request)
        message = self.messages[request.match_info["message"]]
        return self._answer("PATCH", {**message, **_shown(payload)}, payload, files)

    async def _delete(self, request: web.Request) -> web.Response:
        del self.messages[request.match_info["message"]]
        self.changes.append((time.monotonic(), "DELETE"))
        return web.Response(status=204)

    async def _callback(self, request: web.Request) -> web.Response:
        payload, _ = await _body(request)
        self.interactions.append(payload["type"])
        interaction = {"id": request.match_info["interaction"], "type": 3}
        return _json({"interaction": interaction})

    def _answer(
        self, method: str, message: dict[str, Any], payload: dict[str, Any], files: dict[str, bytes]
    ) -> web.Response:
        announced = payload.get("attachments")
        if announced is not None:
            message["attachments"] = [
                {
                    "id": str(next(self._ids)),
                    "filename": one["filename"],
                    "description": one.get("description"),
                    "size": len(files[f"files[{one['id']}]"]),
                    "url": f"https://cdn.test/{one['filename']}",
                    "proxy_url": f"https://cdn.test/{one['filename']}",
                    "data": files[f"files[{one['id']}]"].hex(),
                }
                for one in announced
            ]
        problem = _problem(message)
        if problem:
            self.refused.append(problem)
            return _json({"code": 50035, "message": problem}, status=400)
        self.messages[message["id"]] = message
        self.changes.append((time.monotonic(), method))
        self.statuses += [line for line in message["content"].splitlines() if line.startswith("-# ")]
        return _json(message)

    def _message(self, author: dict[str, Any], payload: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": str(next(self._ids)),
            "channel_id": CHANNEL,
            "channel_type": 1,
            "author": author,
            "content": "",
            "timestamp": "2026-01-01T00:00:00+00:00",
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [],
            "mention_roles": [],
            "attachments": [],
            "embeds": [],
            "components": [],
            "pinned": False,
            "type": 0,
            **_shown(payload),
        }


def _json(data: object, status: int = 200) -> web.Response:
    # Without a charset: discord.py takes nothing else for JSON.
    return web.Response(body=json.dumps(data).encode(), status=status, content_type="application/json")


def _shown(payload: dict[str, Any]) -> dict[str, Any]:
    return {
        name: payload[name] for name in ("content", "embeds", "components") if payload.get(name) is not None
    }


def _problem(message: dict[str, Any]) -> str | None:
    if len(message["content"]) > 2000:
        return "Must be 2000 or fewer in length."
    if len(message["attachments"]) > 10:
        return "Too many files."
    if not message["content"] and not message["attachments"] and not message["embeds"]:
        return "Cannot send an empty message"
    return None


async def _body(request: web.Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    if not request.content_type.startswith("multipart/"):
        return await request.json(), {}
    payload: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        if part.name == "payload_json":
            payload = json.loads(await part.text())
        elif part.name:
            files[part.name] = await part.read()
    return payload, files
