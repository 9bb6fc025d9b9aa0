"""Whom a drain does not wait for: those that will not end before it does."""

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
    """Whether ``task`` is not to be waited for, whatever it waits for itself.

    It drains, it is a daemon, or the loop stops when it ends: as long as we run, so does that one.
    """
    return task in drainers or is_daemon(task) or ends_loop(task)


def parts_of(those: Collection[Task]) -> set[Task]:
    """Return the tasks that ``wait_for`` made, up to Python 3.11, of what these wait for: parts of them."""
    found = list(those) if sys.version_info < (3, 12) else []
    for task in found:  # which grows
        part = task_inside(links(task)[0])
        if part is not None and part not in found:
            found.append(part)
    return set(found).difference(those)


def needs_of(found: Chain) -> Needs | None:
    """Return the tasks without which the one that stands at ``found`` cannot go on."""
    if found.awaited is None or not is_pending(found.awaited):
        return None
    inner = task_inside(found.links)
    return needs(found.links, found.awaited) if inner is None else Needs((inner,), any_of=False)


def waiting_for(those: Collection[Task], all_needs: Mapping[Task, Needs]) -> set[Task]:
    """Return the tasks that cannot go on before one of ``those`` has ended, or anyone who waits for them."""
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
