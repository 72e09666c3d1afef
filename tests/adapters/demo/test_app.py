"""The page's requests: what is served, to whom, and what is told when something is wrong."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from limner.adapters.demo.app import CONTENT_SECURITY_POLICY, SUGGESTIONS, Cast, demo_app
from limner.adapters.image_folder import FolderImageStore
from tests.adapters.demo.scripts import ScriptedWriter, opened

pytestmark = pytest.mark.anyio

PORT = 8807
HERE = f"http://127.0.0.1:{PORT}"
CAST = Cast("a scripted writer", "nobody")


@asynccontextmanager
async def page_of(folder, *replies):
    """A browser's way to the app, and the chat behind it."""
    images = FolderImageStore(folder / "images", "/limner/images/")
    async with opened(folder, ScriptedWriter(*replies), images=images) as chat:
        app = demo_app(chat, CAST, own_port=lambda: PORT)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HERE) as client:
            yield client, chat


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["kind"]


async def test_the_page_and_its_files_are_served_and_hold_nothing_from_elsewhere(tmp_path):
    async with page_of(tmp_path) as (client, _):
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        addresses = re.findall(r'(?:src|href)="([^#"][^"]*)"', page.text)
        assert len(addresses) == 5
        for address in {*addresses, "/static/machine.js"}:
            assert address.startswith("/")
            if address != "/limner/limner-message.js":
                file = await client.get(address)
                assert file.status_code == 200
                # The one address that is no name of a file is that of the SVG language.
                assert not set(re.findall(r"https?://[^\s\"')]+", file.text)) - {
                    "http://www.w3.org/2000/svg",
                    "http://www.w3.org/1999/xlink",
                }
        assert "<style" not in page.text
        assert 'style="' not in page.text
        assert not re.search(r"<script(?![^>]* src=)", page.text)
        assert not re.search(r"\son\w+=", page.text)


async def test_a_file_that_is_known_already_is_not_sent_again(tmp_path):
    async with page_of(tmp_path) as (client, _):
        first = await client.get("/static/demo.css")
        again = await client.get("/static/demo.css", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/static/index.html", "/static/..%2Fapp.py", "/static/%2e%2e/app.py", "/suggestions/4.jpg", "/x"]
)
async def test_nothing_else_is_served(tmp_path, path):
    async with page_of(tmp_path) as (client, _):
        assert (await client.get(path)).status_code == 404


async def test_every_suggestion_has_a_picture(tmp_path):
    async with page_of(tmp_path) as (client, _):
        for number in range(len(SUGGESTIONS)):
            picture = await client.get(f"/suggestions/{number}.jpg")
            assert picture.headers["content-type"] == "image/jpeg"
            assert picture.content.startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("host", ["127.0.0.1:8807", "localhost:8807", "LocalHost:8807", "[::1]:8807"])
async def test_this_machine_is_answered_by_all_its_names(tmp_path, host):
    async with page_of(tmp_path) as (client, _):
        assert (await client.get("/", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example:8807", "127.0.0.1:8808", "127.0.0.1", "localhost.evil.example:8807", ""]
)
@pytest.mark.parametrize("path", ["/", "/api/conversation", "/limner/text?message=m", "/limner/machine.svg"])
async def test_a_name_that_only_points_here_is_not_answered(tmp_path, host, path):
    async with page_of(tmp_path) as (client, _):
        assert told(await client.get(path, headers={"host": host})) == (421, "wrong_host")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8808"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/api/say", "/api/stop", "/api/clear", "/api/again", "/limner/cancel"])
async def test_another_site_changes_nothing(tmp_path, path, headers):
    async with page_of(tmp_path) as (client, chat):
        answer = await client.post(
            path, json={"text": "a", "message": "m", "conversation": "all"}, headers=headers
        )
        assert told(answer) == (403, "cross_site")
        assert chat.conversation.entries == []


