"""The state machines as pictures and tables, made from the compiled tables that the core runs.

`write_diagrams` makes the files, `check_diagrams` tells which of them no longer match the code.
"""

from limner.adapters.diagrams.files import DiagramReport, check_diagrams, write_diagrams

__all__ = ["DiagramReport", "check_diagrams", "write_diagrams"]
