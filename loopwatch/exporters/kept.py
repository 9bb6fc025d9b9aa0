"""Renderings made ahead on the watchdog thread, so that reading them costs the reader next to nothing.

A program that serves its metrics itself usually does so in its event loop, where rendering them takes a few
milliseconds and would be a small stall of our making.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from prometheus_client import Metric

from loopwatch._agent_records import Snapshot
from loopwatch._clock import SYSTEM, Clock
from loopwatch._journal import Journal

from .answer import Answer
from .exposition import OPENMETRICS, TEXT, answer
from .prometheus import SnapshotCollector, registry_of

WANTED = 180.0
"""Seconds for which a rendering is renewed after it was last read: longer than any usual scrape interval."""
FRESH = 5.0
"""Seconds after which a kept rendering is no longer returned."""
LEAD = 2.0
"""Seconds before the next read is due from which the rendering is renewed, once a second. Not earlier, since
each rendering holds the GIL for a few milliseconds, which the loop feels too."""

T = TypeVar("T")


class Kept(Generic[T]):
    """The last value of ``make``, renewed by ``refresh()`` for as long as somebody reads it.

    Read and refreshed on different threads without a lock: values that belong together are replaced as one.
    """

    def __init__(self, make: Callable[[], T], clock: Clock = SYSTEM) -> None:
        self._make = make
        self._now = clock.monotonic
        self._read_at = -math.inf
        self._pauses: tuple[float, ...] = ()
        """Between the last reads; the shortest tells when the next is due, with one scraper or a few."""
        self._made: tuple[float, T] | None = None

    def read(self) -> T:
        """Return the kept value; makes one here and now if there is none, or none fresh enough.

        That happens at the first read, at the first one after a long pause, and if the watchdog is gone.
        """
        now = self._now()
        if self._read_at > -math.inf:
            self._pauses = (*self._pauses[-3:], now - self._read_at)
        self._read_at = now
        made = self._made
        if made is None or now - made[0] > FRESH:
            return self._renew(now)
        return made[1]

    def refresh(self) -> None:
        """Renew the value if somebody is about to read it. For the watchdog, about once a second."""
        now = self._now()
        if min(self._pauses, default=0.0) - LEAD <= now - self._read_at <= WANTED:
            self._renew(now)

    def _renew(self, now: float) -> T:
        value = self._make()
        self._made = (now, value)
        return value


class KeptCollector:
    """A collector for the program's own registry, and texts for its own service, both kept ready."""

    def __init__(self, source: Callable[[], Snapshot], journal: Journal, clock: Clock = SYSTEM) -> None:
        self._journal = journal
        self.withheld = False
        """Whether its registry gets all of this in another way."""
        self._collector = SnapshotCollector(source, journal)
        self._families = Kept(self._collector.collect, clock)
        registry = registry_of(self._collector)
        self._texts = {form: Kept(partial(form.write, registry), clock) for form in (TEXT, OPENMETRICS)}

    def describe(self) -> list[Metric]:
        """Return the families, so that registering the collector takes no snapshot."""
        return self._collector.describe()

    def collect(self) -> list[Metric]:
        """Return the kept families; none while they are withheld. Never raises."""
        return [] if self.withheld else self._families.read()

    def answer(self, method: str, accept: str) -> Answer:
        """Answer a scrape with the kept text, the same that loopwatch's endpoint serves."""
        return answer(method, accept, lambda form: self._texts[form].read(), self._journal)

    def refresh(self) -> None:
        """Renew the renderings that are about to be read."""
        self._families.refresh()
        for text in self._texts.values():
            text.refresh()
