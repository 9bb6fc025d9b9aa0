"""Tasks that live much longer than is usual at their site, unlike those delayed by a burst or an outage.

A backlog is worked off, its oldest tasks first. A leak is recognised by its oldest tasks staying while others
join them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

from loopwatch._internals.futures import living
from loopwatch._measures import Distribution
from loopwatch._store.sites import Site
from loopwatch._store.tasks import LiveTask
from loopwatch.facts import TASK_BUCKETS

PAST = 100
"""Ended tasks of a site from which its durations show what is usual."""
TIMES = 3.0
"""Factor by which a task's age must exceed their 99th percentile to be over age."""
MANY = 10
"""Tasks of one coroutine that must be over age, or have been before: fewer may have their reasons."""
PATIENCE = 30.0
"""Seconds for which the same ones must stay: what 50 tasks at one a second leave, if the last counts too."""

_started = attrgetter("started")


@dataclass(slots=True)
class _Suspicion:
    """The suspicion that the tasks of one coroutine at one site leak."""

    since: float
    oldest: Sequence[LiveTask]
    """The first ``MANY`` that were over age."""
    count: int
    """How many were over age."""
    confirmed: bool = False

    def look(self, crowd: Sequence[LiveTask], now: float) -> None:
        grown = len(crowd) >= self.count + MANY
        self.confirmed = self.confirmed or (grown and now - self.since >= PATIENCE)


class Overage:
    """Follows the sites of one loop. ``may_last`` tells whether a task visibly has a reason to live on."""

    def __init__(self, may_last: Callable[[LiveTask], bool]) -> None:
        self._may_last = may_last
        self._suspicions: dict[tuple[Site, str], _Suspicion] = {}
        self._excused: dict[int, float] = {}
        """Until when those with a reason are not asked again, by record id: until twice their age."""

    def look(self, sites: Iterable[Site], live: Sequence[LiveTask], now: float) -> list[LiveTask]:
        """Return the tasks that leak, for as long as they do. ``live``: records of the loop, oldest first."""
        crowds = _crowds(sites, live, now)
        self._forget(crowds.values())
        suspicions, self._suspicions = self._suspicions, {}
        leaking: list[LiveTask] = []
        for key, crowd in crowds.items():
            staying = self._without_reason(crowd, now)
            suspicion = suspicions.get(key)
            if suspicion is None or not all(map(_lives, suspicion.oldest)):
                suspicion = _Suspicion(now, tuple(islice(staying, MANY)), len(crowd))
            if len(suspicion.oldest) == MANY:
                self._suspicions[key] = suspicion
                suspicion.look(crowd, now)
                leaking += staying if suspicion.confirmed else ()
        return leaking

    def _without_reason(self, crowd: Iterable[LiveTask], now: float) -> Iterator[LiveTask]:
        for record in crowd:
            if record.lost is not None:
                yield record
            elif self._excused.get(id(record), 0.0) < now:
                if self._may_last(record):
                    self._excused[id(record)] = now + (now - record.started)
                else:
                    yield record

    def _forget(self, crowds: Iterable[Iterable[LiveTask]]) -> None:
        """Forget those that are gone: others may get their ids."""
        known = self._excused
        present = (id(record) for crowd in crowds for record in crowd)
        self._excused = {key: known[key] for key in present if key in known}


def usual_p99(site: Site) -> float | None:
    """Return the 99th percentile of task durations at a site; None when few tasks have ended."""
    durations = Distribution(TASK_BUCKETS, site.buckets, site.total)
    return durations.quantile(0.99) if durations.count >= PAST else None


def longest_usual(site: Site) -> float:
    """Return a duration that fewer than ``MANY`` tasks of a site exceeded."""
    longer = 0
    for bound, count in zip(reversed((*TASK_BUCKETS, math.inf)), reversed(site.buckets), strict=True):
        longer += count
        if longer >= MANY:
            return bound
    return 0.0


def _crowds(
    sites: Iterable[Site], live: Sequence[LiveTask], now: float
) -> dict[tuple[Site, str], list[LiveTask]]:
    """Return the many that are over age, by site and coroutine: a helper may create all kinds."""
    limits = {
        site: max(TIMES * p99, longest_usual(site))
        for site in sites
        if site.live >= MANY and (p99 := usual_p99(site)) is not None
    }
    if not limits:
        return {}
    crowds: dict[tuple[Site, str], list[LiveTask]] = {}
    for record in live[: bisect_left(live, now - min(limits.values()), key=_started)]:
        told_otherwise = record.lost is not None and record.lost.leak != "overage"
        if now - record.started > limits.get(record.site, math.inf) and not told_otherwise and _lives(record):
            crowds.setdefault((record.site, record.coroutine), []).append(record)
    return {key: crowd for key, crowd in crowds.items() if len(crowd) >= MANY}


def _lives(record: LiveTask) -> bool:
    return living(record) is not None
