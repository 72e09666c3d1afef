"""Partial images from the OpenAI Images interface, from servers that behave and from those that do not."""

from __future__ import annotations

import base64
import json

import anyio
import pytest
from starlette.responses import Response

from limner.adapters import openai_images
from limner.adapters.openai_images import OpenAIImagesGenerator
from limner.errors import (
    AnswerTooLarge,
    BackendError,
    BadRequest,
    InvalidSetting,
    Moderated,
    NoImage,
    NotAnImage,
    RateLimited,
    Unavailable,
)
from limner.workflows.ports import Capabilities
from tests.adapters.servers.local import PATIENCE_S, RawServer, Wire, chunk, happened, head
from tests.adapters.servers.openai_images import PATH, OpenAIImagesServer, completed, event, partial

pytestmark = pytest.mark.anyio

EVENTS = head(content_type="text/event-stream", transfer_encoding="chunked")


@pytest.fixture
def text(png):
    return base64.b64encode(png).decode()


def streaming(url: str, **settings) -> OpenAIImagesGenerator:
    return OpenAIImagesGenerator(url, **{"model": "gpt-image-1", "partial_images": 2, **settings})


async def generated(url: str, request, report, **settings) -> bytes:
    generator = streaming(url, **settings)
    try:
        return await generator.generate(request, report)
    finally:
        await generator.aclose()


async def test_partial_images_are_previews_and_no_fraction_is_made_up(web, png, text, request_for, progress):
    server = OpenAIImagesServer(web, text)
    assert await generated(web.url, request_for("a fox"), progress) == png
    assert progress.previews == [png, png]
    assert progress.fractions == []
    (asked,) = server.asked
    assert (asked["stream"], asked["partial_images"]) == (True, 2)


async def test_nothing_about_streaming_is_sent_unless_it_is_asked_for(web, png, text, request_for, progress):
    server = OpenAIImagesServer(web, text, streams=False)
    assert await generated(web.url, request_for(), progress, partial_images=0) == png
    assert {"stream", "partial_images"}.isdisjoint(server.asked[0])


@pytest.mark.parametrize(("partial_images", "preview"), [(0, False), (1, True), (3, True)])
async def test_previews_are_promised_only_where_they_were_asked_for(partial_images, preview):
    generator = streaming("http://127.0.0.1:1", partial_images=partial_images)
    assert generator.capabilities == Capabilities(preview=preview)
    await generator.aclose()


async def test_a_server_that_refuses_to_stream_is_asked_once_without_and_remembered(
    web, png, text, request_for, progress
):
    server = OpenAIImagesServer(web, text, streams=False)
    generator = streaming(web.url)
    for _ in range(2):
        assert await generator.generate(request_for(), progress) == png
    await generator.aclose()
    assert ["stream" in asked for asked in server.asked] == [True, False, False]
    assert not generator.capabilities.preview


async def test_a_refusal_that_lists_the_extra_fields_is_understood(web, png, text, request_for, progress):
    fault = {"loc": ["body", "partial_images"], "msg": "Extra inputs are not permitted"}
    web.answer_json(PATH, {"detail": [fault]}, 422)
    generator = streaming(web.url)
    with pytest.raises(BadRequest):  # the same answer again, to a request without the field
        await generator.generate(request_for(), progress)
    await generator.aclose()
    assert ["stream" in got.json for got in web.received] == [True, False]


async def test_another_refusal_is_not_taken_for_one_of_streaming(web, request_for, progress):
    web.answer_json(PATH, {"error": {"message": "Invalid size '7x7'."}}, 400)
    with pytest.raises(BadRequest, match="7x7"):
        await generated(web.url, request_for(), progress)
    assert len(web.received) == 1


@pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
async def test_a_server_that_ignores_stream_is_understood(web, png, text, request_for, progress, media_type):
    body = json.dumps({"data": [{"b64_json": text}]})
    web.answer(PATH, Response(f"\n {body}", media_type=media_type))
    assert await generated(web.url, request_for(), progress) == png
    assert progress.previews == []


