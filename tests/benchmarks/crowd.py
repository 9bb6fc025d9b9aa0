"""What 100,000 live tasks cost: memory per task, and the time of a scrape.

The tasks wait in a process of their own, beside a ticker on the same loop. The scrapes come from this
process, as Prometheus scrapes from another one. What a scrape adds to the loop's delay is the lateness of the
latest tick during it, less that of the latest in an equally long time just before. Memory is the growth of
the process at the end, when the agent has looked at its tasks for a while, less the growth of a bare one.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from array import array
from dataclasses import dataclass

from .environment import module, variables
from .memory import resident
from .report import Verdict, table
from .subjects import SUBJECTS

TASKS = 100_000
TICK = 0.001
SCRAPES = 20
PAUSE = 1.0
"""Seconds between two scrapes."""
BYTES = 600.0
"""Budget of memory per task."""
SECONDS = 1.0
"""Budget for a scrape."""
MILLISECONDS = 10.0
"""Budget for what a scrape adds to the loop's delay."""


@dataclass(frozen=True, slots=True)
class Span:
    """A period, by the clock that all processes share."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        """Length of the period."""
        return self.ended - self.began

    def before(self, seconds: float) -> Span:
        """Return the period of this many seconds that ends where this one begins."""
        return Span(self.began - seconds, self.began)


@dataclass(frozen=True, slots=True)
class Crowd:
    """The measurements of one process with that many tasks."""

    bytes_per_task: float
    due: list[float]
    """When each tick was due."""
    ran: list[float]
    """When each tick ran."""
    scrapes: list[Span]

    def late(self, span: Span) -> float:
        """Return the lateness of the latest tick in ``span``, in milliseconds."""
        ticks = zip(self.due, self.ran, strict=True)
        late = (ran - due for due, ran in ticks if due < span.ended and ran > span.began)
        return 1000 * max(late, default=0.0)

    @property
    def idle(self) -> float:
        """Median lateness of the latest tick in a second without a scrape, in milliseconds."""
        return statistics.median(self.late(scrape.before(PAUSE)) for scrape in self.scrapes)


def run(missing: dict[str, str]) -> list[Verdict]:
    """Measure, print, judge."""
    bare, ours = (_crowd(name) for name in ("bare", "loopwatch"))
    took = [scrape.seconds for scrape in ours.scrapes]
    added = [ours.late(scrape) - ours.late(scrape.before(scrape.seconds)) for scrape in ours.scrapes]
    table(
        (f"{TASKS:,} live tasks", ""),
        [
            ("bytes for each, bare", f"{bare.bytes_per_task:.0f}"),
            ("bytes for each, loopwatch", f"{ours.bytes_per_task:.0f}"),
            ("ms the latest tick of a second is late, bare", f"{bare.idle:.1f}"),
            ("ms it is late, loopwatch, not scraped", f"{ours.idle:.1f}"),
            (f"ms a scrape takes, median of {SCRAPES}", f"{statistics.median(took) * 1000:.1f}"),
            ("ms the longest takes", f"{max(took) * 1000:.1f}"),
            ("ms a scrape adds to the loop's delay, median", f"{statistics.median(added):.1f}"),
            ("ms the worst adds", f"{max(added):.1f}"),
        ],
    )
    return [
        Verdict("memory for each live task", ours.bytes_per_task - bare.bytes_per_task, BYTES, " B"),
        Verdict("longest scrape", max(took), SECONDS, " s"),
        Verdict("delay that a scrape adds", statistics.median(added), MILLISECONDS, " ms"),
    ]


def _crowd(name: str) -> Crowd:
    command = module("crowd", name)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        scrapes = [_scrape(url) for _ in range(SCRAPES)]
        process.stdin.close()
        return Crowd(*json.loads(process.stdout.read()), scrapes)


def _scrape(url: str) -> Span:
    time.sleep(PAUSE)
    began = time.monotonic()
    if url:
        urllib.request.urlopen(url).read()
    return Span(began, time.monotonic())


async def _wait(gate: asyncio.Event) -> None:
    await gate.wait()


async def _wait_in_crowd(name: str) -> None:
    """Be the process: print where to scrape and, once stdin is closed, what was measured."""
    loop = asyncio.get_running_loop()
    SUBJECTS[name].attach(loop)
    gate, over = asyncio.Event(), asyncio.Event()
    before = resident()
    tasks = [asyncio.create_task(_wait(gate)) for _ in range(TASKS)]
    await asyncio.sleep(0)
    print(_url() if name == "loopwatch" else "", flush=True)
    loop.add_reader(sys.stdin, over.set)
    due, ran = array("d"), array("d")
    while not over.is_set():
        due.append(loop.time() + TICK)
        await asyncio.sleep(TICK)
        ran.append(loop.time())
    grown = (resident() - before) * 1024
    print(json.dumps([grown / len(tasks), due.tolist(), ran.tolist()]), flush=True)
    gate.set()
    await asyncio.gather(*tasks)  # cancelling them all would take the event a minute


def _url() -> str:
    import loopwatch

    return loopwatch.install(prometheus_port=0).prometheus_url or ""


if __name__ == "__main__":
    SUBJECTS[sys.argv[1]].prepare()
    asyncio.run(_wait_in_crowd(sys.argv[1]))
