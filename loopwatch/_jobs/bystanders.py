"""Tasks that a drain does not wait for, since they will not end before it does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Mapping
from typing import Any

from loopwatch._internals.await_chain import Chain
from loopwatch._internals.dependencies import Needs, needs, task_inside
from loopwatch._internals.futures import ends_loop, is_pending
from loopwatch._internals.links import links
from loopwatch._store.daemons import is_daemon

Task = asyncio.Task[Any]


def stays(task: Task, drainers: Collection[Task]) -> bool:
    """Whether a drain must not wait for ``task``, whatever the task itself waits for.

    True if it drains, if it is a daemon, or if its end stops the loop, so that it runs as long as we do.
    """
    return task in drainers or is_daemon(task) or ends_loop(task)


def parts_of(those: Collection[Task]) -> set[Task]:
    """Return the tasks that ``wait_for`` created, up to Python 3.11, for what ``those`` wait for."""
    found = list(those) if sys.version_info < (3, 12) else []
    for task in found:  # grows meanwhile
        part = task_inside(links(task)[0])
        if part is not None and part not in found:
            found.append(part)
    return set(found).difference(those)


def needs_of(found: Chain) -> Needs | None:
    """Return the tasks without which the task suspended at ``found`` cannot go on."""
    if found.awaited is None or not is_pending(found.awaited):
        return None
    inner = task_inside(found.links)
    return needs(found.links, found.awaited) if inner is None else Needs((inner,), any_of=False)


def waiting_for(those: Collection[Task], all_needs: Mapping[Task, Needs]) -> set[Task]:
    """Return the tasks that cannot go on before one of ``those`` ends, directly or through other tasks."""
    held = set(those)
    while True:
        further = {
            task
            for task, need in all_needs.items()
            if task not in held and (all if need.any_of else any)(other in held for other in need.tasks)
        }
        if not further:
            return held.difference(those)
        held |= further
