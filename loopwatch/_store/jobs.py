"""The jobs of this process and the drains of its loops: kept even if no agent is installed.

Unlike everything else in the store this holds tasks: a job is held until it ends, which ``spawn()`` is for.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loopwatch._places import Place
from loopwatch._records import DrainState, TaskState
from loopwatch._store.watched import Values

STATES: tuple[TaskState, ...] = ("ok", "error", "cancelled")
"""The ways a job can end."""


class Job(NamedTuple):
    """What is known of a job from its start."""

    site: Place
    """Where ``spawn()`` was called."""
    coroutine: str
    """Qualified name of the coroutine function."""
    started: float
    """Monotonic time."""
    values: Values | None
    """At the start, if the task's own context cannot be read later (before Python 3.12); else None."""
    close: Callable[[], None]
    """Closes the coroutine: a job that is cancelled before its first step never awaits it."""


@dataclass(slots=True, eq=False)
class LoopJobs:
    """The jobs of one loop. Written by the loop's thread alone."""

    live: dict[asyncio.Task[Any], Job] = field(default_factory=dict)
    ended: Counter[TaskState] = field(default_factory=Counter)
    drainers: dict[Any, Callable[[asyncio.Task[Any]], None]] = field(default_factory=dict)
    """The tasks in which a drain of this loop is running, each with a function that has the drain wait for a
    given task no longer. Nothing is spawned meanwhile."""
    shut_down: bool = False
    """Whether the server run by the loop has shut down, with a drain."""


class Jobs:
    """All jobs, by loop, and the phase the process is in."""

    def __init__(self) -> None:
        self._by_loop: dict[weakref.ref[asyncio.AbstractEventLoop], LoopJobs] = {}
        self._ended: Counter[TaskState] = Counter()
        """Totals of loops that are gone."""
        self._lock = threading.RLock()  # taken when a loop has its first job; signal handlers take it too
        self.drain_status: DrainState = "serving"
        """Written, like the fields below, by the thread of a loop being drained: the last one wins."""
        self.drain_began: float | None = None
        """Monotonic time; None while no drain is running."""
        self.drain_duration: float | None = None
        """Seconds; of the last drain that is over."""
        self.drain_finished = self.drain_cancelled = self.drain_abandoned = 0
        """Tasks of all drains that are over, by what became of them."""

    def of(self, loop: asyncio.AbstractEventLoop) -> LoopJobs:
        """Return the jobs of ``loop``. In its thread."""
        found = self._by_loop.get(weakref.ref(loop))
        if found is None:
            with self._lock:
                self._forget_closed()
                found = self._by_loop[weakref.ref(loop)] = LoopJobs()
        return found

    def holds(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> bool:
        """Return whether a task is a live job. Any thread."""
        jobs = self._by_loop.get(weakref.ref(loop))
        return jobs is not None and task in jobs.live

    def counts(self) -> dict[str, int]:
        """Return how many jobs are running now, and how many ended in each way. Any thread."""
        by_loop = list(self._by_loop.values())
        ended = sum((jobs.ended for jobs in by_loop), self._ended)
        running = sum(len(jobs.live) for jobs in by_loop)
        return {"running": running, **{state: ended[state] for state in STATES}}

    def clear(self) -> None:
        """Forget everything: in a forked child, where the parent's loops do not run."""
        self._by_loop.clear()
        self._ended.clear()
        self._lock = threading.RLock()  # the parent's may have been held at the fork
        self.drain_status = "serving"
        self.drain_began = self.drain_duration = None
        self.drain_finished = self.drain_cancelled = self.drain_abandoned = 0

    def _forget_closed(self) -> None:
        for ref, jobs in list(self._by_loop.items()):
            loop = ref()
            if loop is None or loop.is_closed():
                del self._by_loop[ref]
                self._ended += jobs.ended


JOBS = Jobs()
