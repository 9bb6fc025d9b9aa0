"""What is kept of tasks: one record for each that lives, one row for each of the last that ended.

Nothing here holds a task, its coroutine, its exception or its context: records keep strings, numbers and code
objects, so that a task dies when it would without us.
"""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass
from types import CodeType
from typing import Any

from loopwatch._places import Place
from loopwatch._records import LostReason, TaskState
from loopwatch._store.watched import Values
from loopwatch.facts import TASK_BUCKETS

ENDED = 1000
"""Ended tasks kept, of each loop."""
FAILED = 200
"""Failed ones kept apart, so that successes do not push them out."""
FALLEN = 256
"""Lost tasks that may wait for the watchdog."""
SITES = 2000
"""Creation sites told apart, of each loop: more than a source has, but code may be generated without end."""


class Site:
    """A place in the source that creates tasks, and what became of them. Written by the loop's thread."""

    __slots__ = (
        "buckets",
        "cancelled",
        "code",
        "created",
        "error",
        "lost",
        "module",
        "offset",
        "ok",
        "total",
    )

    def __init__(self, code: CodeType, offset: int, module: str) -> None:
        self.code = code
        self.offset = offset
        self.module = module
        self.created = self.ok = self.error = self.cancelled = self.lost = 0
        self.buckets = [0] * (len(TASK_BUCKETS) + 1)
        self.total = 0.0
        """Of the durations; with the buckets what a Histogram holds, written in place as tasks end."""

    @property
    def live(self) -> int:
        """Tasks created here that have not ended."""
        return self.created - self.ok - self.error - self.cancelled - self.lost

    @property
    def place(self) -> Place:
        """Where this is."""
        return self.code, self.offset, self.module

    @property
    def name(self) -> str:
        """The creating function, module and qualified name."""
        return f"{self.module}.{self.code.co_qualname}"


@dataclass(frozen=True, slots=True)
class Fall:
    """How a task was found as it fell: copied while its frames and its context still stood."""

    reason: LostReason
    stack: tuple[Place, ...]
    """Outermost first: down to the innermost frame that awaited."""
    waiting_on: str | None
    context: Values | None
    error: str | None


class LiveTask(weakref.ref[Any]):
    """The record of a live task, which is itself the weak reference to it: one object a task."""

    __slots__ = ("context", "coroutine", "fall", "key", "lost", "name", "parent", "site", "started")

    site: Site
    key: int
    """Id of the task."""
    coroutine: str
    """Qualified name of the coroutine function."""
    parent: str | None
    """Coroutine of the task that created it."""
    name: str | None
    """The one it was created with; None for one made up by asyncio."""
    started: float
    """Monotonic time of creation."""
    context: Values | None
    """At creation, where the task's own context cannot be read later (before Python 3.12); else None."""
    fall: Fall | None
    lost: LostReason | None
    """What it was reported as while it lived."""


EndedTask = tuple[
    Site, str, "str | None", "str | None", float, float, TaskState, "str | None", "Values | None"
]
"""A task that has ended: site, coroutine, parent, name, start, end, state, type of the exception, context.
A plain tuple: one is made for each task, and a named one takes five times as long to make."""


class LoopTasks:
    """The tasks of one loop. Written by the loop's thread, but for ``gone``."""

    __slots__ = (
        "ended",
        "failed",
        "failures",
        "fallen",
        "further",
        "gone",
        "held",
        "live",
        "site_count",
        "sites",
    )

    def __init__(self, before: LoopTasks | None = None) -> None:
        self.live: dict[int, LiveTask] = {}
        """By id of the task, in the order of creation."""
        self.failed: dict[int, LiveTask] = {}
        """Tasks that ended with an exception nobody has asked for yet, and exist still."""
        self.gone: deque[LiveTask] = deque()
        """Records whose task was finalised, for the loop's thread to settle. Appended to by the weak
        references themselves, in whichever thread finalises."""
        self.fallen: deque[LiveTask] = deque(maxlen=FALLEN)
        """Records of lost tasks, for the watchdog to tell."""
        self.sites: dict[int, dict[int, Site] | None] = {} if before is None else before.sites
        """By id of the code object, which the site keeps alive, and offset; None for code that creates tasks
        on behalf of others. The id, since hashing a code object takes time in proportion to its length."""
        self.site_count: int = 0 if before is None else before.site_count
        self.held: list[CodeType] = [] if before is None else before.held
        """The code that creates tasks on behalf of others, so that its id stays its own."""
        self.further: Site = Site(_further.__code__, 0, "") if before is None else before.further
        """Stands for all sites beyond SITES."""
        self.ended: deque[EndedTask] = deque(maxlen=ENDED) if before is None else before.ended
        self.failures: deque[EndedTask] = deque(maxlen=FAILED) if before is None else before.failures
        for record in before.live.values() if before is not None else ():
            record.site.lost += 1  # its loop was closed under it

    def settle(self) -> None:
        """Book the tasks that were finalised. The loop's thread, at each heartbeat: usually none."""
        while self.gone:
            record = self.gone.popleft()
            if self.live.get(record.key) is record:
                del self.live[record.key]
                record.site.lost += 1
                self.fallen.append(record)
            elif self.failed.get(record.key) is record:
                del self.failed[record.key]

    def all_sites(self) -> list[Site]:
        """Return the sites seen so far. Any thread."""
        known = (by_offset for by_offset in list(self.sites.values()) if by_offset)
        return [self.further, *(site for by_offset in known for site in list(by_offset.values()))]


def _further() -> None:
    """Lend its code to the site that stands for all others."""
