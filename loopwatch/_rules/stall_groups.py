"""Stalls grouped by what they have in common: how many, how long, and whether that is worth reporting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from loopwatch._agent_records import Severity, Stall
from loopwatch.facts import NOBODY

from .rule import STAYS, WINDOW, Outline, Symptom, View
from .words import period, span, times

MANY = 3
"""Stalls of one kind in the window from which on they are no accident..."""
LONG = 1.0
"""...or seconds of stalls of one kind in the window."""
BAD = 0.1
"""Share of the window from which on users notice: the same share of their requests has to wait."""
YOUNG = 20.0
"""Seconds that the share is taken of while the process is younger than that."""
HELD = 0.5
"""Share of the stalls' time from which on something explains them: other threads waited for the GIL, so it
was held; the quota was used up; there was no CPU."""

KEPT = 256
"""The most stalls that a snapshot contains."""

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Stalls that have something in common, oldest first."""

    key: Key
    """What the stalls have in common."""
    stalls: tuple[Stall, ...]
    seconds: float
    """Period over which they were counted."""

    @property
    def last(self) -> Stall:
        """The newest stall, perhaps in progress."""
        return self.stalls[-1]

    @property
    def count(self) -> int:
        """Number of stalls."""
        return len(self.stalls)

    @property
    def total(self) -> float:
        """Total duration, in seconds."""
        return sum(stall.duration for stall in self.stalls)

    @property
    def worst(self) -> float:
        """Duration of the longest, in seconds."""
        return max(stall.duration for stall in self.stalls)

    def sum(self, evidence: str) -> float:
        """Add up one number of the stalls' evidence."""
        return sum(stall.evidence.get(evidence, 0.0) for stall in self.stalls)

    @property
    def told(self) -> bool:
        """Whether the group is worth reporting."""
        return self.count >= MANY or self.total >= LONG

    @property
    def bad(self) -> bool:
        """Whether much time is lost, again and again."""
        return self._takes(BAD)

    @property
    def nearly_bad(self) -> bool:
        """Whether hardly less time is lost, or much of it was lost at once."""
        return self._takes(STAYS * BAD) or self.worst >= LONG

    def _takes(self, share: float) -> bool:
        return self.count >= MANY and self.total >= share * max(self.seconds, YOUNG)

    @property
    def severity(self) -> Severity:
        """Critical if users notice: much time is lost, again and again, or right now."""
        going_on = self.last.in_progress and self.last.duration >= LONG
        return "critical" if going_on or self.bad else "warning"

    @property
    def holds(self) -> Severity:
        """The severity that a finding keeps: see ``Symptom.holds``."""
        return "critical" if self.nearly_bad else "info"

    @property
    def held_the_gil(self) -> bool:
        """Whether other threads, the watchdog for one, waited for the GIL for most of the time."""
        late = self.sum("watchdog_late_s") - self.sum("watchdog_runqueue_s")
        return late >= HELD * self.total

    @property
    def evidence(self) -> dict[str, float]:
        """The numbers that a finding is based on."""
        numbers = {
            "stalls": self.count,
            "total_s": self.total,
            "worst_s": self.worst,
            "window_s": self.seconds,
            **({"in_progress_s": self.last.duration} if self.last.in_progress else {}),
        }
        for name in ("cpu_s", "gc_s", "runqueue_s", "throttled_s", "asleep_s"):
            numbers[name] = self.sum(name)
        return {name: round(value, 3) for name, value in numbers.items()}

    @property
    def how_often(self) -> str:
        """How often and for how long, in words."""
        going_on = f", and does so right now, for {span(self.last.duration)} so far"
        if self.count == 1 and self.last.in_progress:
            return f"since {span(self.last.duration)} ago, and does so still"
        how_long = f"for {span(self.worst)}" if self.count == 1 else f"worst {span(self.worst)}"
        how_often = f"{times(self.count)} {period(self.seconds)}, {how_long}"
        return how_often + (going_on if self.last.in_progress else "")

    def outline(self, rule: str, written: Callable[[Group], Symptom]) -> Outline:
        """Make an outline for a rule, to be put in words by ``written``: there may be many culprits."""
        return Outline(rule, self.key, not self.told, partial(written, self))

    def symptom(self, rule: str, summary: str, fix: str) -> Symptom:
        """Make the symptom of a rule from the group."""
        return Symptom(
            rule=rule,
            key=self.key,
            severity=self.severity,
            holds=self.holds,
            faint=not self.told,
            summary=summary,
            evidence=self.evidence,
            fix=fix,
            count=self.count,
        )


def groups(view: View, key: Callable[[Stall], Key], part: Callable[[Stall], Stall | None]) -> list[Group]:
    """Group what ``part`` leaves of the window's stalls, worst group first, including groups not ``told``.

    If more stalls were seen than are kept, the window reaches back only to the oldest kept one.
    """
    now, kept = view.now.taken_at, view.now.stalls
    found: dict[Key, list[Stall]] = {}
    for stall in kept:
        if stall.started_at + stall.duration > now - WINDOW and (counts := part(stall)) is not None:
            found.setdefault(key(counts), []).append(counts)
    reaches = now - kept[0].started_at if len(kept) >= KEPT else WINDOW
    seconds = min(WINDOW, view.seconds, reaches)
    made = [Group(named, tuple(stalls), seconds) for named, stalls in found.items()]
    return sorted(made, key=lambda group: -group.total)


def by_culprit(stall: Stall) -> Key:
    if stall.culprit is None:
        return (NOBODY,)
    return (stall.culprit.name, stall.call) if stall.call else (stall.culprit.name,)


def by_loop(stall: Stall) -> Key:
    return (stall.loop_name,)
