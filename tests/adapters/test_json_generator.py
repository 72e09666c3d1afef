"""Any server that takes JSON: the template, the path, what may stand at its end, and the settings' file."""

from __future__ import annotations

import base64
import json
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from limner.adapters.json_generator import JSONGenerator, json_generator_from_file
from limner.errors import (
    AnswerTooLarge,
    AuthFailed,
    BackendError,
    BadRequest,
    InvalidSetting,
    NoImage,
    NotAnImage,
    RateLimited,
)
from limner.workflows.ports import GenerationRequest
from tests.adapters.servers.local import RawServer, chunk, head
from tests.adapters.servers.plain import FILES, PAINT, PlainServer

pytestmark = pytest.mark.anyio

KEY = {"x-key": "secret-key"}
BODY = {"text": "%prompt%", "seed": "%seed%"}
PATH = "$.result.images[0].b64"


def shaped(image: object) -> object:
    return {"result": {"images": [{"b64": image}]}, "took": 1.5}


@pytest.fixture
def text(png):
    return base64.b64encode(png).decode()


@pytest.fixture
def server(web, png, text):
    return PlainServer(web, png, lambda: shaped(text))


async def painted(url: str, request: GenerationRequest, **settings: Any) -> bytes:
    generator = JSONGenerator(url, **{"body": BODY, "image": PATH, "headers": KEY, **settings})
    try:
        return await generator.generate(request, lambda *_: None)
    finally:
        await generator.aclose()


async def test_the_places_in_the_body_are_filled_in(web, png, server, request_for):
    body = {
        "input": {
            "text": "a picture of %prompt%, no %negative_prompt%; 100%% sure",
            "tags": ["%prompt%", 3, None],
        },
        "size": ["%width%", "%height%"],
        "as_text": "%width%x%height%",
        "seed": "%seed%",
        "%prompt%": True,
    }
    settings = {"body": body, "width": 768, "height": 512, "negative_prompt": "text"}
    assert await painted(f"{web.url}{PAINT}", request_for('a "fox" %seed%'), **settings) == png
    assert server.asked == [
        {
            "input": {
                "text": 'a picture of a "fox" %seed%, no text; 100% sure',
                "tags": ['a "fox" %seed%', 3, None],
            },
            "size": [768, 512],
            "as_text": "768x512",
            "seed": 7,
            "%prompt%": True,
        }
    ]
    assert web.received[0].headers["x-key"] == "secret-key"


async def test_the_template_stays_as_it_was(web, server, request_for):
    for prompt in ("first", "second"):
        await painted(f"{web.url}{PAINT}", request_for(prompt))
    assert [asked["text"] for asked in server.asked] == ["first", "second"]
    assert BODY["text"] == "%prompt%"


async def test_a_seed_fits_into_31_bits(web, png, server, request_for):
    assert await painted(f"{web.url}{PAINT}", request_for(seed=4_294_967_295)) == png
    assert server.asked[0]["seed"] == 2_147_483_647


async def test_a_body_may_be_a_list(web, png, text, request_for):
    web.answer_json("/predict", [[text]])
    assert await painted(f"{web.url}/predict", request_for("x"), body=["%prompt%", 1], image="$[0][0]") == png
    assert web.received[0].body == b'["x", 1]'


async def test_places_in_the_address_are_percent_encoded(web, png, server, request_for):
    url = f"{web.url}{PAINT}/%prompt%?token=secret-key&seed=%seed%&space=%20"
    assert await painted(url, request_for("a/b? 50% é"), method="get", body=None, headers=None) == png
    assert web.received[0].method == "GET"
    assert web.received[0].raw_path == f"{PAINT}/a%2Fb%3F%2050%25%20%C3%A9"
    assert web.received[0].query == {"token": "secret-key", "seed": "7", "space": " "}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("$.image", {"image": "IMAGE"}),
        ("$['odd name'].b64", {"odd name": {"b64": "IMAGE"}}),
        ("$.data[-1].b64", {"data": [{"b64": "x"}, {"b64": "IMAGE"}]}),
        ("$..b64_json", {"a": [{"b": {"b64_json": "IMAGE"}}]}),
        (
            "$.output[?@.type == 'image'].result",
            {"output": [{"type": "text"}, {"type": "image", "result": "IMAGE"}]},
        ),
        ("$", "IMAGE"),
    ],
)
async def test_the_image_is_where_the_path_says(path, answer, web, png, text, request_for):
    web.answer_json(PAINT, json.loads(json.dumps(answer).replace("IMAGE", text)))
    assert await painted(f"{web.url}{PAINT}", request_for(), image=path) == png


