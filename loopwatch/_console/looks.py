"""The counts at earlier moments, to tell what has changed since.

Nothing looks while nobody asks, so the first answer covers all the time since the start, like that of
``vmstat``; each further one covers the time since the last, or since the look nearest to the time asked for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from loopwatch._agent_records import Snapshot
from loopwatch._clock import Clock
from loopwatch._measures import Distribution, Point

KEPT = 30
"""Looks that are remembered."""
APART = 1.0
"""Minimum seconds between two looks: changes within less say little."""

_STEMS = ("loop_time", "delay", "block_time", "task_created", "task_finished", "task_site_count")
Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """The counts at one moment."""

    at: float
    """Monotonic time."""
    points: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    pools: Mapping[Labels, tuple[float, float, float]] = field(default_factory=dict)
    """Waits, seconds waited, and waits that failed, by kind and label."""

    def numbers(self, stem: str) -> dict[Labels, float]:
        """Return the values of a fact by its labels."""
        points = self.points.get(stem, ())
        return {point.labels: point.value for point in points if not isinstance(point.value, Distribution)}

    def histograms(self, stem: str) -> dict[Labels, Distribution]:
        """Return the distributions of a fact by its labels."""
        points = self.points.get(stem, ())
        return {point.labels: point.value for point in points if isinstance(point.value, Distribution)}


class Looks:
    """Remembers the last looks. Any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first = Look(clock.monotonic())
        self._last: deque[Look] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def due(self) -> bool:
        """Whether it is worth looking again."""
        with self._lock:
            return not self._last or self._clock.monotonic() - self._last[-1].at >= APART

    def take(self, snapshot: Snapshot) -> Look:
        """Remember the counts of a snapshot that was just taken, and return them."""
        look = Look(
            self._clock.monotonic(),
            {stem: snapshot.points.get(stem, ()) for stem in _STEMS},
            {
                (pool.kind, pool.label): (
                    pool.wait_count or 0,
                    pool.wait_sum or 0.0,
                    (pool.timeouts or 0) + (pool.rejected or 0),
                )
                for pool in snapshot.pools
            },
        )
        with self._lock:
            if not self._last or look.at - self._last[-1].at >= APART:
                self._last.append(look)
        return look

    def before(self, seconds: float | None) -> Look:
        """Return the look nearest to ``seconds`` ago; without a number, the last one old enough."""
        now = self._clock.monotonic()
        with self._lock:
            looks = [self._first, *(look for look in self._last if now - look.at >= APART)]
        if seconds is None:
            return looks[-1]
        return min(looks, key=lambda look: abs(now - look.at - seconds))

    def is_first(self, look: Look) -> bool:
        """Whether ``look`` is the very start of counting."""
        return look is self._first
