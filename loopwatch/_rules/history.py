"""The values of counters and histograms a minute ago, so that rules can tell what has changed since."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from loopwatch._agent_records import Snapshot
from loopwatch._measures import Point
from loopwatch.facts import BY_STEM

from .rule import BY_FUNCTION, WINDOW

STEP = 10.0
"""Seconds between two kept snapshots: the window is then 60 to 70 s, and at most eight are kept."""

Points = Mapping[str, tuple[Point, ...]]


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float
    """Monotonic."""
    points: Points


class History:
    """Keeps as little as possible of earlier snapshots: no records, no gauges, nothing twice."""

    def __init__(self, now: float) -> None:
        self._kept = deque([_Kept(now, {})])

    def before(self, snapshot: Snapshot, now: float) -> Snapshot:
        """Return what is kept of the newest snapshot that is a minute old, else of the oldest.

        Its age is measured by the monotonic clock: the wall clock may have been set meanwhile.
        """
        then = self._kept[0]
        at = snapshot.taken_at - (now - then.at)
        return Snapshot(at, snapshot.service_name, then.points, loops=(), stalls=(), lost=())

    def keep(self, snapshot: Snapshot, now: float) -> None:
        """Keep ``snapshot``, unless one was kept a moment ago; drop what is no longer needed."""
        last = self._kept[-1]
        if now - last.at >= STEP:
            self._kept.append(_Kept(now, _changes(snapshot.points, last.points)))
        while len(self._kept) > 1 and now - self._kept[1].at >= WINDOW:
            self._kept.popleft()


def _changes(points: Points, last: Points) -> Points:
    """Return the counters and histograms, reusing the kept objects of those that did not change."""
    kept = {}
    for stem, new in points.items():
        if BY_STEM[stem].kind in ("counter", "histogram") and stem not in BY_FUNCTION:
            old = last.get(stem)
            kept[stem] = old if old is not None and old == new else (*map(_bare, new),)
    return kept


def _bare(point: Point) -> Point:
    """Leave out exemplars, which no rule reads."""
    value = point.value
    if isinstance(value, float | int) or not value.exemplars:
        return point
    return Point(point.labels, replace(value, exemplars=()))
