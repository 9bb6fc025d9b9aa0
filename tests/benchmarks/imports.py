"""Time of ``import loopwatch`` in a fresh interpreter, without the interpreter's own start-up.

Beside that of asyncio, which it imports, and of one with ``install()``, which loads the rest; in turns, so
that a machine which changes its speed slows all of them alike.
"""

from __future__ import annotations

import statistics
import subprocess

from .environment import PYTHON, variables
from .report import Verdict, table

RUNS = 15
BUDGET = 100.0
OURS = "import loopwatch"
TIMED = ("import asyncio", OURS, "import loopwatch; loopwatch.install()")
PROGRAM = """
import time
began = time.perf_counter()
{}
print((time.perf_counter() - began) * 1000)
"""


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print, judge."""
    times: dict[str, list[float]] = {timed: [] for timed in TIMED}
    for _ in range(RUNS):
        for timed in TIMED:
            command = [str(PYTHON), "-c", PROGRAM.format(timed)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=variables())
            times[timed].append(float(done.stdout))
    table(
        ("ms", "median", "fastest"),
        [(timed, f"{statistics.median(took):.1f}", f"{min(took):.1f}") for timed, took in times.items()],
    )
    return [Verdict(OURS, statistics.median(times[OURS]), BUDGET, " ms")]
