"""The last stalls that are over, whole; each loop keeps its totals."""

from __future__ import annotations

from collections import deque

from loopwatch._agent_records import Stall


class StallLog:
    """Written by the watchdog; any thread may read."""

    KEPT = 256

    def __init__(self) -> None:
        self._stalls: deque[Stall] = deque(maxlen=self.KEPT)

    def add(self, stall: Stall) -> None:
        """Keep a stall that is over."""
        self._stalls.append(stall)

    def last(self) -> list[Stall]:
        """Return the stalls kept, oldest first."""
        return list(self._stalls)

    def clear(self) -> None:
        """Forget everything: in a forked child, whose stalls they are not."""
        self._stalls.clear()
