"""What else the machine has to do, for tests that measure times."""

from __future__ import annotations

import os
from pathlib import Path


class CpuWaits:
    """For how long the threads of a process, this one or ``pid``, have waited for a CPU since this was made.

    By so much may a loop be held up besides what the test did: right before it, right after it, and while a
    thread has the GIL and no CPU.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._tasks = Path(f"/proc/{pid or 'self'}/task")
        self._before = self._read()
        self._latest: dict[str, float] = {}

    def seconds(self) -> float:
        """Return the sum, without threads that came and went unasked; 0.0 where the system does not tell."""
        self._latest |= self._read()
        return sum(waited - self._before.get(thread, 0.0) for thread, waited in self._latest.items())

    def _read(self) -> dict[str, float]:
        found = {}
        for thread in self._tasks.glob("*"):
            try:
                found[thread.name] = int((thread / "schedstat").read_text().split()[1]) * 1e-9
            except (OSError, IndexError):  # it has just ended; or the kernel keeps no account
                continue
        return found


def cpu_waited() -> float:
    """Return for how many seconds so far somebody here has waited for a CPU, as Linux counts it.

    Includes what a CPU of a virtual machine was not given by the real one: nobody here seems to wait then.
    """
    try:
        some = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
    except OSError:  # a kernel that keeps no account
        return 0.0
    cpus = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()  # in clock ticks
    return int(some.rpartition("total=")[2]) / 1e6 + int(cpus[8]) / os.sysconf("SC_CLK_TCK")
