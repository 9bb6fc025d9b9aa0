"""CPU clocks of single threads.

On Linux the clock id of any thread follows from its kernel id, as ``pthread_getcpuclockid(3)`` in glibc
computes it: ``~tid << 3 | 6``. Reading it for a thread that has ended is a clean OSError, whereas
``time.pthread_getcpuclockid`` with the id of an ended thread is undefined behaviour; so elsewhere each thread
only asks for its own clock.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable

from loopwatch._clock import own_thread_clock


def cpu_clock(native_id: int) -> int | None:
    """Return the clock id of the thread with this kernel id; None if that is unknown."""
    return (~native_id << 3) | 6 if sys.platform == "linux" else None


def cpu_times(native_ids: Iterable[int], read: Callable[[int], float] | None) -> dict[int, float]:
    """Return the CPU seconds of threads by kernel id, without those that have ended; empty if unknown."""
    times: dict[int, float] = {}
    for native_id in native_ids:
        clock = cpu_clock(native_id)
        if clock is None or read is None:
            return {}
        with contextlib.suppress(OSError):  # it has ended since
            times[native_id] = read(clock)
    return times


def own_cpu_clock() -> int | None:
    """Return the clock id of the calling thread; None if the OS has none (Windows)."""
    return cpu_clock(threading.get_native_id()) or own_thread_clock()
