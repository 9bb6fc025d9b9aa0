"""Freezes what the collectors read into a ``Snapshot``, in whichever thread asks, never in a watched loop's.

If a collector fails, its part is absent; the rest is there.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from ._agent_records import Loop, Lost, Pool, Snapshot, Stall, Waiting
from ._clock import Clock
from ._collectors.jobs import JobCounts
from ._collectors.loops import LoopHealth
from ._collectors.losses import Losses
from ._collectors.pools.census import PoolCensus
from ._collectors.stalls import Stalls
from ._collectors.tasks import TaskCensus
from ._document import Document, Process
from ._journal import Journal
from ._measures import Measure, Point
from ._records import DrainReport, Task
from ._version import __version__

T = TypeVar("T")

COMPONENT = "reader"
"""The component under which failures of the collectors are counted."""

TASKS_SHOWN, TASKS_OF_SITE = 200, 20
"""Live tasks in a document, and how many of them may be of one site: some 25 us each."""
WAITS_AMONG = 200
"""Live tasks of each loop that a document searches for waiting ones: up to 100 us each."""
WAITS_KEPT = 3.0
"""Seconds for which waits that were found are reused."""


class Source(Protocol):
    """A collector of facts."""

    def measures(self, now: float) -> Iterable[Measure]:
        """Yield what is known of each fact at ``now``, in monotonic time; nothing for an unknown one."""


class Reader:
    """Asks the collectors. Any thread."""

    def __init__(
        self,
        service_name: str,
        clock: Clock,
        journal: Journal,
        loops: LoopHealth,
        stalls: Stalls,
        tasks: TaskCensus,
        losses: Losses,
        jobs: JobCounts,
        pools: PoolCensus,
        further: Iterable[Source],
        judge: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot,
        stall_threshold: float = 0.1,
    ) -> None:
        self._service_name = service_name
        self._clock = clock
        self._journal = journal
        self._loops = loops
        self._stalls = stalls
        self._tasks = tasks
        self._losses = losses
        self._jobs = jobs
        self._pools = pools
        self._kept_waits: tuple[float, int, tuple[Waiting, ...]] = (0.0, 0, ())
        self._judge = judge
        self._stall_threshold = stall_threshold
        self._sources: tuple[Source, ...] = (loops, stalls, tasks, losses, jobs, pools, *further)

    def snapshot(self) -> Snapshot:
        """Return everything known now, and what is wrong with it."""
        return self._snapshot(self._tasks.measures)

    def glance(self) -> Snapshot:
        """Return the same without the outcomes of tasks by function, which no rule asks for.

        It is cheap however many functions there are. And the first reading settles which functions are told
        apart: those largest then. So that is left to those who want to see them.
        """
        return self._snapshot(self._tasks.totals)

    def document(self, *, brief: bool = False) -> Document:
        """Return everything known now, with tasks and waits: what ``loopwatch top`` shows.

        Takes some 20 ms of a core in a program with hundreds of tasks. A brief one has only the loops and the
        stalls in progress, and takes less than 1 ms.
        """
        now = self._clock.monotonic()
        process = Process(os.getpid(), platform.python_version(), __version__, self._stall_threshold)
        if brief:
            stalls = tuple(stall for stall in self.stalls() if stall.in_progress)
            wall = self._clock.wall()
            snapshot = Snapshot(wall, self._service_name, {}, loops=self.loops(), stalls=stalls, lost=())
            return Document(process, snapshot, sites=(), tasks=(), waits=())
        return Document(
            process,
            self._snapshot(self._tasks.measures, all_people=True),
            sites=self._said(self._tasks.sites, now),
            tasks=self._said(self._tasks.sample, TASKS_SHOWN, TASKS_OF_SITE),
            waits=self._recent_waits(now),
        )

    def _recent_waits(self, now: float) -> tuple[Waiting, ...]:
        """Return who waits, as of a moment ago: finding the owners of locks takes long."""
        found_at, pid, found = self._kept_waits
        if now - found_at > WAITS_KEPT or pid != os.getpid():
            found = self.waits(WAITS_AMONG)
            self._kept_waits = now, os.getpid(), found
        return found

    def _snapshot(self, tasks: Callable[[float], Iterable[Measure]], *, all_people: bool = False) -> Snapshot:
        now = self._clock.monotonic()
        points: dict[str, list[Point]] = {}
        for source in self._sources:
            asked = tasks if source is self._tasks else source.measures
            for stem, labels, value in self._said(asked, now):
                points.setdefault(stem, []).append(Point(labels, value))
        snapshot = Snapshot(
            taken_at=self._clock.wall(),
            service_name=self._service_name,
            points={stem: tuple(found) for stem, found in points.items()},
            loops=self._said(self._loops.records, now),
            stalls=self.stalls(),
            lost=self.lost(),
            drains=self.drains(),
            pools=self._said(self._pools.records, all_people=all_people),
        )
        return self._judge(snapshot)

    def _said(self, asked: Callable[..., Iterable[T]], *args: Any, **options: Any) -> tuple[T, ...]:
        """Return all that a collector yields, or nothing if it fails."""
        try:
            return tuple(asked(*args, **options))
        except Exception as error:  # noqa: BLE001 - counted; the other collectors are still asked
            self._journal.failure(COMPONENT, error)
            return ()

    def loops(self) -> tuple[Loop, ...]:
        """Return the health of each loop seen so far."""
        return self._said(self._loops.records, self._clock.monotonic())

    def stalls(self) -> tuple[Stall, ...]:
        """Return the stalls kept, oldest first, and after them those in progress."""
        return self._said(self._stalls.records)

    def tasks(self, limit: int) -> tuple[Task, ...]:
        """Return the last tasks that ended and up to ``limit`` live ones, newest last."""
        return self._said(self._tasks.records, limit)

    def lost(self) -> tuple[Lost, ...]:
        """Return the losses kept, oldest first."""
        return self._said(self._losses.records)

    def drains(self) -> tuple[DrainReport, ...]:
        """Return the reports of the last drains, oldest first."""
        return self._said(self._jobs.records)

    def pools(self) -> tuple[Pool, ...]:
        """Return all pools, by kind and label, with who has and who waits for their connections."""
        return self._said(self._pools.records, all_people=True)

    def waits(self, limit: int) -> tuple[Waiting, ...]:
        """Return who waits for locks and their like, among up to ``limit`` live tasks; most first."""
        return self._said(self._tasks.waits, limit)
