"""``threading._active``, the running threads by id, and ``Thread._target``. CPython 3.11 to 3.15.

``threading.enumerate()`` returns the same threads, but takes a lock that user threads hold while they start.
"""

from __future__ import annotations

import functools
import os
import sys
import threading


def native_ids() -> dict[int, int]:
    """Return the kernel id of each thread Python knows, by thread id."""
    active: dict[int, threading.Thread] = getattr(threading, "_active", {}).copy()
    ids = {ident: thread.native_id for ident, thread in active.items() if thread.native_id is not None}
    main = threading.main_thread().ident
    if main in ids and _is_inherited(ids[main], os.getpid()):
        ids[main] = os.getpid()
    return ids


@functools.lru_cache(maxsize=1)  # a look at a file releases the GIL, which callers must not do each time
def _is_inherited(native_id: int, pid: int) -> bool:
    """Whether the main thread of a forked child still has the parent's id, as before CPython 3.14."""
    if sys.platform != "linux" or native_id == pid:
        return False
    return not os.path.exists(f"/proc/self/task/{native_id}")  # if it does, Python is embedded in a thread


def target(thread: threading.Thread) -> object:
    """Return what a thread that has not started is to run: its target, else its method."""
    return getattr(thread, "_target", None) or thread.run
