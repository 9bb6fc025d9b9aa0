"""``python -m tests.benchmarks.felt [LEAK [FIRST LAST]]``: what a program feels of the agent in it, as JSON.

It is measured from second ``FIRST`` to ``LAST`` of its life. Each second it blocks its loop for 60 ms, so
that there is something to report: memory grows by those stalls, with an export and without, until there are
256. With LEAK it keeps that many bytes more each second.

Every 5 s it runs a full garbage collection, as happens by itself in a program that creates many objects.
Until then CPython keeps freed tuples, up to 2,000 of each length, for later ones: memory that grows for
minutes with any repeated work, and is not a leak.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import sys
import time
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path

from .allocated import allocated
from .subjects import SUBJECTS

FIRST, LAST = 120.0, 240.0
"""Seconds of its life. In the first two minutes, of thirty exports each, memory grows by what exports need
once, over gRPC by 0.1 MiB a minute."""
OUTAGES = ((20.0, 60.0), (20.0, 60.0))
"""Seconds that a Collector works, then is away. The first outage takes memory once, the second counts."""
BEAT = 0.01
"""Seconds of the program's timer."""
THRESHOLD, STALL = 0.03, 0.06
"""Seconds from which a stall counts, and that each stall takes."""
COLLECTED = 5.0
"""Seconds from one full collection to the next: one beat in 400, which does not show in the p99."""
LOOKS = 12
"""Looks at what is allocated, a second apart, of which the lowest counts: work in progress takes memory, too.
If three signals fail after 2 s each, and two of them are retried 5 s later, some is always in progress."""
DELAY = 1.5
"""Limit of the p99 delay with an export, relative to the worse of two without: allows for a busy machine."""
RESIDENT, KEPT = 0.25, 0.12
"""MiB by which memory may grow in that time beyond the growth without an export: resident memory, which also
reflects fragmentation, and allocated memory, where a leak of 0.1 MiB a minute would be 0.2."""


@dataclass(frozen=True, slots=True)
class Felt:
    """What the program felt between the two moments."""

    p50: float
    p99: float
    """Lateness of its timer, in seconds."""
    resident: float
    """MiB by which its resident memory grew."""
    kept: float
    """MiB by which its allocated, not freed, memory grew."""


class Memory:
    """The program's memory at one moment, or in the seconds before."""

    def __init__(self, at: float) -> None:
        self._due = [at - before for before in range(LOOKS)]
        """Seconds of the program's life, last first."""
        self.allocated = math.inf
        self.resident = 0.0

    def look(self, now: float) -> None:
        """Measure, if it is time."""
        if self._due and now >= self._due[-1]:
            self._due.pop()
            gc.collect()
            self.allocated = min(self.allocated, allocated())
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.resident = pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def known(self) -> bool:
        """Whether all looks have been taken."""
        return not self._due


async def feel(leak: int = 0, first: float = FIRST, last: float = LAST) -> Felt:
    """Be the program."""
    late = array("d", [0.0]) * round((last - first) / BEAT)  # a list of floats would be what grows
    beats = 0
    leaked: list[bytes] = []
    before, after = Memory(first), Memory(last)
    start = time.perf_counter()
    stall_at = collect_at = start + 1.0
    while not after.known:
        if (now := time.perf_counter()) >= stall_at:
            time.sleep(STALL)
            stall_at += 1.0
            leaked.append(bytes(leak))
        if now >= collect_at:
            gc.collect()
            collect_at += COLLECTED
        before.look(now - start)
        after.look(now - start)
        due = time.perf_counter() + BEAT
        await asyncio.sleep(BEAT)
        if before.known:
            late[beats] = time.perf_counter() - due
            beats += 1
    ordered = sorted(late[:beats])
    return Felt(
        p50=ordered[beats // 2],
        p99=ordered[beats * 99 // 100],
        resident=after.resident - before.resident,
        kept=after.allocated - before.allocated,
    )


if __name__ == "__main__":
    os.environ["LOOPWATCH_STALL_THRESHOLD"] = str(THRESHOLD)
    SUBJECTS["loopwatch"].prepare()
    print(json.dumps(asdict(asyncio.run(feel(*map(int, sys.argv[1:]))))), flush=True)
