"""Tasks that cannot be read: each is left out alone, counted once, and the first is told of in the log.

Hardly any code of the program runs while a task is read, but a class derived from a task may refuse to be
hashed, and what stands in for a coroutine may have attributes that raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import ReferenceType

from loopwatch._journal import Journal

from .tasks import OwnRef

P = ParamSpec("P")
T = TypeVar("T")

COMPONENT = "task_reading"
"""What such tasks are counted under."""
KNOWN = 1_000
"""Such tasks remembered, each to be counted once."""

_qualname: Callable[[type], str] = vars(type)["__qualname__"].__get__
"""The name of a class, whatever its metaclass makes of ``__qualname__``."""


class Unread:
    """Reads tasks. Any thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.clear()

    def clear(self) -> None:
        """Forget those known: in a forked child, which counts afresh."""
        self._known: dict[int, OwnRef] = {}

    def read(
        self, look: Callable[Concatenate[Any, P], T], task: Any, *args: P.args, **options: P.kwargs
    ) -> T | None:
        """Return what ``look`` says of ``task``, or of a weak reference to it; None if that fails."""
        try:
            return look(task, *args, **options)
        except Exception as error:  # noqa: BLE001 - counted; all other tasks are read
            self._leave_out(task() if issubclass(type(task), ReferenceType) else task, error)
            return None

    def _leave_out(self, task: Any, error: Exception) -> None:
        """Count a task, unless that was done. Its class stands for it: its ``repr`` is the program's."""
        known = self._known.get(id(task))
        if task is None or (known is not None and known() is task):  # gone meanwhile, or known
            return
        if len(self._known) >= KNOWN:
            self._known.clear()  # those that live still are counted anew
        self._known[id(task)] = OwnRef(task)
        self._journal.failure(COMPONENT, error, f" of a {_qualname(type(task))}, which is left out,")
