"""What a page learns of a message, and what it may ask for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from limner.errors import BadRequest, StorageError, Unavailable
from limner.text import PRESETS
from tests.adapters.web.browser import Answer
from tests.adapters.web.chat import chat
from tests.studio import ScriptedStore, tag
from tests.support import settle

pytestmark = pytest.mark.anyio

NONE_YET = {
    "total": 1,
    "queued": 0,
    "generating": 1,
    "waiting": 0,
    "completed": 0,
    "failed": 0,
    "cancelled": 0,
}


# --- what is seen


async def test_the_status_tells_where_everything_stands_and_at_the_end_what_became_of_it():
    async with chat(hold=True) as page:
        await page.start("a fox")
        status = await page.browser.get("/status", message="fox")
        assert status.status == 200
        assert status.headers["content-type"] == "application/json"
        assert status.headers["cache-control"] == "no-store"
        session = page.studio.limner.sessions()[0]
        [prompt] = page.studio.limner.progress("fox")
        assert status.json == {
            "message": "fox",
            "session": session.id,
            "kind": "streaming",
            "state": "draining",
            "counts": NONE_YET,
            "prompts": [
                {
                    "message": "fox",
                    "session": session.id,
                    "prompt_id": prompt.prompt_id,
                    "prompt": "a fox",
                    "state": "generating",
                    "attempt": 1,
                    "fraction": None,
                    "preview": None,
                    "image_url": None,
                    "target_url": None,
                    "occurrence": 0,
                    "problem": None,
                }
            ],
            "result": None,
        }
        await page.finish()
        done = (await page.browser.get("/status", message="fox")).json
        assert (done["state"], done["counts"]["completed"]) == ("done", 1)
        assert done["result"] == {
            "placed": [
                {
                    "prompt_id": prompt.prompt_id,
                    "image_url": "https://images.test/1.png",
                    "replaced_url": None,
                }
            ],
            "unplaced": [],
            "failed": [],
            "cancelled": [],
            "problem": None,
        }


async def test_the_status_says_why_an_image_failed():
    async with chat() as page:
        page.studio.painter.answers["a fox"] = [BadRequest("no such model")]
        await page.start("a fox")
        status = (await page.browser.get("/status", message="fox")).json
        problem = {"kind": "bad_request", "message": "no such model"}
        [prompt] = status["prompts"]
        assert (prompt["state"], prompt["problem"]) == ("failed", problem)
        assert status["result"]["failed"] == [
            {"prompt_id": prompt["prompt_id"], "prompt": "a fox", "problem": problem}
        ]


async def test_the_text_is_what_has_been_streamed_and_then_what_is_stored():
    async with chat() as page:
        limner = page.studio.limner
        await limner.observe("fox", "Look ")
        assert (await page.browser.get("/text", message="fox")).json == {
            "message": "fox",
            "text": "Look ",
            "streaming": True,
        }
        await limner.seal("fox", f"Look {tag('a fox')}")
        await limner.finished("fox")
        assert (await page.browser.get("/text", message="fox")).json == {
            "message": "fox",
            "text": await page.studio.text("fox"),
            "streaming": False,
        }


async def test_a_text_with_half_a_character_is_still_json():
    async with chat(store=ScriptedStore({"fox": "half \ud83d and ü"})) as page:
        answer = await page.browser.get("/text", message="fox")
        assert answer.json["text"] == "half \ud83d and ü"


async def test_the_machine_tells_its_state_and_the_events_that_led_there():
    async with chat() as page:
        await page.start("a fox")
        machine = (await page.browser.get("/machine", message="fox")).json
        assert (machine["message"], machine["state"]) == ("fox", "done")
        first, *_, last = machine["history"]
        assert set(first) == {"at", "session", "machine", "event", "before", "after", "detail"}
        assert (first["event"], first["before"], first["after"]) == ("stream_started", "idle", "streaming")
        assert first["at"] == page.studio.clock()
        assert (last["before"], last["after"]) == ("inserting", "done")


@pytest.mark.parametrize("path", ["/status", "/text", "/machine"])
async def test_an_unknown_message_is_not_found(path):
    async with chat() as page:
        answer = await page.browser.get(path, message="none")
        assert (answer.status, answer.kind) == (404, "unknown_message")
        assert answer.json["error"]["hint"]


@pytest.mark.parametrize("path", ["/status", "/text", "/machine", "/preview", "/events"])
@pytest.mark.parametrize("query", ["", "message=", "message", "id=fox", "message=fox&message="])
async def test_an_address_has_to_name_its_message(path, query):
    async with chat() as page:
        await page.start("a fox")
        answer = await page.browser.ask("GET", path, query=query)
        assert (answer.status, answer.kind) == (400, "invalid_setting")


async def test_a_storage_that_fails_is_told_without_its_own_words():
    async with chat() as page:
        page.studio.store.read_errors = [StorageError("no connection to db.internal")]
        answer = await page.browser.get("/text", message="fox")
        assert (answer.status, answer.kind) == (503, "storage_error")
        assert "db.internal" not in answer.body.decode()


async def test_the_tags_are_those_that_are_looked_for():
    async with chat(patterns=[*PRESETS["default"], r"\[\[(.+?)\]\]", *PRESETS["t2i"]]) as page:
        assert (await page.browser.get("/tags")).json == [
            {"opener": '<!--img-prompt="', "closer": '"-->', "quoted": True},
            {"opener": '<img_prompt="', "closer": '">', "quoted": True},
            {"opener": "<t2i>", "closer": "</t2i>", "quoted": False},
        ]


# --- what is asked for


async def test_a_click_is_taken_and_told_and_becomes_one_batch():
    async with chat() as page:
        await page.start("a fox", "a hen")
        first, second = await page.studio.urls("fox")
        one = await page.post("/regenerate", message="fox", image=first)
        assert (one.status, one.json["message"], one.json["counts"]["total"]) == (202, "fox", 1)
        two = await page.post("/regenerate", message="fox", image=second, mode="append-after-image")
        assert two.json["counts"]["total"] == 2
        await page.studio.tick(2_000)
        urls = await page.studio.urls("fox")
        assert len(urls) == 3
        assert first not in urls
        assert urls[1] == second
        assert len(page.studio.store.image_writes("fox")) == 2


async def test_a_failed_image_is_asked_for_again():
    async with chat() as page:
        page.studio.painter.answers["a fox"] = [BadRequest("busy"), b"\x89PNG new"]
        await page.start("a fox")
        [failed] = (await page.browser.get("/status", message="fox")).json["result"]["failed"]
        answer = await page.post("/retry", message="fox", prompt=failed["prompt_id"])
        assert (answer.status, answer.json["message"], answer.json["counts"]["total"]) == (202, "fox", 1)
        await page.studio.tick(2_000)
        assert len(await page.studio.urls("fox")) == 1
        again = await page.post("/retry", message="fox", prompt=failed["prompt_id"])
        assert (again.status, again.kind) == (409, "nothing_to_retry")


async def test_a_cancelled_message_is_told_as_it_ended():
    async with chat(hold=True) as page:
        await page.start("a fox")
        [prompt] = page.studio.limner.progress("fox")
        answer = await page.post("/cancel", message="fox")
        assert answer.status == 200
        assert answer.json == {
            "message": "fox",
            "session": prompt.session_id,
            "kind": "streaming",
            "state": "cancelled",
            "result": {
                "placed": [],
                "unplaced": [],
                "failed": [],
                "cancelled": [prompt.prompt_id],
                "problem": {"kind": "cancelled", "message": "cancelled by request"},
            },
        }


@pytest.mark.parametrize(
    ("path", "fields", "status", "kind"),
    [
        ("/regenerate", {"message": "none", "image": "x.png"}, 404, "unknown_message"),
        ("/regenerate", {"message": "fox", "image": "x.png"}, 404, "unknown_image"),
        ("/retry", {"message": "none", "prompt": "x"}, 404, "unknown_message"),
        ("/retry", {"message": "fox", "prompt": "x"}, 404, "unknown_prompt"),
        ("/cancel", {"message": "none"}, 404, "unknown_message"),
        ("/cancel", {"message": "fox"}, 409, "cancel_too_late"),
        ("/regenerate", {"message": "fox"}, 400, "invalid_setting"),
        ("/regenerate", {"image": "x.png"}, 400, "invalid_setting"),
        ("/regenerate", {"message": "fox", "image": ""}, 400, "invalid_setting"),
        ("/regenerate", {"message": "fox", "image": ["x.png"]}, 400, "invalid_setting"),
        ("/regenerate", {"message": 1, "image": "x.png"}, 400, "invalid_setting"),
        ("/regenerate", {"message": "fox", "image": "x.png", "mode": "x"}, 400, "invalid_setting"),
        ("/regenerate", {"message": "fox", "image": "x.png", "mode": None}, 400, "invalid_setting"),
        ("/retry", {"message": "fox"}, 400, "invalid_setting"),
        ("/cancel", {}, 400, "invalid_setting"),
    ],
)
async def test_what_cannot_be_done_is_told_by_whose_fault_it_is(path, fields, status, kind):
    async with chat(app={"authorise": lambda *_: True}) as page:
        await page.start("a fox")
        answer = await page.browser.post(path, fields)
        assert (answer.status, answer.kind) == (status, kind)


async def test_a_click_while_the_text_still_comes_is_refused():
    async with chat() as page:
        await page.start("a fox")
        [url] = await page.studio.urls("fox")
        await page.studio.limner.observe("fox", "New ")
        answer = await page.post("/regenerate", message="fox", image=url)
        assert (answer.status, answer.kind) == (409, "regeneration_during_streaming")


async def test_half_a_character_in_an_id_is_a_message_that_nobody_knows():
    async with chat() as page:
        answer = await page.post("/cancel", message="\ud83d")
        assert (answer.status, answer.kind) == (404, "unknown_message")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'"fox"', b"\xff\xfe", b"[" * 60_000, b'{"message": ' + b"9" * 6_000 + b"}"],
    ids=["none", "cut", "null", "list", "text", "bytes", "deep", "long-number"],
)
async def test_a_body_that_is_no_json_object_is_refused(body):
    async with chat() as page:
        answer = await page.browser.ask(
            "POST", "/cancel", headers={"content-type": "application/json"}, pieces=[body]
        )
        assert (answer.status, answer.kind) == (400, "invalid_setting")


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
)
async def test_what_a_form_could_send_is_refused(content_type):
    async with chat() as page:
        answer = await page.browser.ask(
            "POST", "/cancel", headers={"content-type": content_type}, pieces=[b'{"message": "fox"}']
        )
        assert (answer.status, answer.kind) == (415, "unsupported_media_type")


async def test_json_may_say_its_encoding():
    async with chat(hold=True) as page:
        await page.start("a fox")
        answer = await page.browser.ask(
            "POST",
            "/cancel",
            headers={
                "content-type": "Application/JSON; charset=utf-8",
                "limner-token": page.studio.limner.message_token("fox"),
            },
            pieces=[b'{"mess', b'age": "f', b'ox"}'],
        )
        assert answer.status == 200


async def test_a_body_is_bounded_whatever_it_says_of_its_length():
    huge = json.dumps({"message": "x" * 70_000}).encode()
    async with chat() as page:

        async def post(length: str | None, pieces: list[bytes]) -> Answer:
            headers = {"content-type": "application/json"}
            if length is not None:
                headers["content-length"] = length
            return await page.browser.ask("POST", "/cancel", headers=headers, pieces=pieces)

        for answer in (
            await post(str(len(huge)), [huge]),
            await post("9" * 5_000, [b"{}"]),
            await post(None, [b"x" * 1_000] * 100),
            await post("2", [b"x" * 1_000] * 100),
        ):
            assert (answer.status, answer.kind) == (413, "too_large")
        largest = json.dumps({"message": "x" * (64 * 1024 - 15)}).encode()
        assert len(largest) == 64 * 1024
        assert (await post(None, [largest])).status == 403


async def test_a_reader_who_hangs_up_in_the_middle_of_a_body_is_forgotten(caplog):
    async with chat() as page:

        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        sent: list[object] = []

        async def send(message: object) -> None:
            sent.append(message)

        app = page.studio.limner.asgi()
        scope = page.browser._scope("POST", "/cancel", "", {"content-type": "application/json"})
        await app(scope, receive, send)
        assert caplog.records == []


# --- all routes


@pytest.mark.parametrize("path", ["/", "/none", "/status/", "/images", "/images/a/b", "//status", "/%00"])
async def test_what_is_no_route_is_not_found(path):
    async with chat() as page:
        answer = await page.browser.ask("GET", path, query="message=fox")
        assert (answer.status, answer.kind) == (404, "not_found")


@pytest.mark.parametrize("host", ["[", "", "a b", "chat.test:port", "é"])
async def test_a_host_that_is_no_name_breaks_nothing(host):
    async with chat(headers={"host": host}) as page:
        assert (await page.browser.get("/none")).kind == "not_found"
        assert (await page.browser.get("/status", message="none")).kind == "unknown_message"
        posted = await page.browser.post("/cancel", {"message": "fox"}, {"origin": "http://chat.test"})
        assert posted.kind == "cross_site"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/status", {"GET", "HEAD"}),
        ("DELETE", "/images/x", {"GET", "HEAD"}),
        ("GET", "/cancel", {"POST"}),
        ("HEAD", "/cancel", {"POST"}),
        ("PUT", "/regenerate", {"POST"}),
        ("OPTIONS", "/status", {"GET", "HEAD"}),
    ],
)
async def test_another_method_is_refused_with_those_that_there_are(method, path, allowed):
    async with chat() as page:
        answer = await page.browser.ask(method, path)
        assert answer.status == 405
        assert set(answer.headers["allow"].split(", ")) == allowed
        if method != "HEAD":
            assert answer.kind == "method_not_allowed"


@pytest.mark.parametrize("path", ["/status", "/text", "/machine", "/machine.svg", "/tags", "/events"])
async def test_a_head_gets_the_headers_of_the_get_and_nothing_else(path):
    async with chat() as page:
        await page.start("a fox")
        head = await page.browser.get(path, "HEAD", message="fox")
        assert (head.status, head.body) == (200, b"")
        if path != "/events":
            get = await page.browser.get(path, message="fox")
            assert head.headers == get.headers
            assert head.headers["content-length"] == str(len(get.body))
    async with chat() as page:
        unknown = await page.browser.get("/status", "HEAD", message="none")
        assert (unknown.status, unknown.body) == (404, b"")


async def test_a_limner_that_does_not_run_is_out_of_service_and_not_broken():
    async with chat() as page:
        app = page.studio.limner.asgi()
    browser = type(page.browser)(app)
    for path in ("/status", "/text", "/events", "/machine"):
        answer = await browser.get(path, message="fox")
        assert (answer.status, answer.kind) == (503, "not_running")
    token = page.studio.limner.message_token("fox")
    answer = await browser.post("/cancel", {"message": "fox"}, {"limner-token": token})
    assert (answer.status, answer.kind) == (503, "not_running")


async def test_an_app_that_is_mounted_somewhere_answers_there():
    async with chat() as page:
        await page.start("a fox")
        browser = type(page.browser)(page.studio.limner.asgi(), root_path="/outer/limner")
        status = await browser.get("/status", message="fox")
        assert status.status == 200
        assert status.json["prompts"][0]["preview"].startswith("preview?message=fox&")
        assert (await browser.get("/images/x")).kind == "not_found"


async def test_a_retry_that_waits_is_seen_as_waiting():
    async with chat() as page:
        page.studio.painter.answers["a fox"] = [Unavailable("down"), b"\x89PNG"]
        await page.start("a fox")
        await settle()
        status = (await page.browser.get("/status", message="fox")).json
        assert status["counts"]["waiting"] == 1
        assert status["prompts"][0]["problem"]["kind"] == "unavailable"
        await page.studio.tick(2_000)


def test_the_library_does_not_load_a_web_framework_unless_it_is_asked_for():
    script = "import sys, limner; limner.Limner; print('starlette' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_missing_extra_is_named():
    script = (
        "import sys\nsys.modules['starlette'] = None\n"
        "import limner\nfrom limner.errors import InvalidSetting\n"
        "try: limner.Limner('sketch').asgi()\n"
        "except InvalidSetting as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "the web app needs Starlette: pip install '/path/to/limner[server]'\n"
