"""How much of a core answering may take: what is asked for at once, and in the long run a share."""

from __future__ import annotations

import math

from ._clock import Clock

AT_ONCE = 0.5
"""CPU seconds for who has asked for nothing before: dozens of answers, or one or two on 10,000 tasks."""
LONGEST = 3.0
"""Seconds of one rest, which pays for the dearest of the console's answers, on 10,000 tasks. aiomonitor's
``ps`` takes more than a second for 4,000; who asks for that is not to think that the console hangs."""


class Allowance:
    """CPU time that all clients together may cause: a share of a core. In one thread at a time.

    The program's loop has to share the GIL with who answers.
    """

    def __init__(self, share: float, clock: Clock) -> None:
        self._share = share
        self._monotonic = clock.monotonic
        self._left, self._at = AT_ONCE, self._monotonic()
        self._spent = math.inf  # what was spent before the first one asked, for imports, was not asked for

    def rest(self, spent: float) -> float:
        """Return for how many seconds nothing is to be answered, now that ``spent`` CPU seconds were so far.

        A total that is less than before is that of another thread, which goes on.
        """
        now = self._monotonic()
        left = min(self._left + self._share * (now - self._at), AT_ONCE) - max(0.0, spent - self._spent)
        self._left = max(left, -self._share * LONGEST)
        self._at, self._spent = now, spent
        return max(0.0, -self._left / self._share)
