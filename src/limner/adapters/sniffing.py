"""What some bytes look like, in a few words, for an error message."""

from __future__ import annotations

_SHOWN_CHARACTERS = 80
_LOOKED_AT_BYTES = 512

# Magic numbers: (offset, bytes, name). Only what an image backend might plausibly send by mistake.
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG file that is damaged or cut short"),
    (0, b"\xff\xd8\xff", "a JPEG file that is damaged or cut short"),
    (0, b"GIF8", "a GIF file that is damaged or cut short"),
    (8, b"WEBP", "a WebP file that is damaged or cut short"),
    (4, b"ftypavif", "an AVIF file that is damaged or cut short"),
    (4, b"ftypavis", "an AVIF file that is damaged or cut short"),
    (4, b"ftyphei", "a HEIC image, which browsers do not show"),
    (4, b"ftyp", "a video"),
    (0, b"BM", "a BMP image, which Limner does not take"),
    (0, b"II*\x00", "a TIFF image, which browsers do not show"),
    (0, b"MM\x00*", "a TIFF image, which browsers do not show"),
    (0, b"\xff\x0a", "a JPEG XL image, which browsers do not show"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "gzip-compressed data"),
)


def describe(data: bytes) -> str:
    """Say what `data` looks like, for example ``it is JSON: {"error": "out of memory"}``.

    Looks at the first 512 bytes only and returns one printable line of at most about 120 characters.
    """
    head = data[:_LOOKED_AT_BYTES]
    if not head.strip():
        return "it is empty"
    for offset, magic, name in _SIGNATURES:
        if head.startswith(magic, offset):
            return f"it is {name}"
    # Cut at 512 bytes, so the last character may be half there: it is ignored like any other such.
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if not _is_text(head, text):
        return f"it is data of an unknown kind, beginning {head[:8].hex(' ')}"
    return f"it is {_text_kind(text)}: {one_line(text, _SHOWN_CHARACTERS)}"


def one_line(text: str, limit: int) -> str:
    """`text` as one line of at most `limit` characters, without control characters."""
    # Four times the limit is enough to look at, since runs of white space shrink; never all of a megabyte.
    words = "".join(ch if ch.isprintable() else " " for ch in text[: 4 * limit]).split()
    line = " ".join(words)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _is_text(head: bytes, text: str) -> bool:
    if b"\x00" in head or not text:
        return False
    # Bytes that are no UTF-8 have vanished from `text`; a few may, the cut end or another encoding.
    decoded = len(text.encode("utf-8", "surrogatepass")) >= 0.8 * len(head.strip())
    readable = sum(ch.isprintable() or ch.isspace() for ch in text)
    return decoded and readable >= 0.8 * len(text)


def _text_kind(text: str) -> str:
    start = text[:200].lower()
    if start.startswith(("{", "[")):
        return "JSON"
    if "<svg" in text.lower() and start.startswith(("<svg", "<?xml", "<!--", "<!doctype svg")):
        return "an SVG drawing, which Limner does not take"
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page"
    if start.startswith("<?xml"):
        return "XML"
    if start.startswith("data:"):
        return "a data: URI, not the bytes of an image"
    return "text"
