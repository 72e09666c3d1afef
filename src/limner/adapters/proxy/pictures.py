"""Finished pictures as text, in the way that the client can show them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

from limner.adapters.proxy.code import open_fence
from limner.adapters.proxy.wishes import ProfileName
from limner.text import HTML, MARKDOWN, DeferredImage, Profile, PromptPatterns, place_images, render_image
from limner.text.unfinished import missing_end
from limner.workflows.progress_events import Thumbnail

IMAGES_PATH = "/limner/images"
"""Where the whole pictures are, below the address that clients know the proxy by."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture: of which prompt and where stored; small; the prompt's tag, and where that is."""

    image: DeferredImage
    thumbnail: Thumbnail | None
    tag: str
    position: int

    def address(self, profile: ProfileName, public_url: str) -> str:
        """What stands in the text for it."""
        if profile == "markdown-data" and self.thumbnail is not None:
            data = base64.b64encode(self.thumbnail.data).decode("ascii")
            return f"data:{self.thumbnail.media_type};base64,{data}"
        return f"{public_url.rstrip('/')}{self.image.image_url}"


def missing_ends(text: str, patterns: PromptPatterns) -> str:
    """What closes the tag and the code block that `text` breaks off in: inside of them nothing is shown."""
    tag = missing_end(text, patterns)
    fence = open_fence(text + tag)
    return f"{tag}\n{fence}" if fence else tag


def at_the_end(pictures: Sequence[Picture], profile: ProfileName, public_url: str) -> str:
    """What has to follow a text, which the client has already, so that the pictures stand below it."""
    return "".join(
        f"\n\n{render_image(_written(profile), picture.address(profile, public_url), picture.image.prompt)}"
        for picture in pictures
    )


def in_the_text(
    text: str,
    pictures: Sequence[Picture],
    profile: ProfileName,
    public_url: str,
    patterns: PromptPatterns,
) -> str:
    """`text` with each picture behind its tag."""
    images = [replace(picture.image, image_url=picture.address(profile, public_url)) for picture in pictures]
    return place_images(text, images, patterns=patterns, profile=_written(profile)).text


def _written(profile: ProfileName) -> Profile:
    return HTML if profile == "html" else MARKDOWN
