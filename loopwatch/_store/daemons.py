"""Tasks that are meant to live as long as the program: no leak however old, and nothing to wait for."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any, TypeVar

T = TypeVar("T", bound="asyncio.Task[Any]")

_daemons: weakref.WeakSet[Any] = weakref.WeakSet()


def daemon(task: T) -> T:
    """Declare that ``task`` runs as long as the program: it is no leak, and ``drain()`` does not wait for it.

    Returns the task, so that it can be written around ``create_task``. Works without an installed agent.
    Raises TypeError if ``task`` is not a task.
    """
    if not isinstance(task, asyncio.Future):
        raise TypeError(
            f"daemon({task!r}): got {type(task).__name__}, not a task. Give asyncio.create_task(...)."
        )
    _daemons.add(task)
    return task


def is_daemon(task: Any) -> bool:
    """Whether ``task`` was declared a daemon."""
    return task in _daemons
