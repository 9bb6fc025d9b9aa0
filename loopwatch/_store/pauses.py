"""Recent garbage collections, to tell how much of a stall they took."""

from __future__ import annotations

from collections import deque


class Pauses:
    """The last collections that were long enough to matter, and the one running now.

    Written by whichever thread collects; collections never overlap.
    """

    SHORTEST = 0.001  # seconds; shorter ones could fill the ring with nothing worth keeping
    KEPT = 128

    __slots__ = ("_ended", "running_since")

    def __init__(self) -> None:
        self.running_since: float | None = None
        """Monotonic time; None when no collection runs."""
        self._ended: deque[tuple[float, float]] = deque(maxlen=self.KEPT)

    def end(self, start: float, end: float) -> None:
        """Note a collection that is over."""
        self.running_since = None
        if end - start >= self.SHORTEST:
            self._ended.append((start, end))

    def within(self, start: float, end: float) -> float:
        """Return the seconds of collection between two moments, including one in progress."""
        spans = list(self._ended)
        running = self.running_since
        if running is not None:
            spans.append((running, end))
        return sum(max(0.0, min(end, last) - max(start, first)) for first, last in spans)
