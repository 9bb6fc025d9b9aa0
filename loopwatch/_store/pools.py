"""What is kept of pools: what happened under each label, and which pools there are.

Counters belong to labels, not to pools: they go on when a pool dies, so a pool per request makes one series
that never falls. Each cell is written by one thread, without a lock; readers add the cells up.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import add
from threading import get_ident
from typing import Any, Literal

from loopwatch._measures import Distribution
from loopwatch.facts import BUCKETS, NOBODY, OTHER

from .tasks import LiveTask

Family = Literal["database", "http", "executor", "other"]
"""Decides which names the facts of a pool have."""

Outcome = Literal["timeout", "rejected", "cancelled"]
"""The ways in which an acquire fails, when the pool or nobody is at fault."""

LABELS = 64
"""Labels told apart, per kind of pool."""
LENGTH = 128
"""Characters kept of a label."""
HELD = 10_000
"""Borrowers remembered per pool. The watchdog forgets those that gave back, while a loop runs."""
AT_ONCE = BUCKETS[0]
"""Seconds up to which a wait counts as none: it goes to the first bucket."""
THREADS = 1000
"""Cells per label, one for each thread that used its pools: thread ids are reused."""


Acquire = tuple["WatchedPool | None", "LiveTask | None", float]
"""A wait in progress: for which pool, if known; of which task; since when, in monotonic time.
A plain tuple: one is made at each acquire, and an object takes three times as long to make."""

Borrowing = Acquire
"""What a wait becomes: of which pool something is held, by which task, since when. If there was no wait, this
is still the tuple of the request, so that its time is that of asking."""


class WaitCell:
    """What one thread saw happen under one label."""

    __slots__ = (
        "asking",
        "at_once",
        "cancelled",
        "created",
        "live",
        "loop",
        "rejected",
        "thread",
        "timeouts",
        "wait_counts",
        "wait_sum",
    )

    def __init__(self, thread: int = 0) -> None:
        self.thread = thread
        """Whose cell it is; 0 if several threads write to it."""
        self.live: dict[int, LiveTask] | None = None
        """The task records of the loop that last ran in this thread, by id of the task: a task found among
        them runs in this thread."""
        self.loop: weakref.ref[Any] | None = None
        """That loop."""
        self.asking: Acquire | None = None
        """The latest acquire to begin in that loop, until it ends or the next one begins. Most have ended by
        then, so that they are never entered in ``waiting``."""
        self.at_once = 0
        """Waits in the first bucket that are not counted there: counting in a list costs twice as much."""
        self.wait_counts = [0] * (len(BUCKETS) + 1)
        """By bucket: waits from asking to holding an open connection, including failed and cancelled ones.
        Acquires count here directly: calling a histogram's method would be a tenth of their cost."""
        self.wait_sum = 0.0
        self.created = 0
        """Pools created."""
        self.timeouts = 0
        self.rejected = 0
        self.cancelled = 0

    def __reduce__(self) -> Any:
        """Leave nothing of this in a copy of what refers to it, such as a waiting request."""
        return type(None), ()

    def observe(self, waited: float) -> None:
        """Count a wait that has ended."""
        self.wait_counts[bisect_left(BUCKETS, waited)] += 1
        self.wait_sum += waited

    @property
    def waits(self) -> Distribution:
        """The waits that have ended so far."""
        counts = self.wait_counts
        return Distribution(BUCKETS, (counts[0] + self.at_once, *counts[1:]), self.wait_sum)

    def make_way(self) -> None:
        """Enter the latest acquire in ``waiting``: another one begins, and it has not ended."""
        acquire, self.asking = self.asking, None
        if acquire is not None and acquire[0] is not None:
            acquire[0].waiting[id(acquire)] = acquire

    def absorb(self, other: WaitCell) -> None:
        """Add what another thread saw."""
        self.wait_counts = list(map(add, self.wait_counts, other.wait_counts))
        self.at_once += other.at_once
        self.wait_sum += other.wait_sum
        self.created += other.created
        self.timeouts += other.timeouts
        self.rejected += other.rejected
        self.cancelled += other.cancelled

    def count(self, outcome: Outcome) -> None:
        """Count an acquire that failed in this way."""
        if outcome == "timeout":
            self.timeouts += 1
        elif outcome == "rejected":
            self.rejected += 1
        else:
            self.cancelled += 1


class PoolTotals:
    """Everything that happened under one label."""

    __slots__ = ("_cells", "family", "kind", "label")

    def __init__(self, kind: str, family: Family, label: str) -> None:
        self.kind = kind
        self.family = family
        self.label = label
        self._cells: dict[int, WaitCell] = {}

    def cell(self) -> WaitCell:
        """Return the cell of the calling thread."""
        ident = get_ident()
        cell = self._cells.get(ident)
        if cell is None:
            # Threads beyond the bound share one cell: counts may be lost.
            key = ident if len(self._cells) < THREADS else 0
            cell = self._cells.setdefault(key, WaitCell(key))
        return cell

    def asking(self) -> list[Acquire]:
        """Return each cell's latest acquire, if it has not ended. Any thread."""
        return [acquire for cell in list(self._cells.values()) if (acquire := cell.asking) is not None]

    def sum(self) -> WaitCell:
        """Return what all threads saw. Any thread."""
        total = WaitCell()
        for cell in list(self._cells.values()):
            total.absorb(cell)
        return total

    def clear(self) -> None:
        """Start afresh, in a forked child."""
        self._cells.clear()


