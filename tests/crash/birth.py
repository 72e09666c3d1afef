"""New processes from a warmed one: a fork instead of a start and all the imports."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

LIFE_LIMIT_S = 60
"""No life takes nearly as long; one that does, hangs, and is ended by SIGALRM."""


def be_ready() -> None:
    """Make this process one to fork from, after all is imported and cached. Raises where it has threads."""
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads must not be forked")
    gc.collect()
    gc.freeze()  # else the collector would copy, in each child, every page that it looks at


def born(output: Path, live: Callable[[], None]) -> int:
    """Run `live` in a new process, whose id is returned. What it prints goes to `output`.

    Its exit code is 0 if `live` returns.
    """
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, sys.stdout.fileno())
        os.dup2(file, sys.stderr.fileno())
        signal.alarm(LIFE_LIMIT_S)
        live()
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it is told, and must not get into the parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
