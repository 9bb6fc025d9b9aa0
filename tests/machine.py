"""What else the machine has to do, for tests that measure times."""

from __future__ import annotations

from pathlib import Path


def cpu_waited() -> float:
    """Return for how many seconds so far somebody here has waited for a CPU, as Linux counts it."""
    try:
        some = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
    except OSError:  # a kernel that keeps no account
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6
