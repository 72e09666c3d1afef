"""Taking out of an image file what is not picture: prompts, workflows, places, times, names of programs.

Image servers write the whole prompt and their settings into the file, and cameras more than that. PNG, JPEG,
WebP and GIF are made of labelled parts, so the parts that hold such things are left out and all others are
copied as they are: not one pixel changes. The orientation, the colour profile and what an animation needs
stay, because they say how the picture is shown. Only AVIF is encoded again.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image, ImageOps

AVIF_QUALITY = 90
"""Of 100: what is encoded again should not look so."""

_ORIENTATION = 0x0112  # the Exif tag; 1 is upright
_EXIF = b"Exif\x00\x00"

# Chunks that say how the picture is to be shown: https://www.w3.org/TR/png-3/#11Chunks
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND acTL fcTL fdAT "
    b"tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD pHYs hIST sPLT".split()
)

# https://www.w3.org/Graphics/JPEG/itu-t81.pdf, table B.1. APP0 is JFIF's; APP14 is Adobe's and says how the
# colours are meant; a colour profile is in APP2.
_JPEG_START, _JPEG_END, _JPEG_SCAN, _JPEG_COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_JPEG_APPS, _JPEG_APPS_KEPT = range(0xE0, 0xF0), (0xE0, 0xEE)
_JPEG_PROFILE = b"ICC_PROFILE\x00"
_JPEG_IN_SCAN = (0x00, *range(0xD0, 0xD8))  # a stuffed 0xFF, and restarts

# https://developers.google.com/speed/webp/docs/riff_container
_WEBP_KEPT = (b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
_WEBP_HAS_EXIF, _WEBP_HAS_XMP = 0x08, 0x04

# https://www.w3.org/Graphics/GIF/spec-gif89a.txt
_GIF_EXTENSION, _GIF_IMAGE = 0x21, 0x2C
_GIF_COMMENT, _GIF_APPLICATION = 0xFE, 0xFF
_GIF_APPLICATIONS_KEPT = (b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012")  # repetitions, colour profile


def without_metadata(data: bytes, image: Image.Image) -> bytes:
    """The file `data` without its metadata. `image` is the same file as Pillow opened and loaded it.

    Where the file breaks off, so does the result. Raises `ValueError`, `IndexError`, `struct.error` or what
    Pillow raises for a file that is none of these after all.
    """
    orientation = image.getexif().get(_ORIENTATION, 1)
    match image.format:
        case "PNG":
            return b"".join(_png(data, orientation))
        case "JPEG" | "MPO":  # the pictures behind the first one are left out
            return b"".join(_jpeg(data, orientation))
        case "WEBP":
            return _webp(data, orientation)
        case "GIF":
            return b"".join(_gif(data))
    upright = ImageOps.exif_transpose(image)
    upright.info = {"icc_profile": profile} if (profile := image.info.get("icc_profile")) else {}
    file = io.BytesIO()
    upright.save(file, image.format, quality=AVIF_QUALITY)
    return file.getvalue()


def _only_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif.tobytes().removeprefix(_EXIF)


def _png(data: bytes, orientation: int) -> Iterator[bytes]:
    yield _PNG_SIGNATURE
    at, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND" and at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _PNG_KEPT:
            yield data[at : at + 12 + length]
        if kind == b"IHDR" and orientation != 1:
            yield _png_chunk(b"eXIf", _only_orientation(orientation))
        at += 12 + length


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _jpeg(data: bytes, orientation: int) -> Iterator[bytes]:
    yield bytes((0xFF, _JPEG_START))
    if orientation != 1:
        body = _EXIF + _only_orientation(orientation)
        yield b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    at = 2
    while at + 4 <= len(data):
        at = data.index(b"\xff", at)
        while data[at + 1] == 0xFF:  # any number of these may stand before a marker
            at += 1
        marker = data[at + 1]
        if marker == _JPEG_END:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if marker == _JPEG_SCAN:
            end = _end_of_scan(data, end)
        if _is_kept_in_jpeg(marker, data[at + 4 : end]):
            yield data[at:end]
        at = end
    yield bytes((0xFF, _JPEG_END))


def _end_of_scan(data: bytes, at: int) -> int:
    at = data.find(b"\xff", at)
    while at >= 0 and at + 1 < len(data) and data[at + 1] in _JPEG_IN_SCAN:
        at = data.find(b"\xff", at + 2)
    return at if at >= 0 else len(data)


def _is_kept_in_jpeg(marker: int, body: bytes) -> bool:
    if marker in _JPEG_APPS:
        return marker in _JPEG_APPS_KEPT or body.startswith(_JPEG_PROFILE)
    return marker != _JPEG_COMMENT


def _webp(data: bytes, orientation: int) -> bytes:
    kept = bytearray(b"WEBP")
    at, whole = 12, 8 + int.from_bytes(data[4:8], "little")
    while at + 8 <= min(whole, len(data)):
        kind, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        if kind in _WEBP_KEPT:
            chunk = bytearray(data[at:end])
            if kind == b"VP8X":
                chunk[8] &= 0xFF & ~(_WEBP_HAS_XMP if orientation != 1 else _WEBP_HAS_EXIF | _WEBP_HAS_XMP)
            kept += chunk
        at = end
    if orientation != 1:
        body = _only_orientation(orientation)
        kept += struct.pack("<4sI", b"EXIF", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(kept)) + bytes(kept)


def _gif(data: bytes) -> Iterator[bytes]:
    at = 13 + _colours(data[10])
    yield data[:at]
    while at < len(data) and data[at] in (_GIF_EXTENSION, _GIF_IMAGE):
        if data[at] == _GIF_IMAGE:
            end = _end_of_blocks(data, at + 11 + _colours(data[at + 9]))
            yield data[at:end]
        else:
            end = _end_of_blocks(data, at + 2)
            label, name = data[at + 1], data[at + 3 : at + 14]
            if label != _GIF_COMMENT and (label != _GIF_APPLICATION or name in _GIF_APPLICATIONS_KEPT):
                yield data[at:end]
        at = end
    yield b";"


def _colours(flags: int) -> int:
    """The bytes of the colour table that these flags announce."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += 1 + data[at]
    return at + 1
