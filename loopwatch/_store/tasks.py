"""What is kept of tasks: one record for each live one, one row for each of the last that ended.

Nothing here holds a task, its coroutine, its exception or its context: records keep strings, numbers and code
objects, so that a task dies when it would without us.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from loopwatch._agent_records import Lost, LostReason
from loopwatch._places import Place, Stand
from loopwatch._records import TaskState

from .pauses import Pauses
from .sites import Site, Sites
from .watched import Values

ENDED = 1000
"""Ended tasks kept per loop."""
FAILED = 200
"""Failed ones, kept separately, so that successes do not push them out."""
FALLEN = 256
"""Lost tasks that may wait for the watchdog."""
FALLEN_OF_SITE = 64
"""How many of those may be of one site, so that a site that loses many hides no other. The last places, as
many as this, are reserved for sites of which no task waits."""
UNTOLD = 1000
"""Kinds of further ones told apart: more than a program has, but it may generate exceptions without end."""


@dataclass(frozen=True, slots=True)
class Fall:
    """How a lost task was found: copied while its context, its exception and its name still existed."""

    reason: LostReason
    site: Place
    coroutine: str
    started: float | None
    """Monotonic time; None for a task that was not created through the loop."""
    name: str | None
    stood: Stand | None
    """Where it waited when last looked at or, if it died of an exception, where that was raised."""
    values: Values | None
    error: str | None
    record: LiveTask | None
    """Its record, which may say what was reported of it while it lived."""


class OwnRef(weakref.ref[Any]):
    """A weak reference of ours, through which nobody else reaches its object."""

    __slots__ = ()


class LiveTask(weakref.ref[Any]):
    """The record of a live task, which is itself the weak reference to it: one object per task."""

    __slots__ = ("coroutine", "fall", "key", "lost", "name", "parent", "site", "started", "stood", "values")

    site: Site
    key: int
    """Id of the task."""
    coroutine: str
    """Qualified name of the coroutine function."""
    parent: str | None
    """Coroutine of the task that created it."""
    name: str | None
    """The name it was created with; None for one made up by asyncio."""
    started: float
    """Monotonic time of creation."""
    values: Values | None
    """At creation, if the task's own context cannot be read later (before Python 3.12); else None."""
    fall: Fall | None
    """Set when asyncio reports the task as lost, or once it is known that asyncio will not."""
    stood: Stand | None
    """Where it was last seen; None until it is looked at."""
    lost: Lost | None
    """The report of it as lost, made while it lived."""

    def __reduce__(self) -> Any:
        """Leave nothing of this in a copy of what refers to it, such as a request of the program's."""
        return type(None), ()

    @property
    def origin(self) -> tuple[Place, str, float, Values | None]:
        """Place, coroutine, monotonic time and values of its creation."""
        return self.site.place, self.coroutine, self.started, self.values


EndedTask = tuple[
    int, str, "str | None", "str | None", float, float, TaskState, "str | None", "Values | None"
]
"""A task that has ended: address of its site, coroutine, parent, name, start, end, state, type of the
exception, values.

A plain tuple: one is made for each task, and a named one takes five times as long to make. It refers to its
site by address, since the garbage collector stops tracking a tuple of only strings and numbers: with the site
in it, a thousand tuples would be growing old, and a busy server would reach its full collections sooner.
"""


