"""What a prompt asks for itself: `a red fox --width 768 --negative blurry, text --seed 7`.

Whoever writes the prompts is in general a model, so nothing of this is understood unless the host allows it,
by name. Where it does, everything from the first such word on is settings; the prompt is what stands before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal, get_args

from limner.errors import InvalidSetting, Refused
from limner.workflows.ports import GenerationRequest, PromptSettings

Override = Literal["negative", "seed", "width", "height", "steps"]

RANGES: Mapping[str, tuple[int, int]] = {
    "seed": (0, 2**32 - 1),
    "width": (64, 4_096),
    "height": (64, 4_096),
    "steps": (1, 150),
}
"""What numbers are taken: pixels and steps that some server paints, and no more than a host can bear."""

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
        names = "|".join(allowed)
        # A dash that a model or an editor has made of two is meant the same.
        self._flag = re.compile(rf"(?<!\S)(?:--|—)({names})(?=[\s=]|$)[\s=]*") if names else None

    def apply(self, request: GenerationRequest) -> GenerationRequest:
        """The request with what its prompt asks for. Raises `Refused` for what cannot be meant.

        A seed counts for the first image only: a regeneration with the same one would give the same picture.
        """
        if self._flag is None or (first := self._flag.search(request.prompt)) is None:
            return request
        given: dict[str, str] = {}
        flags = list(self._flag.finditer(request.prompt, first.start()))
        ends = [*(flag.start() for flag in flags[1:]), len(request.prompt)]
        for flag, end in zip(flags, ends, strict=True):
            name = flag[1]
            if name in given:
                raise Refused(f"the prompt says --{name} twice")
            given[name] = _unquoted(request.prompt[flag.end() : end].strip())
        prompt = request.prompt[: first.start()].strip()
        if not prompt:
            raise Refused("the prompt says nothing but settings")
        numbers = {name: _number(name, text) for name, text in given.items() if name in RANGES}
        seed = numbers.pop("seed", None)
        settings = PromptSettings(negative_prompt=given.get("negative"), **numbers)
        if seed is None or request.is_regeneration:
            seed = request.seed
        return replace(request, prompt=prompt, settings=settings, seed=seed)


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
