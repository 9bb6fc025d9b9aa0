"""Private attributes of asyncio's tasks and futures. CPython 3.11 to 3.15, C and Python implementation.

``exception()`` and ``result()`` mark an exception as retrieved, which would suppress the program's own "never
retrieved" message; the attributes tell the same without marking.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from operator import attrgetter
from types import FunctionType
from typing import Any

from .futures import coroutine_of, is_pending, loop_of, name_of

ANYIO_TASK = "TaskHandle._run_coro"
"""The coroutine in which anyio (from 4.14 on) runs what it was given; it names the task after that."""

exception_of: Callable[[Any], BaseException | None] = attrgetter("_exception")
"""The exception a task ended with; None for any other end. AttributeError for a foreign kind of task."""

FINDS_LOOP = not isinstance(asyncio.current_task, FunctionType)
"""Whether ``current_task`` without a loop finds the running one, and raises RuntimeError if there is none."""

current_task: Callable[..., Any] = (
    # Before Python 3.12 it is a Python function that only looks into this table.
    asyncio.current_task if FINDS_LOOP else asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]
)
"""Returns the task that a loop is running; None between tasks."""

running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop
"""Returns the loop that runs in the calling thread; None if there is none."""


_KNOWN = "_scheduled_tasks" if hasattr(asyncio.tasks, "_scheduled_tasks") else "_all_tasks"
"""Where asyncio keeps its tasks, weakly: the second before Python 3.12; from 3.14 on only those not in C."""
TRIES = 1_000
"""Attempts to copy them while loops add some; asyncio makes as many."""


def tasks_known(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """Return the pending tasks of ``loop`` known to asyncio, even those that raise when asyncio asks them."""
    try:
        return list(asyncio.all_tasks(loop))
    except Exception:  # noqa: BLE001 - it hashes each task, and calls methods that a class may override
        return [task for task in _all_known() if is_pending(task) and loop_of(task) is loop]


def _all_known() -> list[Any]:
    known: Iterable[Any] = getattr(asyncio.tasks, _KNOWN, ())
    for _ in range(TRIES):
        with contextlib.suppress(RuntimeError):  # a loop added some while we were copying
            return list(known)
    return []


def coroutine_name(coro: object) -> str:
    """Return the qualified name of a coroutine's function; for a coroutine's stand-in, that of its type."""
    name = getattr(coro, "__qualname__", None)
    return name if isinstance(name, str) else type(coro).__qualname__


def function_of(task: Any) -> str:
    """Return the qualified name of the coroutine function that ``task`` runs.

    Not for a task that ended in its eager first step: it no longer has its coroutine.
    """
    coroutine = coroutine_name(coroutine_of(task))
    return (name_of(task) or coroutine) if coroutine == ANYIO_TASK else coroutine


def unretrieved(task: object) -> bool:
    """Whether ``task`` ended with an exception that nobody has retrieved yet."""
    return bool(getattr(task, "_log_traceback", False))
