"""CPU time of a process whose loop has nothing to do, bare and under each agent. All run at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from .environment import module, variables
from .report import Verdict, table
from .subjects import SUBJECTS

SECONDS = 30.0
BUDGET = 1.0
"""Percent of a core; the aim is 0.3."""
SHOWN = ("bare", "loopwatch", "aiodebug", "aiocop", "livekit monitor")


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure all subjects, print the table, judge loopwatch."""
    waiting = {
        name: subprocess.Popen(module("idle", name), stdout=subprocess.PIPE, text=True, env=variables())
        for name in SHOWN
        if name not in missing
    }
    percent = {name: float(process.communicate()[0] or "nan") for name, process in waiting.items()}
    rows = [(name, f"{percent[name]:.3f}") if name in percent else (name, missing[name]) for name in SHOWN]
    table((f"idle for {SECONDS:.0f} s", "% of a core"), rows)
    return [Verdict("idle process", percent["loopwatch"], BUDGET, " %")]


async def _idle(name: str) -> float:
    SUBJECTS[name].attach(asyncio.get_running_loop())
    await asyncio.sleep(1.0)  # the start-up is not idle time
    before = time.process_time()
    await asyncio.sleep(SECONDS)
    return (time.process_time() - before) / SECONDS * 100


if __name__ == "__main__":
    SUBJECTS[sys.argv[1]].prepare()
    print(asyncio.run(_idle(sys.argv[1])))
