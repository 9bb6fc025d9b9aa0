"""The names under which loops are shown."""

from __future__ import annotations

import re
import threading


def base_name(thread: threading.Thread) -> str:
    """Name of the loops that run in ``thread``: without the serial numbers that thread libraries add."""
    if thread is threading.main_thread():
        return "main"
    named = re.fullmatch(r"Thread-\d+ \((.+)\)", thread.name)
    return (named[1] if named else re.sub(r"([-_]\d+)+$", "", thread.name)) or "thread"
