"""Images from Pollinations: one GET, whose answer is the image."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from limner.adapters.http import HttpClient
from limner.adapters.http_errors import typed_error, words_from_json
from limner.adapters.http_parts import Fetched
from limner.adapters.options import checked
from limner.adapters.sniffing import describe
from limner.errors import BackendError, BadRequest, NoImage, NotAnImage
from limner.states.values import check_whole_number
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

POLLINATIONS_URL = "https://gen.pollinations.ai"
ANONYMOUS_URL = "https://image.pollinations.ai"

_LARGEST_SEED = 0x7FFF_FFFF
# What stands before the service takes no longer addresses.
_LONGEST_ADDRESS = 16_000


class PollinationsGenerator:
    """A `Generator` for Pollinations, `GET /image/PROMPT`.

    With an `api_key` (from https://enter.pollinations.ai) it asks `gen.pollinations.ai`, without one the
    older `image.pollinations.ai`, which serves anonymous callers slowly and one at a time. `base_url` says
    otherwise; it may end in the path before the prompt, `/image` or `/prompt`. `model`, `width` and `height`
    (px) are left to the service where they are None; `safe` is what it shall look the prompt through for,
    such as "nsfw".

    The service keeps each picture under its address. So an attempt that is repeated after its time has
    passed gets the picture that was being painted, and pays for no other. It takes 31 bits of the seed.
    """

    capabilities = Capabilities()

    @checked
    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        model: str | None = None,
        width: int | None = None,
        height: int | None = None,
        safe: str | None = None,
    ) -> None:
        for name, value in (("width", width), ("height", height)):
            if value is not None:
                check_whole_number(name, value, 1)
        key = (api_key or "").strip()
        address = (base_url or (POLLINATIONS_URL if key else ANONYMOUS_URL)).strip().rstrip("/")
        if not address.endswith(("/image", "/prompt")):
            old = urlsplit(address).netloc.endswith("image.pollinations.ai")
            address = f"{address}/{'prompt' if old else 'image'}"
        self._client = HttpClient(
            address,
            headers={"authorization": f"Bearer {key}"} if key else {},
            without_key=""
            if key
            else "no key was sent: api_key, or LIMNER_POLLINATIONS_KEY in the environment",
        )
        self._options: dict[str, Any] = {
            "model": model,
            "width": width,
            "height": height,
            "safe": safe,
            "nologo": "true",
        }

    def __repr__(self) -> str:
        """The address only, never the key."""
        return f"PollinationsGenerator({self._client.address!r})"

    async def generate(
        self,
        request: GenerationRequest,
        report: ProgressCallback,  # noqa: ARG002 - the port's; this interface tells of no progress
    ) -> bytes:
        """Ask for one image and wait for it.

        Raises `NoBalance`, `Moderated` and every other `BackendError`; `BadRequest` for a prompt that is too
        long for an address.
        """
        answer = await self._client.fetch("GET", self._path(request), shown="...", unbounded=True)
        if answer.media_type.startswith("image/") or answer.media_type == "application/octet-stream":
            if not answer.data:
                raise NoImage(f"{answer.where} answered with an empty image")
            return answer.data
        raise await self._without_image(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _path(self, request: GenerationRequest) -> str:
        # A part of an address that is nothing but dots means a step up, however it is written.
        prompt = f"{request.prompt} " if request.prompt in (".", "..") else request.prompt
        own = request.settings.given("width", "height")
        options = {**self._options, **own, "seed": request.seed & _LARGEST_SEED}
        query = urlencode({name: value for name, value in options.items() if value is not None})
        path = f"{quote(prompt, safe='', errors='replace')}?{query}"
        if len(self._client.address) + len(path) > _LONGEST_ADDRESS:
            raise BadRequest(
                f"the prompt is too long for an address ({len(path)} characters with its percent signs, "
                f"and {_LONGEST_ADDRESS} are taken); openai={POLLINATIONS_URL} sends it another way"
            )
        # Not taken for an address of its own, whatever stands in the prompt.
        return f"./{path}"

    async def _without_image(self, answer: Fetched) -> BackendError:
        if answer.media_type == "application/json":
            error = typed_error(
                f"{answer.where} reports an error", words_from_json(await self._client.json_in(answer))
            )
        elif answer.data:
            error = NotAnImage(f"{answer.where} answered without an image: {describe(answer.data)}")
        else:
            error = NoImage(f"{answer.where} answered without an image")
        return error.in_words(self._client.without_secrets(str(error)))
