"""Images from OpenAI, and from every server that speaks its `/images/generations`."""

from __future__ import annotations

from typing import Any

from limner.adapters.http_errors import typed_error, words_from_json
from limner.adapters.image_text import image_from_text
from limner.adapters.openai_api import openai_client
from limner.errors import InvalidSetting, NoImage
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

_PATH = "images/generations"


class OpenAIImagesGenerator:
    """A `Generator` for the OpenAI Images interface.

    `base_url` may or may not end in `/v1`. `model` is the server's name for the model, `api_key` its key
    (None for a server that wants none), `size` for example "1024x1024", `quality` for example "low"; what
    is left out is left to the server. The interface knows neither seeds, progress nor cancelling.

    An image that comes as an address is fetched; the key goes along only to the server's own host.
    """

    capabilities = Capabilities()

    def __init__(
        self,
        base_url: str,
        *,
        model: str,
        api_key: str | None = None,
        size: str | None = None,
        quality: str | None = None,
    ) -> None:
        if not model:
            raise InvalidSetting("the OpenAI Images interface wants a model, for example gpt-image-1")
        self._client = openai_client(base_url, api_key)
        self._options: dict[str, Any] = {"model": model, "n": 1}
        if size is not None:
            self._options["size"] = size
        if quality is not None:
            self._options["quality"] = quality
        if model.startswith("dall-e"):
            # These send an address that expires unless told otherwise; later models refuse the option.
            self._options["response_format"] = "b64_json"

    def __repr__(self) -> str:
        """The address and the model, never the key."""
        return f"OpenAIImagesGenerator({self._client.base_url!r}, model={self._options['model']!r})"

    async def generate(
        self,
        request: GenerationRequest,
        report: ProgressCallback,  # noqa: ARG002 - the port's; this interface tells of no progress
    ) -> bytes:
        """Ask for one image and wait for it. Raises `Moderated` and every other `BackendError`."""
        answer = await self._client.post_json(_PATH, {"prompt": request.prompt, **self._options})
        image = self._first_image(answer)
        if image.get("b64_json"):
            return await image_from_text(image["b64_json"])
        url = image.get("url")
        if not isinstance(url, str) or not url:
            raise NoImage(
                f"{self._client.base_url}{_PATH} answered with neither an image nor an address of one"
            )
        if url.startswith("data:"):
            return await image_from_text(url)
        return await self._client.get_bytes(url)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _first_image(self, answer: object) -> dict[str, Any]:
        where = f"{self._client.base_url}{_PATH}"
        images = answer.get("data") if isinstance(answer, dict) else None
        if isinstance(images, list) and images and isinstance(images[0], dict):
            return images[0]
        if isinstance(answer, dict) and answer.get("error"):
            # Some servers report an error with status 200.
            raise typed_error(f"{where} reports an error", words_from_json(answer))
        raise NoImage(f"{where} answered without an image")
