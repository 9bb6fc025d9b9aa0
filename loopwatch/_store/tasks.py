"""What is kept of tasks: one record for each that lives, one row for each of the last that ended.

Nothing here holds a task, its coroutine, its exception or its context: records keep strings, numbers and code
objects, so that a task dies when it would without us.
"""

from __future__ import annotations

import weakref
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from loopwatch._places import Stand
from loopwatch._records import Lost, LostReason, TaskState

from .sites import Site, Sites
from .watched import Values

ENDED = 1000
"""Ended tasks kept, of each loop."""
FAILED = 200
"""Failed ones kept apart, so that successes do not push them out."""
FALLEN = 256
"""Lost tasks that may wait for the watchdog."""


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
    int, str, "str | None", "str | None", float, float, TaskState, "str | None", "Values | None"
]
"""A task that has ended: address of its site, coroutine, parent, name, start, end, state, type of the
exception, values.

A plain tuple: one is made for each task, and a named one takes five times as long to make. It names its site
by address, since the garbage collector lets go of a tuple of mere texts and numbers: with the site in it, a
thousand of them would grow old all the time, and a busy server come to its full collections sooner.
"""


class LoopTasks:
    """The tasks of the loops of one name. Written by the loop's thread, but for ``gone``.

    A loop that was closed may leave tasks behind, which stay here until they are finalised.
    """

    __slots__ = (
        "ended",
        "failed",
        "failures",
        "fallen",
        "gone",
        "live",
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
        self.sites = Sites()
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
        self.sites.absorb(gone.sites)
        rows = {id(row): self._moved(row) for row in (*gone.ended, *gone.failures)}
        self.ended.extend(rows[id(row)] for row in gone.ended)
        self.failures.extend(rows[id(row)] for row in gone.failures)
        self.untold += gone.untold
        for record in gone.fallen:
            self.fall(record)

    def _moved(self, row: EndedTask) -> EndedTask:
        """Return a row of a loop that is being forgotten: other code may come to lie where its site was."""
        return row if row[0] in self.sites.by_address else (self.sites.further.address, *row[1:])

    def records(self) -> list[LiveTask]:
        """Return the records of the live tasks, oldest first. Any thread."""
        return list(self.live.values())


def tasks_of(records: Iterable[LiveTask]) -> Iterator[Any]:
    """Yield the tasks of these records that exist still."""
    return (task for record in records if (task := record()) is not None)
