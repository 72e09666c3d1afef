"""Images from any server that takes JSON: the address, the body and where the image is are settings."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from jsonpath import JSONPath, JSONPathEnvironment, JSONPathError

from limner.adapters.http import HttpClient
from limner.adapters.http_errors import typed_error, words_from_json
from limner.adapters.http_parts import Fetched
from limner.adapters.image_text import image_from_text
from limner.adapters.json_template import (
    Value,
    address_before_places,
    filled,
    filled_address,
    places_in,
    places_in_address,
)
from limner.adapters.options import check_json, checked
from limner.adapters.sniffing import describe
from limner.errors import BackendError, BadRequest, InvalidSetting, NoImage
from limner.states.values import check_whole_number
from limner.workflows.ports import Capabilities, GenerationRequest, ProgressCallback

_METHODS = ("POST", "PUT", "GET")
_LARGEST_SEED = 0x7FFF_FFFF
# Shorter values in a query are rather a model's name than a key, and would garble the server's words.
_SHORTEST_KEY = 8
_LONGEST_ADDRESS = 60_000
_NOTHING = object()
_ENVIRONMENT = re.compile(r"\$\{(\w+)\}")


class JSONGenerator:
    """A `Generator` for a server that is asked with one request and answers with the image.

    `url` is where the request goes, `body` a JSON value with places in its texts: `%prompt%`,
    `%negative_prompt%`, `%seed%`, `%width%`, `%height%`. A text that is nothing but a place becomes the value
    itself, so `%seed%` a number (of 31 bits, which every server takes); `%%` is a percent sign. Places may
    also stand in the `url`, where they are percent-encoded; with `method="GET"` that is the only way.

    `image` is a JSONPath (RFC 9535) to the image in the answer, for example `$.data[0].b64_json`: base64,
    a `data:` URL, or an address, which is fetched. An answer that is an image itself needs none.

    `headers` go along, a key among them; like a key in the query they are shown in no message. `secrets` are
    other texts that must not be. `width`, `height` (px) and `negative_prompt` are the values of their places.

    Raises `InvalidSetting` where there is no `%prompt%`, a place without a value, or a path that is none.
    """

    capabilities = Capabilities()

    @checked
    def __init__(
        self,
        url: str,
        *,
        body: object = None,
        image: str | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        width: int | None = None,
        height: int | None = None,
        negative_prompt: str = "",
        secrets: Iterable[str] = (),
    ) -> None:
        self._method = method.upper()
        if self._method not in _METHODS:
            raise InvalidSetting(f"method must be one of {', '.join(_METHODS)}, but is {method[:20]!r}")
        if self._method == "GET" and body is not None:
            raise InvalidSetting("a GET has no body; put the places into the url")
        check_json("body", body)
        self._url, self._body = url.strip(), body
        self._values: dict[str, Value] = {"negative_prompt": negative_prompt}
        for name, value in (("width", width), ("height", height)):
            if value is not None:
                check_whole_number(name, value, 1)
            if value is not None:
                self._values[name] = value
        self._check_places(places_in(body) | places_in_address(self._url))
        self._image = None if image is None else _compiled(image)
        in_query = [value for _, value in parse_qsl(urlsplit(self._url).query) if len(value) >= _SHORTEST_KEY]
        self._client = HttpClient(
            address_before_places(self._url).partition("?")[0],
            headers=headers,
            secrets=(*secrets, *(value for value in in_query if not places_in_address(value))),
        )
        self._where = self._client.address.rstrip("/")

    def __repr__(self) -> str:
        """The address only, without its query."""
        return f"JSONGenerator({self._where!r})"

    async def generate(
        self,
        request: GenerationRequest,
        report: ProgressCallback,  # noqa: ARG002 - the port's; nothing is known of this server's progress
    ) -> bytes:
        """Ask for one image and wait for it. Raises what `limner.errors.BackendError` has kinds for."""
        values: dict[str, Value] = {
            **self._values,
            **request.settings.given("negative_prompt", "width", "height"),
            "prompt": request.prompt,
            "seed": request.seed & _LARGEST_SEED,
        }
        body = None if self._body is None else filled(self._body, values)
        url = filled_address(self._url, values)
        if len(url) > _LONGEST_ADDRESS:
            raise BadRequest(f"the prompt makes an address of {len(url)} characters; use a body for it")
        answer = await self._client.fetch(self._method, url, body, shown=self._where, unbounded=True)
        if answer.media_type.startswith("image/") or answer.media_type == "application/octet-stream":
            if not answer.data:
                raise NoImage(f"{answer.where} answered with an empty image")
            return answer.data
        found = await self._found(answer)
        if isinstance(found, str) and _is_address(found):
            return await self._client.get_bytes(found)
        return await image_from_text(found)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _check_places(self, found: set[str]) -> None:
        if "prompt" not in found:
            raise InvalidSetting("there is no %prompt% in the body (or the url)")
        for name in sorted(found.difference(self._values, ("prompt", "seed"))):
            raise InvalidSetting(f"there is a place %{name}%, but no {name} was given")

    async def _found(self, answer: Fetched) -> object:
        """What is at the path in the answer."""
        if self._image is None:
            what = describe(answer.data)
            raise self._quiet(NoImage(f"{answer.where} did not answer with an image ({what}); give its path"))
        told = await self._client.json_in(answer)
        found = self._at(self._image, told)
        if found is not _NOTHING:
            return found
        if isinstance(told, dict) and told.get("error"):
            raise self._quiet(typed_error(f"{answer.where} reports an error", words_from_json(told)))
        what = describe(answer.data)
        raise self._quiet(NoImage(f"{answer.where} answered with nothing at {self._image}: {what}"))

    def _at(self, path: JSONPath, told: object) -> object:
        if not isinstance(told, (dict, list)):
            # The library would take a text for JSON that is yet to be parsed.
            return told if str(path) == "$" else _NOTHING
        try:
            match = path.match(told)
        except (JSONPathError, RecursionError) as error:
            raise BackendError(
                f"{self._where} answered with JSON that {path} cannot be looked up in", status=200
            ) from error
        return _NOTHING if match is None else match.obj

    def _quiet(self, error: BackendError) -> BackendError:
        return error.in_words(self._client.without_secrets(str(error)))


def json_generator_from_file(
    file: str | Path,
    *,
    width: int | None = None,
    height: int | None = None,
    negative_prompt: str | None = None,
) -> JSONGenerator:
    """The generator that a JSON or TOML file describes: the arguments of `JSONGenerator` by their names.

    `${NAME}` in any text of it is the environment's NAME, so that no key has to stand in the file; what comes
    from there is kept out of every message. Arguments that are given here go before those of the file. Raises
    `InvalidSetting` for a file that cannot be read or cannot be meant.
    """
    path = Path(file)
    settings = _read(path)
    given = {"width": width, "height": height, "negative_prompt": negative_prompt}
    settings |= {name: value for name, value in given.items() if value is not None}
    secrets: set[str] = set()
    try:
        _check_types(settings)
        # A key in the query may have characters that mean something there.
        address, mark, query = settings["url"].partition("?")
        url = f"{_expanded(address, secrets)}{mark}{_expanded(query, secrets, quoted=True)}"
        others = {name: _expanded(value, secrets) for name, value in settings.items() if name != "url"}
        return JSONGenerator(url, **others, secrets=secrets)
    except InvalidSetting as error:
        raise InvalidSetting(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        settings = tomllib.loads(text) if path.suffix.casefold() == ".toml" else json.loads(text)
    except OSError as error:
        raise InvalidSetting(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidSetting(f"cannot read {path}: {error}") from error
    if not isinstance(settings, dict):
        raise InvalidSetting(f"{path} must hold an object with url, body and image")
    known = ("url", "body", "image", "headers", "method", "width", "height", "negative_prompt")
    for name in settings:
        if name not in known:
            raise InvalidSetting(f"{path} has a setting {name!r}; there are: {', '.join(known)}")
    return settings


def _check_types(settings: Mapping[str, Any]) -> None:
    kinds = {"url": str, "image": str, "headers": dict, "method": str, "negative_prompt": str}
    for name, kind in {**kinds, "width": int, "height": int}.items():
        if name in settings and (not isinstance(settings[name], kind) or isinstance(settings[name], bool)):
            raise InvalidSetting(
                f"{name} must be of type {kind.__name__}, but is {str(settings[name])[:60]!r}"
            )
    if "url" not in settings:
        raise InvalidSetting("there is no url")
    for name, value in settings.get("headers", {}).items():
        if not isinstance(value, str):
            raise InvalidSetting(f"the header {name} must be of type str")


def _expanded(value: Any, secrets: set[str], *, quoted: bool = False) -> Any:
    """`value` with what it takes from the environment, which is noted in `secrets`."""
    if isinstance(value, str):

        def from_environment(found: re.Match[str]) -> str:
            taken = os.environ.get(found[1], "").strip()
            if not taken:
                raise InvalidSetting(f"the environment has no {found[1]}")
            secrets.add(taken)
            return quote(taken, safe="") if quoted else taken

        return _ENVIRONMENT.sub(from_environment, value)
    if isinstance(value, dict):
        return {name: _expanded(one, secrets) for name, one in value.items()}
    if isinstance(value, list):
        return [_expanded(one, secrets) for one in value]
    return value


def _compiled(path: str) -> JSONPath:
    try:
        compiled = JSONPathEnvironment(strict=True).compile(path)
    except JSONPathError as error:
        why = error.args[0] if error.args else type(error).__name__
        raise InvalidSetting(f"not a JSONPath like $.data[0].b64_json: {path[:100]!r} ({why})") from error
    if not isinstance(compiled, JSONPath):
        raise InvalidSetting(f"not one JSONPath: {path[:100]!r}")
    return compiled


def _is_address(text: str) -> bool:
    """Whether `text` is an address, also one without a host. Base64 may begin with a slash, as JPEGs do."""
    if text[:8].casefold().startswith(("http://", "https://")):
        return True
    return text.startswith("/") and len(text) <= _LONGEST_ADDRESS and ("." in text or "?" in text)
