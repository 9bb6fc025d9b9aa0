"""Bookkeeping of acquires, in the program's thread: two clock reads, who, and how long.

Most acquires do not get here: the wrapper of a library's function does its own bookkeeping where it can
(``acquires``). It calls these functions for the others: the first acquire of a pool in a loop, those outside
tasks, and those that had to wait. Nothing here raises.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol
from weakref import ref

from loopwatch._internals.futures import coroutine_of
from loopwatch._internals.tasks import current_task, function_of, running_loop
from loopwatch._store.pools import AT_ONCE, HELD, Acquire, Borrowing, WaitCell, WatchedPool
from loopwatch._store.sites import Site
from loopwatch._store.tasks import LiveTask
from loopwatch.facts import BUCKETS

from .protocol import Feature

NOWHERE = WaitCell()
"""The cell passed for an acquire that has no place in any cell."""

Asks = Callable[[Any], Acquire | None]
Asked = Callable[[], Acquire | None]
Got = Callable[..., None]


class Desk(Protocol):
    """What the functions below call for an acquire off the fast path."""

    on: bool
    """Whether acquires are recorded."""
    known: dict[int, WatchedPool]
    """All pools, by the id of their anchor."""

    def watched(self, pool: Any) -> WatchedPool | None:
        """Register a pool."""

    def ignores(self) -> bool:
        """Whether this thread works for us alone, not for the program."""

    def cell(self, watched: WatchedPool, pool: Any) -> WaitCell:
        """Return the cell this thread counts in for a pool, and remember it for this thread."""

    def broke(self, feature: Feature, error: Exception) -> None:
        """Count a failure of ours."""


def make_asked(desk: Desk, monotonic: Callable[[], float]) -> Asked:
    """Return the function that begins an acquire whose pool is known only at its end."""

    def asked() -> Acquire | None:
        """Begin a wait; None if acquires are not recorded."""
        if not desk.on:
            return None
        try:
            loop = running_loop()
            if loop is None and desk.ignores():
                return None
            task = None if loop is None else current_task(loop)
            return None, None if task is None else _record_of(loop, task), monotonic()
        except Exception as error:  # noqa: BLE001 - the program goes on
            desk.broke("waits", error)
            return None

    return asked


def make_asks(
    desk: Desk,
    anchor_of: Callable[[Any], Any] | None,
    monotonic: Callable[[], float],
    *,
    registers: bool,
) -> Asks:
    """Return the function that begins an acquire; without ``anchor_of`` each pool is its own anchor."""
    find = desk.known.get

    def asks(pool: Any) -> Acquire | None:
        """Begin a wait for a connection of ``pool``; None if acquires are not recorded."""
        if not desk.on or pool is None:
            return None
        try:
            watched = find(id(pool if anchor_of is None else anchor_of(pool)))
            if watched is None and (watched := desk.watched(pool)) is None:
                return None
            record = None
            loop = running_loop()
            if loop is not None and (task := current_task(loop)) is not None:
                try:
                    record = loop._loopwatch_tasks.live[id(task)]  # type: ignore[attr-defined]
                except (AttributeError, KeyError):
                    record = _record_of(loop, task)
            acquire = watched, record, monotonic()
            if registers:
                watched.waiting[id(acquire)] = acquire
            return acquire
        except Exception as error:  # noqa: BLE001 - as above
            desk.broke("waits", error)
            return None

    return asks


def make_got(
    desk: Desk, monotonic: Callable[[], float], *, registers: bool, carries: str | None = None
) -> Got:
    """Return the function that ends an acquire that succeeded; ``carries`` as in ``PoolReader``."""

    def got(acquire: Acquire, pool: Any, thing: Any, place: WaitCell = NOWHERE) -> None:
        """End the wait: ``thing`` is in use from now on. Does nothing if the wait has already ended."""
        if not desk.on:
            return
        try:
            now = monotonic()
            watched, record, asked = acquire
            if watched is None:
                if (watched := desk.watched(pool)) is None:
                    return
            elif registers and not leaves(acquire, watched, place):
                return
            cell = watched.cell
            if cell is None or cell.thread != get_ident():
                cell = desk.cell(watched, pool)
            waited = now - asked
            cell.wait_counts[bisect_left(BUCKETS, waited) if waited > AT_ONCE else 0] += 1
            cell.wait_sum += waited
            if thing is not None:
                _hold(watched, thing, (watched, record, now), carries)
            if cell.thread and record is not None:
                _note_loop(cell)
        except Exception as error:  # noqa: BLE001 - as above
            desk.broke("waits", error)

    return got


def leaves(acquire: Acquire, watched: WatchedPool, place: WaitCell) -> bool:
    """Remove an acquire from the waiting ones, in a cell or in the table; False if it was removed before."""
    if place.asking is acquire:
        place.asking = None
        return True
    return watched.waiting.pop(id(acquire), None) is not None


def _hold(watched: WatchedPool, thing: Any, borrowing: Borrowing, carries: str | None) -> None:
    """Record who holds ``thing``."""
    if carries is not None:
        setattr(thing, carries, borrowing)
        return
    held = watched.held
    held[id(thing)] = borrowing
    if len(held) > HELD:
        held.clear()


def _note_loop(cell: WaitCell) -> None:
    """Remember which loop runs in this thread, so that the next acquire there takes the fast path."""
    loop = running_loop()
    probe = getattr(loop, "_loopwatch_tasks", None)
    if loop is not None and probe is not None:
        cell.live, cell.loop = probe.live, ref(loop)


def _record_of(loop: Any, task: Any) -> LiveTask:
    """Return the record of a task; a new one if it has none, or none yet, as in an eager first step."""
    probe = getattr(loop, "_loopwatch_tasks", None)
    record = None if probe is None else probe.live.get(id(task))
    if record is not None:
        return record  # type: ignore[no-any-return]
    coroutine = coroutine_of(task)
    code, frame = getattr(coroutine, "cr_code", None), getattr(coroutine, "cr_frame", None)
    record = LiveTask(task)
    module = "" if frame is None else frame.f_globals.get("__name__") or ""
    record.site = Site(_record_of.__code__ if code is None else code, 0, module)
    record.key = id(task)
    record.coroutine = function_of(task) if coroutine is not None else ""
    record.name = record.parent = record.values = record.fall = record.stood = record.lost = None
    return record
