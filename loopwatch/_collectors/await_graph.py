"""Which task waits for which: through ``await``, ``gather``, task groups, ``wait``, ``shield`` and locks.

A task is stuck when nothing but stuck tasks could let it go on. Every stuck task waits, in the end, for a
cycle: a deadlock. Whatever something else may yet resolve, such as a bare future, an event or a timeout,
makes no task stuck.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from loopwatch._internals.await_chain import chain, describe, task_text
from loopwatch._internals.dependencies import lock_awaited, needs, owner_recorded
from loopwatch._internals.futures import is_pending, name_of, waiter_of
from loopwatch._internals.links import Link, code_of, links
from loopwatch._internals.managers import locks_held, locks_maybe_held, timed
from loopwatch._store.unread import Unread

from .deadlocks import cycles_in, stuck_in


@dataclass(frozen=True, slots=True)
class Waiter:
    """One task of a deadlock."""

    key: int
    """Id of the task."""
    name: str | None
    coroutine: str
    waiting_on: str
    """What it waits for; for a lock, including the task that owns it."""


@dataclass(frozen=True, slots=True)
class AwaitGraph:
    """Which task waits for which, by the ids of the tasks."""

    needs: Mapping[int, tuple[int, ...]]
    """For each task those it waits for, or the lock's owner. Tasks that wait for anything else are absent."""
    any_of: frozenset[int]
    """Tasks that need only one of these."""
    deadlocks: tuple[tuple[Waiter, ...], ...]
    """Cycles, each waiter followed by the one it waits for. One of several cycles that share tasks."""
    stuck: frozenset[int]
    """Tasks in deadlocks, and tasks that wait for those."""


@dataclass(slots=True)
class _Reading:
    """A task as found. Holds the program's objects, so it is dropped once the graph is made."""

    task: Any
    links: list[Link]
    awaited: Any
    needs: tuple[int, ...] = ()
    any_of: bool = False
    lock: Any = None

    def stands(self) -> bool:
        """Whether the task has not moved since: a future is awaited only once."""
        return waiter_of(self.task) is self.awaited and is_pending(self.awaited)


def await_graph(tasks: Iterable[Any], unread: Unread, *, beyond: bool = True) -> AwaitGraph:
    """Return the graph of these pending tasks of one or more loops and, if ``beyond``, of those they need.

    Without ``beyond``, a task not among them counts as waiting for nobody; so does one that cannot be read.
    """
    readings: dict[int, _Reading] = {}
    waiting = list(tasks)
    for task in waiting:  # grows meanwhile
        if id(task) not in readings and (found := unread.read(_read, task)) is not None:
            readings[id(task)], needed = found
            waiting += needed if beyond else ()
    _add_lock_owners(readings.values(), unread)
    edges = {key: reading.needs for key, reading in readings.items() if reading.needs}
    any_of = frozenset(key for key, reading in readings.items() if reading.any_of)
    stuck = stuck_in(edges, any_of)
    return AwaitGraph(edges, any_of, tuple(_deadlocks(readings, edges, stuck, unread)), frozenset(stuck))


def may_be_stuck(task: Any) -> bool:
    """Whether a task waits for tasks or for a lock, for however long: only such tasks need a closer look."""
    reading, _ = _read(task)
    return bool(reading.needs) or reading.lock is not None


def _read(task: Any) -> tuple[_Reading, tuple[Any, ...]]:
    """Return a task as found, and the tasks among the things it waits for."""
    reading = _Reading(task, *links(task))
    return reading, _read_needs(reading)


def _read_needs(reading: _Reading) -> tuple[Any, ...]:
    """Note what a task waits for, and return the tasks among that."""
    if reading.awaited is None or not is_pending(reading.awaited):
        return ()
    found = needs(reading.links, reading.awaited)
    lock = None if found is not None else lock_awaited(reading.links)
    if (found is None and lock is None) or (found is not None and found.timed) or timed(reading.links):
        return ()
    if found is None:
        reading.lock = lock
        return ()
    reading.needs, reading.any_of = tuple(map(id, found.tasks)), found.any_of
    return found.tasks


def _add_lock_owners(readings: Collection[_Reading], unread: Unread) -> None:
    """Let tasks that wait for a lock wait for its owner, if exactly one task is seen to own it.

    No other task may have acquired it by hand: the owner may then have released it by hand as well.
    """
    waiting = [reading for reading in readings if reading.lock is not None]
    owners: dict[int, set[int]] = {id(reading.lock): set() for reading in waiting}
    perhaps: dict[int, set[int]] = {key: set() for key in owners}
    if not owners:
        return
    for reading in readings:
        unread.read(_add_owned, reading.task, reading, owners, perhaps)
    for reading in waiting:
        recorded = owner_recorded(reading.lock)
        known = owners[id(reading.lock)] if recorded is None else {id(recorded)}
        if len(known) == 1 and (recorded is not None or perhaps[id(reading.lock)] <= known):
            reading.needs = tuple(known)


def _add_owned(
    task: Any, reading: _Reading, owners: dict[int, set[int]], perhaps: dict[int, set[int]]
) -> None:
    for lock in locks_held(reading.links):
        owners.get(id(lock), set()).add(id(task))
    for lock in locks_maybe_held(reading.links):
        if lock is not reading.lock:
            perhaps.get(id(lock), set()).add(id(task))


def _deadlocks(
    readings: Mapping[int, _Reading],
    edges: Mapping[int, tuple[int, ...]],
    stuck: AbstractSet[int],
    unread: Unread,
) -> Iterator[tuple[Waiter, ...]]:
    """Yield the cycles whose tasks have all stood still while they were read, one after the other."""
    for cycle in cycles_in(edges, stuck):
        found = [readings[key] for key in cycle]
        if all(reading.stands() for reading in found):
            following = (*found[1:], found[0])
            waiters = [
                unread.read(_waiter, reading.task, reading, other.task)
                for reading, other in zip(found, following, strict=True)
            ]
            known = tuple(waiter for waiter in waiters if waiter is not None)
            if len(known) == len(found):
                yield known


def _waiter(task: Any, reading: _Reading, needed: Any) -> Waiter:
    waiting_on = describe(chain(task)) or "unknown"
    if reading.lock is not None:
        waiting_on = f"{waiting_on}, held by {task_text(needed)}"
    elif not waiting_on.startswith("task "):
        waiting_on = f"{waiting_on}, with {task_text(needed)}"
    return Waiter(id(task), name_of(task), code_of(reading.links[0]).co_qualname, waiting_on)
