"""Who waits for locks, semaphores, conditions, events and queues, grouped by what was called and where.

Read on demand from the frames of suspended tasks: primitives are too many, and too cheap, to be tracked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from loopwatch._agent_records import Waiting
from loopwatch._internals.await_chain import chain, task_text, wait_of
from loopwatch._internals.dependencies import owner_recorded, primitive_awaited
from loopwatch._internals.links import links
from loopwatch._internals.managers import entered
from loopwatch._places import Place, shape
from loopwatch._store.unread import Unread

SHOWN = 10
"""Tasks named per group."""

_KINDS = frozenset(("lock", "semaphore", "condition", "event", "queue"))
_LIBRARIES = ("asyncio", "anyio")


@dataclass(slots=True)
class _Group:
    """Tasks that wait for the same. Holds the program's objects: dropped once the records are made."""

    site: Place
    tasks: list[Any] = field(default_factory=list)
    objects: dict[int, Any] = field(default_factory=dict)
    owners: dict[int, Any] = field(default_factory=dict)


def waits(tasks: Iterable[Any], unread: Unread) -> tuple[Waiting, ...]:
    """Return who waits among these tasks, most first; ``unread`` reads them. Any thread."""
    groups: dict[tuple[str, object, int], _Group] = {}
    wanted: dict[int, list[_Group]] = {}
    waiting: dict[int, int] = {}
    looked_at = list(tasks)
    for task in looked_at:
        unread.read(_add, task, groups, wanted, waiting)
    for task in looked_at if wanted else ():
        unread.read(_add_owned, task, wanted, waiting)
    found = [
        Waiting(
            primitive=primitive,
            site=shape(group.site),
            count=len(group.tasks),
            objects=len(group.objects),
            tasks=_texts(group.tasks, unread),
            owners=_texts(list(group.owners.values()), unread),
        )
        for (primitive, _, _), group in groups.items()
    ]
    return tuple(sorted(found, key=lambda group: -group.count))


def _add(
    task: Any,
    groups: dict[tuple[str, object, int], _Group],
    wanted: dict[int, list[_Group]],
    waiting: dict[int, int],
) -> None:
    """Put a task into the group it belongs to, if it waits."""
    stands = chain(task)
    wait = wait_of(stands)
    if wait is None or wait.kind not in _KINDS:
        return
    outside = [place for place in stands.places if place[2].partition(".")[0] not in _LIBRARIES]
    if not outside:
        return
    code, offset, _ = site = outside[-1]
    primitive = primitive_awaited(stands.links)
    group = groups.setdefault((wait.text, code, offset), _Group(site))
    group.tasks.append(task)
    if primitive is not None:
        waiting[id(task)] = id(primitive)
        if id(primitive) not in group.objects:
            group.objects[id(primitive)] = primitive
            wanted.setdefault(id(primitive), []).append(group)
        if (owner := owner_recorded(primitive)) is not None:
            group.owners[id(owner)] = owner


def _add_owned(task: Any, wanted: dict[int, list[_Group]], waiting: dict[int, int]) -> None:
    """Note which primitives that others wait for are owned by a task."""
    for manager in entered(links(task)[0]):
        if waiting.get(id(task)) != id(manager):  # a manager is there already while it is being entered
            for group in wanted.get(id(manager), ()):
                group.owners[id(task)] = task


def _texts(tasks: list[Any], unread: Unread) -> tuple[str, ...]:
    texts = (unread.read(task_text, task) for task in tasks[:SHOWN])
    return tuple(text for text in texts if text is not None)
