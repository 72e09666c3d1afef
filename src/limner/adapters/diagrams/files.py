"""The diagrams as files: written whole or not at all, and checked against the machines."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from limner.adapters.diagrams.dot import to_dot
from limner.adapters.diagrams.markdown import to_markdown
from limner.adapters.diagrams.mermaid import to_mermaid
from limner.adapters.diagrams.sheets import SHEETS, Sheet
from limner.adapters.whole_file import write_whole
from limner.errors import StorageError

DOT_TIMEOUT_S = 60
"""The pictures take a fraction of a second; a `dot` that needs a minute hangs."""

_STAMP = re.compile(rb"<!-- limner: source sha256:([0-9a-f]{64}), picture sha256:([0-9a-f]{64}) -->\n")


@dataclass(frozen=True, slots=True)
class DiagramReport:
    """What `write_diagrams` did.

    `missing_tool` says in one line why there are SVG files that were not written; None where all were.
    """

    written: tuple[Path, ...]
    missing_tool: str | None


def write_diagrams(folder: Path, sheets: Sequence[Sheet] = SHEETS) -> DiagramReport:
    """Write each machine to `folder` as Mermaid (`.mmd`), Markdown (`.md`) and, through graphviz, SVG.

    `folder` is made if need be; each file appears whole, by rename. Without graphviz the text files are
    written all the same. Raises `StorageError` where a file cannot be written.
    """
    written = []
    for name, content in _texts(sheets):
        written.append(_write(folder / name, content))
    missing = None
    for sheet in sheets:
        source = to_dot(sheet).encode()
        try:
            picture = _render(source)
        except _NotDrawn as reason:
            missing = str(reason)
            break
        written.append(_write(folder / f"{sheet.name}.svg", _stamped(picture, source)))
    return DiagramReport(tuple(written), missing)


def check_diagrams(folder: Path, sheets: Sequence[Sheet] = SHEETS) -> tuple[str, ...]:
    """The names of the files in `folder` that are missing or do not show the machines as they are.

    Texts are compared byte for byte. graphviz' versions draw differently, so an SVG is compared by the digest
    of the source it was drawn from, which it carries, and by that of its own bytes, which shows a change by
    hand. graphviz is not needed for this. Raises `StorageError` where a file cannot be read.
    """
    stale = [name for name, content in _texts(sheets) if _read(folder / name) != content]
    for sheet in sheets:
        name = f"{sheet.name}.svg"
        if not _is_drawn_from(_read(folder / name), to_dot(sheet).encode()):
            stale.append(name)
    return tuple(stale)


class _NotDrawn(Exception):
    """Why there is no picture, in one line."""


def _texts(sheets: Sequence[Sheet]) -> Iterator[tuple[str, bytes]]:
    for sheet in sheets:
        yield f"{sheet.name}.mmd", to_mermaid(sheet).encode()
        yield f"{sheet.name}.md", to_markdown(sheet).encode()


def _render(source: bytes) -> bytes:
    dot = shutil.which("dot")
    if dot is None:
        raise _NotDrawn(
            "graphviz's `dot` is not installed, so no SVG was written; "
            "install graphviz (on Debian: apt-get install graphviz) and run the command again"
        )
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and every argument stands here but the path just found
            [dot, "-Tsvg"], input=source, capture_output=True, timeout=DOT_TIMEOUT_S, check=True
        )
    except subprocess.TimeoutExpired:
        raise _NotDrawn(
            f"graphviz's `dot` did not end within {DOT_TIMEOUT_S} s, so an SVG is missing"
        ) from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        raise _NotDrawn(f"graphviz's `dot` failed, so an SVG is missing: {said[0]}") from None
    except OSError as error:
        raise _NotDrawn(f"graphviz's `dot` cannot be run, so an SVG is missing: {error.strerror}") from None
    if b"<svg" not in done.stdout:
        raise _NotDrawn("graphviz's `dot` gave no SVG, so one is missing")
    return done.stdout


def _stamped(picture: bytes, source: bytes) -> bytes:
    stamp = f"<!-- limner: source sha256:{_digest(source)}, picture sha256:{_digest(picture)} -->\n"
    return picture.replace(b"<svg", stamp.encode() + b"<svg", 1)


def _is_drawn_from(svg: bytes | None, source: bytes) -> bool:
    stamp = _STAMP.search(svg) if svg else None
    if svg is None or stamp is None:
        return False
    picture = svg[: stamp.start()] + svg[stamp.end() :]
    return stamp.groups() == (_digest(source).encode(), _digest(picture).encode())


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def _write(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    return path
