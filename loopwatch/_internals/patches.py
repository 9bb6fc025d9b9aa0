"""A method of somebody else's class, replaced by ours, and restored if ours is still in place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
Wrapper = Callable[[Any], Any]
"""Takes the original function of a method and returns the one to put in its place."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A method of a class, replaced by ours."""

    cls: type
    name: str
    original: Any
    ours: Any
    inherited: bool

    @classmethod
    def apply(cls, owner: type, name: str, wrapper: Wrapper) -> Patch:
        """Replace the method ``name`` of ``owner`` by what ``wrapper`` makes of it.

        For a class method, ``wrapper`` takes and returns the plain function.
        """
        original = inspect.getattr_static(owner, name)
        if isinstance(original, classmethod):
            ours: Any = classmethod(wrapper(original.__func__))
        else:
            ours = wrapper(getattr(owner, name))
        patch = cls(owner, name, original, ours, inherited=name not in owner.__dict__)
        setattr(owner, name, patch.ours)
        return patch

    def undo(self) -> None:
        """Restore the original, unless somebody has wrapped ours since: then ours stays below theirs."""
        if self.cls.__dict__.get(self.name) is not self.ours:
            return
        if self.inherited:
            delattr(self.cls, self.name)
        else:
            setattr(self.cls, self.name, self.original)


def like(original: object, ours: T) -> T:
    """Return ``ours``, a plain function that returns what the original returns, marked as the same kind.

    From Python 3.12 on; before that a function cannot be marked as a coroutine function.
    """
    mark: Callable[[T], T] | None = getattr(inspect, "markcoroutinefunction", None)
    return mark(ours) if mark is not None and inspect.iscoroutinefunction(original) else ours


def hide_caller(error: BaseException) -> None:
    """Remove the calling function's frame from the traceback of an error that it is about to re-raise.

    Uses the base class's own functions: an exception of the program's may refuse to have attributes set.
    """
    traceback = _traceback_of(error)
    BaseException.with_traceback(error, traceback and traceback.tb_next)


_traceback_of: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__
