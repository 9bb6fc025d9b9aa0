"""Applies the rules to snapshots, and remembers from one to the next what they saw.

Every snapshot taken is looked at. The watchdog makes sure that one is taken every few seconds.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from loopwatch._agent_records import Finding, Severity, Snapshot
from loopwatch._clock import Clock
from loopwatch._collectors.leaks.budget import Budget
from loopwatch._events import FindingChange, Found
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch._settings import Settings
from loopwatch._store.outbox import Outbox

from .course import EVERY
from .history import History
from .ranking import ranked
from .rule import Rule, View
from .sightings import Key, Sightings
from .silence import Silence
from .telling import Telling

COMPONENT = "rules"
"""The component under which failures of rules are counted."""
SHARE = 0.002
"""Share of a core that the watchdog's looks may use. A look takes some 0.4 ms, in an idle process as well as
with 100,000 tasks, and 2 ms more with as many stalls and losses as are kept, whatever their culprits."""


class Findings:
    """The current findings. Any thread."""

    def __init__(
        self, rules: Iterable[Rule], settings: Settings, outbox: Outbox, clock: Clock, journal: Journal
    ) -> None:
        self._silence = Silence(settings.ignore, settings.allow)
        self._rules = self._silence.heard(rules)
        self._telling = Telling(outbox, clock, journal)
        self._clock = clock
        self._journal = journal
        self.clear()

    def clear(self) -> None:
        """Start afresh, in a forked child."""
        self._telling.clear()
        self._history = History(self._clock.monotonic())
        self._sightings = [Sightings(rule) for rule in self._rules]
        self._held: tuple[Finding, ...] = ()
        self._labels: dict[tuple[str, Severity], None] = dict.fromkeys(
            (rule.id, rule.severity) for rule in self._rules
        )
        self._budget = Budget(SHARE, self._clock)
        self._look_at = -math.inf
        self._looking = threading.Lock()

    @property
    def log_suppressed(self) -> int:
        """Lines withheld since the start."""
        return self._telling.log_suppressed

    def look(self, snapshot: Callable[[], object]) -> None:
        """Take a snapshot, if it is time. A watchdog chore."""
        now = self._clock.monotonic()
        if now >= self._look_at and self._budget.allows:
            self._look_at = now + EVERY
            with self._budget.spending():
                snapshot()

    def end(self) -> None:
        """Log at the end how many findings were never logged."""
        self._telling.end()

    def seen_in(self, snapshot: Snapshot) -> Snapshot:
        """Look at ``snapshot``, and return it with the findings.

        While another thread looks, these are the ones it saw last: nobody waits here. Raises nothing.
        """
        if self._looking.acquire(blocking=False):
            try:
                self._look(snapshot)
            except Exception as error:  # noqa: BLE001 - counted; the snapshot itself is still good
                self._journal.failure(COMPONENT, error)
            finally:
                self._looking.release()
        held = self._held
        points = {**snapshot.points, "finding_count": self._counts(held)}
        return replace(snapshot, findings=held, points=points)

    def _look(self, snapshot: Snapshot) -> None:
        now, wall = self._clock.monotonic(), snapshot.taken_at
        view = View(snapshot, self._history.before(snapshot, now))
        changes: dict[tuple[str, Key], FindingChange] = {}
        over: list[Found] = []
        for sightings in self._sightings.copy():
            seen = self._asked(sightings, view, now, wall)
            if seen is None:
                self._sightings.remove(sightings)
                continue
            for key, change in seen.items():
                changes[sightings.rule.id, key] = change
                if change == "over":
                    if sightings.raised(key):
                        over.append(Found(sightings.finding(key), change, wall))
                    sightings.forget(key)
        self._history.keep(snapshot, now)
        self._held = ranked(finding for sightings in self._sightings for finding in sightings.findings())
        changed = [(one, changes.get((one.rule, one.key))) for one in self._held]
        self._telling.tell([Found(one, change, wall) for one, change in changed if change is not None], over)

    def _asked(
        self, sightings: Sightings, view: View, now: float, wall: float
    ) -> dict[Key, FindingChange] | None:
        """Return what has changed in what a rule sees; None if it fails: it is then not asked again."""
        rule = sightings.rule
        try:
            heard = [symptom for symptom in rule.look(view) if not self._silence.covers(symptom)]
            return sightings.take(heard, now, wall)
        except Exception as error:  # noqa: BLE001 - counted; the other rules are still asked
            self._journal.failure(COMPONENT, error)
            self._telling.switched_off(rule, error)
            return None

    def _counts(self, held: Iterable[Finding]) -> tuple[Point, ...]:
        """Return the number of findings, by rule and severity; a series once there stays, at 0."""
        counts: Counter[tuple[str, Severity]] = Counter()
        for finding in held:
            counts[finding.rule, finding.severity] += 1 + finding.more
        self._labels |= dict.fromkeys(counts)
        return tuple(Point(labels, float(counts[labels])) for labels in self._labels.copy())
