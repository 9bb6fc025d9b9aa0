"""A method of a class of others, replaced by ours, and put back where it is still ours."""

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

        Of a class method, ``wrapper`` gets and returns the plain function.
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
        """Put the original back, unless somebody has wrapped ours since: then it stays below theirs."""
        if self.cls.__dict__.get(self.name) is not self.ours:
            return
        if self.inherited:
            delattr(self.cls, self.name)
        else:
            setattr(self.cls, self.name, self.original)


def like(original: object, ours: T) -> T:
    """Return a plain function of ours that hands on what the original returns: it passes for what that is.

    From Python 3.12 on; before that there is no way to say so of a coroutine function.
    """
    mark: Callable[[T], T] | None = getattr(inspect, "markcoroutinefunction", None)
    return mark(ours) if mark is not None and inspect.iscoroutinefunction(original) else ours


def hide_caller(error: BaseException) -> None:
    """Take the calling function's frame off the traceback of an error that it is about to raise again.

    By the base class's own functions: an exception of the program's may refuse to have attributes set.
    """
    traceback = _traceback_of(error)
    BaseException.with_traceback(error, traceback and traceback.tb_next)


_traceback_of: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__
