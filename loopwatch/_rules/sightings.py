"""The symptoms that one rule has seen and still sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from loopwatch._agent_records import Finding
from loopwatch._events import FindingChange

from .course import Course
from .rule import Outline, Rule, Symptom

NAMED = 10
"""Symptoms that one rule may report; further ones are only counted."""

Key = tuple[str, ...]


class Sightings:
    """The courses of one rule's symptoms."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._courses: dict[Key, Course] = {}
        self._more = 0

    def take(
        self, symptoms: Iterable[Symptom | Outline], now: float, wall: float
    ) -> dict[Key, FindingChange]:
        """Update the known courses and begin new ones; return which have changed, and how.

        A rule returns what matters most first: that is reported if there is no room for all, and the rest is
        not put in words. Raises what putting in words raises.
        """
        seen = {symptom.key: symptom for symptom in symptoms}
        changes: dict[Key, FindingChange | None] = {}
        for key, course in self._courses.items():
            symptom = seen.pop(key, None)
            if symptom is None or (symptom.faint and not course.raised):
                changes[key] = course.miss(now)
            else:
                changes[key] = course.see(symptom.written(), now, wall)
        seen = {key: symptom for key, symptom in seen.items() if not symptom.faint}
        for key, symptom in seen.items():
            if len(self._courses) < NAMED:
                written = symptom.written()
                self._courses[key] = course = Course(self.rule, written, wall)
                changes[key] = course.see(written, now, wall)
        self._more = sum(key not in self._courses for key in seen)
        return {key: change for key, change in changes.items() if change is not None}

    def finding(self, key: Key) -> Finding:
        """Return one course as a finding."""
        return self._courses[key].finding()

    def raised(self, key: Key) -> bool:
        """Whether a course is a finding."""
        return self._courses[key].raised

    def forget(self, key: Key) -> None:
        """Drop a course that is over."""
        del self._courses[key]

    def findings(self) -> Iterator[Finding]:
        """Yield the current findings; the first says how many more there would be."""
        more = self._more
        for course in self._courses.values():
            if course.raised:
                yield course.finding(more)
                more = 0
