"""Work that was handed over: what the code that did so had in its context, and whether the work has it too.

A hand-over in force stands in a context variable of ours, which the work passes on as it passes on its own
variables: to the tasks it creates and the callbacks it schedules. A work that enters a copy of the context it
was handed over from, as ``asyncio.to_thread`` does, leaves the hand-over behind with its thread's context.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from loopwatch._clock import Clock
from loopwatch._places import Place, shape
from loopwatch._store.watched import Values
from loopwatch.facts import OTHER, TOP

from .reader import ContextReader, Get, get_current

PAIRS = 1000
"""Pairs of sites told apart; further ones are counted, not reported."""
WAITING = 256
"""Losses that may wait for the watchdog."""


@dataclass(slots=True)
class HandOver:
    """Work on its way from one context to another."""

    site: Place
    work: str
    """Qualified name of the function, or the class of the item, that was handed over."""
    time: float
    """Monotonic."""
    values: Values
    """What the code that handed over had."""
    through_queue: bool = False
    noticed: bool = False
    """Whether it was counted as lost: once, however often it is noticed."""


HANDED: ContextVar[HandOver | None] = ContextVar("loopwatch.handed_over", default=None)


@dataclass(frozen=True, slots=True)
class LostContext:
    """A loss noticed for the first time between two sites."""

    handed: HandOver
    missing: tuple[str, ...]
    work: str
    """What ran without: qualified name of the coroutine, else of the function handed over."""
    place: Place
    """Where that was noticed: a task was created, or a record logged."""


@dataclass(slots=True)
class _Count:
    place: Place
    lost: int = 0


class LostContexts:
    """Notices, in any thread, that work runs without what it was handed over with.

    Counts are not locked: two threads at the same site in the same instant may count as one.
    """

    def __init__(self, contexts: ContextReader, clock: Clock) -> None:
        self._contexts = contexts
        self._clock = clock
        self._told: dict[tuple[int, int, int, int], LostContext] = {}
        self._counts: dict[tuple[int, int], _Count] = {}
        """By id of the code object and offset of the hand-over's site; held, so that the id stays its own."""
        self.waiting: deque[LostContext] = deque(maxlen=WAITING)
        """For the watchdog to tell."""

    def hand_over(
        self, site: Callable[[], Place], work: object, through_queue: bool = False
    ) -> HandOver | None:
        """Return the hand-over that the calling code makes; None if it has nothing to hand over.

        Code that runs without what it should have passes the loss on: the first hand-over is to be named.
        """
        values = self._contexts.current()
        if values is None:
            return HANDED.get()
        name = getattr(work, "__qualname__", None) or type(work).__qualname__
        return HandOver(site(), name, self._clock.monotonic(), values, through_queue)

    def notice(self, place: Callable[[], Place], work: str | None = None, get: Get = get_current) -> None:
        """Look whether the work that runs, or that context, lacks what it was handed over with."""
        handed: HandOver | None = get(HANDED, None)
        if handed is None or not (missing := self._contexts.missing(handed.values, get)):
            return
        (code, offset, _), noticed_at = handed.site, place()
        pair = (id(code), offset, id(noticed_at[0]), noticed_at[1])
        if not handed.noticed:
            handed.noticed = True
            self._count(handed.site)
        if pair not in self._told and len(self._told) < PAIRS:
            self._told[pair] = lost = LostContext(handed, missing, work or handed.work, noticed_at)
            self.waiting.append(lost)

    def clear(self) -> None:
        """Forget what was lost: in a forked child."""
        self._told.clear()
        self._counts.clear()
        self.waiting.clear()

    def by_function(self) -> Counter[str]:
        """Return how many works lost their context, by the function that handed over, first seen first."""
        found: Counter[str] = Counter()
        for count in list(self._counts.values()):
            name = shape(count.place).name
            found[name if name in found or len(found) < TOP else OTHER] += count.lost
        return found

    def _count(self, site: Place) -> None:
        key = (id(site[0]), site[1])
        if key in self._counts or len(self._counts) < PAIRS:
            self._counts.setdefault(key, _Count(site)).lost += 1
