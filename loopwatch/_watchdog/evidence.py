"""What the operating system knows: CPU clocks, run queue, throttling, context switches. Read, not judged.

Each number is None where the system does not offer it, and then no cause rests on it.
"""

from __future__ import annotations

from collections.abc import Callable

# By name: a mock that a test of the program puts into ``os`` must not count our calls.
from os import O_RDONLY, close, read
from os import open as open_file
from pathlib import Path
from typing import NamedTuple

from loopwatch._clock import Clock
from loopwatch._store.loop_state import LoopState


class Reading(NamedTuple):
    """Cumulative counters at one moment. Seconds, unless said otherwise."""

    at: float
    """Monotonic time."""
    process_cpu: float
    thread_cpu: float | None
    """Of the loop's thread."""
    asleep: float
    """Time the machine has been suspended."""
    runqueue: float | None
    """Time the loop's thread was ready but not running. As of ``system_at``."""
    throttled: float | None
    """Time the cgroup was denied the CPU by its quota. As of ``system_at``."""
    system_at: float
    """When the files in /proc and /sys were read, which is not at every tick."""


LONGEST = 16384
"""Bytes read of a file: the useful part is at its beginning."""


class System:
    """Reads the files of this process. ``root`` is where /proc and /sys are: tests use recorded ones."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.came_back: Callable[[], None] = lambda: None
        """Called after each call that released the GIL, and may have had to wait to get it back."""
        self._proc = str(root / "proc/self")
        self._cpu_stat = self._find_cpu_stat(root)
        self._booked = False

    def runqueue(self, native_id: int) -> float | None:
        """Return the seconds thread ``native_id`` has waited for a CPU.

        A kernel without the accounting always shows zero, so zero counts as unknown until the first other
        number, which a kernel with the accounting shows within moments.
        """
        fields = self._text(f"{self._proc}/task/{native_id}/schedstat").split()
        if len(fields) < 2:
            return None
        waited = int(fields[1]) * 1e-9
        self._booked = self._booked or waited > 0
        return waited if self._booked else None

    def state(self, native_id: int) -> str:
        """Return the scheduler's one-letter state of a thread (R, S, D, T); empty when unknown."""
        return self._text(f"{self._proc}/task/{native_id}/stat").rpartition(") ")[2][:1]

    def throttled(self) -> float | None:
        """Return the seconds the process's cgroup was throttled; None without a CPU controller."""
        for line in self._text(self._cpu_stat).splitlines() if self._cpu_stat is not None else ():
            name, _, value = line.partition(" ")
            if name == "throttled_usec":  # cgroup v2
                return int(value) * 1e-6
            if name == "throttled_time":  # cgroup v1
                return int(value) * 1e-9
        return None

    def _text(self, path: str) -> str:
        """Return the file's text, empty if it cannot be read. Names in it may be cut within a character.

        Read without Python's file objects, which take four times as long as the kernel does.
        """
        try:
            file = open_file(path, O_RDONLY)
        except OSError:
            self.came_back()
            return ""
        try:
            self.came_back()
            text = read(file, LONGEST)
            self.came_back()
        except OSError:
            return ""
        finally:
            close(file)
        self.came_back()
        return text.decode("utf-8", errors="replace")

    def _find_cpu_stat(self, root: Path) -> str | None:
        """Find cpu.stat of the process's own cgroup, v2 or v1, if such a file counts throttling."""
        mount = root / "sys/fs/cgroup"
        for group in self._text(f"{self._proc}/cgroup").splitlines():
            controllers, _, path = group.partition(":")[2].partition(":")
            inside = path.lstrip("/")
            if controllers == "":
                candidates = [mount / inside, mount / "unified" / inside, mount]
            elif "cpu" in controllers.split(","):
                candidates = [mount / name / below for name in (controllers, "cpu") for below in (inside, "")]
            else:
                continue
            for candidate in candidates:
                cpu_stat = str(candidate / "cpu.stat")
                if "throttled_" in self._text(cpu_stat):
                    return cpu_stat
        return None


class Evidence:
    """Takes readings for the watchdog; reads files no more often than asked."""

    SYSTEM_EVERY = 0.25
    """Seconds between two reads of /proc and /sys while all is well: three small files, up to 0.2 ms."""

    def __init__(self, clock: Clock, system: System) -> None:
        self._clock = clock
        self.system = system

    def read(self, state: LoopState, before: Reading | None, fresh: bool) -> Reading:
        """Read the counters for ``state``; the files only if ``fresh``, or if the last read was long ago.

        The clocks are read first and together: opening a file releases the GIL, and may get it back late.
        """
        now = self._clock.monotonic()
        asleep = self._clock.boottime() - now
        thread_cpu, process_cpu = self.thread_cpu(state), self._clock.process_cpu()
        if before is None or fresh or now - before.system_at >= self.SYSTEM_EVERY:
            runqueue, throttled = self.system.runqueue(state.native_id), self.system.throttled()
            system_at = now
        else:
            runqueue, throttled, system_at = before.runqueue, before.throttled, before.system_at
        return Reading(now, process_cpu, thread_cpu, asleep, runqueue, throttled, system_at)

    def thread_cpu(self, state: LoopState) -> float | None:
        """Return the CPU seconds of the loop's thread; None if unknown or the thread has ended."""
        if state.cpu_clock is None or self._clock.of_thread is None:
            return None
        try:
            return self._clock.of_thread(state.cpu_clock)
        except OSError:
            return None
