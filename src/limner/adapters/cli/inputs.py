"""Reading what is to be illustrated: a text file or standard input, checked before anything is made of it."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

from limner.adapters.cli.errors import BadInput
from limner.adapters.sniffing import one_line

STDIN = "-"
LARGEST_TEXT = 64 * 1024 * 1024
"""Bytes. Far beyond any message, and little enough to refuse an endless input soon."""


def read_text(source: str) -> str:
    """The text of the file `source`, or of standard input for `-`, with its line ends as they are.

    Raises `BadInput`: no such file, a folder, not readable, not UTF-8 text, too large.
    """
    name = "standard input" if source == STDIN else source
    try:
        data = _read(source)
    except IsADirectoryError:
        raise BadInput(f"{name} is a folder, not a text file") from None
    except FileNotFoundError:
        raise BadInput(f"no file {one_line(name, 200)}{_hint(source)}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        hint = _hint(source) if getattr(error, "errno", None) == errno.ENAMETOOLONG else ""
        raise BadInput(f"cannot read {one_line(name, 200)}: {why}{hint}") from None
    if len(data) > LARGEST_TEXT:
        raise BadInput(f"{name} is larger than {LARGEST_TEXT // 1024 // 1024} MiB")
    return _decode(data, name)


def _hint(source: str) -> str:
    """A name with spaces that is no file is most likely a request for a chat server."""
    return "; to have it written, add --openai URL --model NAME" if " " in source.strip() else ""


def _read(source: str) -> bytes:
    if source == STDIN:
        if sys.stdin is None:
            raise BadInput("there is no standard input")
        return sys.stdin.buffer.read(LARGEST_TEXT + 1)
    with Path(source).open("rb") as file:
        return file.read(LARGEST_TEXT + 1)


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"{name} is UTF-16, not UTF-8; convert it first (iconv -f UTF-16 -t UTF-8)")
    # Every NUL is valid UTF-8, yet no text has one; it tells archives and pictures apart most reliably.
    nul = data.find(b"\0")
    if nul >= 0:
        raise BadInput(f"{name} is not text: byte 0x00 at offset {nul}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise BadInput(f"{name} is not UTF-8 text: byte 0x{byte:02x} at offset {error.start}") from None
