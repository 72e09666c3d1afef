"""Images from Google's Gemini and Imagen models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from limner.adapters.http import HttpClient
from limner.adapters.http_errors import typed_error, words_from_json
from limner.adapters.image_text import image_from_text
from limner.adapters.options import check_json, checked
from limner.adapters.sniffing import one_line
from limner.errors import BackendError, InvalidSetting, Moderated, NoImage
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

GEMINI_URL = "https://generativelanguage.googleapis.com"
DEFAULT_GEMINI_MODEL = "gemini-3.1-flash-image"

_VERSION = re.compile(r"/v\d\w*(?:/|$)")
_ENDPOINT = re.compile(r"/models(?:/.*)?$")
_LARGEST_SEED = 0x7FFF_FFFF
_LONGEST_WORDS = 300

# Why Gemini ends without an image, where it will do so again.
_REFUSALS = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "LANGUAGE",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
    }
)
# … and where it may well not.
_MISHAPS = frozenset({"OTHER", "IMAGE_OTHER", "NO_IMAGE", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"})


class GeminiGenerator:
    """A `Generator` for Gemini's image models (`generateContent`) and Imagen (`predict`).

    `model` chooses between the two: one that begins with `imagen-` is Imagen. `base_url` may or may not have
    a version in its path; without one it gets `/v1beta`. `api_key` travels in a header and may be left out
    for another server than Google's. `aspect_ratio` is for example "16:9", `image_size` "1K", "2K" or "4K";
    what is left out is left to the model. `options` are whatever else its `generationConfig` (Imagen: its
    `parameters`) knows; one that is None is taken out.

    Both refuse by answering without an image; that is `Moderated`, with the words that came along. Gemini is
    given the request's seed, of which it takes 31 bits; Imagen knows none. Neither tells of progress.
    """

    capabilities = Capabilities()

    @checked
    def __init__(
        self,
        base_url: str = GEMINI_URL,
        *,
        model: str = DEFAULT_GEMINI_MODEL,
        api_key: str | None = None,
        aspect_ratio: str | None = None,
        image_size: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        check_json("options", options)
        self._model = model.strip().removeprefix("models/")
        if not self._model:
            raise InvalidSetting(f"Gemini wants a model, for example {DEFAULT_GEMINI_MODEL}")
        key = (api_key or "").strip()
        address = _ENDPOINT.sub("", base_url.strip().partition("?")[0]).rstrip("/")
        if not key and address.startswith(GEMINI_URL):
            raise InvalidSetting(
                "Gemini wants an API key; without api_key it is taken from LIMNER_GEMINI_KEY"
            )
        self._client = HttpClient(
            address if _VERSION.search(address) else f"{address}/v1beta",
            headers={"x-goog-api-key": key} if key else {},
        )
        self._is_imagen = self._model.startswith("imagen-")
        self._path = (
            f"models/{quote(self._model, safe='')}:{'predict' if self._is_imagen else 'generateContent'}"
        )
        self._sizes = {
            "aspectRatio": aspect_ratio,
            "sampleImageSize" if self._is_imagen else "imageSize": image_size,
        }
        self._options = dict(options or {})

    def __repr__(self) -> str:
        """The address and the model, never the key."""
        return f"GeminiGenerator({self._client.address!r}, model={self._model!r})"

    async def generate(
        self,
        request: GenerationRequest,
        report: ProgressCallback,  # noqa: ARG002 - the port's; this interface tells of no progress
    ) -> bytes:
        """Ask for one image and wait for it. Raises `Moderated` and every other `BackendError`."""
        body = self._predict_body(request) if self._is_imagen else self._content_body(request)
        told = await self._client.post_json(self._path, body, unbounded=True)
        if not isinstance(told, dict):
            raise NoImage(f"{self._client.address}{self._path} answered with JSON that is no image")
        image = _predicted_image(told) if self._is_imagen else _content_image(told)
        if image is None:
            raise self._without_image(told)
        return await image_from_text(image)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _content_body(self, request: GenerationRequest) -> dict[str, Any]:
        settings: dict[str, Any] = {
            # Text is asked for too: a refusal comes in words, and the oldest of these models insist on it.
            "responseModalities": ["TEXT", "IMAGE"],
            "seed": request.seed & _LARGEST_SEED,
            "imageConfig": _without_nones(self._sizes) or None,
            **self._options,
        }
        contents = [{"role": "user", "parts": [{"text": request.prompt}]}]
        return {"contents": contents, "generationConfig": _without_nones(settings)}

    def _predict_body(self, request: GenerationRequest) -> dict[str, Any]:
        # Unless it is asked for the reason, Imagen refuses with an empty answer.
        settings = {"sampleCount": 1, "includeRaiReason": True, **self._sizes, **self._options}
        return {"instances": [{"prompt": request.prompt}], "parameters": _without_nones(settings)}

    def _without_image(self, told: dict[str, Any]) -> BackendError:
        where = f"{self._client.address}{self._path}"
        if told.get("error"):
            error = typed_error(f"{where} reports an error", words_from_json(told))
        elif self._is_imagen:
            error = _imagens_refusal(where, told)
        else:
            error = _geminis_refusal(where, told)
        return error.in_words(self._client.without_secrets(str(error)))


def _content_image(told: Mapping[str, Any]) -> object:
    """The base64 of the first image; None where there is none. Sketches made while thinking are none."""
    for part in _parts(told):
        data = part.get("inlineData")
        if isinstance(data, dict) and data.get("data") and not part.get("thought"):
            return data["data"]
    return None


def _predicted_image(told: Mapping[str, Any]) -> object:
    for prediction in _dicts(told.get("predictions")):
        if prediction.get("bytesBase64Encoded"):
            return prediction["bytesBase64Encoded"]
    return None


def _geminis_refusal(where: str, told: Mapping[str, Any]) -> BackendError:
    candidate = next(_dicts(told.get("candidates")), {})
    feedback = told.get("promptFeedback")
    blocked = feedback if isinstance(feedback, dict) else {}
    reason = str(blocked.get("blockReason") or candidate.get("finishReason") or "")
    said = " ".join(
        str(part["text"]) for part in _parts(told) if part.get("text") and not part.get("thought")
    )
    words = blocked.get("blockReasonMessage") or candidate.get("finishMessage") or said
    if blocked.get("blockReason") or reason in _REFUSALS:
        return Moderated(_told(f"{where} refused the prompt", reason, words))
    if reason in _MISHAPS:
        return BackendError(_told(f"{where} made no image", reason, words), status=200)
    if words:
        # It explains why not, or asks back; asked again it would do the same.
        return Moderated(_told(f"{where} answered with words instead of an image", "", words))
    return NoImage(_told(f"{where} answered without an image", reason, ""))


def _imagens_refusal(where: str, told: Mapping[str, Any]) -> BackendError:
    reasons = [
        str(one["raiFilteredReason"])
        for one in _dicts(told.get("predictions"))
        if one.get("raiFilteredReason")
    ]
    return Moderated(_told(f"{where} refused the prompt", "", reasons[0] if reasons else "it gave no reason"))


def _told(what: str, reason: str, words: object) -> str:
    told = f"{what} ({one_line(reason, 60)})" if reason else what
    return f"{told}: {one_line(str(words), _LONGEST_WORDS)}" if words else told


def _parts(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for candidate in _dicts(told.get("candidates")):
        content = candidate.get("content")
        yield from _dicts(content.get("parts") if isinstance(content, dict) else None)


def _dicts(value: object) -> Iterator[dict[str, Any]]:
    for one in value if isinstance(value, list) else ():
        if isinstance(one, dict):
            yield one


def _without_nones(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