async def test_a_data_url_is_understood(web, png, text, request_for):
    PlainServer(web, png, lambda: shaped(f"data:image/png;base64,{text}"))
    assert await painted(f"{web.url}{PAINT}", request_for()) == png


async def test_an_image_at_an_address_is_fetched(web, png, request_for):
    for address in (f"{web.url}{FILES}1.png", f"{FILES}1.png", f"{FILES}view?name=1"):
        PlainServer(web, png, partial(shaped, address))
        assert await painted(f"{web.url}{PAINT}", request_for()) == png
    assert [got.headers["x-key"] for got in web.received if got.path.startswith(FILES)] == ["secret-key"] * 3


async def test_the_key_does_not_go_to_another_host(web, png, request_for):
    with RawServer(lambda wire: wire.send(head(content_length=str(len(png))) + png)) as other:
        PlainServer(web, png, lambda: shaped(f"{other.url}/1.png"))
        assert await painted(f"{web.url}{PAINT}", request_for()) == png
    assert b"secret-key" not in other.heads[0]


async def test_a_jpeg_in_base64_is_not_taken_for_an_address(web, request_for):
    jpeg = b"\xff\xd8\xff\xe0" + b"\x00" * 50
    web.answer_json(PAINT, shaped(base64.b64encode(jpeg).decode()))
    assert base64.b64encode(jpeg).startswith(b"/9j/")
    assert await painted(f"{web.url}{PAINT}", request_for()) == jpeg


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "gopher:x"])
async def test_only_web_addresses_are_fetched(url, web, request_for):
    web.answer_json(PAINT, shaped(url))
    with pytest.raises(BackendError):
        await painted(f"{web.url}{PAINT}", request_for())


@pytest.mark.parametrize("media_type", ["image/png", "image/webp; q=1", "application/octet-stream"])
@pytest.mark.parametrize("path", [None, PATH])
async def test_an_answer_that_is_an_image_itself_is_taken(path, media_type, web, png, request_for):
    web.answer(PAINT, Response(png, headers={"content-type": media_type}))
    assert await painted(f"{web.url}{PAINT}", request_for(), image=path) == png


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            {"status": "queued"},
            NoImage,
            "answered with nothing at $['result']['images'][0]['b64']: it is JSON",
        ),
        (
            {"error": {"message": "busy", "code": "rate_limit_exceeded"}},
            RateLimited,
            "reports an error: busy",
        ),
        ({"result": {"images": []}}, NoImage, "answered with nothing at"),
        (shaped(None), NoImage, "empty image"),
        (shaped(""), NoImage, "empty image"),
        (shaped("%%%"), NotAnImage, "not base64"),
        (shaped({"url": "x"}), NotAnImage, "dict where base64 was expected"),
        ([], NoImage, "answered with nothing at"),
        ("IMAGE", NoImage, "answered with nothing at"),
        (7, NoImage, "answered with nothing at"),
        (Response(b"", media_type="image/png"), NoImage, "empty image"),
        (Response("<html>", media_type="text/html"), BackendError, "it is an HTML page"),
        (JSONResponse({"error": "no credit"}, 402), BackendError, "answered 402: no credit"),
    ],
)
async def test_an_answer_without_an_image_says_what_it_was(answer, kind, words, web, server, request_for):
    server.shape = lambda: answer
    with pytest.raises(kind) as caught:
        await painted(f"{web.url}{PAINT}", request_for())
    assert words in str(caught.value)
    assert str(caught.value).startswith((f"{web.url}{PAINT} ", "the service"))


async def test_an_answer_that_is_no_image_is_told_where_no_path_was_given(web, server, request_for):
    with pytest.raises(NoImage, match=r"did not answer with an image \(it is JSON: .*\); give its path"):
        await painted(f"{web.url}{PAINT}", request_for(), image=None)


async def test_json_that_is_deeper_than_a_path_can_follow_is_an_error_of_the_backend(web, request_for):
    web.answer(PAINT, Response('{"a":' * 900 + "1" + "}" * 900, media_type="application/json"))
    with pytest.raises(BackendError):
        await painted(f"{web.url}{PAINT}", request_for(), image="$..b")


