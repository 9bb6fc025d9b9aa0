"""Private attributes of asyncio's tasks and futures. CPython 3.11 to 3.15, C and Python implementation.

``exception()`` and ``result()`` mark an exception as retrieved, so that the program's own "never retrieved"
message would not come; the attributes tell the same without marking.
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
"""The coroutine in which anyio (from 4.14 on) runs what it was given, after which it names the task."""

exception_of: Callable[[Any], BaseException | None] = attrgetter("_exception")
"""The exception a task ended with; None for any other end. AttributeError for a task of another make."""

FINDS_LOOP = not isinstance(asyncio.current_task, FunctionType)
"""Whether ``current_task`` finds the running loop if it is given none, and raises RuntimeError if none is."""

current_task: Callable[..., Any] = (
    # Before Python 3.12 a function in Python, which does no more than look into this table.
    asyncio.current_task if FINDS_LOOP else asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]
)
"""Returns the task that a loop runs at the moment; None between two."""

running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop
"""Returns the loop that runs in the calling thread; None where none does."""


_KNOWN = "_scheduled_tasks" if hasattr(asyncio.tasks, "_scheduled_tasks") else "_all_tasks"
"""Where asyncio has its tasks, weakly: the second before Python 3.12; those not written in C from 3.14 on."""
TRIES = 1_000
"""Times that these are copied while loops add some; asyncio tries as often."""


def tasks_known(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """Return the pending tasks of ``loop`` that asyncio knows, also those that do not let it ask them."""
    try:
        return list(asyncio.all_tasks(loop))
    except Exception:  # noqa: BLE001 - it hashes each, and calls methods that a class may have overridden
        return [task for task in _all_known() if is_pending(task) and loop_of(task) is loop]


def _all_known() -> list[Any]:
    known: Iterable[Any] = getattr(asyncio.tasks, _KNOWN, ())
    for _ in range(TRIES):
        with contextlib.suppress(RuntimeError):  # a loop has added some, while we were copying
            return list(known)
    return []


def coroutine_name(coro: object) -> str:
    """Return the qualified name of a coroutine's function; of what stands in for a coroutine, its type's."""
    name = getattr(coro, "__qualname__", None)
    return name if isinstance(name, str) else type(coro).__qualname__


def function_of(task: Any) -> str:
    """Return the qualified name of the coroutine function that ``task`` runs.

    Not to be asked of a task that ended in its eager first step: it has forgotten its coroutine.
    """
    coroutine = coroutine_name(coroutine_of(task))
    return (name_of(task) or coroutine) if coroutine == ANYIO_TASK else coroutine


def unretrieved(task: object) -> bool:
    """Whether ``task`` ended with an exception that nobody has asked for yet."""
    return bool(getattr(task, "_log_traceback", False))
