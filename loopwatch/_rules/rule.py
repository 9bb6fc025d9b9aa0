"""A rule looks at a snapshot, and at what has changed since an earlier one, and names symptoms.

Whether a symptom becomes a finding, and for how long, is decided elsewhere (``course``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from loopwatch._agent_records import Severity, Snapshot
from loopwatch._measures import Distribution, Point

WINDOW = 60.0
"""Seconds over which changes are considered."""
STAYS = 0.7
"""Share of a bound above which a symptom keeps the state it entered at the bound: without that, a rate that
hovers around the bound would be reported again and again."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """What a rule sees at one look."""

    rule: str
    key: tuple[str, ...]
    """Identifies the symptom from look to look: the name of a function, the kind and label of a pool. Made of
    names that users know, since they use them to say what to ignore (``LW301:shop.db.*``)."""
    severity: Severity
    summary: str
    evidence: Mapping[str, float]
    fix: str
    holds: Severity = "info"
    """Severity below which a finding that has reached it does not fall: higher than ``severity`` just below a
    bound, so that a value hovering around the bound is not reported again and again."""
    faint: bool = False
    """Whether it is too weak to begin a finding, but enough to keep one."""
    count: int = 1
    """How often it happened in the window, where that can be counted; else 1."""
    because: str | None = None
    """The id of the rule that names the cause, if the evidence shows that this symptom is its consequence
    (``roots.blocked_by``). Only reported while that rule has a finding, too."""

    def written(self) -> Symptom:
        """Return the symptom itself: it is in words already."""
        return self


@dataclass(frozen=True, slots=True)
class Outline:
    """A symptom that is put in words only if it is reported, for rules with many symptoms but few reports."""

    rule: str
    key: tuple[str, ...]
    faint: bool
    written: Callable[[], Symptom]
    """Puts it in words. Must be called before the next look or not at all: it holds what was seen."""


@dataclass(frozen=True, slots=True)
class View:
    """What rules look at: the snapshot now, and what is kept of the one ``seconds`` ago."""

    now: Snapshot
    before: Snapshot
    """About ``WINDOW`` old; in the first minute, an empty one, taken at the start. Only its counters and
    histograms are kept, in ``points``: for losses and stalls, use their own times."""

    @property
    def seconds(self) -> float:
        """Seconds between the two snapshots."""
        return self.now.taken_at - self.before.taken_at

    def values(self, stem: str) -> dict[tuple[str, ...], float]:
        """Return the current numbers of a fact, by labels. Empty if the fact is absent."""
        return _numbers(self.now, stem)

    def increases(self, stem: str) -> dict[tuple[str, ...], float]:
        """Return by how much a counter has grown in the window, by labels; for a new series, its value."""
        earlier = _numbers(self.before, stem)
        return {
            labels: value - earlier.get(labels, 0.0) for labels, value in _numbers(self.now, stem).items()
        }

    def distributions(self, stem: str) -> dict[tuple[str, ...], Distribution]:
        """Return what a histogram has observed in the window, by labels; empty series are left out."""
        earlier = _histograms(self.before, stem)
        grown = {
            labels: whole.since(earlier.get(labels)) for labels, whole in _histograms(self.now, stem).items()
        }
        return {labels: part for labels, part in grown.items() if part.count}


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that may be wrong. Its id is stable: it is the name of a page, and of a series."""

    id: str
    title: str
    """A few words: the heading of its page."""
    severity: Severity
    """The highest severity of its symptoms."""
    look: Callable[[View], Iterable[Symptom | Outline]]
    """Returns the current symptoms. It formats nothing else, since it is called every few seconds."""
    looks: int = 2
    """Looks in a row that must see a symptom before it is reported; 1 if a single look is proof."""
    calm: float = 30.0
    """Seconds without the symptom after which the finding is over."""


BY_FUNCTION = frozenset(("task_created", "task_finished", "task_duration", "task_site_count"))
"""Facts per function, which not every snapshot that rules look at contains."""


def _numbers(snapshot: Snapshot, stem: str) -> dict[tuple[str, ...], float]:
    points = _points(snapshot, stem)
    return {point.labels: point.value for point in points if not isinstance(point.value, Distribution)}


def _histograms(snapshot: Snapshot, stem: str) -> dict[tuple[str, ...], Distribution]:
    points = _points(snapshot, stem)
    return {point.labels: point.value for point in points if isinstance(point.value, Distribution)}


def _points(snapshot: Snapshot, stem: str) -> tuple[Point, ...]:
    if stem in BY_FUNCTION:
        raise ValueError(f"{stem} is not there for rules")
    return snapshot.points.get(stem, ())