async def test_a_fault_in_the_request_is_told_with_the_field(web, server, request_for):
    with pytest.raises(BadRequest, match=r"body\.seed: not a number of 32 bits"):
        await painted(f"{web.url}{PAINT}", request_for(), body={"text": "%prompt%", "seed": "no %seed%"})


async def test_a_prompt_too_long_for_an_address_is_refused_before_it_is_sent(web, server, request_for):
    with pytest.raises(BadRequest, match="use a body"):
        await painted(f"{web.url}{PAINT}?p=%prompt%", request_for("x" * 70_000), method="GET", body=None)
    assert web.received == []


async def test_a_body_that_drips_is_read_to_its_end_and_an_endless_one_is_not(png, text, request_for):
    body = json.dumps(shaped(text)).encode()

    def drip(wire):
        wire.send(head(content_type="application/json", transfer_encoding="chunked"))
        for at in range(0, len(body), 9):
            wire.send(chunk(body[at : at + 9]))
        wire.send(chunk(b""))

    with RawServer(drip) as server:
        assert await painted(server.url, request_for()) == png
    announced = head(content_length=str(10**10))
    with RawServer(lambda wire: wire.send(announced)) as server, pytest.raises(AnswerTooLarge):
        await painted(server.url, request_for())


async def test_keys_are_shown_nowhere_wherever_they_are(web, server, request_for, caplog):
    caplog.set_level(logging.DEBUG)
    server.key = "another one"
    keys = ("header-key-1", "query-key-2", "body-key-3")
    web.answer_json(PAINT, {"error": f"none of {' '.join(keys)} is right, and flux is no model"}, 403)
    url = f"{web.url}{PAINT}?token={keys[1]}&model=flux"
    body = {"p": "%prompt%", "key": keys[2]}
    settings: dict[str, Any] = {"headers": {"x-key": keys[0]}, "body": body, "secrets": (keys[2],)}
    with pytest.raises(AuthFailed) as caught:
        await painted(url, request_for(), **settings)
    generator = JSONGenerator(url, **settings)
    await generator.aclose()
    assert str(caught.value) == (
        f"{web.url}{PAINT} answered 403: none of *** *** *** is right, and flux is no model"
    )
    logged = "\n".join(entry.getMessage() for entry in caplog.records if "uvicorn" not in entry.name)
    assert PAINT in logged
    told = f"{caught.value!r} {generator!r} {logged}"
    assert not any(key in told for key in keys)


