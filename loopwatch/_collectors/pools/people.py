"""Who holds the connections of a pool, and who waits for one: records made on demand, off the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from loopwatch._agent_records import Borrower, PoolWaiter
from loopwatch._context.reader import ContextReader
from loopwatch._internals.await_chain import chain, describe
from loopwatch._internals.futures import living, name_of
from loopwatch._places import shape
from loopwatch._store.pools import AT_ONCE, Acquire, Borrowing, WatchedPool
from loopwatch._store.tasks import LiveTask

SHOWN = 20
"""Borrowers shown per label, those that have held longest, and as many waiters."""


class Held(NamedTuple):
    """Who holds something, and since when."""

    record: LiveTask | None
    since: float
    gone: bool
    """Whether the holder's task had ended before the library was asked."""
    overdue: bool
    """Whether it was reported as held for too long."""


def still_held(
    pool: WatchedPool,
    ask: Callable[[], Iterable[object] | None],
    now: float,
    carries: str | None = None,
) -> dict[int, Held] | None:
    """Return who holds what is in use of ``pool``, by the id of the thing, and forget holders of the rest.

    ``ask`` returns what is in use, or None if that is unknown; then this function returns None too. A thing
    acquired after ``now``, or asked for shortly before, may be missing from the answer. Which tasks have
    ended is recorded first: a task that returns its connection and ends meanwhile would look like one that
    never returned it. For the same reason ``ask`` is called twice if things carry their holder (``carries``).
    """
    before = pool.held.copy()
    if carries is not None:
        before |= _carried(pool, ask() or (), carries)
    ended = {key: borrowing for key, borrowing in before.items() if _has_ended(borrowing[1])}
    in_use = ask()
    if in_use is None:
        return None
    in_use = list(in_use)
    things = set(map(id, in_use))
    held: dict[int, Held] = {}
    after = pool.held.copy()
    if carries is not None:
        after |= _carried(pool, in_use, carries)
    for key, borrowing in after.items():
        if key in things:
            _, record, since = borrowing
            gone = ended.get(key) is borrowing  # the id may have been reused by now
            held[key] = Held(record, since, gone, pool.overdue.get(key) == since)
        elif borrowing[2] < now - AT_ONCE and pool.held.get(key) is borrowing:
            pool.held.pop(key, None)  # another thread may do the same at this moment
    return held


def _carried(pool: WatchedPool, things: Iterable[object], attribute: str) -> dict[int, Borrowing]:
    """Return who holds things of ``pool``, as the things themselves carry it, by the ids of the things."""
    notes = ((id(thing), getattr(thing, attribute, None)) for thing in things)
    return {
        key: note for key, note in notes if note is not None and note[0] is pool and note[2] >= pool.since
    }


def borrowers(held: Iterable[Held], now: float, contexts: ContextReader) -> tuple[Borrower, ...]:
    """Return records of those who hold connections, longest first."""
    longest = sorted(held, key=attrgetter("since"))[:SHOWN]
    found = (borrower(one, now, contexts) for one in longest)
    return tuple(one for one in found if one is not None)


def borrower(held: Held, now: float, contexts: ContextReader) -> Borrower | None:
    """Return the record of a holder; None if its task has just given the connection back and ended."""
    record, since, gone, overdue = held
    task = _task_of(record)
    if record is not None and task is None and not gone:
        return None
    return Borrower(held=max(0.0, now - since), gone=gone, overdue=overdue, **_told(record, task, contexts))


def waiters(waiting: Iterable[Acquire], now: float, contexts: ContextReader) -> tuple[PoolWaiter, ...]:
    """Return records of those who wait, longest first."""
    longest = sorted(waiting, key=itemgetter(2))[:SHOWN]
    return tuple(
        PoolWaiter(waited=max(0.0, now - asked), **_told(record, _task_of(record), contexts))
        for _, record, asked in longest
    )


def _has_ended(record: LiveTask | None) -> bool:
    return record is not None and _task_of(record) is None


def _task_of(record: LiveTask | None) -> Any | None:
    """Return a task by its record; None if it has ended."""
    return None if record is None else living(record)


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
        "trace_flags": context.trace_flags,
        "await_stack": () if found is None else tuple(shape(place) for place in found.places),
        "waiting_on": None if found is None else describe(found),
    }
