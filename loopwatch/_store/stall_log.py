"""The stalls that are over: the last ones whole, all of them as totals."""

from __future__ import annotations

from collections import deque

from loopwatch._records import Cause, Stall
from loopwatch.facts import NOBODY, TOP

from .cells import Histogram, TopTotals


class StallLog:
    """Written by the watchdog; any thread may read."""

    KEPT = 256

    def __init__(self) -> None:
        self._stalls: deque[Stall] = deque(maxlen=self.KEPT)
        self.block_duration: dict[str, Histogram] = {}
        """By loop name."""
        self.block_time: dict[tuple[str, Cause], TopTotals[str]] = {}
        """By loop name and cause: seconds by the culprit's name."""

    def add(self, stall: Stall) -> None:
        """Keep a stall that is over."""
        self._stalls.append(stall)
        self.block_duration.setdefault(stall.loop_name, Histogram()).observe(stall.duration)
        function = stall.culprit.name if stall.culprit is not None else NOBODY
        totals = self.block_time.setdefault((stall.loop_name, stall.cause), TopTotals(TOP))
        totals.add(function, stall.duration)

    def last(self) -> list[Stall]:
        """Return the stalls kept, oldest first."""
        return list(self._stalls)