async def test_an_error_with_status_200_instead_of_a_stream_is_an_error(web, request_for, progress):
    web.answer_json(PATH, {"error": {"message": "busy", "code": "rate_limit_exceeded"}})
    with pytest.raises(RateLimited, match="busy"):
        await generated(web.url, request_for(), progress)


async def test_a_whole_answer_wrapped_into_an_event_is_understood(web, png, text, request_for, progress):
    body = f"data: {json.dumps({'data': [{'b64_json': text}]})}\n\ndata: [DONE]\n\n"
    web.answer(PATH, Response(body, media_type="text/event-stream"))
    assert await generated(web.url, request_for(), progress) == png


async def test_a_finished_image_that_comes_as_an_address_is_fetched(web, png, request_for, progress):
    web.answer("/files/1.png", Response(png))
    body = event("image_generation.completed", url="/files/1.png")
    web.answer(PATH, Response(body, media_type="text/event-stream"))
    assert await generated(web.url, request_for(), progress) == png


@pytest.mark.parametrize("media_type", ["text/event-stream", "text/plain"])
async def test_events_may_be_cut_anywhere(png, text, request_for, progress, media_type):
    stream = b": alive\r\n\r\n" + partial(text) + event("image_generation.queued") + completed(text)

    def script(wire: Wire) -> None:
        wire.send(head(content_type=media_type, transfer_encoding="chunked"))
        for byte in stream:
            wire.send(chunk(bytes([byte])))
        wire.send(chunk(b""))

    with RawServer(script) as server:
        assert await generated(server.url, request_for(), progress) == png
    assert progress.previews == [png]


async def test_a_preview_is_reported_before_the_next_event_comes(png, text, request_for, progress):
    def script(wire: Wire) -> None:
        wire.send(EVENTS + chunk(partial(text)))
        wire.wait_until_cut()

    reported = anyio.Event()

    def report(fraction=None, preview=None, job_id=None) -> None:
        progress(fraction, preview, job_id)
        reported.set()

    with RawServer(script) as server:
        generator = streaming(server.url)
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(generator.generate, request_for(), report)
                await reported.wait()
                group.cancel_scope.cancel()
            # Cancelled in the middle of the stream: the connection does not stay.
            await happened(server.was_cut)
        await generator.aclose()
    assert progress.previews == [png]


async def test_the_finished_image_ends_the_stream_though_the_connection_stays(
    png, text, request_for, progress
):
    def script(wire: Wire) -> None:
        wire.send(EVENTS + chunk(completed(text)))
        wire.wait_until_cut()

    with RawServer(script) as server:
        assert await generated(server.url, request_for(), progress) == png
        await happened(server.was_cut)


async def test_a_call_can_be_cancelled_before_the_stream_begins(web, request_for, progress):
    web.hold(PATH)
    generator = streaming(web.url)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(generator.generate, request_for(), progress)
            await happened(web.arrived)
            group.cancel_scope.cancel()
    await generator.aclose()


async def test_a_call_that_is_over_is_not_touched_by_a_later_cancelling(
    web, png, text, request_for, progress
):
    OpenAIImagesServer(web, text)
    generator = streaming(web.url)
    with anyio.CancelScope() as scope:
        image = await generator.generate(request_for(), progress)
        scope.cancel()
    assert image == png
    assert await generator.generate(request_for(), progress) == png
    await generator.aclose()


@pytest.mark.parametrize("broken", ["not base64!", 17, None, ["list"]])
async def test_a_preview_that_cannot_be_read_costs_the_image_nothing(
    web, png, text, request_for, progress, broken
):
    web.answer(PATH, Response(partial(broken) + completed(text), media_type="text/event-stream"))
    assert await generated(web.url, request_for(), progress) == png
    assert progress.previews == []


async def test_a_finished_image_that_cannot_be_read_is_an_error(web, text, request_for, progress):
    web.answer(PATH, Response(partial(text) + completed("not base64!"), media_type="text/event-stream"))
    with pytest.raises(NotAnImage):
        await generated(web.url, request_for(), progress)
    web.answer(PATH, Response(completed(None), media_type="text/event-stream"))
    with pytest.raises(NoImage):
        await generated(web.url, request_for(), progress)


