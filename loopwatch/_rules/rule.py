"""What a rule is: it looks at a snapshot, and at what has changed since an earlier one, and names symptoms.

Whether a symptom becomes a finding, and for how long, is not the rule's to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from loopwatch._measures import Distribution, Point
from loopwatch._records import Severity, Snapshot

WINDOW = 60.0
"""Seconds over which changes are looked at."""
STAYS = 0.7
"""Share of a bound that is enough to stay what the bound has made of it: at the bound itself a rate that
hovers about it would be told again and again."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """What a rule sees at one look."""

    rule: str
    key: tuple[str, ...]
    """What makes it the same thing at the next look: the name of a function, the kind and label of a pool.
    Names that users know: with them they say what to ignore (``LW301:shop.db.*``)."""
    severity: Severity
    summary: str
    evidence: Mapping[str, float]
    fix: str
    holds: Severity = "info"
    """What a finding that is as severe already does not fall below: higher than ``severity`` a little below a
    bound, so that what hovers about it is not told again and again."""
    faint: bool = False
    """Whether it is too little to begin a finding, and enough for one to go on."""
    count: int = 1
    """How often it happened in the window, where that can be counted; else 1."""
    because: str | None = None
    """The id of the rule that names the cause, when the evidence shows that this one follows from it
    (``roots.blocked_by``). Only told while that rule has a finding, too."""

    def written(self) -> Symptom:
        """Return it: it is in words."""
        return self


@dataclass(frozen=True, slots=True)
class Outline:
    """A symptom that is put in words only if it is told, where there may be many of which few are."""

    rule: str
    key: tuple[str, ...]
    faint: bool
    written: Callable[[], Symptom]
    """Puts it in words. To be called before the next look, or not at all: it holds what was seen."""


@dataclass(frozen=True, slots=True)
class View:
    """What rules look at: what is, and what was ``seconds`` ago."""

    now: Snapshot
    before: Snapshot
    """About ``WINDOW`` old; in the first minute, an empty one, taken at the start. All that is kept of it are
    its counters and histograms, in ``points``: of losses and stalls, look at their own times."""

    @property
    def seconds(self) -> float:
        """Seconds between the two."""
        return self.now.taken_at - self.before.taken_at

    def values(self, stem: str) -> dict[tuple[str, ...], float]:
        """Return the numbers of a fact now, by labels. Empty for one that is absent."""
        return _numbers(self.now, stem)

    def increases(self, stem: str) -> dict[tuple[str, ...], float]:
        """Return by how much a counter has grown in the window, by labels; a series that is new, in whole."""
        earlier = _numbers(self.before, stem)
        return {
            labels: value - earlier.get(labels, 0.0) for labels, value in _numbers(self.now, stem).items()
        }

    def distributions(self, stem: str) -> dict[tuple[str, ...], Distribution]:
        """Return what a histogram has observed in the window, by labels, where it did."""
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
    """The highest that its symptoms have."""
    look: Callable[[View], Iterable[Symptom | Outline]]
    """Names the symptoms there are. It formats no more than those, since it is called every few seconds."""
    looks: int = 2
    """Looks in a row that have to see a symptom before it is told; 1 where one is proof."""
    calm: float = 30.0
    """Seconds without the symptom after which the finding is over."""


BY_FUNCTION = frozenset(("task_created", "task_finished", "task_duration", "task_site_count"))
"""Facts about each function: not in every snapshot that rules look at."""


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