async def test_a_key_from_the_environment_may_stand_in_the_path(
    web, tmp_path, monkeypatch, request_for, caplog
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FAL_KEY", "path-key-4")
    file = tmp_path / "server.json"
    file.write_text(json.dumps({"url": f"{web.url}/v1/${{FAL_KEY}}/paint", "body": BODY, "image": "$.image"}))
    generator = json_generator_from_file(file)
    with pytest.raises(BadRequest) as caught:
        await generator.generate(request_for(), lambda *_: None)
    await generator.aclose()
    assert web.received[0].path == "/v1/path-key-4/paint"
    assert str(caught.value) == f"{web.url}/v1/***/paint answered 404: Not Found"
    logged = "\n".join(entry.getMessage() for entry in caplog.records if "uvicorn" not in entry.name)
    assert "/v1/***/paint" in logged
    assert "path-key-4" not in f"{generator!r} {logged}"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"body": {"text": "x"}}, "there is no %prompt%"),
        ({"body": None}, "there is no %prompt%"),
        ({"body": {"%prompt%": "x"}}, "there is no %prompt%"),
        ({"body": {"p": "%promt%"}}, r"a place %promt%; there are %prompt%, .*%% for a percent sign"),
        ({"body": {"p": "%prompt%", "w": "%width%"}}, "a place %width%, but no width"),
        ({"body": {"p": "%prompt%"}, "image": "data[0].b64"}, r"not a JSONPath like .*data\[0\]\.b64"),
        ({"image": ""}, "not a JSONPath"),
        ({"image": "$.a["}, r"not a JSONPath .*unexpected end of query"),
        ({"image": "$.a | $.b"}, "not a JSONPath"),
        ({"body": {"p": "%prompt%", "x": float("nan")}}, "body cannot be written as JSON"),
        ({"method": "DELETE"}, "method must be one of POST, PUT, GET"),
        ({"method": "GET"}, "a GET has no body"),
        ({"width": 0}, "width must be a whole number, at least 1"),
        ({"headers": {"x-key": "é"}}, "header x-key"),
        ({"url": "localhost/paint"}, "not an http or https address"),
        ({"url": "http://%prompt%/"}, "not an http or https address"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_set(settings, words):
    with pytest.raises(InvalidSetting, match=words):
        JSONGenerator(**{"url": "http://h/paint", "body": BODY, "image": PATH, **settings})


def test_a_percent_sign_by_itself_is_no_place():
    JSONGenerator("http://h", body={"p": "50% %prompt% 100%", "q": "%%promt%%"}, image="$.a")


@pytest.mark.parametrize("suffix", ["json", "toml"])
async def test_a_file_says_it_all_and_keys_come_from_the_environment(
    suffix, web, png, server, request_for, tmp_path, monkeypatch
):
    monkeypatch.setenv("PLAIN_KEY", " secret-key\n")
    monkeypatch.setenv("PLAIN_TOKEN", "a+b/c=&d")
    file = tmp_path / f"plain.{suffix}"
    file.write_text(
        json.dumps(
            {
                "url": f"{web.url}{PAINT}?other=${{PLAIN_TOKEN}}",
                "headers": {"x-key": "${PLAIN_KEY}"},
                "body": {
                    "text": "%prompt%",
                    "size": ["%width%", "%height%"],
                    "key": "${PLAIN_KEY}",
                    "a": "$5",
                },
                "image": PATH,
                "width": 512,
                "height": 512,
            }
        )
        if suffix == "json"
        else f"""
            url = "{web.url}{PAINT}?other=${{PLAIN_TOKEN}}"
            image = "{PATH}"
            width = 512
            height = 512
            headers.x-key = "${{PLAIN_KEY}}"
            [body]
            text = "%prompt%"
            size = ["%width%", "%height%"]
            key = "${{PLAIN_KEY}}"
            a = "$5"
        """
    )
    generator = json_generator_from_file(file, height=256)
    assert await generator.generate(request_for("a fox"), lambda *_: None) == png
    assert server.asked == [{"text": "a fox", "size": [512, 256], "key": "secret-key", "a": "$5"}]
    assert web.received[0].query == {"other": "a+b/c=&d"}
    web.answer_json(PAINT, {"error": "not with secret-key"}, 401)
    with pytest.raises(AuthFailed, match=r"not with \*\*\*"):
        await generator.generate(request_for(), lambda *_: None)
    await generator.aclose()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.json", None, r"cannot read .*gone\.json: No such file"),
        ("a.json", "{", r"cannot read .*a\.json: Expecting property name"),
        ("a.toml", "url", r"cannot read .*a\.toml: Expected '='"),
        ("a.json", b"\xff\xfe", r"cannot read .*a\.json"),
        ("a.json", "[" * 100_000, r"cannot read .*a\.json"),
        ("a.json", "[]", "must hold an object with url, body and image"),
        ("a.json", '{"uri": "x"}', "has a setting 'uri'; there are: url, body, image, headers"),
        ("a.json", '{"body": "%prompt%"}', r"a\.json: there is no url"),
        ("a.json", '{"url": 3}', r"a\.json: url must be of type str, but is '3'"),
        ("a.json", '{"url": "http://h", "width": true}', "width must be of type int"),
        ("a.json", '{"url": "http://h", "headers": {"a": 1}}', "the header a must be of type str"),
        ("a.json", '{"url": "http://h", "body": "x"}', r"a\.json: there is no %prompt%"),
        (
            "a.json",
            '{"url": "http://h", "body": "${NOT_SET_AT_ALL}"}',
            "the environment has no NOT_SET_AT_ALL",
        ),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_name(name, content, words, tmp_path):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidSetting, match=words):
        json_generator_from_file(file)


async def test_the_file_that_the_documentation_shows_can_be_meant(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "backends.md").read_text()
    [shown] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "shown.toml"
    file.write_text(shown)
    monkeypatch.setenv("FAL_KEY", "secret-key")
    generator = json_generator_from_file(file)
    await generator.aclose()
    assert repr(generator) == "JSONGenerator('https://fal.run/fal-ai/flux/schnell')"
