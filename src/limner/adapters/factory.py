"""From the words that name a generator to the generator."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.gemini import GeminiGenerator
from limner.adapters.horde import HordeGenerator
from limner.adapters.openai_images import OpenAIImagesGenerator
from limner.adapters.pollinations import PollinationsGenerator
from limner.adapters.sdapi import SdapiGenerator
from limner.adapters.sketch import SketchGenerator
from limner.errors import InvalidSetting
from limner.workflows.ports import Generator

DEFAULT_IMAGE_MODEL = "gpt-image-1"

_OPENAI_KEYS = ("LIMNER_OPENAI_KEY", "OPENAI_API_KEY")
# The parameters that take what stands behind the "=".
_BEHIND_THE_NAME = ("base_url", "file")


class _Kind(NamedTuple):
    """A kind of generator: who makes it, and what stands behind its name (in brackets: may be missing).

    `keys` are the variables of the environment that its `api_key` is taken from, the first one set.
    `options_of` is what has its options, where that is not `make`.
    """

    make: Callable[..., Generator]
    behind: str = ""
    keys: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = MappingProxyType({})
    options_of: Callable[..., Generator] | None = None

    def takes(self, mark: str, behind: str) -> bool:
        """Whether the name may stand with this behind it."""
        if not mark:
            return not self.behind.startswith("=")
        return bool(self.behind and behind)


def _json(
    file: str, *, width: int | None = None, height: int | None = None, negative_prompt: str | None = None
) -> Generator:
    # Imported when it is needed: its JSONPath library takes 50 ms to import.
    from limner.adapters.json_generator import json_generator_from_file

    return json_generator_from_file(file, width=width, height=height, negative_prompt=negative_prompt)


def _comfyui(
    base_url: str, *, workflow: str | Path | Mapping[str, Any] | None = None, **options: Any
) -> Generator:
    workflow = workflow or os.environ.get("LIMNER_COMFYUI_WORKFLOW")
    if not workflow:
        raise InvalidSetting(
            "the generator comfyui needs a workflow: the option workflow (on the command line --workflow "
            "FILE), or LIMNER_COMFYUI_WORKFLOW=FILE in the environment"
        )
    return ComfyUIGenerator(base_url, workflow, **options)


_KINDS: Mapping[str, _Kind] = {
    "sketch": _Kind(SketchGenerator),
    "sdapi": _Kind(SdapiGenerator, "=URL"),
    "openai": _Kind(OpenAIImagesGenerator, "=URL", _OPENAI_KEYS, {"model": DEFAULT_IMAGE_MODEL}),
    "comfyui": _Kind(_comfyui, "=URL", ("LIMNER_COMFYUI_KEY",), options_of=ComfyUIGenerator),
    "horde": _Kind(HordeGenerator, "[=URL]", ("LIMNER_HORDE_KEY",)),
    "gemini": _Kind(GeminiGenerator, "[=URL]", ("LIMNER_GEMINI_KEY", "GEMINI_API_KEY")),
    "pollinations": _Kind(PollinationsGenerator, "[=URL]", ("LIMNER_POLLINATIONS_KEY",)),
    "json": _Kind(_json, "=FILE"),
}

POSSIBLE = ", ".join(
    [*(name + kind.behind for name, kind in _KINDS.items()), "or the URL of a server that speaks sdapi"]
)
"""What `generator_from` understands, for messages and help texts."""


def generator_from(spec: str, **options: Any) -> Generator:
    """The generator that `spec` names.

    - `sketch`: the offline painter;
    - `sdapi=URL` or just `URL`: AUTOMATIC1111, Forge, SD.Next and the like;
    - `openai=URL`: OpenAI Images; the model is `gpt-image-1` unless it is given;
    - `comfyui=URL`: ComfyUI; without `workflow` its file is taken from `LIMNER_COMFYUI_WORKFLOW`;
    - `horde`: AI Horde; `horde=URL`: a horde of one's own;
    - `gemini`: Gemini or, by its model, Imagen; `gemini=URL`: another server that speaks their language;
    - `pollinations`: Pollinations, at the address that fits the key; `pollinations=URL`: at that one;
    - `json=FILE`: any other server, as a JSON or TOML file describes it (see `json_generator_from_file`).

    The options are those of the generator's class. One that is None counts as not given. Without `api_key` a
    key is taken from the environment: `LIMNER_OPENAI_KEY`, `LIMNER_COMFYUI_KEY`, `LIMNER_HORDE_KEY`,
    `LIMNER_GEMINI_KEY`, `LIMNER_POLLINATIONS_KEY`; failing that, `OPENAI_API_KEY` and `GEMINI_API_KEY`.

    Raises `InvalidSetting` for anything else, an option that this generator does not have among them.
    """
    given = {name: value for name, value in options.items() if value is not None}
    name, mark, behind = spec.strip().partition("=")
    kind = _KINDS.get(name.casefold())
    if kind is not None and kind.takes(mark, behind):
        return _made(kind, name.casefold(), given, *([behind] if mark else ()))
    # Not by the part before "=": an address may have one in its query.
    if spec.strip().casefold().startswith(("http://", "https://")):
        return _made(_KINDS["sdapi"], "sdapi", given, spec.strip())
    raise InvalidSetting(f"no generator {spec[:100]!r}; possible are: {POSSIBLE}")


def _made(kind: _Kind, name: str, options: dict[str, Any], *behind: str) -> Generator:
    known = [
        option
        for option in inspect.signature(kind.options_of or kind.make).parameters
        if option not in _BEHIND_THE_NAME
    ]
    for option in options:
        if option not in known:
            raise InvalidSetting(f"the generator {name} has no option {option!r}; it has: {', '.join(known)}")
    settings = {**kind.defaults, **options}
    if kind.keys:
        settings.setdefault("api_key", _from_environment(kind.keys))
    return kind.make(*behind, **settings)


def openai_key_from_environment() -> str | None:
    """The key for OpenAI-compatible servers: `LIMNER_OPENAI_KEY`, else `OPENAI_API_KEY`, else None."""
    return _from_environment(_OPENAI_KEYS)


def _from_environment(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
