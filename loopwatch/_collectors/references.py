"""Proof that nothing holds a pending task, or that nothing can ever wake it.

A task waits for a future, and goes on when somebody resolves it. The task is *held* if a reference from
anywhere leads to it. It is *wakeable* if one leads to its future: a set that holds the task cannot wake it.
So a reference to a task or its coroutine counts only where it lets the task go on: from the callback by which
the task's future wakes it.

Cancelling a task wakes it too, and anyone who has a reference to the task can do that. Who has one cannot be
seen without a scan of the heap, except for timers, nearby tasks, and collections that keep tasks alive, such
as the set from which the task's done callback discards it. If only collections hold the task, nobody has it
individually, and the proof says so. Somebody may still iterate over them.

Nothing uncertain is said: a reading in which a reference seems to have moved is no proof, and a proof counts
only if it comes out the same twice.
"""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import sys
import sysconfig
from collections.abc import Generator
from contextvars import Context
from itertools import chain, pairwise
from types import AsyncGeneratorType, BuiltinMethodType, MethodType
from typing import Any, NamedTuple
from weakref import ReferenceType, getweakrefcount, getweakrefs

from loopwatch._internals.dependencies import members_of_groups
from loopwatch._internals.futures import is_future, is_pending, is_task, loop_of, waiter_of
from loopwatch._internals.links import links
from loopwatch._internals.timers import is_timer, sleeps, timers
from loopwatch._store.jobs import JOBS
from loopwatch._store.tasks import LiveTask, OwnRef

from .keepers import contains, crowds, is_collection, known_collections
from .subgraph import CONTAINERS, Subgraph, referents

TIMERS = 5_000
"""Timers of one loop whose referents are examined; if it has more, none are."""
STEPS = 4
"""Steps from a timer to a task that it cancels: a method, a timeout, its set of tasks, the task."""


class Proof(NamedTuple):
    """What can be said of a task; None where nothing can."""

    held: bool | None
    """False: only its own cycle keeps it alive, so the garbage collector may destroy it at any time."""
    wakeable: bool | None
    """False: nobody can resolve what it waits for, and nothing is seen that would cancel it."""
    held_by: int | None = None
    """For a task that is held and not wakeable, if only collections hold it: the id of the smallest. BY_US if
    those are what ``spawn()`` and ``keep_tasks`` keep; BY_US_AND_WEAKLY if somebody also refers to it weakly
    and may cancel it, as the owner of a collection may cancel what is in it."""


BY_US = -1
BY_US_AND_WEAKLY = -2
_OF_ASYNCIO = 1 if sys.version_info < (3, 14) else 0
"""Weak references to a task that asyncio has, in its set of all tasks."""
_NOWHERE = 0
"""The id of no object."""
_UNKNOWN = Proof(None, None)
_ACTIVE = Proof(held=True, wakeable=True)


class Prover:
    """Examines suspects, one after the other, and remembers what it learns of their surroundings.

    To be dropped after one round: what it remembers goes stale.
    """

    def __init__(self) -> None:
        self._behind_timers: dict[int, set[int] | None] = {}

    def prove(self, ref: ReferenceType[Any]) -> Proof:
        """Return what can be said of the task that ``ref`` weakly refers to.

        The caller must hold no strong reference to the task or to anything it owns: it would count.
        """
        proof = self._look(ref) if _counts_are_exact() else _UNKNOWN
        return proof if False not in proof or proof == self._look(ref) else _UNKNOWN

    def _look(self, ref: ReferenceType[Any]) -> Proof:
        plain = _plain(ref)
        if plain is not None:
            return plain
        subgraph = Subgraph(*_start(ref))
        counts = subgraph.held_from_outside()  # first, while nothing else here refers to anything
        return _UNKNOWN if counts is None else _Look(subgraph, counts).proof(self)

    def is_behind_timer(self, task: Any) -> bool:
        """Whether a timer of its loop may cancel a task, as far as can be seen."""
        loop = loop_of(task)
        if id(loop) not in self._behind_timers:
            self._behind_timers[id(loop)] = _tasks_behind(timers(loop))
        behind = self._behind_timers[id(loop)]
        return behind is None or id(task) in behind


