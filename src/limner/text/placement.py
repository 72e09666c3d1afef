"""Placing finished images in a text: a pure splice, in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from limner.errors import InvalidImageURL, InvalidSetting, PatternTooSlow
from limner.text.detection import extract_image_prompts
from limner.text.images import ImageMatch, images_between
from limner.text.layout import GUARD, Lines
from limner.text.matches import PromptMatch
from limner.text.patterns import PromptPatterns, TagPattern, as_patterns
from limner.text.rendering import HTML, Profile, render_image
from limner.text.urls import check_url, normalise_url


class InsertionMode(StrEnum):
    """Where a finished image goes."""

    REPLACE_IMAGE = "replace-image"
    """In the place of the image at `target_url`, in every copy of it (in the first thousand)."""
    APPEND_AFTER_IMAGE = "append-after-image"
    """Directly behind the image at `target_url`, the first copy of it."""
    APPEND_AFTER_PROMPT = "append-after-prompt"
    """Directly behind the prompt's tag."""


class UnplacedReason(StrEnum):
    """Why an image could not be placed."""

    PROMPT_GONE = "prompt-gone"
    """The text has no such occurrence of the prompt any more."""
    IMAGE_GONE = "image-gone"
    """Neither the image that was to be replaced or followed stands in the text, nor a successor of it."""
    SUPERSEDED = "superseded"
    """Another image of the same batch took its place: replaced the same image later, or replaced this one."""
    INVALID_URL = "invalid-url"
    """The image's address must not stand in a message; see `InvalidImageURL`."""


