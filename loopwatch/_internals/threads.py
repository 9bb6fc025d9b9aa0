"""``threading._active``: the running threads by id. CPython 3.11 to 3.15.

``threading.enumerate()`` says the same under a lock that user threads hold while they start.
"""

from __future__ import annotations

import threading


def native_ids() -> dict[int, int]:
    """Return the kernel id of each thread Python knows, by thread id."""
    active: dict[int, threading.Thread] = getattr(threading, "_active", {}).copy()
    return {ident: thread.native_id for ident, thread in active.items() if thread.native_id is not None}
