"""Whose turn it is to be looked at: tasks at the age of 1, 2, 4, 8 ... seconds.

Most tasks are gone by the first of these ages. Tasks never looked at come first, then those to be looked at
again; and each site has its turn, or one with thousands of tasks would keep all others waiting.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from operator import attrgetter

from loopwatch._store.sites import Site
from loopwatch._store.tasks import LiveTask

AGES = tuple(2.0**power for power in range(24))
"""Seconds: up to a hundred days."""
WAITING = 10_000
"""Tasks that may wait for their turn. Further ones come at twice the age."""

_started = attrgetter("started")


class Turns:
    """The tasks that have reached one of these ages and were not looked at since."""

    def __init__(self) -> None:
        self._first = _Queue()
        self._again = _Queue()

    def fall_due(self, live: Sequence[LiveTask], since: float, now: float) -> None:
        """Queue those of one loop, oldest first, that reached an age after ``since``.

        Eager tasks may be out of order by the length of a step: such a task is then queued at its next age.
        """
        queue = self._first
        for age in AGES:
            until = bisect_right(live, now - age, key=_started)
            if not until:
                return
            queue.add(live[bisect_right(live, since - age, key=_started) : until])
            queue = self._again

    def next(self) -> LiveTask | None:
        """Return the task whose turn it is; None when all have had theirs."""
        return self._first.next() or self._again.next()


class _Queue:
    """Records by site. Of one site the oldest, which have outlived most others, come first."""

    def __init__(self) -> None:
        self._by_site: dict[Site, deque[LiveTask]] = {}
        self._length = 0

    def add(self, records: Iterable[LiveTask]) -> None:
        for record in records:
            if self._length < WAITING:
                self._by_site.setdefault(record.site, deque()).append(record)
                self._length += 1

    def next(self) -> LiveTask | None:
        while self._by_site:
            site = next(iter(self._by_site))
            records = self._by_site.pop(site)
            record = records.popleft()
            self._length -= 1
            if records:
                self._by_site[site] = records  # behind all other sites
            if record() is not None:
                return record
        return None