@dataclass(frozen=True, slots=True)
class DeferredImage:
    """A finished image that waits for the batch insertion.

    `prompt` is the decoded prompt as in `PromptMatch`, `occurrence` which of the equal ones. `target_url` is
    the address of the image that the two image modes are about, as it stands in the text or as it stood.

    Raises `InvalidSetting` where an image mode has no target.
    """

    prompt_id: str
    prompt: str
    occurrence: int
    image_url: str
    mode: InsertionMode = InsertionMode.APPEND_AFTER_PROMPT
    target_url: str | None = None

    def __post_init__(self) -> None:
        # Stored modes come back as plain strings.
        object.__setattr__(self, "mode", InsertionMode(self.mode))
        if self.target_url is None and self.mode is not InsertionMode.APPEND_AFTER_PROMPT:
            raise InvalidSetting(f"mode {self.mode} needs a target_url")


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image that stands in the text; `replaced_url` is the address of the one it replaced."""

    prompt_id: str
    image_url: str
    replaced_url: str | None = None


@dataclass(frozen=True, slots=True)
class UnplacedImage:
    """An image that is finished and could not be placed."""

    prompt_id: str
    image_url: str
    reason: UnplacedReason


@dataclass(frozen=True, slots=True)
class Placement:
    """The outcome of `place_images`: each image is in `placed` or in `unplaced`, in the order given."""

    text: str
    placed: tuple[PlacedImage, ...]
    unplaced: tuple[UnplacedImage, ...]
    changed: bool


# A text of a hundred thousand copies of one image is made to be blown up.
_MOST_COPIES = 1_000
_NOTHING: Mapping[str, str] = MappingProxyType({})


def place_images(
    text: str,
    images: Sequence[DeferredImage],
    *,
    patterns: PromptPatterns | Iterable[str | TagPattern] | None = None,
    profile: Profile = HTML,
    replaced: Mapping[str, str] = _NOTHING,
) -> Placement:
    """`text` with the images in it.

    Positions come from a scan of `text` as it is now. Images for the same position stand in the order given.
    An image whose address stands in the text already is not placed again and counts as placed. A target that
    is gone is followed through `replaced` (old address to new) to the first successor that is there. Of
    several images that replace the same one the last is placed, the others are listed as superseded; so is
    an image that another of the batch replaces.
    Around an image may be added: for Markdown a line break before it, for HTML the comment `<!--limner-->`
    behind it, where without them the image would not be shown or the following lines be read otherwise.

    Raises `InvalidPattern`, `PatternTooSlow`.
    """
    compiled = as_patterns(patterns)
    batch = _Batch(text, compiled, profile, replaced)
    for index, image in enumerate(images):
        if image.mode is InsertionMode.REPLACE_IMAGE:
            batch.add(index, image)
    for index, image in enumerate(images):
        if image.mode is not InsertionMode.REPLACE_IMAGE:
            batch.add(index, image)
    batch.settle()
    result = batch.splice(plain=False)
    if result != text and not _same_prompts(batch.prompts, result, compiled):
        # A description or a guard reads as a prompt, as can happen with users' own patterns.
        result = batch.splice(plain=True)
    return Placement(
        result,
        tuple(batch.placed[index] for index in sorted(batch.placed)),
        tuple(batch.unplaced[index] for index in sorted(batch.unplaced)),
        result != text,
    )


def _same_prompts(before: Sequence[PromptMatch], text: str, patterns: PromptPatterns) -> bool:
    try:
        after = extract_image_prompts(text, patterns)
    except PatternTooSlow:
        return False
    return [match.full_match for match in before] == [match.full_match for match in after]


@dataclass(frozen=True, slots=True)
class _Splice:
    """`image` in place of `text[start:end]`, and whether an HTML image stood there."""

    start: int
    end: int
    image: DeferredImage
    had_html: bool


class _Batch:
    """One pass: decides where each image goes, then writes all of them."""

    def __init__(
        self, text: str, patterns: PromptPatterns, profile: Profile, replaced: Mapping[str, str]
    ) -> None:
        self.placed: dict[int, PlacedImage] = {}
        self.unplaced: dict[int, UnplacedImage] = {}
        self.prompts = extract_image_prompts(text, patterns)
        self._text = text
        self._profile = profile
        self._lines = Lines(text, ((match.start, match.end) for match in self.prompts))
        self._tag_ends = {match.end for match in self.prompts}
        self._tags = {(match.prompt, match.occurrence): match for match in self.prompts}
        self._standing: dict[str, list[ImageMatch]] = {}
        for match in images_between(text, self.prompts):
            self._standing.setdefault(normalise_url(match.src), []).append(match)
        self._successors = {normalise_url(old): new for old, new in replaced.items()}
        self._splices: list[_Splice] = []
        self._inserted: set[tuple[int, str]] = set()
        self._replacing: dict[str, tuple[int, DeferredImage]] = {}
        self._already: list[tuple[int, DeferredImage, str]] = []  # images that stand in the text
        self._gone: set[str] = set()  # what images that stand in the text have replaced

    def add(self, index: int, image: DeferredImage) -> None:
        """Decide about one image."""
        try:
            check_url(image.image_url)
        except InvalidImageURL:
            self._leave(index, image, UnplacedReason.INVALID_URL)
            return
        key = normalise_url(image.image_url)
        targets = list(self._targets(image, key))
        live = next((target for target in targets if target[0] in self._standing), None)
        if key in self._standing:
            done = image.mode is InsertionMode.REPLACE_IMAGE and targets and live is None
            if done:
                self._gone.update(target for target, _ in targets)
            self._already.append((index, image, key))
            self._place(index, image, targets[-1][1] if done else None)
        elif key in self._gone:
            self._leave(index, image, UnplacedReason.SUPERSEDED)
        elif image.mode is InsertionMode.APPEND_AFTER_PROMPT:
            tag = self._tags.get((image.prompt.strip(), image.occurrence))
            if tag is None:
                self._leave(index, image, UnplacedReason.PROMPT_GONE)
            else:
                self._insert(index, image, tag.end, key)
        elif live is None:
            self._leave(index, image, UnplacedReason.IMAGE_GONE)
        elif image.mode is InsertionMode.APPEND_AFTER_IMAGE:
            self._insert(index, image, self._standing[live[0]][0].end, key)
        else:
            self._replace(index, image, *live)

    def settle(self) -> None:
        """List the images that stand in the text and will not, because the batch replaces them."""
        for index, image, key in self._already:
            if key in self._replacing:
                del self.placed[index]
                self._leave(index, image, UnplacedReason.SUPERSEDED)

    def _targets(self, image: DeferredImage, stop: str) -> Iterator[tuple[str, str]]:
        """The target and its successors, up to the image itself: normalised and as given."""
        url = image.target_url
        seen = {stop}
        while url is not None and (key := normalise_url(url)) not in seen:
            yield key, url
            seen.add(key)
            url = self._successors.get(key)

    def _insert(self, index: int, image: DeferredImage, pos: int, key: str) -> None:
        if (pos, key) not in self._inserted:
            self._inserted.add((pos, key))
            self._splices.append(_Splice(pos, pos, image, had_html=False))
        self._place(index, image, None)

    def _replace(self, index: int, image: DeferredImage, key: str, url: str) -> None:
        earlier = self._replacing.get(key)
        if earlier is not None:
            del self.placed[earlier[0]]
            self._leave(*earlier, UnplacedReason.SUPERSEDED)
        self._replacing[key] = (index, image)
        self._place(index, image, url)

    def _place(self, index: int, image: DeferredImage, replaced_url: str | None) -> None:
        self.placed[index] = PlacedImage(image.prompt_id, image.image_url, replaced_url)

    def _leave(self, index: int, image: DeferredImage, reason: UnplacedReason) -> None:
        self.unplaced[index] = UnplacedImage(image.prompt_id, image.image_url, reason)

    def splice(self, *, plain: bool) -> str:
        """The text with the images; `plain`: without descriptions and guards."""
        splices = list(self._splices)
        for key, (_, image) in self._replacing.items():
            splices.extend(
                _Splice(match.start, match.end, image, match.syntax == "html")
                for match in self._standing[key][:_MOST_COPIES]
            )
        # Stable: what goes to the same place stays in the order given.
        splices.sort(key=lambda splice: (splice.start, splice.end))
        pieces: list[str] = []
        done = 0
        for number, splice in enumerate(splices):
            pieces.append(self._text[done : splice.start])
            done = splice.end
            neighbours = splices[max(0, number - 1) : number] + splices[number + 1 : number + 2]
            crowded = any(other.end == splice.start or other.start == splice.end for other in neighbours)
            last = not any(other.start == splice.end for other in splices[number + 1 : number + 2])
            pieces.extend(self._written(splice, plain=plain, alone=not crowded, last=last))
        pieces.append(self._text[done:])
        return "".join(pieces)

    def _written(self, splice: _Splice, *, plain: bool, alone: bool, last: bool) -> Iterator[str]:
        html = self._profile.syntax == "html"
        if not html:
            yield self._lines.separator(splice.start)
        yield render_image(self._profile, splice.image.image_url, "" if plain else splice.image.prompt)
        if plain or not last:
            return
        # `strip_illustrations` takes one guard along; let it not be one that the text itself has there.
        inserted = splice.start == splice.end
        own_guard = inserted and splice.end in self._tag_ends and self._text.startswith(GUARD, splice.end)
        exposed = html and alone and not splice.had_html and self._lines.needs_guard(splice.start, splice.end)
        if own_guard or exposed:
            yield GUARD
