"""How many log lines of one kind may be written, or spans and log records exported."""

from __future__ import annotations

from ._clock import Clock

BURST = 10
"""Lines per WINDOW: what happens all the time is logged every few seconds and does not flood the log."""
WINDOW = 60.0
"""Seconds."""


class Pace:
    """Lets lines through, or withholds and counts them. One thread."""

    def __init__(self, clock: Clock, burst: int = BURST) -> None:
        self._burst = burst
        self._monotonic = clock.monotonic
        self.clear()

    def clear(self) -> None:
        """Start afresh: in a forked child."""
        self._window_began = -WINDOW
        self._written = 0
        self._withheld = 0
        self.suppressed = 0
        """Lines withheld since the start."""

    def admit(self) -> int | None:
        """Return how many lines were withheld since the last one; None if this one must be, too."""
        now = self._monotonic()
        if now - self._window_began >= WINDOW:
            self._window_began, self._written = now, 0
        if self._written >= self._burst:
            self.withhold()
            return None
        self._written += 1
        return self.rest()

    def rest(self) -> int:
        """Return how many lines were withheld since a line last said so; the next one will."""
        withheld, self._withheld = self._withheld, 0
        return withheld

    def withhold(self) -> None:
        """Count a line that is withheld, whatever the pace."""
        self._withheld += 1
        self.suppressed += 1
