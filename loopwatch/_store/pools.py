"""What is kept of pools: what happened under each label, and which pools there are.

Counters belong to labels and not to pools: they go on when a pool dies, so a pool for each request makes one
series that never falls. Each cell is written by one thread, without a lock; readers add the cells up.
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
"""Which names the facts of a pool go by."""

Outcome = Literal["timeout", "rejected", "cancelled"]
"""How an acquire failed, if it was the pool's fault or nobody's."""

LABELS = 64
"""Labels told apart, of each kind of pool."""
LENGTH = 128
"""Characters kept of a label."""
HELD = 10_000
"""Borrowers remembered of one pool. The watchdog forgets what was given back, while a loop runs."""
AT_ONCE = BUCKETS[0]
"""Seconds up to which a wait is none: it goes to the first bucket."""
THREADS = 1000
"""Cells of each label, one for each thread that used its pools: the ids of threads are used again."""


Acquire = tuple["WatchedPool | None", "LiveTask | None", float]
"""A wait that goes on: for which pool, if that is known; of which task; since when, in monotonic time.
A plain tuple: one is made at each acquire, and an object takes three times as long to make."""

Borrowing = Acquire
"""What a wait becomes: of which pool something is held, by which task, since when. One that had not to wait
keeps the tuple it asked with, so that its time is that of the asking."""


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
        """Whose it is; 0 where several write to it."""
        self.live: dict[int, LiveTask] | None = None
        """The records of the tasks of the loop that ran in it last, by id of the task: a task that is among
        these runs in this thread."""
        self.loop: weakref.ref[Any] | None = None
        """That loop."""
        self.asking: Acquire | None = None
        """The acquire that began last in that loop, until it ends or the next one begins. Most have ended by
        then, so that they are never entered among those that wait."""
        self.at_once = 0
        """Waits in the first bucket that were not counted there: to count in a list costs twice as much."""
        self.wait_counts = [0] * (len(BUCKETS) + 1)
        """By bucket: waits from asking to holding an open connection, failed and cancelled ones included.
        Counted in place at an acquire: the call of a histogram's method would be a tenth of its cost."""
        self.wait_sum = 0.0
        self.created = 0
        """Pools."""
        self.timeouts = 0
        self.rejected = 0
        self.cancelled = 0

    def __reduce__(self) -> Any:
        """Leave nothing in a copy of what refers to it, as a request that waits does."""
        return type(None), ()

    def observe(self, waited: float) -> None:
        """Count a wait that has ended."""
        self.wait_counts[bisect_left(BUCKETS, waited)] += 1
        self.wait_sum += waited

    @property
    def waits(self) -> Distribution:
        """The waits so far."""
        counts = self.wait_counts
        return Distribution(BUCKETS, (counts[0] + self.at_once, *counts[1:]), self.wait_sum)

    def make_way(self) -> None:
        """Enter the acquire that began last among those that wait: another begins, and it has not ended."""
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
        """Count an acquire that failed so."""
        if outcome == "timeout":
            self.timeouts += 1
        elif outcome == "rejected":
            self.rejected += 1
        else:
            self.cancelled += 1


class PoolTotals:
    """All that happened under one label."""

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
            # A thread beyond the bound writes to a cell that others write to as well: counts may be lost.
            key = ident if len(self._cells) < THREADS else 0
            cell = self._cells.setdefault(key, WaitCell(key))
        return cell

    def asking(self) -> list[Acquire]:
        """Return the acquires that began last, if they have not ended. Any thread."""
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
    """One pool that lives."""

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
        """What stands for the pool: it, or what lives as long and can be referred to weakly."""
        self.apart = False
        """Whether its acquires are more than its reader sees of most, as through a proxy."""
        self.totals: PoolTotals | None = None
        """Of its label; None while that is not known."""
        self.cell: WaitCell | None = None
        """That of the thread which used it last: most pools are used by one."""
        self.waiting: dict[int, Acquire] = {}
        """Acquires that have not ended, by id, but for those that have a place in a cell."""
        self.held: dict[int, Borrowing] = {}
        """Who was last to acquire each thing, by the id of that: whether it is held still is for the library
        to say, which the watchdog asks every few seconds. What came and went meanwhile is in here, too."""
        self.overdue: dict[int, float] = {}
        """Those of them that were reported as held for too long: since when."""
        self.since = 0.0
        """Monotonic time of the fork that made this process; what was asked for before that is the parent's,
        which the library's objects may still carry here."""

    def __reduce__(self) -> Any:
        """Leave nothing in a deep copy of what stands for the pool.

        A shallow one, which shares its connections, counts as the same pool.
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
        return list((found | self.waiting).values())  # in this order: they go from there to here


class Pools:
    """All pools and labels seen so far."""

    def __init__(self) -> None:
        self.by_anchor: dict[int, WatchedPool] = {}
        """The pools that live, by the id of what stands for them, which has them as an attribute, too."""
        self._totals: dict[tuple[str, str], PoolTotals] = {}
        self._ours: set[int] = set()

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Take no note of what is created, or submitted, in this thread meanwhile: it is for us."""
        self._ours.add(get_ident())
        try:
            yield
        finally:
            self._ours.discard(get_ident())

    def ignores(self) -> bool:
        """Whether that is so in this thread."""
        return bool(self._ours) and get_ident() in self._ours

    def find(self, anchor: object) -> WatchedPool | None:
        """Return the pool that ``anchor`` stands for, if it is known."""
        return self.by_anchor.get(id(anchor))

    def add(self, kind: str, anchor: object) -> WatchedPool:
        """Return the pool that ``anchor`` stands for, known from now on for as long as that lives.

        Raises TypeError for what cannot be referred to weakly.
        """
        key, live = id(anchor), self.by_anchor

        def gone(ref: weakref.ref[Any]) -> None:
            pool = live.get(key)
            if pool is not None and pool.anchor is ref:  # the id may be another's by now
                del live[key]
                pool.held.clear()  # these refer to it

        pool = live.setdefault(key, WatchedPool(kind, weakref.ref(anchor, gone)))
        with suppress(AttributeError, TypeError):  # one that takes no attributes is looked up each time
            object.__setattr__(anchor, "_loopwatch_watched", pool)
        return pool

    def under(self, kind: str, family: Family, label: str) -> PoolTotals:
        """Return the totals of a label; of the common one when there are too many."""
        label = label[:LENGTH]
        totals = self._totals.get((kind, label))
        if totals is None:
            if sum(known == kind for known, _ in list(self._totals)) >= LABELS:
                label = OTHER
            totals = self._totals.setdefault((kind, label), PoolTotals(kind, family, label))
        return totals

    def live(self) -> list[WatchedPool]:
        """Return the pools that live. Any thread."""
        return list(self.by_anchor.values())

    def totals(self) -> list[PoolTotals]:
        """Return what is kept of each label. Any thread."""
        return list(self._totals.values())

    def clear(self, now: float) -> None:
        """Forget what was counted: in a forked child, which begins afresh ``now`` with the pools it has."""
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
