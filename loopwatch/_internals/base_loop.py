"""Private parts of asyncio's own loops: ``_selector``, ``_ready``, ``_scheduled``, ``_run_once``.

Checked on CPython 3.11 to 3.15. uvloop and other foreign loops have none of these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import unwrap
from types import CodeType
from typing import Any, Protocol

LOOKED_AT = 100
"""Ready callbacks that are searched for tasks."""
OVERRIDES = ("time", "call_later", "call_at", "_run_once")
"""A loop class that overrides one of these has its own idea of time: mock and virtual-clock loops."""


RUN_FOREVER: CodeType = unwrap(asyncio.BaseEventLoop.run_forever).__code__
"""Code found on the stack of any running loop, under whatever wrappers."""


class Selector(Protocol):
    """What this package uses of a selector or proactor."""

    select: Callable[[float | None], Any]


def selector(loop: asyncio.AbstractEventLoop) -> Selector | None:
    """Return the selector whose ``select`` the loop calls once per iteration, if it has one we may wrap.

    ``select`` is replaced on the instance, so an object without a ``__dict__`` will not do. An object whose
    class has no such method is a mock, and its test may check what its own ``select`` was called with.
    """
    found: Selector | None = getattr(loop, "_selector", None)
    method = getattr(type(found), "select", None)
    return found if type(found).__dictoffset__ and callable(method) else None


def overridden(loop: asyncio.AbstractEventLoop, base: type) -> str | None:
    """Name the method by which ``loop`` departs from ``base`` (BaseEventLoop or uvloop's) in its clock."""
    for name in OVERRIDES:
        if getattr(type(loop), name, None) is not getattr(base, name, None) or shadowed(loop, name):
            return name
    return None


def shadowed(instance: object, name: str) -> bool:
    """Whether ``instance`` has an attribute of its own over the method ``name`` of its class.

    Tested without looking into ``__dict__``: on CPython 3.11 and 3.12 that look turns the attributes into a
    real dict for good, and slows down every later attribute access. A loop so looked at took 35 % more
    instructions for an empty iteration.
    """
    method: Any = getattr(type(instance), name, None)
    bound = method.__get__(instance) if hasattr(method, "__get__") else method
    return bool(getattr(instance, name, None) != bound)


def ready_count(loop: asyncio.AbstractEventLoop) -> int | None:
    """Return how many callbacks are ready to run."""
    ready = getattr(loop, "_ready", None)
    return None if ready is None else len(ready)


def timer_count(loop: asyncio.AbstractEventLoop) -> int | None:
    """Return how many timers are scheduled, including cancelled ones still in the heap."""
    scheduled = getattr(loop, "_scheduled", None)
    return None if scheduled is None else len(scheduled)


def ready_tasks(loop: asyncio.AbstractEventLoop, limit: int) -> list[Any]:
    """Return the tasks among the ready callbacks, at most ``limit``; empty where that cannot be seen.

    A task's step and its wake-up are bound to it, as methods or as the C wrappers of those.
    """
    handles = list(getattr(loop, "_ready", ()))[:LOOKED_AT]
    owners = (getattr(getattr(handle, "_callback", None), "__self__", None) for handle in handles)
    tasks = dict.fromkeys(owner for owner in owners if isinstance(owner, asyncio.Task))
    return list(tasks)[:limit]


def next_ready(loop: asyncio.AbstractEventLoop) -> int | None:
    """Return the identity of the callback that runs next, 0 when none waits; None if that cannot be seen.

    While one callback runs, this stays the same; while many run, it changes with each.
    """
    ready = getattr(loop, "_ready", None)
    if ready is None:
        return None
    try:
        return id(ready[0])
    except IndexError:
        return 0
