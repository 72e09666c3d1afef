"""`python -m limner` is the command `limner`."""

from __future__ import annotations

from limner.adapters.cli import main

if __name__ == "__main__":
    main(prog_name="limner")
