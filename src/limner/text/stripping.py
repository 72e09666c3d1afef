"""Taking the images out again, for the model's context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from limner.text.detection import extract_image_prompts
from limner.text.images import ImageMatch, images_between
from limner.text.layout import GUARD, Lines
from limner.text.matches import PromptMatch
from limner.text.patterns import PromptPatterns, TagPattern


def strip_illustrations(
    text: str,
    *,
    is_ours: Callable[[str], bool] | None = None,
    patterns: PromptPatterns | Iterable[str | TagPattern] | None = None,
) -> str:
    """`text` without the images that were placed in it; the prompt tags stay.

    Removed are the images that stand directly behind a prompt tag, any number of them, with what
    `place_images` put around them, and every image whose decoded address `is_ours` knows. A text
    that had no images before `place_images` comes back exactly. Other images stay.

    Raises `InvalidPattern`, `PatternTooSlow`.
    """
    prompts = extract_image_prompts(text, patterns)
    images = {image.start: image for image in images_between(text, prompts)}
    cuts = spans_behind(text, prompts, images)
    if is_ours is not None:
        ours = (image for image in images.values() if is_ours(image.src))
        cuts.extend((image.start, _past_guard(text, image.end)) for image in ours)
        cuts.sort()
    return without_spans(text, cuts)


def spans_behind(
    text: str,
    prompts: Sequence[PromptMatch],
    images: dict[int, ImageMatch],
    belongs: Callable[[PromptMatch, ImageMatch], bool] | None = None,
) -> list[tuple[int, int]]:
    """The span behind each prompt tag in which its images stand, with what `place_images` put around them.

    `images` are by their starts; those that are found are taken out of it. `belongs` says whether an image
    there is one of the tag's; None: all are.
    """
    lines = Lines(text, ())
    spans: list[tuple[int, int]] = []
    for prompt in prompts:
        end = prompt.end
        lines.add(prompt.start, end)
        separator = lines.separator(end)
        while (image := images.get(end) or _behind(text, end, separator, images)) is not None:
            if belongs is not None and not belongs(prompt, image):
                break
            del images[image.start]
            end = _past_guard(text, image.end)
        # The line breaks that go end no line for what follows, as they did not when they were put in.
        lines.extend(end)
        spans.append((prompt.end, end))
    return spans


def without_spans(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """`text` without the spans, which come in order."""
    kept: list[str] = []
    done = 0
    for start, end in spans:
        kept.append(text[done:start])
        done = end
    kept.append(text[done:])
    return "".join(kept)


def _behind(text: str, pos: int, separator: str, images: dict[int, ImageMatch]) -> ImageMatch | None:
    """The image at `pos` that has the separator before it."""
    if not separator:
        return None
    # Hosts rewrite line breaks, so either kind will do.
    marks = separator.lstrip("\r\n")
    for newline in ("\n", "\r\n"):
        if text.startswith(newline + marks, pos):
            return images.get(pos + len(newline) + len(marks))
    return None


def _past_guard(text: str, pos: int) -> int:
    return pos + len(GUARD) if text.startswith(GUARD, pos) else pos
