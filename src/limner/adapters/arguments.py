"""What a host passes to `Limner`: taken where it can be used, refused by one clear line where it cannot."""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Iterable, Mapping, Sequence
from typing import Generic, Self, TypeVar

from limner.adapters.token_text import WHOLE_REPLY, is_whole_reply
from limner.errors import InvalidSetting
from limner.text import HTML, MARKDOWN, Profile
from limner.workflows.overrides import Override, PromptOverrides
from limner.workflows.ports import Capabilities
from limner.workflows.steps import CommonTags, ImageStep, PromptStep, Steps

T = TypeVar("T")

PROFILES = {"html": HTML, "markdown": MARKDOWN}


def check_port(name: str, given: object, *methods: str) -> None:
    """Raise `InvalidSetting` unless `given` is None or has the port's methods."""
    missing = [method for method in methods if not callable(getattr(given, method, None))]
    if given is not None and (missing or isinstance(given, type)):
        lacks = (
            "it is a class; pass an object of it" if isinstance(given, type) else f"it has no {missing[0]}()"
        )
        raise InvalidSetting(f"{name}={given!r:.60} cannot be used: {lacks} (see limner.workflows.ports)")


def lacks_of(generator: object) -> list[str]:
    """What this object lacks, or has of another kind, to be a `limner.workflows.ports.Generator`."""
    lacks = []
    if not isinstance(getattr(generator, "capabilities", None), Capabilities):
        lacks.append("capabilities, a Capabilities(…)")
    lacks += [
        f"async def {name}({parameters})"
        for name, parameters in (("generate", "request, report"), ("aclose", ""))
        if not callable(getattr(generator, name, None))
    ]
    return lacks


def check_text(name: str, given: object) -> None:
    """Raise `InvalidSetting` unless `given` is a text that is not empty."""
    if not isinstance(given, str) or not given:
        raise InvalidSetting(f"{name} must be a str that is not empty, not {given!r:.60}")


def profile_from(given: Profile | str) -> Profile:
    """The profile, or the one of that name. Raises `InvalidSetting`."""
    if isinstance(given, Profile):
        return given
    if given not in PROFILES:
        raise InvalidSetting(f"profile must be 'html', 'markdown' or a Profile, not {given!r}")
    return PROFILES[given]


def steps_from(
    common_tags: object,
    tags_position: object,
    before: PromptStep | Sequence[PromptStep],
    after: ImageStep | Sequence[ImageStep],
    overrides: Collection[Override],
) -> Steps:
    """The steps around the painting, the common tags last, so that no step rewrites them.

    What prompts ask for themselves is taken out of them first, so that no step sees it.

    Raises `InvalidSetting`.
    """
    if not isinstance(common_tags, str):
        raise InvalidSetting(f"common_tags must be a str, not {type(common_tags).__name__}")
    if tags_position not in ("prefix", "suffix"):
        raise InvalidSetting(f"tags_position must be 'prefix' or 'suffix', not {tags_position!r:.60}")
    firsts: list[PromptStep] = [before] if callable(before) else list(before)
    lasts: list[ImageStep] = [after] if callable(after) else list(after)
    for name, step in [("before_generation", s) for s in firsts] + [("after_generation", s) for s in lasts]:
        if not callable(step):
            raise InvalidSetting(f"{name} must be coroutine functions, not {step!r:.60}")
    tags = CommonTags(common_tags, tags_position)
    return Steps([*firsts, tags], lasts, PromptOverrides(overrides))


class _Pieces(Generic[T]):
    """A plain iterable as an asynchronous one. Not a generator: it holds nothing that has to be closed."""

    def __init__(self, pieces: Iterable[T]) -> None:
        self._pieces = iter(pieces)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def async_pieces(tokens: AsyncIterable[T] | Iterable[T]) -> AsyncIterable[T]:
    """The pieces of a text, from either kind of iterable. Raises `InvalidSetting`."""
    if is_whole_reply(tokens):
        raise InvalidSetting(WHOLE_REPLY)
    if isinstance(tokens, bytes | bytearray):
        raise InvalidSetting("tokens are bytes; decode them")
    if isinstance(tokens, AsyncIterable):
        return tokens
    called = ""
    if not isinstance(tokens, Mapping):  # iterable, too, but nobody means its keys
        if isinstance(tokens, Iterable):
            return _Pieces(tokens)
        if callable(tokens) or hasattr(tokens, "__await__"):
            called = "; was it called, or awaited?"
    raise InvalidSetting(f"tokens must be an (async) iterable of text, not {type(tokens).__name__}{called}")
