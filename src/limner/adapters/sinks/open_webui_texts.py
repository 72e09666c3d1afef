"""The texts of Open WebUI's messages: where they stand, and what chat and model are to see of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

from limner.text import DEFAULT_PATTERNS, extract_image_prompts, find_images, strip_illustrations

_TAG = DEFAULT_PATTERNS[0]


def without_prompts(text: str) -> str:
    """An illustrated text with each image in the place of its prompt. A prompt without an image stays."""
    prompts = extract_image_prompts(text)
    kept: list[str] = []
    done = 0
    for image in find_images(text):
        before = [prompt for prompt in prompts if done <= prompt.start and prompt.end <= image.start]
        if before and not text[before[-1].end : image.start].strip():
            kept.append(text[done : before[-1].start])
            done = image.start
    return "".join(kept) + text[done:]


def with_prompts(text: str, is_ours: Callable[[str], bool]) -> str:
    """A text with prompts instead of Limner's images: what a model is to see of its earlier replies."""
    text = strip_illustrations(text)
    kept: list[str] = []
    done = 0
    for image in find_images(text):
        if is_ours(image.src):
            prompt = image.alt.replace("\\", "").replace('"', '\\"')
            kept += [text[done : image.start], f"{_TAG.opener}{prompt}{_TAG.closer}"]
            done = image.end
    return "".join(kept) + text[done:]


def texts_in(message: dict[str, Any]) -> list[tuple[str, Callable[[str], None]]]:
    """The texts of a message, each with what puts another in its place.

    All parts of one output item are one text, as they are to Open WebUI: where a reply was stopped and
    continued, a word or a tag may begin in one part and end in the next.
    """
    items = [
        [part for part in item.get("content") or [] if isinstance(part.get("text"), str)]
        for item in message.get("output") or []
        if item.get("type") == "message"
    ]
    content = message.get("content")
    if not any(items) and isinstance(content, list):
        items = [[part] for part in content if isinstance(part.get("text"), str)]
    texts = [("".join(part["text"] for part in item), partial(_put, item)) for item in items if item]
    if not texts and isinstance(content, str):
        return [(content, partial(message.__setitem__, "content"))]
    return [*texts]


def share_out(text: str, parts: list[str]) -> list[str]:
    """`text` cut where the parts of what it is put for met.

    Prompts and images count as a whole, and with the part that they begin in. Where the two texts differ
    in more than one for the other, the first part gets everything.
    """
    before, after = _marks("".join(parts)), _marks(text)
    if len(before) != len(after):
        return [text, *("" for _ in parts[1:])]
    cuts = [0]
    for seam in list(accumulate(map(len, parts)))[:-1]:
        seam = next((end for start, end in before if start < seam < end), seam)
        nearest = next(index for index, (start, _) in enumerate(before) if start >= seam)
        # Counted from the mark behind: what differs between two marks are line breaks after an image.
        cut = after[nearest][0] - (before[nearest][0] - seam)
        cuts.append(max(cut, after[nearest - 1][1] if nearest else 0))
    return [text[start:end] for start, end in pairwise([*cuts, len(text)])]


def _put(item: list[dict[str, Any]], text: str) -> None:
    for part, piece in zip(item, share_out(text, [part["text"] for part in item]), strict=True):
        part["text"] = piece


def _marks(text: str) -> list[tuple[int, int]]:
    """Where the prompts and images of a text stand, and last its end."""
    prompts = [(prompt.start, prompt.end) for prompt in extract_image_prompts(text)]
    images = [(image.start, image.end) for image in find_images(text)]
    return [*sorted(prompts + images), (len(text), len(text))]
