"""Has the server in this process been told to stop?

An event stream has no end of its own, and uvicorn waits for every answer to end before it stops, unless it
was given a `timeout_graceful_shutdown`; it tells the app only after that. So streams have to notice by
themselves. What shows it is `should_exit` of the server, whose method handles the signals.
"""

from __future__ import annotations

import signal


def server_is_stopping() -> bool:
    """Whether uvicorn, where it handles this process's signals, is on its way out."""
    for number in (signal.SIGINT, signal.SIGTERM):
        server = getattr(signal.getsignal(number), "__self__", None)
        if getattr(server, "should_exit", False) is True:
            return True
    return False
