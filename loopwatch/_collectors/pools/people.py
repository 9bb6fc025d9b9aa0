"""Who has the connections of a pool, and who waits for one: records made when somebody asks, off the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from loopwatch._context.reader import ContextReader
from loopwatch._internals.await_chain import chain, describe
from loopwatch._internals.futures import coroutine_of, name_of
from loopwatch._internals.tasks import function_of
from loopwatch._places import shape
from loopwatch._records import Borrower, Frame, PoolWaiter
from loopwatch._store.pools import Acquire, WatchedPool
from loopwatch._store.tasks import LiveTask

SHOWN = 20
"""Borrowers shown of each label, those that have theirs longest, and as many waiters."""

Found = tuple[Acquire, bool]


def still_held(pool: WatchedPool, in_use: Iterable[object], asked_at: float) -> list[Acquire]:
    """Return who has what is in use of ``pool``, and forget who had what is not.

    What was acquired after ``asked_at`` may not be in the answer yet.
    """
    things = set(map(id, in_use))
    held = []
    for key, acquire in list(pool.held.items()):
        if key in things:
            held.append(acquire)
        elif acquire.got is not None and acquire.got < asked_at and pool.held.get(key) is acquire:
            del pool.held[key]
    return held


def borrower(acquire: Acquire, now: float, contexts: ContextReader) -> Borrower:
    """Return the record of one who has a connection."""
    held = 0.0 if acquire.got is None else max(0.0, now - acquire.got)
    task = _task_of(acquire)
    gone = acquire.task is not None and task is None
    return Borrower(held=held, gone=gone, **_told(acquire, task, contexts))


def waiter(acquire: Acquire, now: float, contexts: ContextReader) -> PoolWaiter:
    """Return the record of one who waits."""
    return PoolWaiter(waited=max(0.0, now - acquire.asked), **_told(acquire, _task_of(acquire), contexts))


def longest(acquires: Iterable[Acquire], since: Callable[[Acquire], float]) -> list[Acquire]:
    """Return those to show, who are at it longest, first."""
    return sorted(acquires, key=since)[:SHOWN]


def _task_of(acquire: Acquire) -> Any | None:
    """Return the task that asked; None if it has ended."""
    task = None if acquire.task is None else acquire.task()
    return None if task is None or task.done() else task


def _told(acquire: Acquire, task: Any | None, contexts: ContextReader) -> dict[str, Any]:
    record = acquire.task if type(acquire.task) is LiveTask else None
    values = None if task is None else contexts.of_task(task, record.values if record else None)
    context = contexts.shape(values)
    found = None if task is None else chain(task)
    site: Frame | None = None
    coroutine: str | None = None
    if record is not None:
        site, coroutine = shape(record.site.place), record.coroutine
    else:
        code = acquire.code
        site = None if code is None else shape((code, 0, ""))
        coroutine = None if code is None else code.co_qualname
        if task is not None and coroutine_of(task) is not None:
            coroutine = function_of(task)
    return {
        "task_name": name_of(task) if task is not None else record.name if record else None,
        "coroutine": coroutine,
        "site": site,
        "context": context.values,
        "trace_id": context.trace_id,
        "span_id": context.span_id,
        "await_stack": () if found is None else tuple(shape(place) for place in found.places),
        "waiting_on": None if found is None else describe(found),
    }