class _Look:
    """One reading of a task and what it refers to."""

    def __init__(self, subgraph: Subgraph, counts: dict[int, int]) -> None:
        self._subgraph = subgraph
        self._counts = counts
        self._outside = set(counts)
        self._task = next(iter(subgraph.objects))
        self._tasks: set[int] = set()
        """Ids of the tasks that wait."""
        self._closed: set[int] = set()
        """Those, and the coroutines that they execute, down to the innermost."""
        self._opens: dict[int, int] = {}
        """What resumes what: the methods that wake or cancel a task resume the task, the task its coroutine,
        and each coroutine the next."""

    def proof(self, prover: Prover) -> Proof:
        """Return what this reading says."""
        waiter = waiter_of(self._subgraph.objects[self._task])
        if id(waiter) in self._outside and not is_task(waiter):
            return _ACTIVE
        self._find_suspended()
        awake = self._woken_by(self._outside)
        if self._task in awake:
            return _ACTIVE if is_future(waiter) else Proof(held=True, wakeable=None)
        held = self._task in self._subgraph.reached(self._outside, self._task)
        if self._may_be_woken(awake, prover):
            return Proof(held, None)
        return Proof(held, wakeable=False, held_by=self._held_by() if held else None)

    def _find_suspended(self) -> None:
        objects, followed = self._subgraph.objects, self._subgraph.followed
        for key in followed:
            method = objects[key]
            bound = type(method) is BuiltinMethodType or type(method) is MethodType
            if bound and is_task(method.__self__):
                self._opens[key] = id(method.__self__)
        for key in followed.intersection(self._opens.values()):
            path = [key, *map(id, links(objects[key])[0])]
            if _waits(objects[key]) and followed.issuperset(path):
                self._tasks.add(key)
                self._closed.update(path)
                self._opens.update(pairwise(path))

    def _woken_by(self, start: set[int]) -> set[int]:
        return self._subgraph.reached(start - self._closed, self._task, self._closed, self._opens)

    def _may_be_woken(self, awake: set[int], prover: Prover) -> bool:
        """Whether the task may yet be woken, although nothing held leads to its future."""
        objects, followed = self._subgraph.objects, self._subgraph.followed
        near = self._subgraph.reached({self._task}, _NOWHERE, self._collections)
        pending = {key for key in near & followed if is_task(objects[key]) and is_pending(objects[key])}
        weakly_held = {key for key in followed if _is_found_weakly(objects[key])}
        handles = {key for key in self._outside if _is_handle(objects[key])}
        own_timers = [objects[key] for key in self._outside if is_timer(objects[key])]
        behind = _tasks_behind(own_timers) or ()  # these timers are newer than what the prover knows
        going_on = {
            key
            for key in pending  # tasks that run, or wait for something else, are not seen through
            if not _waits(objects[key]) or key in behind or prover.is_behind_timer(objects[key])
        }
        return (
            any(
                self._task in self._subgraph.reached({key}, self._task, self._collections) for key in going_on
            )
            or self._is_variable_of(pending - (self._tasks - awake))
            or self._task in self._woken_by(weakly_held)
            or self._task in self._subgraph.reached(handles, self._task)
        )

    @functools.cached_property
    def _collections(self) -> set[int]:
        """Ids of the collections in the subgraph that contain the task. Their other members do not matter."""
        objects = self._subgraph.objects
        found = (key for key in self._subgraph.followed if is_collection(objects[key]))
        return {key for key in found if self._task in map(id, referents([objects[key]]))}

    def _held_by(self) -> int | None:
        objects, inside = self._subgraph.objects, self._collections
        task, loop = objects[self._task], loop_of(objects[self._task])
        large = [one for one in known_collections(task) if id(one) not in inside and contains(one, task)]
        if self._counts.get(self._task, 0) != len(large) + JOBS.holds(loop, task):
            return None
        own = {id(link) for link in links(task)[0]}
        others = self._outside - inside - own - {self._task}
        if self._task in self._subgraph.reached(others, self._task, inside | own):
            return None
        found = [*large, *map(objects.__getitem__, inside)]
        groups = members_of_groups(map(objects.__getitem__, self._subgraph.followed))
        if not {id(group) for group in groups}.isdisjoint(map(id, found)):
            return None  # a group has its tasks in order to cancel them
        kept = vars(loop).get("_loopwatch_kept")
        sizes = [(len(one), id(one)) for one in found if one is not kept]
        if sizes:
            return min(sizes)[1]
        return BY_US_AND_WEAKLY if _is_known_to_others(task) else BY_US

    def _is_variable_of(self, tasks: set[int]) -> bool:
        """Whether one of these tasks, which will go on, has this one in a variable and so may cancel it."""
        objects = self._subgraph.objects
        held = referents(link for key in tasks for link in links(objects[key])[0])
        inside = referents(one for one in held if issubclass(type(one), CONTAINERS))
        return self._task in map(id, chain(held, inside))