@pytest.mark.parametrize("ending", [b"", b'data: {"type": "image_gen', b"data: [DONE]\n\n", b": bye\n\n"])
async def test_a_stream_that_ends_without_the_image_is_unavailable(
    web, png, text, request_for, progress, ending
):
    web.answer(PATH, Response(partial(text) + ending, media_type="text/event-stream"))
    with pytest.raises(Unavailable, match="ended the stream"):
        await generated(web.url, request_for(), progress)
    assert progress.previews == [png]


async def test_an_image_whose_last_empty_line_is_missing_is_an_image(web, png, text, request_for, progress):
    web.answer(PATH, Response(completed(text).rstrip(), media_type="text/event-stream"))
    assert await generated(web.url, request_for(), progress) == png


async def test_a_connection_that_breaks_is_unavailable(text, request_for, progress):
    def script(wire: Wire) -> None:
        wire.send(EVENTS + chunk(partial(text))[:-9])
        wire.reset()

    with RawServer(script) as server, pytest.raises(Unavailable, match="cut the connection"):
        await generated(server.url, request_for(), progress)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "image_generation_user_error", "code": "moderation_blocked", "message": "No."}, Moderated),
        ({"type": "image_generation_user_error", "code": "invalid_size", "message": "No."}, BadRequest),
        (
            {"type": "image_generation_server_error", "code": "image_generation_failed", "message": "No."},
            None,
        ),
        ({"code": "rate_limit_exceeded", "message": "No."}, RateLimited),
    ],
)
async def test_an_error_within_the_stream_is_typed(web, text, request_for, progress, error, kind):
    for told in (event("error", error=error), event("image_generation.failed", error=error)):
        web.answer(PATH, Response(partial(text) + told, media_type="text/event-stream"))
        with pytest.raises(BackendError, match=r"reports an error: No\.") as caught:
            await generated(web.url, request_for(), progress)
        assert type(caught.value) is (kind or BackendError)


async def test_an_error_that_is_told_without_an_object_of_its_own_is_typed(web, request_for, progress):
    told = event("error", code="content_policy_violation", message="No.", param=None)
    web.answer(PATH, Response(told, media_type="text/event-stream"))
    with pytest.raises(Moderated, match=r"No\."):
        await generated(web.url, request_for(), progress)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ('{"error": {"message": "bad key sk-secret"}}', "application/json"),
        ('data: {"error": {"message": "bad key sk-secret"}}\n\n', "text/event-stream"),
        ("data: broken {sk-secret\n\n", "text/event-stream"),
        ('data: "sk-secret"\n\n', "text/event-stream"),
        ("please use sk-secret", "text/plain"),
    ],
)
async def test_the_key_is_in_no_error_that_comes_with_status_200(
    web, request_for, progress, body, media_type
):
    web.answer(PATH, Response(body, media_type=media_type))
    with pytest.raises(BackendError, match=r"\*\*\*") as caught:
        await generated(web.url, request_for(), progress, api_key="sk-secret")
    assert "sk-secret" not in str(caught.value)


async def test_a_stream_without_end_is_given_up(monkeypatch, text, request_for, progress):
    monkeypatch.setattr(openai_images, "MAX_ANSWER_BYTES", 10_000)

    def script(wire: Wire) -> None:
        wire.send(EVENTS)
        wire.send_until_cut(chunk(partial(text)))

    with RawServer(script) as server:
        with pytest.raises(AnswerTooLarge, match="more than 3 images"):
            await generated(server.url, request_for(), progress)
        await happened(server.was_cut)


async def test_a_large_event_is_read_whole(web, request_for, progress):
    large = bytes(400_000)
    body = partial(base64.b64encode(large).decode()) + completed(base64.b64encode(large).decode())
    web.answer(PATH, Response(body, media_type="text/event-stream"))
    assert await generated(web.url, request_for(), progress) == large
    assert progress.previews == [large]


@pytest.mark.parametrize(
    "settings",
    [
        {"partial_images": -1},
        {"partial_images": 4},
        {"output_compression": 101},
        {"background": "transparent", "output_format": "jpeg"},
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(settings):
    with pytest.raises(InvalidSetting, match=next(iter(settings))):
        streaming("http://127.0.0.1:1", **settings)
