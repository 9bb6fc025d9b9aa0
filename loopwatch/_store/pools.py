"""What is kept of pools: what happened under each label, and which pools there are.

Counters belong to labels and not to pools: they go on when a pool dies, so a pool for each request makes one
series that never falls. Each cell is written by one thread, without a lock; readers add the cells up.
"""

from __future__ import annotations

import weakref
from threading import get_ident
from types import CodeType
from typing import Any, Literal

from loopwatch.facts import NOBODY, OTHER

from .cells import Histogram

Family = Literal["database", "http", "executor", "other"]
"""Which names the facts of a pool go by."""

Outcome = Literal["timeout", "rejected", "cancelled"]
"""How an acquire failed, if it was the pool's fault or nobody's."""

LABELS = 64
"""Labels told apart, of each kind of pool."""
LENGTH = 128
"""Characters kept of a label."""
THREADS = 1000
"""Cells of each label, one for each thread that used its pools: the ids of threads are used again."""
HELD = 10_000
"""Borrowers remembered of each pool: more than any holds, but what is given back is found out on reading."""


class WaitCell:
    """What one thread saw happen under one label."""

    __slots__ = ("cancelled", "created", "rejected", "timeouts", "waits")

    def __init__(self) -> None:
        self.waits = Histogram()
        """Seconds from asking to holding an open connection. All ends: got, failed, and cancelled ones."""
        self.created = 0
        """Pools."""
        self.timeouts = 0
        self.rejected = 0
        self.cancelled = 0

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
            cell = self._cells.setdefault(key, WaitCell())
        return cell

    def sum(self) -> WaitCell:
        """Return what all threads saw. Any thread."""
        total = WaitCell()
        for cell in list(self._cells.values()):
            total.waits.absorb(cell.waits)
            total.created += cell.created
            total.timeouts += cell.timeouts
            total.rejected += cell.rejected
            total.cancelled += cell.cancelled
        return total

    def clear(self) -> None:
        """Start afresh, in a forked child."""
        self._cells.clear()


class Acquire:
    """One wait for a connection and, once that is over, one borrowing. Holds nothing of the program's."""

    __slots__ = ("asked", "code", "got", "pool", "task")

    def __init__(self, asked: float) -> None:
        self.asked = asked
        """Monotonic time."""
        self.got: float | None = None
        """Monotonic time; None while it waits."""
        self.pool: WatchedPool | None = None
        self.task: weakref.ref[Any] | None = None
        """The task that asked, its ``LiveTask`` if it has one; None outside of tasks."""
        self.code: CodeType | None = None
        """What the task runs, where it has no such record."""


class WatchedPool:
    """One pool that lives."""

    __slots__ = ("__weakref__", "anchor", "failures", "held", "kind", "overdue", "totals", "waiting")

    def __init__(self, kind: str, anchor: weakref.ref[Any]) -> None:
        self.kind = kind
        self.anchor = anchor
        """What stands for the pool: it, or what lives as long and can be referred to weakly."""
        self.totals: PoolTotals | None = None
        """Of its label; None while that is not known."""
        self.waiting: dict[int, Acquire] = {}
        """Acquires that have not ended, oldest first, by id."""
        self.held: dict[int, Acquire] = {}
        """The last acquire of each connection, by the id of what was acquired: whether it is held still is
        for the library to say."""
        self.overdue: set[int] = set()
        """Ids of acquires that were reported as held for too long."""

    def hold(self, thing: object, acquire: Acquire) -> None:
        """Remember who has ``thing``."""
        if len(self.held) >= HELD:
            self.held.clear()  # nobody reads: what is given back was not found out
        self.held[id(thing)] = acquire

    @property
    def label(self) -> str:
        """Return the label it is counted under."""
        return NOBODY if self.totals is None else self.totals.label


class Pools:
    """All pools and labels seen so far."""

    def __init__(self) -> None:
        self._live: dict[int, WatchedPool] = {}
        self._totals: dict[tuple[str, str], PoolTotals] = {}

    def find(self, anchor: object) -> WatchedPool | None:
        """Return the pool that ``anchor`` stands for, if it is known. The hot path."""
        return self._live.get(id(anchor))

    def add(self, kind: str, anchor: object) -> WatchedPool:
        """Return the pool that ``anchor`` stands for, known from now on for as long as that lives.

        Raises TypeError for what cannot be referred to weakly.
        """
        key, live = id(anchor), self._live

        def gone(ref: weakref.ref[Any]) -> None:
            pool = live.get(key)
            if pool is not None and pool.anchor is ref:  # the id may be another's by now
                del live[key]

        return live.setdefault(key, WatchedPool(kind, weakref.ref(anchor, gone)))

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
        return list(self._live.values())

    def totals(self) -> list[PoolTotals]:
        """Return what is kept of each label. Any thread."""
        return list(self._totals.values())

    def clear(self) -> None:
        """Forget what was counted: in a forked child, which begins afresh with the pools it has."""
        for totals in self._totals.values():
            totals.clear()
        for pool in self._live.values():
            pool.waiting.clear()
            pool.held.clear()
            pool.overdue.clear()

    def forget(self) -> None:
        """Forget everything."""
        self._live.clear()
        self._totals.clear()
