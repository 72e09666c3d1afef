"""`python -m tests.adapters.journals`: write the sample of a new format."""

from __future__ import annotations

import sys

import anyio

from limner.adapters.journal_format import FORMAT
from tests.adapters.journals import make, sample

try:
    anyio.run(make, sample(FORMAT))
except FileExistsError as error:
    sys.exit(str(error))