class WatchedPool:
    """One pool that exists."""

    __slots__ = (
        "__weakref__",
        "anchor",
        "apart",
        "cell",
        "held",
        "kind",
        "overdue",
        "since",
        "totals",
        "waiting",
    )

    def __init__(self, kind: str, anchor: weakref.ref[Any]) -> None:
        self.kind = kind
        self.anchor = anchor
        """Stands for the pool: the pool itself, or something as long-lived that can be weakly referenced."""
        self.apart = False
        """Whether its acquires take more than its reader sees of most pools, as through a proxy."""
        self.totals: PoolTotals | None = None
        """Of its label; None until that is known."""
        self.cell: WaitCell | None = None
        """The cell of the thread that used it last: most pools are used by one."""
        self.waiting: dict[int, Acquire] = {}
        """Acquires that have not ended, by id, except those still in a cell's ``asking``."""
        self.held: dict[int, Borrowing] = {}
        """Who last acquired each thing, by the thing's id. Whether it is still held is for the library to
        say, which the watchdog asks every few seconds; things returned meanwhile are in here, too."""
        self.overdue: dict[int, float] = {}
        """Those that were reported as held for too long: since when."""
        self.since = 0.0
        """Monotonic time of the fork that made this process. What was requested earlier is the parent's,
        though the library's objects may still carry it here."""

    def __reduce__(self) -> Any:
        """Leave nothing of this in a deep copy of what stands for the pool.

        A shallow copy, which shares its connections, counts as the same pool.
        """
        return type(None), ()

    @property
    def label(self) -> str:
        """Return the label it is counted under."""
        return NOBODY if self.totals is None else self.totals.label

    def acquires(self) -> list[Acquire]:
        """Return the acquires that have not ended. Any thread."""
        asking = [] if self.totals is None else self.totals.asking()
        found = {id(acquire): acquire for acquire in asking if acquire[0] is self}
        return list((found | self.waiting).values())  # in this order: acquires move from cells to ``waiting``


class Pools:
    """All pools and labels seen so far."""

    def __init__(self) -> None:
        self.by_anchor: dict[int, WatchedPool] = {}
        """The pools that exist, by the id of their anchor, which has the pool as an attribute, too."""
        self._totals: dict[tuple[str, str], PoolTotals] = {}
        self._ours: set[int] = set()

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Ignore what this thread creates or submits meanwhile: it is for us."""
        self._ours.add(get_ident())
        try:
            yield
        finally:
            self._ours.discard(get_ident())

    def ignores(self) -> bool:
        """Whether this thread is being ignored."""
        return bool(self._ours) and get_ident() in self._ours

    def find(self, anchor: object) -> WatchedPool | None:
        """Return the pool whose anchor is ``anchor``, if it is known."""
        return self.by_anchor.get(id(anchor))

    def add(self, kind: str, anchor: object) -> WatchedPool:
        """Return the pool whose anchor is ``anchor``, which is known from now on until the anchor dies.

        Raises TypeError if ``anchor`` cannot be weakly referenced.
        """
        key, live = id(anchor), self.by_anchor

        def gone(ref: weakref.ref[Any]) -> None:
            pool = live.get(key)
            if pool is not None and pool.anchor is ref:  # by now another object may have the id
                del live[key]
                pool.held.clear()  # these refer to it

        pool = live.setdefault(key, WatchedPool(kind, weakref.ref(anchor, gone)))
        with suppress(AttributeError, TypeError):  # an anchor without attributes is looked up each time
            object.__setattr__(anchor, "_loopwatch_watched", pool)
        return pool

    def under(self, kind: str, family: Family, label: str) -> PoolTotals:
        """Return the totals of a label; those of the common label if there are too many."""
        label = label[:LENGTH]
        totals = self._totals.get((kind, label))
        if totals is None:
            if sum(known == kind for known, _ in list(self._totals)) >= LABELS:
                label = OTHER
            totals = self._totals.setdefault((kind, label), PoolTotals(kind, family, label))
        return totals

    def live(self) -> list[WatchedPool]:
        """Return the pools that exist. Any thread."""
        return list(self.by_anchor.values())

    def totals(self) -> list[PoolTotals]:
        """Return what is kept of each label. Any thread."""
        return list(self._totals.values())

    def clear(self, now: float) -> None:
        """Forget what was counted: in a forked child, which starts afresh at ``now`` with the same pools."""
        self._ours.clear()
        for totals in self._totals.values():
            totals.clear()
        for pool in self.by_anchor.values():
            pool.waiting.clear()
            pool.held.clear()
            pool.overdue.clear()
            pool.cell = None
            pool.since = now

    def forget(self) -> None:
        """Forget everything."""
        for pool in self.live():
            pool.cell = None
            with suppress(AttributeError, TypeError):
                object.__delattr__(pool.anchor(), "_loopwatch_watched")
        self.by_anchor.clear()
        self._totals.clear()
