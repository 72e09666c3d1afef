"""Images from OpenAI, and from every server that speaks its `/images/generations`."""

from __future__ import annotations

import json
import re
from typing import Any

import anyio.to_thread

from limner.adapters.http import MAX_ANSWER_BYTES
from limner.adapters.http_answer import Answer
from limner.adapters.http_errors import typed_error, words_from_json
from limner.adapters.image_text import image_from_text
from limner.adapters.openai_api import openai_client
from limner.adapters.options import checked
from limner.adapters.sniffing import describe, one_line
from limner.adapters.sse import EventParser, ServerSentEvent
from limner.errors import (
    AnswerTooLarge,
    BackendError,
    BadRequest,
    InvalidSetting,
    NoImage,
    Unavailable,
)
from limner.states.values import check_whole_number
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

_PATH = "images/generations"
_MOST_PARTIAL_IMAGES = 3
# JSON up to this size is parsed where it is; more would hold up the event loop for a noticeable time.
_PARSE_IN_PLACE_CHARACTERS = 256 * 1024
# A refusal of streaming names what it does not know: "Unknown parameter: 'stream'", "body.partial_images: …".
_NAMES_STREAMING = re.compile(r"\b(?:stream(?:ing)?|partial_images?)\b", re.IGNORECASE)
# In the middle of a stream there is no status; these types stand for 400.
_REQUEST_AT_FAULT = ("image_generation_user_error", "invalid_request_error")


