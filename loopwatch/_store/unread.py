"""Tasks that cannot be read: each is left out and counted once, and only the first is logged.

Hardly any code of the program runs while a task is read, but a subclass of Task may refuse to be hashed, and
a coroutine's stand-in may have attributes that raise.
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
"""The component under which such tasks are counted."""
KNOWN = 1_000
"""Such tasks remembered, so that each is counted once."""

_qualname: Callable[[type], str] = vars(type)["__qualname__"].__get__
"""The name of a class, whatever its metaclass makes of ``__qualname__``."""


class Unread:
    """Reads tasks. Any thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.clear()

    def clear(self) -> None:
        """Forget the known ones: in a forked child, which counts afresh."""
        self._known: dict[int, OwnRef] = {}

    def read(
        self, look: Callable[Concatenate[Any, P], T], task: Any, *args: P.args, **options: P.kwargs
    ) -> T | None:
        """Return the result of ``look`` for ``task``, or for a weak reference to it; None if that fails."""
        try:
            return look(task, *args, **options)
        except Exception as error:  # noqa: BLE001 - counted; all other tasks are still read
            self._leave_out(task() if issubclass(type(task), ReferenceType) else task, error)
            return None

    def _leave_out(self, task: Any, error: Exception) -> None:
        """Count a task, unless already counted. Only its class is logged: its ``repr`` is the program's."""
        known = self._known.get(id(task))
        if task is None or (known is not None and known() is task):  # it is gone, or counted already
            return
        if len(self._known) >= KNOWN:
            self._known.clear()  # those that still live are counted again
        self._known[id(task)] = OwnRef(task)
        self._journal.failure(COMPONENT, error, f" of a {_qualname(type(task))}, which is left out,")
