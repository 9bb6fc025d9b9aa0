"""Which tasks have a reason to live long: without proof, a task counts as leaked only if none is seen."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

from loopwatch._collectors.subgraph import referents
from loopwatch._internals.await_chain import chain, wait_of
from loopwatch._internals.futures import type_name
from loopwatch._internals.links import Link
from loopwatch._internals.managers import timed
from loopwatch._internals.timers import sleeps_until
from loopwatch._store.daemons import is_daemon
from loopwatch._store.tasks import LiveTask

START_UP = 10.0
"""Seconds after its loop's start in which a task that stays alone at its site counts as a daemon."""
SOON = 300.0
"""Seconds within which a sleeping task must wake. One that sleeps longer may be a leak like any other."""
AT_WORK = frozenset(("executor", "process", "socket", "stream", "task"))
"""Kinds of waits in which something works, or listens, for the task."""
IN_LINE = frozenset(("lock", "pool", "semaphore"))
"""Kinds of waits for a turn, which comes when others are done: if they never are, it is they who leak."""
BACKPRESSURE = frozenset(("Queue.put", "MemoryObjectSendStream.send"))
INNERMOST = 2
"""Frames at the end of a chain..."""
STEPS = 3
"""...and steps from these within which the transport is found of a connection that a task listens to."""


def is_meant_to_last(record: LiveTask, entered_at: float | None) -> bool:
    """Whether a task is a daemon: declared, or alone at its site since start-up, or of a cancelled kind.

    ``entered_at``: when its loop began to run.
    """
    task, site = record(), record.site
    if task is None or is_daemon(task):
        return True
    alone = site.created == 1 and entered_at is not None and record.started - entered_at < START_UP
    parks_until_cancelled = site.cancelled > 0 and site.ok == site.error == 0
    return alone or parks_until_cancelled


def may_be_woken(task: Any, now: float, *, in_turn: bool) -> bool:
    """Whether something is seen that is to wake a task: a timer, somebody's work, the peer of a socket.

    ``in_turn``: whether others ahead of it in a line count as well.
    """
    found = chain(task)
    until = sleeps_until(found.links)
    if until is not None:
        return until - now <= SOON
    wait = wait_of(found)
    return (
        wait is None
        or wait.kind in AT_WORK
        or (in_turn and (wait.kind in IN_LINE or wait.text in BACKPRESSURE))
        or timed(list(found.links))
        or _listens(found.links[-INNERMOST:])
    )


def _listens(links: Sequence[Link]) -> bool:
    """Whether a transport is close by, such as that of the connection whose messages a task awaits."""
    level: list[Any] = list(links)
    for _ in range(STEPS):
        level = list({id(one): one for one in filter(gc.is_tracked, referents(level))}.values())
        kinds = {id(type(one)): type(one) for one in level}
        if any(type_name(kind).endswith("Transport") for kind in kinds.values()):
            return True
    return False
