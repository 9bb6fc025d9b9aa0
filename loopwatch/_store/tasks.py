"""What is kept of tasks: one record for each that lives, one row for each of the last that ended.

Nothing here holds a task, its coroutine, its exception or its context: records keep strings, numbers and code
objects, so that a task dies when it would without us.
"""

from __future__ import annotations

import weakref
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from loopwatch._places import Place, Stand
from loopwatch._records import Lost, LostReason, TaskState
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
        "named",
        "offset",
        "ok",
        "total",
    )

    def __init__(self, code: CodeType, offset: int, module: str) -> None:
        self.code = code
        self.offset = offset
        self.module = module
        self.created = self.ok = self.error = self.cancelled = self.lost = 0
        self.named = False
        """Whether its tasks are given names after they were made."""
        self.buckets = [0] * (len(TASK_BUCKETS) + 1)
        self.total = 0.0
        """Of the durations; with the buckets what a Histogram holds, written in place as tasks end."""

    @property
    def live(self) -> int:
        """Tasks created here that have not ended."""
        ended = self.ok + self.error + self.cancelled + self.lost  # first: one may start and end meanwhile
        return self.created - ended

    def absorb(self, gone: Site) -> None:
        """Add what was counted at the same place for another loop."""
        self.created += gone.created
        self.ok += gone.ok
        self.error += gone.error
        self.cancelled += gone.cancelled
        self.lost += gone.lost
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, gone.buckets, strict=True)]
        self.total += gone.total

    @property
    def place(self) -> Place:
        """Where this is."""
        return self.code, self.offset, self.module

    @property
    def name(self) -> str:
        """The creating function, module and qualified name."""
        return f"{self.module}.{self.code.co_qualname}" if self.module else self.code.co_qualname


@dataclass(frozen=True, slots=True)
class Fall:
    """How a task was found as it fell: copied while its context, its exception and its name still stood."""

    reason: LostReason
    name: str | None
    stood: Stand | None
    """Where it waited when it was last looked at or, if it died of an exception, where that was raised."""
    values: Values | None
    error: str | None


class LiveTask(weakref.ref[Any]):
    """The record of a live task, which is itself the weak reference to it: one object a task."""

    __slots__ = ("coroutine", "fall", "key", "lost", "name", "parent", "site", "started", "stood", "values")

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
    values: Values | None
    """At creation, where the task's own context cannot be read later (before Python 3.12); else None."""
    fall: Fall | None
    stood: Stand | None
    """Where it was seen last; None until it is looked at."""
    lost: Lost | None
    """The report of it, made while it lived."""

    @property
    def reason(self) -> LostReason:
        """As what it fell."""
        return "destroyed_pending" if self.fall is None else self.fall.reason


EndedTask = tuple[
    Site, str, "str | None", "str | None", float, float, TaskState, "str | None", "Values | None"
]
"""A task that has ended: site, coroutine, parent, name, start, end, state, type of the exception, values.
A plain tuple: one is made for each task, and a named one takes five times as long to make."""


class LoopTasks:
    """The tasks of the loops of one name. Written by the loop's thread, but for ``gone``.

    A loop that was closed may leave tasks behind, which stay here until they are finalised.
    """

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
        "untold",
    )

    def __init__(self) -> None:
        self.live: dict[int, LiveTask] = {}
        """By id of the task, in the order of creation."""
        self.failed: dict[int, LiveTask] = {}
        """Tasks that ended with an exception nobody has asked for yet, and exist still."""
        self.gone: deque[LiveTask] = deque()
        """Records whose task was finalised, for the loop's thread to settle. Appended to by the weak
        references themselves, in whichever thread finalises."""
        self.fallen: deque[LiveTask] = deque()
        """Records of lost tasks, for the watchdog to tell."""
        self.untold: Counter[LostReason] = Counter()
        """Lost tasks that found no place among those."""
        self.sites: dict[int, dict[int, Site] | None] = {}
        """By id of the code object, which the site keeps alive, and offset; None for code that creates tasks
        on behalf of others. The id, since hashing a code object takes time in proportion to its length. By
        the negative id that of a coroutine's own code, for tasks whose creator cannot be seen."""
        self.site_count: int = 0
        self.held: list[CodeType] = []
        """The code that creates tasks on behalf of others, so that its id stays its own."""
        self.further: Site = Site(_further.__code__, 0, "")
        """Stands for all sites beyond SITES."""
        self.ended: deque[EndedTask] = deque(maxlen=ENDED)
        self.failures: deque[EndedTask] = deque(maxlen=FAILED)

    def settle(self) -> None:
        """Book the tasks that were finalised: usually none.

        The loop's thread, at each heartbeat, and before a new task that may have the id of one of them.
        """
        while self.gone:
            try:
                record = self.gone.popleft()
            except IndexError:  # the watchdog has, which settles for a loop that does not run
                return
            if self.live.get(record.key) is record:
                del self.live[record.key]
                record.site.lost += 1
                self.fall(record)
            elif self.failed.get(record.key) is record:
                del self.failed[record.key]

    def fall(self, record: LiveTask) -> None:
        """Have the watchdog tell of a lost task."""
        if len(self.fallen) < FALLEN:
            self.fallen.append(record)
        else:
            self.untold[record.reason] += 1

    def absorb(self, gone: LoopTasks) -> None:
        """Add the counters of a loop whose name is being forgotten, and its last tasks."""
        gone.settle()
        for record in gone.live.values():
            record.site.lost += 1  # their loop was closed under them
        for code_id, by_offset in gone.sites.items():
            for offset, site in (by_offset or {}).items():
                self.site(code_id, site.code, offset, site.module).absorb(site)
        self.further.absorb(gone.further)
        self.ended.extend(gone.ended)
        self.failures.extend(gone.failures)
        self.untold += gone.untold
        for record in gone.fallen:
            self.fall(record)

    def site(self, key: int, code: CodeType, offset: int, module: str) -> Site:
        """Return the site at a place, made now unless there are too many. ``key`` as in ``sites``."""
        by_offset = self.sites.get(key) or {}
        site = by_offset.get(offset)
        if site is not None:
            return site
        if self.site_count >= SITES:
            if not by_offset:
                self.sites.pop(key, None)  # nothing keeps this code, and so its id, alive
            return self.further
        self.site_count += 1
        self.sites[key] = by_offset
        by_offset[offset] = site = Site(code, offset, module)
        return site

    def records(self) -> list[LiveTask]:
        """Return the records of the live tasks, oldest first. Any thread."""
        return list(self.live.values())

    def all_sites(self) -> list[Site]:
        """Return the sites told apart so far. Any thread."""
        known = (by_offset for by_offset in list(self.sites.values()) if by_offset)
        return [site for by_offset in known for site in list(by_offset.values())]


def tasks_of(records: Iterable[LiveTask]) -> Iterator[Any]:
    """Yield the tasks of these records that exist still."""
    return (task for record in records if (task := record()) is not None)


def _further() -> None:
    """Lend its code to the site that stands for all others."""
