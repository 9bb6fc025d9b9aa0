"""Carries the context of a request along with an item put into a queue, to the worker that handles it."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from loopwatch._internals.otel_context import current_span_variable
from loopwatch._store.watched import watches

from .handover import HANDED

T = TypeVar("T")

_Held = list[tuple[ContextVar[Any], Any]]
"""Variables, each with its value. Includes OpenTelemetry's own, which holds the trace and its baggage."""


@dataclass(frozen=True, slots=True)
class Carried(Generic[T]):
    """An item that cannot be weakly referenced, such as a dict or a text, with the context it was put in."""

    item: T
    held: _Held


class _Luggage(weakref.ref[Any]):
    """The context that an item carries, for as long as the item lives."""

    __slots__ = ("held", "key")

    held: _Held
    key: int


_luggage: dict[int, _Luggage] = {}
"""By id of the item, since items may compare equal, or be unhashable."""


def carry(item: T) -> T | Carried[T]:
    """Remember the watched variables and the trace of the calling code with ``item``; return what to queue.

    That is the item itself if it can be weakly referenced, like instances of most classes: it then carries
    the latest context it was given. Else (dict, list, tuple, str, numbers) it is a ``Carried`` with the item
    inside. ``with restore(...) as item`` yields the item in both cases. Works without ``install()``.
    """
    variables = [watch.var for watch in watches()]
    span = current_span_variable()
    if span is not None:
        variables.append(span[0])
    held = [(var, value) for var in variables if (value := var.get(None)) is not None]
    try:
        luggage = _Luggage(item, _forget)
    except TypeError:
        return Carried(item, held)
    luggage.held, luggage.key = held, id(item)
    _luggage[luggage.key] = luggage
    return item


@contextlib.contextmanager
def restore(item: T | Carried[T]) -> Iterator[T]:
    """Run a block under the variables and the trace that ``carry`` gave to ``item``; yield the item.

    An item that carries nothing leaves the context as it is.
    """
    if isinstance(item, Carried):
        held, inner = item.held, item.item
    else:
        luggage = _luggage.get(id(item))
        held, inner = ([] if luggage is None else luggage.held), item
    if held:
        HANDED.set(None)  # the hand-over's context has arrived
    tokens = [(var, var.set(value)) for var, value in held]
    try:
        yield inner
    finally:
        for var, token in reversed(tokens):
            with contextlib.suppress(ValueError):  # exited in another context, as generators may be
                var.reset(token)


def _forget(luggage: Any) -> None:
    key = luggage.key
    if _luggage.get(key) is luggage:  # the item may have been given a newer one since
        del _luggage[key]
