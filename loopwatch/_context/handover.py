"""Work that is handed over, and what the handing code had in its context.

A hand-over in force is kept in a context variable of ours, which the work passes on like its own variables:
to the tasks it creates and the callbacks it schedules. Work that enters a copy of the context it was handed
over from, as with ``asyncio.to_thread``, leaves the hand-over behind in its thread's context.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from loopwatch._places import Place
from loopwatch._store.watched import Values


@dataclass(slots=True)
class HandOver:
    """Work on its way from one context to another."""

    site: Place
    work: str
    """Qualified name of the function, or the class of the item, that was handed over."""
    time: float
    """Monotonic."""
    values: Values
    """What the handing code had in its context."""
    through_queue: bool = False
    noticed: bool = False
    """Whether it was counted as lost: it counts once, however often the loss is noticed."""


HANDED: ContextVar[HandOver | None] = ContextVar("loopwatch.handed_over", default=None)
