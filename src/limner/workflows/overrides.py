"""What a prompt asks for itself: `a red fox --width 768 --negative blurry, text --seed 7`.

Whoever writes the prompts is in general a model, so nothing of this is understood unless the host allows it,
by name. Where it does, everything from the first such word on is settings; the prompt is what stands before.

Settings that the host does not allow, and words that only look like one (`--stepz 20`, `--ar 16:9`), are
taken out with the others and change nothing: in the prompt they would be painted, and as part of the setting
before them they would spoil it. So the order of settings makes no difference.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal, get_args

from limner.errors import InvalidSetting, Refused
from limner.workflows.logs import log
from limner.workflows.ports import GenerationRequest, PromptSettings

Override = Literal["negative", "seed", "width", "height", "steps"]

RANGES: Mapping[str, tuple[int, int]] = {
    "seed": (0, 2**32 - 1),
    "width": (64, 4_096),
    "height": (64, 4_096),
    "steps": (1, 150),
}
"""What numbers are taken: pixels and steps that some server paints, and no more than a host can bear."""

# A dash that a model or an editor has made of two is meant the same, where the name is one that there is.
_KNOWN = "|".join(get_args(Override))
_KNOWN_FLAG = re.compile(rf"(?<!\S)(?:--|—)({_KNOWN})(?=[\s=]|$)[\s=]*", re.IGNORECASE)
_ANY_FLAG = re.compile(
    rf"(?<!\S)(?:--|—(?=(?:{_KNOWN})(?:[\s=]|$)))([a-z][a-z_-]*)(?=[\s=]|$)[\s=]*", re.IGNORECASE
)
_WORD = re.compile(r"\S+")
_QUOTES = ('"', "'", "“”")


class PromptOverrides:
    """Takes the settings out of a prompt. `allowed` names those that are understood.

    Raises `InvalidSetting` for a name that there is not.
    """

    def __init__(self, allowed: Collection[Override] = ()) -> None:
        known = get_args(Override)
        if isinstance(allowed, str) or not all(name in known for name in allowed):
            raise InvalidSetting(
                f"prompt_overrides must be some of {', '.join(map(repr, known))}, not {allowed!r:.80}"
            )
        self._allowed = frozenset(allowed)

    def apply(self, request: GenerationRequest) -> GenerationRequest:
        """The request with what its prompt asks for. Raises `Refused` for what cannot be meant.

        A seed counts for the first image only: a regeneration with the same one would give the same picture.
        """
        start = _start_of_settings(request.prompt) if self._allowed else None
        if start is None:
            return request
        given: dict[str, str] = {}
        ignored: list[str] = []
        flags = list(_ANY_FLAG.finditer(request.prompt, start))
        ends = [*(flag.start() for flag in flags[1:]), len(request.prompt)]
        for flag, end in zip(flags, ends, strict=True):
            name = flag[1].casefold()
            if name not in self._allowed:
                ignored.append(f"--{flag[1]}")
                continue
            if name in given:
                raise Refused(f"the prompt says --{name} twice")
            given[name] = _unquoted(request.prompt[flag.end() : end].strip())
        if ignored:
            log.info("prompt_settings_ignored", prompt_id=request.prompt_id, ignored=", ".join(ignored[:20]))
        prompt = request.prompt[:start].strip()
        if not prompt:
            raise Refused("the prompt says nothing but settings")
        numbers = {name: _number(name, text) for name, text in given.items() if name in RANGES}
        seed = numbers.pop("seed", None)
        settings = PromptSettings(negative_prompt=given.get("negative"), **numbers)
        if seed is None or request.is_regeneration:
            seed = request.seed
        return replace(request, prompt=prompt, settings=settings, seed=seed)


def _start_of_settings(prompt: str) -> int | None:
    """Where the settings begin: at the first one that there is, or at others that stand right before it."""
    first = _KNOWN_FLAG.search(prompt)
    if first is None:
        return None
    start = first.start()
    words = list(_WORD.finditer(prompt, 0, start))
    while words:
        # `--tiled`, `--ar=16:9`, `--ar 16:9`: a value of several words cannot be told from the prompt's own.
        if _ANY_FLAG.match(words[-1][0]):
            count = 1
        elif len(words) > 1 and _ANY_FLAG.fullmatch(words[-2][0]):
            count = 2
        else:
            break
        start = words[-count].start()
        del words[-count:]
    return start


def _unquoted(text: str) -> str:
    for quotes in _QUOTES:
        if len(text) >= 2 and text[0] == quotes[0] and text[-1] == quotes[-1]:
            return text[1:-1]
    return text


def _number(name: str, text: str) -> int:
    least, most = RANGES[name]
    if re.fullmatch(r"[0-9]{1,10}", text) and least <= int(text) <= most:
        return int(text)
    raise Refused(f"the prompt's --{name} must be a whole number from {least} to {most}, not {text[:40]!r}")
