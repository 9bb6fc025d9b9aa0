"""The course of one symptom, from look to look: when it is a finding, how severe, and when it is over."""

from __future__ import annotations

import math
from typing import get_args

from loopwatch._agent_records import Finding, Severity
from loopwatch._events import FindingChange

from .rule import Rule, Symptom

EVERY = 5.0
"""Seconds between two looks. Taking a snapshot triggers a look as well, which does not count in addition."""
APART = 0.8 * EVERY
"""Seconds that two looks must be apart for both to count."""

DOCS = "docs/rules/"
"""Where the rules' pages are, in the repository: the project has no address yet."""

_SEVERITIES: tuple[Severity, ...] = get_args(Severity)


def weight(severity: Severity) -> int:
    """Return a number by which severities compare."""
    return _SEVERITIES.index(severity)


class Course:
    """One symptom: seen once, it is nothing; seen again, a finding; gone for long enough, over.

    Times are monotonic, except ``first_seen`` and ``last_seen``.
    """

    def __init__(self, rule: Rule, symptom: Symptom, wall: float) -> None:
        self.rule = rule
        self.symptom = symptom
        self.raised = False
        self.severity = symptom.severity
        self.first_seen = self.last_seen = wall
        self._looks = 0
        self._looked_at = self._severe_at = self._seen_at = -math.inf

    def see(self, symptom: Symptom, now: float, wall: float) -> FindingChange | None:
        """Record that a look has seen the symptom; return what that changes."""
        self.symptom = symptom
        self._seen_at, self.last_seen = now, wall
        if now - self._looked_at >= APART:
            self._looked_at = now
            self._looks += 1
        if not self.raised:
            self.severity, self._severe_at = symptom.severity, now
            self.raised = self._looks >= self.rule.looks
            return "began" if self.raised else None
        return self._weigh(symptom, now)

    def _weigh(self, symptom: Symptom, now: float) -> FindingChange | None:
        """Raise the severity at once; lower it when the symptom has clearly been less severe for long."""
        before = weight(self.severity)
        severity = max(symptom.severity, min(symptom.holds, self.severity, key=weight), key=weight)
        if weight(severity) >= before:
            self.severity, self._severe_at = severity, now
            return "rose" if weight(severity) > before else None
        if now - self._severe_at >= self.rule.calm:
            self.severity, self._severe_at = severity, now
            return "fell"
        return None

    def miss(self, now: float) -> FindingChange | None:
        """Record that a look has not seen the symptom; return ``over`` when it is to be forgotten."""
        absent = now - self._seen_at
        return "over" if absent >= (self.rule.calm if self.raised else APART) else None

    def finding(self, more: int = 0) -> Finding:
        """Return the symptom as a finding."""
        symptom = self.symptom
        return Finding(
            rule=self.rule.id,
            severity=self.severity,
            summary=symptom.summary,
            evidence=symptom.evidence,
            fix=symptom.fix,
            first_seen=self.first_seen,
            last_seen=self.last_seen,
            count=symptom.count,
            docs_url=f"{DOCS}{self.rule.id}.md",
            key=symptom.key,
            because=symptom.because,
            more=more,
        )