def _plain(ref: ReferenceType[Any]) -> Proof | None:
    """Return what is clear without counting: for a task that has ended, runs, is ready to run, or sleeps."""
    task = ref()
    if task is None or not is_pending(task):
        return _UNKNOWN
    waiter = waiter_of(task)
    if waiter is None or (is_future(waiter) and not is_pending(waiter)) or sleeps(links(task)[0]):
        return _ACTIVE
    return None


def _waits(task: Any) -> bool:
    """Whether a task waits for a future of asyncio's own that is not resolved yet."""
    waiter = waiter_of(task)
    return is_future(waiter) and is_pending(waiter)


def _start(ref: ReferenceType[Any]) -> tuple[list[Any], set[int]]:
    """Return what to follow first, and the ids of what not to follow."""
    task = ref()
    return [task, *links(task)[0]], crowds(task)


def _is_found_weakly(one: Any) -> bool:
    """Whether somebody may get hold of an object by a weak reference to it.

    Async generators are exempt: the loop refers to them weakly, but only shuts them down.
    """
    if type(one) is AsyncGeneratorType or not getweakrefcount(one):
        return False
    return any(type(ref) is not OwnRef for ref in getweakrefs(one))


def _is_known_to_others(task: Any) -> bool:
    """Whether anyone besides asyncio and us refers to a task weakly."""
    refs = sum(not issubclass(type(ref), (OwnRef, LiveTask)) for ref in getweakrefs(task))
    return refs > _OF_ASYNCIO


def _is_handle(one: Any) -> bool:
    """Whether another thread holds by this a task that it started, and may cancel it."""
    return type(one) is concurrent.futures.Future


def _tasks_behind(handles: list[Any] | None) -> set[int] | None:
    """Return the ids of the tasks that timers refer to within ``STEPS`` steps; None if unknown."""
    if handles is None or len(handles) > TIMERS:
        return None
    found: set[int] = set()
    seen: set[int] = set()
    level = handles
    for _ in range(STEPS):
        reached = {id(one): one for one in filter(gc.is_tracked, referents(level))}
        found.update(key for key, one in reached.items() if is_task(one))
        level = [reached[key] for key in reached.keys() - seen - found if not _is_shared(reached[key])]
        seen.update(reached)
    return found


def _is_shared(one: Any) -> bool:
    """Whether a timer has this for another purpose than to cancel what it refers to."""
    return type(one) is Context or is_future(one)


@functools.cache
def _counts_are_exact() -> bool:
    """Whether this interpreter counts references as we do: not without a GIL, where some are deferred."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False

    def suspended(variable: Any) -> Generator[None]:
        yield

    def cycle() -> Generator[None]:
        variable: list[Any] = []
        generator = suspended(variable)
        next(generator)
        variable.append(generator)
        return generator

    holder = [cycle()]
    key = id(holder[0])
    held = Subgraph(holder.copy()).held_from_outside()
    unheld = Subgraph([holder.pop()]).held_from_outside()
    return held is not None and key in held and unheld is not None and key not in unheld