class LoopTasks:
    """The tasks of the loops of one name. Written by the loop's thread, except for ``gone``.

    A closed loop may leave tasks behind, which stay here until they are finalised.
    """

    __slots__ = (
        "_pauses",
        "_waiting",
        "ended",
        "failed",
        "failures",
        "fallen",
        "gone",
        "live",
        "sites",
        "untold",
    )

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self.live: dict[int, LiveTask] = {}
        """By id of the task, in the order of creation."""
        self.failed: dict[int, LiveTask] = {}
        """Tasks that ended with an exception that nobody has retrieved yet, and that still exist."""
        self.gone: deque[LiveTask] = deque()
        """Records whose task was finalised, for the loop's thread to process. The weak references append
        themselves, in whichever thread finalises."""
        self.fallen: deque[Fall] = deque()
        """Lost tasks for the watchdog to report. Appended to in whichever thread finalises."""
        self._waiting: dict[int, int] = {}
        """How many of those are of each site, by its address; reset when the watchdog takes them."""
        self.untold: Counter[tuple[LostReason, str | None]] = Counter()
        """Lost tasks that found no room there, by reason and type of the exception."""
        self.sites = Sites()
        self.ended: deque[EndedTask] = deque(maxlen=ENDED)
        self.failures: deque[EndedTask] = deque(maxlen=FAILED)

    def record_of(self, task: Any) -> LiveTask | None:
        """Return the record of a task that is being finalised; None if it was not created through the loop.

        During a collection its weak reference has been cleared by then. Otherwise a record without a task is
        of an earlier task with this id, and not yet processed. In whichever thread finalises.
        """
        collecting = self._pauses.running_since is not None
        for records in (self.live, self.failed):
            record = records.get(id(task))
            if record is None:
                continue
            found = record()
            if found is task or (found is None and collecting and record.fall is None):
                return record
        return None

    def settle(self) -> None:
        """Process the tasks that were finalised, usually none. The loop's thread, at each heartbeat.

        Nothing is processed during a collection: that clears all weak references first, and only then calls
        the finalisers, in which asyncio reports the tasks, one by one. Until then each must find its record.
        """
        while self.gone:
            try:
                record = self.gone.popleft()
            except IndexError:  # taken by the watchdog, which does this for a loop that does not run
                return
            if self._pauses.running_since is not None:  # checked only now: one may have begun meanwhile
                self.gone.appendleft(record)
                return
            if self.live.get(record.key) is record:
                self._lose(record)
            elif self.failed.get(record.key) is record:
                del self.failed[record.key]

    def make_way(self, key: int) -> None:
        """Process the finalised tasks, since a new task may have the id of one of them: ``key``.

        That one is processed even during a collection: its finaliser has run, or its memory would not be
        free. The loop's thread.
        """
        self.settle()
        record = self.live.get(key)
        if record is not None and record() is None:
            self._lose(record)

    def _lose(self, record: LiveTask) -> None:
        del self.live[record.key]
        record.site.lost += 1
        if record.fall is None:  # asyncio does not report all: none that it gathers or runs a loop for
            site, coroutine, started, values = record.origin
            record.fall = Fall(
                reason="destroyed_pending",
                site=site,
                coroutine=coroutine,
                started=started,
                name=record.name,
                stood=record.stood,
                values=values,
                error=None,
                record=record,
            )
            self.fall(record.fall)

    def fall(self, fall: Fall) -> None:
        """Have the watchdog report a lost task. Any thread."""
        address = id(fall.site[0]) + fall.site[1]
        alike = self._waiting.get(address, 0)
        room = FALLEN - FALLEN_OF_SITE if alike else FALLEN
        if alike < FALLEN_OF_SITE and len(self.fallen) < room:
            self._waiting[address] = alike + 1
            self.fallen.append(fall)
        else:
            kind = fall.reason, fall.error
            if kind not in self.untold and len(self.untold) >= UNTOLD:
                kind = fall.reason, None
            self.untold.setdefault(kind, 0)  # then no thread can come between reading and writing the count
            self.untold[kind] += 1

    def take_fallen(self) -> Iterator[Fall]:
        """Yield and remove the lost tasks that wait. Watchdog thread."""
        self._waiting = {}
        while self.fallen:
            yield self.fallen.popleft()

    def absorb(self, gone: LoopTasks) -> None:
        """Add the counters of a loop whose name is being forgotten, and its last tasks."""
        gone.settle()
        for record in gone.live.values():
            record.site.lost += 1  # their loop was closed under them
        self.sites.absorb(gone.sites)
        rows = {id(row): self._moved(row) for row in (*gone.ended, *gone.failures)}
        self.ended.extend(rows[id(row)] for row in gone.ended)
        self.failures.extend(rows[id(row)] for row in gone.failures)
        fallen, untold = gone.fallen, gone.untold
        gone.fallen, gone.untold = self.fallen, self.untold  # tasks of that loop may still be finalised
        self.untold.update(untold)
        while fallen:
            self.fall(fallen.popleft())

    def _moved(self, row: EndedTask) -> EndedTask:
        """Return a row of a loop that is being forgotten: other code may later occupy its site's address."""
        return row if row[0] in self.sites.by_address else (self.sites.further.address, *row[1:])

    def records(self) -> list[LiveTask]:
        """Return the records of the live tasks, oldest first. Any thread."""
        return list(self.live.values())


def tasks_of(records: Iterable[LiveTask]) -> Iterator[Any]:
    """Yield the tasks of these records that still exist."""
    return (task for record in records if (task := record()) is not None)


def oldest(live: dict[int, LiveTask], limit: int) -> list[LiveTask]:
    """Return up to ``limit`` records, oldest first, although the loop may add and remove some meanwhile."""
    for _ in range(10):
        with contextlib.suppress(RuntimeError):  # it did, while we were copying
            return list(islice(live.values(), limit))
    return []
