"""The long run of `make crash`, cut to a few kills: it runs, tells what it did, and finds nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_some_kills_under_load_break_no_promise():
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.load", "--kills", "12", "--seed", "3", "--minutes", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *_, told = done.stdout.splitlines()
    assert re.match(r"seed 3, \d+ s: 12 kills", told)
    assert told.endswith("0 violations")
