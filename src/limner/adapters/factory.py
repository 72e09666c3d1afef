"""From the words that name a generator to the generator."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.openai_images import OpenAIImagesGenerator
from limner.adapters.sdapi import SdapiGenerator
from limner.adapters.sketch import SketchGenerator
from limner.errors import InvalidSetting
from limner.workflows.ports import Generator

POSSIBLE = "sketch, sdapi=URL, openai=URL, comfyui=URL, or the URL of a server that speaks sdapi"
"""What `generator_from` understands, for messages and help texts."""

DEFAULT_IMAGE_MODEL = "gpt-image-1"


def generator_from(spec: str, **options: Any) -> Generator:
    """The generator that `spec` names.

    - `sketch`: the offline painter; options `width`, `height`, `steps`, `step_ms`;
    - `sdapi=URL` or just `URL`: AUTOMATIC1111, Forge, SD.Next and the like; the options of `SdapiGenerator`;
    - `openai=URL`: OpenAI Images; options `model`, `api_key`, `size`, `quality`. Without `api_key` the key
      is taken from the environment: `LIMNER_OPENAI_KEY`, else `OPENAI_API_KEY`; the model is `gpt-image-1`;
    - `comfyui=URL`: ComfyUI; the options of `ComfyUIGenerator`. Without `workflow` the workflow's file is
      taken from the environment, `LIMNER_COMFYUI_WORKFLOW`; without `api_key` the key, `LIMNER_COMFYUI_KEY`.

    An option that is None counts as not given. Raises `InvalidSetting` for anything else, an option
    that this generator does not have among them.
    """
    given = {name: value for name, value in options.items() if value is not None}
    name, _, url = spec.strip().partition("=")
    if spec.strip().casefold() == "sketch":
        return _made(SketchGenerator, "sketch", given)
    if name.casefold() == "sdapi" and url:
        return _made(SdapiGenerator, "sdapi", given, url)
    if name.casefold() == "openai" and url:
        given.setdefault("model", DEFAULT_IMAGE_MODEL)
        given.setdefault("api_key", openai_key_from_environment())
        return _made(OpenAIImagesGenerator, "openai", given, url)
    if name.casefold() == "comfyui" and url:
        given.setdefault("workflow", os.environ.get("LIMNER_COMFYUI_WORKFLOW") or None)
        if given["workflow"] is None:
            raise InvalidSetting(
                "the generator comfyui needs a workflow: the option workflow (on the command line --workflow "
                "FILE), or LIMNER_COMFYUI_WORKFLOW=FILE in the environment"
            )
        given.setdefault("api_key", os.environ.get("LIMNER_COMFYUI_KEY") or None)
        return _made(ComfyUIGenerator, "comfyui", given, url)
    # Not by the part before "=": an address may have one in its query.
    if spec.strip().casefold().startswith(("http://", "https://")):
        return _made(SdapiGenerator, "sdapi", given, spec.strip())
    raise InvalidSetting(f"no generator {spec[:100]!r}; possible are: {POSSIBLE}")


def _made(kind: Callable[..., Generator], name: str, options: dict[str, Any], *address: str) -> Generator:
    known = [option for option in inspect.signature(kind).parameters if option != "base_url"]
    for option in options:
        if option not in known:
            raise InvalidSetting(f"the generator {name} has no option {option!r}; it has: {', '.join(known)}")
    return kind(*address, **options)


def openai_key_from_environment() -> str | None:
    """The key for OpenAI-compatible servers: `LIMNER_OPENAI_KEY`, else `OPENAI_API_KEY`, else None."""
    return os.environ.get("LIMNER_OPENAI_KEY") or os.environ.get("OPENAI_API_KEY") or None
