"""The tasks that were lost: the last ones whole, all of them as totals."""

from __future__ import annotations

from collections import Counter, deque

from loopwatch._records import Lost, LostReason
from loopwatch.facts import OTHER, TOP


class LostLog:
    """Written by the watchdog; any thread may read."""

    KEPT = 256

    def __init__(self) -> None:
        self._lost: deque[Lost] = deque(maxlen=self.KEPT)
        self.reasons: Counter[LostReason] = Counter()
        self.unretrieved: Counter[str] = Counter()
        """By type of the exception; types beyond the first TOP under OTHER."""

    def add(self, lost: Lost) -> None:
        """Keep a loss."""
        self._lost.append(lost)
        self.reasons[lost.reason] += 1
        if lost.reason == "unretrieved_exception":
            error = lost.exception or OTHER
            known = error in self.unretrieved or len(self.unretrieved) < TOP
            self.unretrieved[error if known else OTHER] += 1

    def last(self) -> tuple[Lost, ...]:
        """Return the losses kept, oldest first."""
        return tuple(self._lost)