async def test_the_page_itself_says_a_line_and_is_told_the_reply(tmp_path):
    async with page_of(tmp_path, ["Once."]) as (client, _):
        headers = {"origin": HERE, "sec-fetch-site": "same-origin"}
        answer = await client.post("/api/say", json={"text": "a sea"}, headers=headers)
        assert answer.status_code == 202
        conversation = (await client.get("/api/conversation")).json()
        assert conversation["cast"] == {
            "writer": "a scripted writer",
            "painter": "nobody",
            "captions": True,
        }
        said, reply = conversation["entries"]
        assert said["text"] == "a sea"
        assert reply["id"] == answer.json()["message"]
        assert reply["token"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"content": "text=a", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 415),
        ({"content": '{"text": "a"}', "headers": {"content-type": "text/plain"}}, 415),
        ({"content": "{", "headers": {"content-type": "application/json"}}, 400),
        ({"content": "[" * 50_000, "headers": {"content-type": "application/json"}}, 400),
        ({"json": {"text": 3}}, 400),
        ({"json": ["text"]}, 400),
        ({"json": {"text": " "}}, 400),
        ({"json": {"text": "x" * 5_000}}, 400),
        ({"json": {"text": "x" * 70_000}}, 413),
        ({"content": '{"text": "a\\ud800b"}', "headers": {"content-type": "application/json"}}, 202),
    ],
)
async def test_what_is_no_line_is_refused_by_what_is_wrong_with_it(tmp_path, settings, expected):
    async with page_of(tmp_path, ["Once."]) as (client, _):
        assert (await client.post("/api/say", **settings)).status_code == expected


async def test_a_second_line_while_a_reply_is_written_is_told_to_wait(tmp_path):
    async with page_of(tmp_path, ["Once.", anyio.Event()]) as (client, _):
        await client.post("/api/say", json={"text": "one"})
        assert told(await client.post("/api/say", json={"text": "two"})) == (409, "busy")


async def test_stopping_a_reply_that_is_not_there_says_so(tmp_path):
    async with page_of(tmp_path) as (client, _):
        for path in ("/api/stop", "/api/again"):
            assert told(await client.post(path, json={"message": "gone"})) == (404, "unknown_message")


async def test_a_reader_gets_the_whole_conversation_and_then_each_change(tmp_path):
    async with page_of(tmp_path, ["Once."], ["Twice."]) as (client, chat):
        await client.post("/api/say", json={"text": "one"})
        with anyio.fail_after(20):
            while chat.conversation.entries[-1].state != "written":
                await chat.conversation.changed.wait()
            async with changes(client) as events:
                first = await events.receive()
                assert [entry["state"] for entry in first["entries"]] == ["said", "written"]
                assert first["whole"]
                assert first["suggestions"] == list(SUGGESTIONS)
                await client.post("/api/say", json={"text": "two"})
                seen: list[str] = []
                while "written" not in seen:
                    later = await events.receive()
                    assert not later["whole"]
                    seen += [entry["state"] for entry in later["entries"]]
                assert seen[0] == "said"
                await client.post("/api/clear", json={"conversation": "all"})
                cleared = await events.receive()
                assert (cleared["whole"], cleared["entries"]) == (True, [])


async def test_a_fault_is_told_without_a_traceback(tmp_path, monkeypatch):
    async with page_of(tmp_path) as (client, chat):
        monkeypatch.setattr(chat, "say", None)
        answer = await client.post("/api/say", json={"text": "one"})
        assert answer.status_code == 500
        assert "Traceback" not in answer.text


@asynccontextmanager
async def changes(client: httpx.AsyncClient):
    """The events of `/api/changes`, one by one, as the app sends them."""
    app = client._transport.app  # type: ignore[attr-defined]
    send_event, events = anyio.create_memory_object_stream[dict[str, Any]](100)
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/changes",
        "raw_path": b"/api/changes",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", f"127.0.0.1:{PORT}".encode())],
    }

    async def receive():
        await anyio.sleep_forever()

    async def send(message):
        for line in message.get("body", b"").decode().splitlines():
            if line.startswith("data: "):
                send_event.send_nowait(json.loads(line.removeprefix("data: ")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, scope, receive, send)
        with send_event, events:
            yield events
            tasks.cancel_scope.cancel()
