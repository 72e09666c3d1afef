"""Where the illustrated text, its images and its page go: decided before any image is paid for."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from limner.adapters.cli.errors import BadInput
from limner.adapters.cli.inputs import STDIN
from limner.adapters.whole_file import write_whole
from limner.errors import StorageError

STDOUT = "-"
HTML_SUFFIXES = (".html", ".htm")
DEFAULT_STORY = "story.md"
STDOUT_IMAGES = "limner-images"

# What `FolderImageStore` calls an image.
_IMAGE_NAME = re.compile(r"[0-9a-f]{64}\.(?:png|jpg|webp|gif|avif)")

ProfileName = Literal["html", "markdown"]


@dataclass(frozen=True, slots=True)
class Outputs:
    """The places of one run. `text` is None for standard output, `page` None where none is wanted.

    `base_url` is what `images` is called in the text: relative to the text, percent-encoded.
    """

    text: Path | None
    images: Path
    page: Path | None
    profile: ProfileName
    base_url: str
    is_html: bool = False
    """Whether the text itself is HTML; a Markdown text may have HTML images, too."""
    streamed: bool = False
    """Whether the text is a reply that exists nowhere else."""

    def image_file(self, url: str) -> Path:
        """The file of an image that was made in this run, by the address that its result gives."""
        return self.images / url.partition("#")[0].rpartition("/")[2]

    def stored_image(self, url: str) -> Path | None:
        """The file of an image that Limner stored, in this run or an earlier one; None for any other address.

        `url` comes from the text, which may be anybody's: it must not name other files of this machine.
        So the name has to be one that the store gives, and the file a regular one, not a link to another.
        """
        address = url.partition("#")[0]
        name = address.removeprefix(self.base_url)
        if not address.startswith(self.base_url) or _IMAGE_NAME.fullmatch(name) is None:
            return None
        file = self.images / name
        return file if file.is_file() and not file.is_symlink() else None


def plan_outputs(
    source: str | None,
    output: str | None,
    images: str | None,
    page: str | None,
    profile: ProfileName | None,
) -> Outputs:
    """Decide on the places; `source` is the input file, `-`, or None for a reply that is streamed.

    Raises `BadInput` where an output would overwrite the input or is a folder, its own folder is missing, or
    the images' folder cannot be made or takes no files; `StorageError` where a file cannot be written.
    """
    if page == STDOUT:
        raise BadInput("--page needs a file; standard output is for the text (-o -)")
    text = _text_place(source, output)
    # A device or a pipe (`-o /dev/stdout`) is no place to put a folder beside.
    beside = text if text is not None and (text.is_file() or not text.exists()) else None
    images_folder = Path(images) if images is not None else _images_place(beside)
    is_html = _is_html(source, text)
    outputs = Outputs(
        text=text,
        images=images_folder,
        page=None if page is None else Path(page),
        profile=profile or ("html" if is_html else "markdown"),
        base_url=_relative_url(images_folder, Path() if beside is None else beside.parent),
        is_html=is_html,
        streamed=source is None,
    )
    _check(outputs, source)
    return outputs


def write_text(outputs: Outputs, text: str) -> None:
    """Bring the text to its place, whole. Raises `StorageError`."""
    if outputs.text is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(_encoded(text))
        sys.stdout.buffer.flush()
    else:
        write_file(outputs.text, text)


def write_file(path: Path, text: str) -> None:
    """Write a text file, whole. Raises `StorageError`."""
    write_bytes(path, _encoded(text))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole. Raises `StorageError`."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _encoded(text: str) -> bytes:
    # A server can send lone surrogates, which no file in UTF-8 can hold; U+FFFD is what stands for them.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _text_place(source: str | None, output: str | None) -> Path | None:
    if output == STDOUT or (output is None and source == STDIN):
        return None
    if output is not None:
        return Path(output)
    if source is None:
        return Path(DEFAULT_STORY)
    given = Path(source)
    return given.with_name(f"{given.stem}.illustrated{given.suffix or '.md'}")


def _images_place(text: Path | None) -> Path:
    if text is None:
        return Path(STDOUT_IMAGES)
    return text.with_name(f"{text.stem.removesuffix('.illustrated') or 'text'}-images")


def _is_html(source: str | None, text: Path | None) -> bool:
    named_after = text if source in (None, STDIN) else Path(source or "")
    return named_after is not None and named_after.suffix.lower() in HTML_SUFFIXES


def _relative_url(images: Path, text_folder: Path) -> str:
    try:
        relative = Path(os.path.relpath(images.resolve(), text_folder.resolve()))
    except ValueError:  # on Windows, another drive
        return f"{images.resolve().as_uri()}/"
    address = quote(relative.as_posix())
    return "" if address == "." else f"{address}/"


def _check(outputs: Outputs, source: str | None) -> None:
    for file in _files(outputs):
        if source is not None and source != STDIN and _same_file(file, Path(source)):
            raise BadInput(f"{file} is the input; name another output with -o")
        check_place(file)
    if outputs.text is not None and outputs.page is not None and _same_file(outputs.text, outputs.page):
        raise BadInput(f"{outputs.page} would be both the text and the page; name another page")
    check_images_folder(outputs.images)


def check_place(file: Path) -> None:
    """See whether a file can be written there. Raises `BadInput`, `StorageError`."""
    if file.is_dir():
        raise BadInput(f"{file} is a folder, not a file")
    if not file.parent.is_dir():
        raise BadInput(f"no folder {file.parent} to write {file.name} into")
    if not os.access(file if file.exists() and not file.is_file() else file.parent, os.W_OK):
        raise StorageError(f"cannot write into the folder {file.parent}: permission denied")


def check_images_folder(images: Path) -> None:
    """Try it out: permissions do not tell of read-only file systems and of folders that take no files."""
    made: list[Path] = []
    try:
        missing = _missing_folders(images)
        for folder in reversed(missing):
            folder.mkdir()
            made.append(folder)
        with tempfile.TemporaryFile(dir=images):
            pass
    except OSError as error:
        raise BadInput(f"cannot put images into the folder {images}: {error.strerror or error}") from None
    finally:
        # A run that paints nothing leaves no folder behind.
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()


def _missing_folders(folder: Path) -> list[Path]:
    """`folder` and those above it that do not exist, the innermost first. Raises `BadInput`, `OSError`."""
    missing: list[Path] = []
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            if not place.is_dir():
                raise BadInput(f"{place} is a file; the images need a folder")
            break
        missing.append(place)
    return missing


def _files(outputs: Outputs) -> Iterator[Path]:
    if outputs.text is not None:
        yield outputs.text
    if outputs.page is not None:
        yield outputs.page


def _same_file(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()
