"""Time, as an argument: the only module that imports ``time``.

Every part that needs a clock receives a ``Clock``; tests pass one they control (``loopwatch.testing``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


def _boottime() -> float:
    """Seconds since boot, sleep included; on systems without CLOCK_BOOTTIME the same as monotonic."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def own_thread_clock() -> int | None:
    """Return the id of the calling thread's CPU clock; None where the OS has none."""
    get = getattr(time, "pthread_getcpuclockid", None)
    return None if get is None else int(get(threading.get_ident()))


_OF_THREAD: Callable[[int], float] | None = getattr(time, "clock_gettime", None)


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of this process. All return seconds as float."""

    monotonic: Callable[[], float] = time.monotonic
    """Never goes back and does not tick while the machine sleeps (Linux); asyncio's own clock."""
    wall: Callable[[], float] = time.time
    """Unix time, for people and for timestamps; may jump."""
    process_cpu: Callable[[], float] = time.process_time
    """User and system CPU time of all threads of this process."""
    thread_cpu: Callable[[], float] = time.thread_time
    """User and system CPU time of the calling thread."""
    boottime: Callable[[], float] = _boottime if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
    """Like monotonic, but ticks while the machine sleeps: the difference is the time asleep."""
    of_thread: Callable[[int], float] | None = _OF_THREAD
    """Reads the CPU clock with the given clock id; None where the OS has none (Windows)."""

    def wall_at(self, moment: float) -> float:
        """Return the Unix time of a moment in monotonic time.

        This thread may lose the GIL between readings, for as long as a stall: then all are taken again.
        """
        for _ in range(READINGS):
            before, wall, after = self.monotonic(), self.wall(), self.monotonic()
            if after - before < CLOSE:
                break
        return wall + moment - (before + after) / 2


def nanoseconds(moment: float) -> int:
    """Return a moment as a whole number, which identifies what began then: a stall or a task."""
    return round(moment * 1e9)


READINGS = 5
"""Pairs of clock readings taken, at most, until one pair is close together."""
CLOSE = 0.001
"""Seconds within which two readings count as simultaneous: a thousand times as long as they take."""

SYSTEM = Clock()
