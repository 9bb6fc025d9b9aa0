"""Which tasks, or which lock, a suspended task depends on.

Derived from the code of its innermost frame and from the future that asyncio made to wait on. Uses asyncio's
own names on CPython 3.11 to 3.15, and those of anyio 4.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import tasks
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .futures import TASKS, gathered, is_future, is_of, is_pending, is_task, shielded
from .links import Link, code_of, variables_of
from .timers import is_timer

_WAIT = getattr(tasks, "_wait", asyncio.wait).__code__
_WAIT_FOR = asyncio.wait_for.__code__
_PRIMITIVES = (asyncio.Lock, asyncio.Semaphore, asyncio.Condition, asyncio.Event, asyncio.Queue)
_GROUP_EXITS = frozenset(("TaskGroup.__aexit__", "TaskGroup._aexit"))


class Group(NamedTuple):
    """Futures that a frame waits for together."""

    futures: list[Any]
    any_of: bool
    """One of them suffices."""
    timed: bool
    """The wait has a time limit."""
    task_group: bool


class Needs(NamedTuple):
    """The pending tasks that keep another from going on."""

    tasks: tuple[Any, ...]
    any_of: bool
    """One of them suffices."""
    timed: bool = False
    """The wait has a time limit."""


def needs(links: Sequence[Link], awaited: Any) -> Needs | None:
    """Return the tasks without which ``awaited`` is not resolved; None when others may resolve it."""
    group = group_awaited(links) or _waited_for(links)
    any_of = group is not None and group.any_of
    found, others = _tasks_behind([awaited] if group is None else group.futures)
    if not found or (any_of and others):
        return None
    return Needs(tuple(found), any_of, timed=group is not None and group.timed)


def group_awaited(links: Sequence[Link]) -> Group | None:
    """Return what the innermost frame of a chain waits for, if it is in ``wait`` or leaves a task group."""
    if not links:
        return None
    code = code_of(links[-1])
    if code is _WAIT:
        held = variables_of(links[-1])
        futures = next((found for found in held if type(found) is set or type(found) is frozenset), None)
        if futures is None:  # the frame has just been left: the task goes on meanwhile
            return None
        first = any(type(found) is str and found == asyncio.FIRST_COMPLETED for found in held)
        return Group(list(futures), any_of=first, timed=any(map(is_timer, held)), task_group=False)
    if code.co_qualname in _GROUP_EXITS:
        group = _local(links[-1], (asyncio.TaskGroup, *_of_anyio("TaskGroup")))
        members = list(getattr(group, "_tasks", ()))
        return None if group is None else Group(members, any_of=False, timed=False, task_group=True)
    return None


def members_of_groups(objects: Iterable[object]) -> list[Any]:
    """Return the containers in which task groups and anyio's cancel scopes, in ``objects``, keep tasks."""
    kinds = (asyncio.TaskGroup, *_of_anyio("TaskGroup"), *_of_anyio("CancelScope"))
    return [getattr(one, "_tasks", None) for one in objects if is_of(one, kinds)]


def _waited_for(links: Sequence[Link]) -> Group | None:
    """Return what the innermost frame of a chain waits for in ``wait_for``.

    Up to Python 3.11 ``wait_for`` waits for a future of its own, and holds the one it was given.
    """
    if sys.version_info >= (3, 12) or not links or code_of(links[-1]) is not _WAIT_FOR:
        return None
    return Group(variables_of(links[-1]), any_of=False, timed=True, task_group=False)


def task_inside(links: Sequence[Link]) -> Any | None:
    """Return the task in which ``wait_for`` runs what it was given, before Python 3.12."""
    return _local(links[-1], TASKS) if links and code_of(links[-1]) is _WAIT_FOR else None


def lock_awaited(links: Sequence[Link]) -> Any | None:
    """Return the locked lock, of asyncio or anyio, that the innermost frame of a chain tries to acquire."""
    if not links or code_of(links[-1]).co_qualname != "Lock.acquire":
        return None
    lock = _local(links[-1], (asyncio.Lock, *_of_anyio("Lock")))
    return lock if getattr(lock, "_locked", lock) else None


def primitive_awaited(links: Sequence[Link]) -> Any | None:
    """Return the lock, semaphore, condition, event or queue that the innermost frame of a chain waits for."""
    return _local(links[-1], (*_PRIMITIVES, *_of_anyio("Lock"), *_of_anyio("Semaphore"))) if links else None


def owner_recorded(lock: Any) -> Any | None:
    """Return the task that owns a lock of anyio, which records it."""
    return getattr(lock, "_owner_task", None) if issubclass(type(lock), _of_anyio("Lock")) else None


def _tasks_behind(futures: Iterable[Any]) -> tuple[list[Any], bool]:
    """Return the pending tasks that futures stand for, and whether any stands for something else.

    A future of ``gather`` or ``shield`` stands for those it was made from.
    """
    waiting = list(futures)
    seen: set[int] = set()
    found, others = [], False
    for future in waiting:  # grows meanwhile
        if id(future) in seen or not is_future(future) or not is_pending(future):
            continue
        seen.add(id(future))
        children = gathered(future)
        if is_task(future):
            found.append(future)
        elif children is not None:
            waiting += children
        elif (inner := shielded(future)) is not None:
            waiting.append(inner)
        else:
            others = True
    return found, others


def _local(link: Link, kinds: tuple[type, ...]) -> Any | None:
    """Return the first object of one of these classes that a frame holds: ``self`` of a method."""
    return next((held for held in variables_of(link) if issubclass(type(held), kinds)), None)


def _of_anyio(name: str) -> tuple[type, ...]:
    kind = getattr(sys.modules.get("anyio._backends._asyncio"), name, None)
    return (kind,) if isinstance(kind, type) else ()
