"""``threading._active``, the running threads by id, and ``Thread._target``. CPython 3.11 to 3.15.

``threading.enumerate()`` says the same as the first, under a lock that user threads hold while they start.
"""

from __future__ import annotations

import threading


def native_ids() -> dict[int, int]:
    """Return the kernel id of each thread Python knows, by thread id."""
    active: dict[int, threading.Thread] = getattr(threading, "_active", {}).copy()
    return {ident: thread.native_id for ident, thread in active.items() if thread.native_id is not None}


def target(thread: threading.Thread) -> object:
    """Return what a thread that has not started is to run: its target, else its method."""
    return getattr(thread, "_target", None) or thread.run
