"""Tests with the real libraries of the chats that Limner tells: discord.py and Chainlit.

Not part of the suite, since those bring more than a hundred packages: `make test-chats`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "examples"


def load_example(name: str) -> ModuleType:
    """An example as a module. It is not imported by its name, which it has as a script only."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
