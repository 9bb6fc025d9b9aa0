"""Memory the agent adds to a process, and whether a thousand stalls add more than some hundreds did."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

from .environment import module, variables
from .report import Verdict, table
from .subjects import SUBJECTS

WARM_UP = 300
"""Stalls after which every ring is full: the longest keeps 256."""
STALLS = 1000
THRESHOLD = 0.005
GROWTH = 64.0
"""KiB that a thousand more stalls may leave allocated: as much as a dictionary or a log line takes."""


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print, judge."""
    bare, ours = (_child("resident", name) for name in ("bare", "loopwatch"))
    growth = _child("stalls")
    table(
        ("", "KiB"),
        [
            ("resident, bare", f"{bare:.0f}"),
            ("resident, loopwatch", f"{ours:.0f}"),
            ("added by loopwatch and what it imports", f"{ours - bare:.0f}"),
            (f"allocated more after {STALLS} more stalls", f"{growth:.1f}"),
        ],
    )
    return [Verdict(f"growth over {STALLS} stalls", growth, GROWTH, " KiB")]


def _child(*arguments: str) -> float:
    command = module("memory", *arguments)
    return float(
        subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=variables()).stdout
    )


async def _resident(name: str) -> float:
    SUBJECTS[name].attach(asyncio.get_running_loop())
    await asyncio.sleep(2.0)
    return resident()


def resident() -> float:
    """Return the resident memory of this process, in KiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4.0


async def _stall(times: int) -> None:
    for _ in range(times):
        time.sleep(2 * THRESHOLD)
        await asyncio.sleep(0.001)


async def _growth() -> float:
    import loopwatch

    agent = loopwatch.install(prometheus_port=None, stall_threshold=THRESHOLD)
    tracemalloc.start()
    await _stall(WARM_UP)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    await _stall(STALLS)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    recorded = agent.snapshot().points["block_duration"][0].value
    assert isinstance(recorded, loopwatch.Distribution)
    if recorded.count < STALLS:
        sys.exit(f"only {recorded.count} of {WARM_UP + STALLS} stalls were recorded")
    return grown / 1024


if __name__ == "__main__":
    if sys.argv[1] == "stalls":
        print(asyncio.run(_growth()))
    else:
        SUBJECTS[sys.argv[2]].prepare()
        print(asyncio.run(_resident(sys.argv[2])))
