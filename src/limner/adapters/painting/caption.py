"""The caption: which font can write it, where its lines break, and how it is drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from limner.adapters.painting.colour import Colour

# A caption shows the beginning of a prompt; nothing beyond this is looked at, be it 100 kB.
_READ_CHARACTERS = 400

# Pillow's own font writes English and little more. For everything else the first of these that is
# installed and knows the character is used; which ones there are is up to the machine.
_OTHER_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "ArialUni.ttf",
    "arial.ttf",
    "segoeui.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "msgothic.ttc",
    "malgun.ttf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "NotoEmoji-Regular.ttf",
    "Symbola.ttf",
    "seguisym.ttf",
)

_PREFERENCE = {name: rank for rank, name in enumerate((None, *_OTHER_FONTS))}

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Run:
    """A piece of a line that one font writes; `width` in pixels."""

    text: str
    font: _Font
    width: float


Line = tuple[Run, ...]


@lru_cache(maxsize=64)
def _font(name: str | None, size: int) -> _Font | None:
    if name is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _font_name(character: str) -> tuple[bool, str | None]:
    """Whether some font draws the character, and which (None is Pillow's own)."""
    for name in (None, *_OTHER_FONTS):
        font = _font(name, 24)
        if font is not None and _draws(font, name, character):
            return True, name
    return False, None


@lru_cache(maxsize=4096)
def _draws(font: _Font, name: str | None, character: str) -> bool:
    # A font draws one and the same box for all that it does not know. U+FFFF is never a character.
    drawn = font.getmask(character)
    box = _unknown_box(name)
    return (drawn.size, bytes(drawn)) != box


@lru_cache(maxsize=64)
def _unknown_box(name: str | None) -> tuple[tuple[int, int], bytes]:
    font = _font(name, 24)
    assert font is not None, "asked only for fonts that were found"  # noqa: S101 - a proof for the reader
    box = font.getmask("\uffff")
    return box.size, bytes(box)


def readable(prompt: str) -> str:
    """The beginning of the prompt as one line of characters that can be drawn here.

    Accents are dropped where no font has the accented letter; what no font has at all becomes an
    ellipsis. Nothing is left ("") where nothing could be written.
    """
    head = prompt[:_READ_CHARACTERS]
    kept: list[str] = []
    for character in unicodedata.normalize("NFC", head):
        if character.isspace():
            kept.append(" ")
        elif not character.isprintable():
            continue
        elif _font_name(character)[0]:
            kept.append(character)
        else:
            plain = unicodedata.normalize("NFKD", character)[0]
            kept.append(plain if plain != character and _font_name(plain)[0] else _ELLIPSIS)
    words = " ".join("".join(kept).split())
    while _ELLIPSIS * 2 in words:
        words = words.replace(_ELLIPSIS * 2, _ELLIPSIS)
    if not words.strip(f"{_ELLIPSIS} "):
        return ""
    return words if len(prompt) <= _READ_CHARACTERS else f"{words.rstrip(_ELLIPSIS)}{_ELLIPSIS}"


def _runs(text: str, size: int) -> Line:
    """`text` cut where the font changes, if it has to."""
    pieces: list[tuple[str | None, str]] = []
    for name, character in zip(_font_names(text), text, strict=True):
        if pieces and pieces[-1][0] == name:
            pieces[-1] = (name, pieces[-1][1] + character)
        else:
            pieces.append((name, character))
    runs: list[Run] = []
    for name, piece in pieces:
        font = _font(name, size) or _font(None, size)
        assert font is not None, "Pillow's own font is always there"  # noqa: S101 - a proof for the reader
        runs.append(Run(piece, font, font.getlength(piece)))
    return tuple(runs)


def _font_names(text: str) -> list[str | None]:
    """A font for each character: one for all where there is such a font, since that looks best."""
    wanted = {_font_name(character)[1] for character in text}
    for name in sorted(wanted, key=lambda name: _PREFERENCE[name]):
        font = _font(name, 24)
        if font is not None and all(_draws(font, name, character) for character in text):
            return [name] * len(text)
    return [_font_name(character)[1] for character in text]


def line_width(line: Line) -> float:
    """The width of a line in pixels."""
    return sum(run.width for run in line)


def lay_out(text: str, size: int, width: int, most_lines: int) -> list[Line]:
    """Break `text` into at most `most_lines` lines of `width` px at font size `size` px.

    Breaks stand at spaces, and inside a word only where the word alone is too long for a line, which
    also serves scripts without spaces. What does not fit ends in an ellipsis.
    """
    lines, complete = _broken(text, size, width, most_lines)
    # Lines of about the same length look better than a last line of one word.
    narrower = width
    while complete and len(lines) > 1:
        narrower = round(narrower * 0.94)
        attempt, complete = _broken(text, size, narrower, len(lines))
        if complete:
            lines = attempt
    return lines


def _broken(text: str, size: int, width: int, most_lines: int) -> tuple[list[Line], bool]:
    """The lines, and whether all of the text stands in them."""
    lines: list[Line] = []
    current = ""
    for word in _words(text, size, width):
        longer = f"{current}{word}"
        if line_width(_runs(longer.rstrip(), size)) <= width or not current:
            current = longer
            continue
        if len(lines) == most_lines - 1:
            return [*lines, _shortened(longer, size, width)], False
        lines.append(_runs(current.rstrip(), size))
        current = word
    if current.strip():
        lines.append(_runs(current.rstrip(), size))
    return lines, True


def _words(text: str, size: int, width: int) -> Iterator[str]:
    """Words with the space behind them; words too long for a line come in pieces."""
    for word in text.split():
        piece = ""
        for character in word:
            if piece and line_width(_runs(piece + character, size)) > width:
                yield piece
                piece = ""
            piece += character
        yield f"{piece} "


def _shortened(text: str, size: int, width: int) -> Line:
    """As many whole words as fit with an ellipsis; of a single long word, as many characters."""
    text = text.rstrip()
    while text:
        line = _runs(f"{text.rstrip(' ,.;:—-…')}{_ELLIPSIS}", size)
        if line_width(line) <= width:
            return line
        text = text.rpartition(" ")[0] or text[:-1]
    return _runs(_ELLIPSIS, size)


def draw_lines(
    image: Image.Image, lines: list[Line], centre: float, first: float, leading: float, ink: Colour
) -> None:
    """Draw the lines centred on `centre`; `first` is the base line of the first one, all in pixels."""
    pen = ImageDraw.Draw(image)
    for index, line in enumerate(lines):
        x = centre - line_width(line) / 2
        for run in line:
            pen.text((x, first + index * leading), run.text, font=run.font, fill=ink, anchor="ls")
            x += run.width
