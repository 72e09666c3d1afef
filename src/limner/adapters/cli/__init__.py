"""The command line: `limner illustrate`, `demo`, `diagrams`, `check`, `sessions`, `backends`."""

from limner.adapters.cli.group import main

__all__ = ["main"]
