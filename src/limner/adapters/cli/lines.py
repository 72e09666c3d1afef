"""Small things about the lines that a person reads."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def counted(number: int, what: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def print_grid(console: Console, table: Table) -> None:
    """Print a table without the blanks that fill its last column up: whoever copies lines gets them, too."""
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.file.write(f"{line.rstrip()}\n")
