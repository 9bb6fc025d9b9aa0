"""Time of ``import loopwatch`` in a fresh interpreter, without the interpreter's own start-up."""

from __future__ import annotations

import statistics
import subprocess

from .environment import PYTHON, variables
from .report import Verdict, table

RUNS = 15
BUDGET = 100.0
PROGRAM = """
import time
began = time.perf_counter()
import loopwatch
print((time.perf_counter() - began) * 1000)
"""


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print, judge."""
    command = [str(PYTHON), "-c", PROGRAM]
    times = [
        float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=variables()).stdout)
        for _ in range(RUNS)
    ]
    table(
        ("import loopwatch", "ms"),
        [("median", f"{statistics.median(times):.1f}"), ("fastest", f"{min(times):.1f}")],
    )
    return [Verdict("import loopwatch", statistics.median(times), BUDGET, " ms")]
