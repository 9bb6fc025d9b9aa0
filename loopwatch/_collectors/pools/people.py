"""Who has the connections of a pool, and who waits for one: records made when somebody asks, off the loop."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from loopwatch._context.reader import ContextReader
from loopwatch._internals.await_chain import chain, describe
from loopwatch._internals.futures import name_of
from loopwatch._places import shape
from loopwatch._records import Borrower, PoolWaiter
from loopwatch._store.pools import Acquire, Borrowing, WatchedPool
from loopwatch._store.tasks import LiveTask

SHOWN = 20
"""Borrowers shown of each label, those that have theirs longest, and as many waiters."""


def still_held(pool: WatchedPool, in_use: Iterable[object], asked_at: float) -> dict[int, Borrowing]:
    """Return who has what is in use of ``pool``, by the id of that, and forget who had what is not.

    What was acquired after ``asked_at`` may not be in the answer yet.
    """
    things = set(map(id, in_use))
    held = {}
    for key, borrowing in list(pool.held.items()):
        if key in things:
            held[key] = borrowing
        elif borrowing[1] < asked_at and pool.held.get(key) is borrowing:
            del pool.held[key]
    return held


def borrowers(held: Iterable[Borrowing], now: float, contexts: ContextReader) -> tuple[Borrower, ...]:
    """Return records of those who have connections, longest first."""
    longest = sorted(held, key=itemgetter(1))[:SHOWN]
    return tuple(borrower(record, since, now, contexts) for record, since in longest)


def borrower(record: LiveTask | None, since: float, now: float, contexts: ContextReader) -> Borrower:
    """Return the record of one who has a connection since some moment."""
    task = _task_of(record)
    gone = record is not None and task is None
    return Borrower(held=max(0.0, now - since), gone=gone, **_told(record, task, contexts))


def waiters(waiting: Iterable[Acquire], now: float, contexts: ContextReader) -> tuple[PoolWaiter, ...]:
    """Return records of those who wait, longest first."""
    longest = sorted(waiting, key=itemgetter(2))[:SHOWN]
    return tuple(
        PoolWaiter(waited=max(0.0, now - asked), **_told(record, _task_of(record), contexts))
        for _, record, asked in longest
    )


def _task_of(record: LiveTask | None) -> Any | None:
    """Return a task by its record; None if it has ended."""
    task = None if record is None else record()
    return None if task is None or task.done() else task


def _told(record: LiveTask | None, task: Any | None, contexts: ContextReader) -> dict[str, Any]:
    values = None if task is None or record is None else contexts.of_task(task, record.values)
    context = contexts.shape(values)
    found = None if task is None else chain(task)
    return {
        "task_name": name_of(task) if task is not None else record.name if record is not None else None,
        "coroutine": None if record is None else record.coroutine,
        "site": None if record is None else shape(record.site.place),
        "context": context.values,
        "trace_id": context.trace_id,
        "span_id": context.span_id,
        "await_stack": () if found is None else tuple(shape(place) for place in found.places),
        "waiting_on": None if found is None else describe(found),
    }
