"""How much of a core answering may take: a burst at once, and a share in the long run."""

from __future__ import annotations

import math

from ._clock import Clock

AT_ONCE = 0.5
"""CPU seconds available if nothing was asked before: dozens of answers, or one or two on 10,000 tasks."""
LONGEST = 3.0
"""Seconds of one rest, which pays for the most expensive answer of the console, on 10,000 tasks. aiomonitor's
``ps`` takes more than a second for 4,000; whoever runs it must not think that the console hangs."""


class Allowance:
    """CPU time that all clients together may cause: a share of a core. In one thread at a time.

    The program's loop has to share the GIL with the thread that answers.
    """

    def __init__(self, share: float, clock: Clock) -> None:
        self._share = share
        self._monotonic = clock.monotonic
        self._left, self._at = AT_ONCE, self._monotonic()
        self._spent = math.inf  # what was spent before the first question, on imports, is not charged

    def rest(self, spent: float) -> float:
        """Return for how many seconds to answer nothing, now that ``spent`` CPU seconds were spent in total.

        A total lower than the last is that of another thread, which carries on.
        """
        now = self._monotonic()
        left = min(self._left + self._share * (now - self._at), AT_ONCE) - max(0.0, spent - self._spent)
        self._left = max(left, -self._share * LONGEST)
        self._at, self._spent = now, spent
        return max(0.0, -self._left / self._share)
