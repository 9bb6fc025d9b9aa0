"""The loops' figures from one document to the next: what the sparklines show."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from loopwatch._agent_records import Snapshot
from loopwatch._document import Document
from loopwatch._measures import Distribution

KEPT = 240
"""Samples kept per loop: the widest possible sparkline."""

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(slots=True)
class Series:
    """One loop, sample by sample."""

    delay: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Seconds: the 99th percentile of each interval, or how long the loop has been blocked at its end."""
    utilization: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Share of each interval that the loop was busy."""


class History:
    """What has been seen of one process."""

    def __init__(self) -> None:
        self._last: Document | None = None
        self.of: dict[str, Series] = {}
        """By the name of the loop."""

    def add(self, document: Document) -> None:
        """Add a document. A document of another process begins a new history."""
        last, self._last = self._last, document
        if last is None or last.process != document.process:
            self.of = {}
            return
        if document.snapshot.taken_at == last.snapshot.taken_at:
            return
        delays = {loop.name: loop.blocked for loop in document.snapshot.loops}
        for name, blocked in delays.items():
            series = self.of.setdefault(name, Series())
            grown = _grown(last.snapshot, document.snapshot, name)
            p99 = grown.quantile(0.99) if grown is not None else None
            series.delay.append(max(p99 or 0.0, blocked))
            series.utilization.append(_busy(last.snapshot, document.snapshot, name))


def _grown(before: Snapshot, now: Snapshot, loop: str) -> Distribution | None:
    """Return the delays between two snapshots; None if the loop reported none."""
    earlier, later = (_distribution(snapshot, loop) for snapshot in (before, now))
    if later is None or earlier is None or earlier.bounds != later.bounds:
        return later
    counts = tuple(max(0, b - a) for a, b in zip(earlier.counts, later.counts, strict=True))
    return Distribution(later.bounds, counts, later.sum - earlier.sum)


def _distribution(snapshot: Snapshot, loop: str) -> Distribution | None:
    for point in snapshot.points.get("delay", ()):
        if point.labels == (loop,) and isinstance(point.value, Distribution):
            return point.value
    return None


def _busy(before: Snapshot, now: Snapshot, loop: str) -> float:
    """Return the share of the time between two snapshots in which the loop was active."""
    earlier, later = _times(before, loop), _times(now, loop)
    grown = {state: seconds - earlier.get(state, 0.0) for state, seconds in later.items()}
    whole = sum(grown.values())
    return min(1.0, max(0.0, grown.get("active", 0.0) / whole)) if whole > 0 else 0.0


def _times(snapshot: Snapshot, loop: str) -> Mapping[str, float]:
    return {
        point.labels[1]: point.value
        for point in snapshot.points.get("loop_time", ())
        if point.labels[0] == loop and not isinstance(point.value, Distribution)
    }


def sparkline(values: Iterable[float], width: int, top: float | None = None) -> str:
    """Draw the last values, one per column, scaled to ``top``, by default the largest value shown."""
    shown = list(values)[-width:]
    highest = max([*shown, 1e-9]) if top is None else top
    last = len(_BARS) - 1
    bars = [_BARS[min(last, max(0, round(value / highest * last)))] for value in shown]
    return "".join(bars).rjust(width)
