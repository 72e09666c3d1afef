"""From the words that name a generator to the generator."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from limner.adapters.comfyui import ComfyUIGenerator
from limner.adapters.diffusers import DiffusersGenerator
from limner.adapters.gemini import GeminiGenerator
from limner.adapters.horde import HordeGenerator
from limner.adapters.openai_images import OpenAIImagesGenerator
from limner.adapters.options import REQUIRED, Option, closest, options_of
from limner.adapters.pollinations import PollinationsGenerator
from limner.adapters.redaction import shown_address
from limner.adapters.sdapi import SdapiGenerator
from limner.adapters.sketch import SketchGenerator
from limner.errors import InvalidSetting
from limner.workflows.logs import log
from limner.workflows.ports import Generator

DEFAULT_IMAGE_MODEL = "gpt-image-1"

_NAME = re.compile(r"[\w .-]*")
_OPENAI_KEYS = ("LIMNER_OPENAI_KEY", "OPENAI_API_KEY")
# The parameters that take what stands behind the "=".
_BEHIND_THE_NAME = ("base_url", "file", "pipeline")
# What stands behind a name, in words.
_WANTED = {"URL": "an address", "FILE": "a file", "MODEL": "a model"}
# A host as people copy it from a server's own output. Neither a port nor a top-level domain: may be a key.
_BARE_ADDRESS = re.compile(
    r"""(?:[^\s/@]{0,200}@)?
    (?: [\w.-]{1,100}:\d{1,5} | \[[0-9a-f:]{2,45}\](?::\d{1,5})?
      | (?:[\w-]{1,60}\.){1,9}(?:[a-z]{2,8}|\d{1,3}) | localhost )
    (?:/\S{0,200})?""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of generator that has a name.

    `behind` is what stands behind its name, in brackets where it may be missing; `about` says who paints.
    `keys` are the variables of the environment that its `api_key` is taken from, the first one set.
    """

    name: str
    about: str
    make: Callable[..., Generator]
    behind: str = ""
    keys: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> Mapping[str, Option]:
        """Its options by their names, but for what stands behind its name."""
        return {
            name: Option(name, option.takes, self.defaults.get(name, option.default))
            for name, option in options_of(self.make).items()
            if name not in _BEHIND_THE_NAME
        }

    def variable_of(self, option: str) -> str:
        """The variable of the environment that this option is taken from where it is not given."""
        return self.keys[0] if option == "api_key" and self.keys else f"LIMNER_{self.name}_{option}".upper()

    def takes(self, mark: str, behind: str) -> bool:
        """Whether the name may stand with this behind it."""
        if not mark:
            return not self.behind.startswith("=")
        return bool(self.behind and behind)

    def made(self, given: Mapping[str, Any], *behind: str) -> Generator:
        """The generator, with what is not given taken from the environment. Raises `InvalidSetting`."""
        known = self.options
        if unknown := [name for name in given if name not in known]:
            meant = closest(unknown[0], known)
            raise InvalidSetting(
                f"the generator {self.name} has no option {unknown[0]!r}; "
                f"{meant and f'did you mean {meant!r}? '}it has: {', '.join(known)}"
            )
        self._warn_of_unknown_variables(known)
        settings = {**self.defaults, **self._from_environment(known, given), **given}
        for name, option in known.items():
            if option.default is REQUIRED and name not in settings:
                raise InvalidSetting(
                    f"the generator {self.name} needs a {name}: the option {name} (on the command line "
                    f"--set {name}=…), or {self.variable_of(name)} in the environment"
                )
        return self.make(*behind, **settings)

    def missing(self) -> str:
        """What to say where the name stands without what belongs behind it, or with what does not."""
        if not self.behind:
            return f"{self.name} takes nothing behind its name"
        what = self.behind.strip("[]=")
        if self.behind.startswith("["):
            return f"{self.name} needs {_WANTED[what]} behind the =: {self.name} or {self.name}={what}"
        return f"{self.name} needs {_WANTED[what]}: {self.name}={what}"

    def _warn_of_unknown_variables(self, known: Mapping[str, Option]) -> None:
        """Nobody else would tell of a variable with a typing error: it changes nothing."""
        variables = {*self.keys, *(self.variable_of(name) for name in known)}
        for variable in sorted(os.environ):
            if variable.startswith(f"LIMNER_{self.name.upper()}_") and variable not in variables:
                log.warning("unknown_variable", variable=variable, closest=closest(variable, variables))

    def _from_environment(self, known: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
        """What is not `given`. A variable that is not used may hold anything."""
        found: dict[str, Any] = {}
        for name, option in known.items():
            if name in given:
                continue
            if name == "api_key":
                value: Any = _first_set(self.keys)
            else:
                text = os.environ.get(self.variable_of(name))
                value = self._read(option, text) if text else None
            if value is not None:
                found[name] = value
        return found

    def _read(self, option: Option, text: str) -> Any:
        try:
            return option.value_of(text)
        except InvalidSetting as error:
            raise InvalidSetting(f"{self.variable_of(option.name)} in the environment: {error}") from error


def _json(
    file: str, *, width: int | None = None, height: int | None = None, negative_prompt: str | None = None
) -> Generator:
    # Imported when it is needed: its JSONPath library takes 50 ms to import.
    from limner.adapters.json_generator import json_generator_from_file

    return json_generator_from_file(file, width=width, height=height, negative_prompt=negative_prompt)


BACKENDS: Mapping[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("sketch", "Limner itself, offline", SketchGenerator),
        Backend(
            "sdapi",
            "AUTOMATIC1111, Forge, SD.Next, KoboldCpp, stable-diffusion.cpp",
            SdapiGenerator,
            "=URL",
        ),
        Backend(
            "openai",
            "OpenAI Images and servers like it",
            OpenAIImagesGenerator,
            "=URL",
            _OPENAI_KEYS,
            {"model": DEFAULT_IMAGE_MODEL},
        ),
        Backend(
            "comfyui",
            "ComfyUI, with a workflow of your own",
            ComfyUIGenerator,
            "=URL",
            ("LIMNER_COMFYUI_KEY",),
        ),
        Backend("horde", "AI Horde", HordeGenerator, "[=URL]", ("LIMNER_HORDE_KEY",)),
        Backend(
            "gemini",
            "Gemini, Imagen",
            GeminiGenerator,
            "[=URL]",
            ("LIMNER_GEMINI_KEY", "GEMINI_API_KEY"),
        ),
        Backend(
            "pollinations", "Pollinations", PollinationsGenerator, "[=URL]", ("LIMNER_POLLINATIONS_KEY",)
        ),
        Backend("json", "any server that a file describes", _json, "=FILE"),
        Backend(
            "diffusers", "a model in this process, by Hugging Face's diffusers", DiffusersGenerator, "=MODEL"
        ),
    )
}
"""Every generator that has a name."""

POSSIBLE = ", ".join(
    [
        *(name + backend.behind for name, backend in BACKENDS.items()),
        "or the URL of a server that speaks sdapi",
    ]
)
"""What `generator_from` understands, for messages and help texts."""


def generator_from(spec: str, **options: Any) -> Generator:
    """The generator that `spec` names.

    - `sketch`: the offline painter;
    - `sdapi=URL` or just `URL`: AUTOMATIC1111, Forge, SD.Next and the like;
    - `openai=URL`: OpenAI Images; the model is `gpt-image-1` unless it is given;
    - `comfyui=URL`: ComfyUI, with the option `workflow`;
    - `horde`: AI Horde; `horde=URL`: a horde of one's own;
    - `gemini`: Gemini or, by its model, Imagen; `gemini=URL`: another server that speaks their language;
    - `pollinations`: Pollinations, at the address that fits the key; `pollinations=URL`: at that one;
    - `diffusers=MODEL`: a model in this process, by its name or folder (the extra `diffusers`);
    - `json=FILE`: any other server, as a JSON or TOML file describes it (see `json_generator_from_file`).

    The options are those of the generator's class. One that is None counts as not given, and is taken from
    the environment where that has it: `steps` of `sdapi` from `LIMNER_SDAPI_STEPS`, `api_key` from
    `LIMNER_OPENAI_KEY` and so on, failing that from `OPENAI_API_KEY` and `GEMINI_API_KEY`.

    Raises `InvalidSetting` for anything else, an option that this generator does not have among them.
    """
    backend, behind = backend_of(spec)
    return backend.made({name: value for name, value in options.items() if value is not None}, *behind)


def backend_of(spec: str) -> tuple[Backend, tuple[str, ...]]:
    """The kind of generator that `spec` names, and what stands behind the name. Raises `InvalidSetting`."""
    spec = spec.strip()
    name, mark, behind = spec.partition("=")
    backend = BACKENDS.get(name.casefold())
    if backend is not None and backend.takes(mark, behind):
        if "URL" in backend.behind and _BARE_ADDRESS.fullmatch(behind.strip()):
            shown = shown_address(behind)
            raise InvalidSetting(
                f"not an http or https address: {shown!r}; did you mean {backend.name}=http://{shown}"
            )
        return backend, (behind,) if mark else ()
    # Not by the part before "=": an address may have one in its query.
    if spec.casefold().startswith(("http://", "https://")):
        return BACKENDS["sdapi"], (spec,)
    if backend is not None:
        raise InvalidSetting(backend.missing())
    # What stands behind a name may be a key.
    told = f"{name}=…" if mark and _NAME.fullmatch(name) else shown_address(spec)
    raise InvalidSetting(f"no generator {told[:100]!r}; {_meant_by(spec)}")


def _meant_by(spec: str) -> str:
    """What whoever wrote this may have meant."""
    if _BARE_ADDRESS.fullmatch(spec):
        return f"an address needs http:// before it: http://{shown_address(spec)}"
    # Also "sdapi:http://…" and "sdapi http://…".
    name = re.split(r"[=:\s]", spec, maxsplit=1)[0]
    behind = spec[len(name) :].lstrip("=: ")
    near = closest(name.casefold(), BACKENDS)
    possible = f"possible are: {POSSIBLE}"
    if not near:
        return possible
    is_address = behind.casefold().startswith(("http://", "https://")) and "URL" in BACKENDS[near].behind
    meant = f"={shown_address(behind)}" if is_address else BACKENDS[near].behind
    return f"did you mean {near}{meant}? {possible}"


def openai_key_from_environment() -> str | None:
    """The key for OpenAI-compatible servers: `LIMNER_OPENAI_KEY`, else `OPENAI_API_KEY`, else None."""
    return _first_set(_OPENAI_KEYS)


def _first_set(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
