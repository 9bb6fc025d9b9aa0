"""Notices that work runs without the context it was handed over with, and counts that."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from loopwatch._clock import Clock
from loopwatch._places import Place, shape
from loopwatch.facts import OTHER, TOP

from .handover import HANDED, HandOver
from .reader import ContextReader, Get, get_current

PAIRS = 1000
"""Distinct pairs of sites that are reported; further ones are only counted."""
WAITING = 256
"""Losses that may be queued for the watchdog."""


@dataclass(frozen=True, slots=True)
class LostContext:
    """The first loss noticed between two sites."""

    handed: HandOver
    missing: tuple[str, ...]
    work: str
    """The work that ran without it: qualified name of the coroutine, else of the function handed over."""
    place: Place
    """Where the loss was noticed: a task was created there, or a record logged."""


@dataclass(slots=True)
class _Count:
    place: Place
    lost: int = 0


class LostContexts:
    """Notices, in any thread, that work runs without the context it was handed over with.

    Counts are not locked: losses by two threads at the same site in the same instant may count as one.
    """

    def __init__(self, contexts: ContextReader, clock: Clock) -> None:
        self._contexts = contexts
        self._clock = clock
        self._told: dict[tuple[int, int, int, int], LostContext] = {}
        self._counts: dict[tuple[int, int], _Count] = {}
        """By id of the code object and offset of the hand-over's site. The count holds the code object, so
        that its id is not reused."""
        self.waiting: deque[LostContext] = deque(maxlen=WAITING)
        """For the watchdog to report."""

    def hand_over(
        self, site: Callable[[], Place], work: object, through_queue: bool = False
    ) -> HandOver | None:
        """Return the hand-over that the calling code makes; None if it has nothing to hand over.

        Code that has itself lost its context passes on its own hand-over, so that the first one is reported.
        """
        values = self._contexts.current()
        if values is None:
            return HANDED.get()
        name = getattr(work, "__qualname__", None) or type(work).__qualname__
        return HandOver(site(), name, self._clock.monotonic(), values, through_queue)

    def notice(self, place: Callable[[], Place], work: str | None = None, get: Get = get_current) -> None:
        """Check whether the running work, or the context of ``get``, lacks what it was handed over with."""
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
        """Forget all losses, in a forked child."""
        self._told.clear()
        self._counts.clear()
        self.waiting.clear()

    def by_function(self) -> Counter[str]:
        """Return the number of losses by the function that handed over, first seen first."""
        found: Counter[str] = Counter()
        for count in list(self._counts.values()):
            name = shape(count.place).name
            found[name if name in found or len(found) < TOP else OTHER] += count.lost
        return found

    def _count(self, site: Place) -> None:
        key = (id(site[0]), site[1])
        if key in self._counts or len(self._counts) < PAIRS:
            self._counts.setdefault(key, _Count(site)).lost += 1
