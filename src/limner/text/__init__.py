"""The text of a message: finding prompts in it, and placing images in it.

All of it is pure: texts in, texts and values out. It knows nothing of sessions, generators or hosts.

* `compile_patterns` and `PRESETS` say what a prompt is.
* `extract_image_prompts` finds the prompts of a whole text, `PromptScanner` those of a text that is arriving.
* `place_images` writes finished images into a text, `render_image` says how one is written.
* `find_images` and `same_url` find images again, `strip_illustrations` takes them out.
"""

from __future__ import annotations

from limner.text.detection import extract_image_prompts
from limner.text.images import ImageMatch, find_images
from limner.text.matches import PromptMatch
from limner.text.patterns import DEFAULT_PATTERNS, PRESETS, PromptPatterns, TagPattern, compile_patterns
from limner.text.placement import (
    DeferredImage,
    InsertionMode,
    PlacedImage,
    Placement,
    UnplacedImage,
    UnplacedReason,
    place_images,
)
from limner.text.rendering import HTML, MARKDOWN, Profile, describe, render_image
from limner.text.scanner import PromptScanner
from limner.text.stripping import strip_illustrations
from limner.text.urls import normalise_url, same_url

__all__ = [
    "DEFAULT_PATTERNS",
    "HTML",
    "MARKDOWN",
    "PRESETS",
    "DeferredImage",
    "ImageMatch",
    "InsertionMode",
    "PlacedImage",
    "Placement",
    "Profile",
    "PromptMatch",
    "PromptPatterns",
    "PromptScanner",
    "TagPattern",
    "UnplacedImage",
    "UnplacedReason",
    "compile_patterns",
    "describe",
    "extract_image_prompts",
    "find_images",
    "normalise_url",
    "place_images",
    "render_image",
    "same_url",
    "strip_illustrations",
]
