"""Fetches documents repeatedly, on its own thread, so that keys work while a target does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from loopwatch._cli.target import NoAnswerError, Target
from loopwatch._clock import SYSTEM, Clock
from loopwatch._document import Document

GLANCE = 0.25
"""Seconds between two glances, which show a stall long before the next fetch would."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The result of one request."""

    at: float
    """Monotonic time."""
    document: Document | None
    problem: str | None
    """Why there is no document."""


class Fetching:
    """Asks ``target`` at every interval, and calls ``arrived`` on its thread after each answer."""

    def __init__(
        self, target: Target, every: float, arrived: Callable[[], object], clock: Clock = SYSTEM
    ) -> None:
        self._target = target
        self._every = every
        self._arrived = arrived
        self._clock = clock
        self._now = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="loopwatch-top", daemon=True)
        self.worker: int | None = None
        """The pid of the worker to ask; None for whichever answers."""
        self.latest: Fetched | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def at_once(self) -> None:
        """Ask now."""
        self._now.set()

    def end(self) -> None:
        """Stop asking. Does not wait for an outstanding answer."""
        self._ended = True
        self._now.set()

    def _run(self) -> None:
        while not self._ended:
            due = self._clock.monotonic() + self._every
            self.latest = self._fetch()
            self._arrived()
            while (left := due - self._clock.monotonic()) > 0 and not self._now.wait(min(GLANCE, left)):
                self._glance()
            self._now.clear()

    def _glance(self) -> None:
        """Check for a stall that has begun since the last fetch, and add nothing but that."""
        if self.latest is None or self.latest.document is None:
            return
        last = self.latest.document
        try:
            now = self._target.fetch(self.worker, brief=True)
        except NoAnswerError:  # the next fetch will report it
            return
        known = {(stall.loop_name, stall.id) for stall in last.snapshot.stalls}
        begun = [stall for stall in now.snapshot.stalls if (stall.loop_name, stall.id) not in known]
        if begun and now.process == last.process:
            stalls = (*last.snapshot.stalls, *begun)
            snapshot = replace(last.snapshot, stalls=stalls, loops=now.snapshot.loops)
            self.latest = replace(self.latest, document=replace(last, snapshot=snapshot))
            self._arrived()

    def _fetch(self) -> Fetched:
        try:
            document = self._target.fetch(self.worker)
        except NoAnswerError as error:
            return Fetched(self._clock.monotonic(), None, str(error))
        return Fetched(self._clock.monotonic(), document, None)