class OpenAIImagesGenerator:
    """A `Generator` for the OpenAI Images interface.

    `base_url` may or may not end in `/v1`. `model` is the server's name for the model, `api_key` its key
    (None for a server that wants none), `size` for example "1024x1024", `quality` for example "low",
    `background` "transparent", "opaque" or "auto", `output_format` "png", "jpeg" or "webp",
    `output_compression` a percentage for the latter two, `moderation` "low" or "auto"; what is left out is
    left to the server. The interface knows neither seeds nor cancelling, and it does not say how far it is.

    `partial_images`, 1 to 3, has the image streamed: so many unfinished pictures at most come before it, each
    of which is a preview (and costs some output tokens). With 0 nothing about streaming is sent, which every
    server understands. A server that refuses to stream is asked once more without, and not to stream again.

    An image that comes as an address is fetched; the key goes along only to the server's own host.
    """

    @checked
    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        api_key: str | None = None,
        size: str | None = None,
        quality: str | None = None,
        background: str | None = None,
        output_format: str | None = None,
        output_compression: int | None = None,
        moderation: str | None = None,
        partial_images: int = 0,
    ) -> None:
        if not model:
            raise InvalidSetting("the OpenAI Images interface wants a model, for example gpt-image-1")
        check_whole_number("partial_images", partial_images, 0)
        if not 0 <= partial_images <= _MOST_PARTIAL_IMAGES:
            raise InvalidSetting(
                f"partial_images must be 0 to {_MOST_PARTIAL_IMAGES}, but is {partial_images}"
            )
        if output_compression is not None:
            check_whole_number("output_compression", output_compression, 0)
        if output_compression is not None and output_compression > 100:
            raise InvalidSetting(f"output_compression must be 0 to 100, but is {output_compression}")
        if background == "transparent" and output_format == "jpeg":
            raise InvalidSetting("background='transparent' needs output_format='png' or 'webp', not 'jpeg'")
        self._client = openai_client(base_url, api_key)
        self._where = f"{self._client.address}{_PATH}"
        settings = {
            "size": size,
            "quality": quality,
            "background": background,
            "output_format": output_format,
            "output_compression": output_compression,
            "moderation": moderation,
            # Dall-e sends an address that expires unless told otherwise; later models refuse the option.
            "response_format": "b64_json" if model.startswith("dall-e") else None,
        }
        given = {name: value for name, value in settings.items() if value is not None}
        self._options: dict[str, Any] = {"model": model, "n": 1, **given}
        self._partial_images = partial_images

    @property
    def capabilities(self) -> Capabilities:
        """Previews where partial images are asked for and the server has not refused them."""
        return Capabilities(preview=self._partial_images > 0)

    def __repr__(self) -> str:
        """The address and the model, never the key."""
        return f"OpenAIImagesGenerator({self._client.address!r}, model={self._options['model']!r})"

    async def generate(self, request: GenerationRequest, report: ProgressCallback) -> bytes:
        """Ask for one image and wait for it, reporting the partial ones.

        Raises `Moderated` and every other `BackendError`; `Unavailable` for a stream that ends too early.
        """
        body = {"prompt": request.prompt, **self._options}
        own = request.settings
        if own.width is not None and own.height is not None:
            body["size"] = f"{own.width}x{own.height}"
        if self._partial_images:
            try:
                return await self._streamed(body, report)
            except BadRequest as error:
                if not _refuses_streaming(error):
                    raise
                # Not a second attempt: the server has not begun one.
                self._partial_images = 0
        return await self._image(self._first_image(await self._client.post_json(_PATH, body, unbounded=True)))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _streamed(self, body: dict[str, Any], report: ProgressCallback) -> bytes:
        streaming = {**body, "stream": True, "partial_images": self._partial_images}
        async with self._client.stream(_PATH, streaming, unbounded=True) as answer:
            item = await self._last_event(answer, report)
        return await self._image(item)

    async def _last_event(self, answer: Answer, report: ProgressCallback) -> dict[str, Any]:
        """Read up to the finished image and report what comes before it."""
        if answer.media_type == "application/json":
            # A server that knows of no streaming answers with everything at once.
            return self._first_image(await answer.json(MAX_ANSWER_BYTES))
        parser = EventParser(MAX_ANSWER_BYTES) if answer.media_type == "text/event-stream" else None
        # Besides the images asked for there are only names, comments and numbers.
        left = MAX_ANSWER_BYTES * (self._partial_images + 1)
        while (chunk := await answer.chunk()) is not None:
            left -= len(chunk)
            if left < 0:
                raise AnswerTooLarge(f"{self._where} streams more than {self._partial_images + 1} images")
            if parser is None:
                # The media type says nothing of use, so the first byte has to.
                first = chunk.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
                if not first:
                    continue
                if first in b"{[":
                    return self._first_image(await answer.json(MAX_ANSWER_BYTES, already=chunk))
                if first not in b"deir:":  # data, event, id, retry, or a comment
                    raise BackendError(
                        self._told("answered with no stream of events", describe(chunk)), status=200
                    )
                parser = EventParser(MAX_ANSWER_BYTES)
            for event in parser.feed(chunk):
                finished = await self._take(event, report)
                if finished is not None:
                    return finished
        for event in parser.flush() if parser else ():
            finished = await self._take(event, report, cut_off=True)
            if finished is not None:
                return finished
        raise Unavailable(f"{self._where} ended the stream before the image was complete", status=200)

    async def _take(
        self, event: ServerSentEvent, report: ProgressCallback, *, cut_off: bool = False
    ) -> dict[str, Any] | None:
        """Take in one event; returns the finished image, if that is what it brings."""
        data = event.data.strip()
        if not data or data == "[DONE]":
            return None
        try:
            parsed = await _parsed(data)
        except (ValueError, RecursionError) as error:
            if cut_off:
                raise Unavailable(
                    f"{self._where} ended the stream in the middle of an event", status=200
                ) from error
            raise BackendError(self._told("streams broken JSON", data), status=200) from error
        if not isinstance(parsed, dict):
            raise BackendError(self._told("streams something unexpected", data), status=200)
        kind = str(parsed.get("type") or event.event)
        if parsed.get("error") or kind == "error" or kind.endswith(".failed"):
            raise self._error_in(parsed)
        if kind.endswith(".partial_image"):
            await _report_preview(parsed.get("b64_json"), report)
        elif kind.endswith(".completed"):
            return parsed
        elif isinstance(parsed.get("data"), list):
            # The whole of a plain answer, wrapped into one event.
            return self._first_image(parsed)
        return None

    async def _image(self, item: dict[str, Any]) -> bytes:
        if item.get("b64_json"):
            return await image_from_text(item["b64_json"])
        url = item.get("url")
        if not isinstance(url, str) or not url:
            raise NoImage(f"{self._where} answered with neither an image nor an address of one")
        if url.startswith("data:"):
            return await image_from_text(url)
        return await self._client.get_bytes(url)

    def _first_image(self, answer: object) -> dict[str, Any]:
        images = answer.get("data") if isinstance(answer, dict) else None
        if isinstance(images, list) and images and isinstance(images[0], dict):
            return images[0]
        if isinstance(answer, dict) and answer.get("error"):
            # Some servers report an error with status 200.
            raise self._error_in(answer)
        raise NoImage(f"{self._where} answered without an image")

    def _error_in(self, parsed: dict[str, Any]) -> BackendError:
        """The error that came without a status. Its words pass no other place that takes the keys out."""
        words = words_from_json(parsed)
        error = parsed.get("error")
        kind = error.get("type") if isinstance(error, dict) else None
        return typed_error(
            f"{self._where} reports an error",
            words._replace(text=self._client.without_secrets(words.text)),
            400 if kind in _REQUEST_AT_FAULT else None,
        )

    def _told(self, what: str, words: str) -> str:
        return f"{self._where} {what}: {self._client.without_secrets(one_line(words, 200))}"


def _refuses_streaming(error: BadRequest) -> bool:
    # Only the server's words count: the word may also stand in its address.
    return _NAMES_STREAMING.search(str(error).partition(" answered ")[2]) is not None


async def _parsed(data: str) -> object:
    if len(data) <= _PARSE_IN_PLACE_CHARACTERS:
        parsed: object = json.loads(data)
        return parsed
    return await anyio.to_thread.run_sync(json.loads, data)


async def _report_preview(text: object, report: ProgressCallback) -> None:
    # How much of the work a partial image stands for is not said, so no fraction goes along. One that
    # cannot be read costs a preview, never the image.
    try:
        preview = await image_from_text(text)
    except BackendError:
        return
    report(preview=preview)
