"""Fetches documents again and again, on a thread of its own: keys work while a target does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from loopwatch._cli.target import NoAnswerError, Target
from loopwatch._clock import SYSTEM, Clock
from loopwatch._document import Document


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of one question."""

    at: float
    """In monotonic time."""
    document: Document | None
    problem: str | None
    """Why there is no document."""


class Fetching:
    """Asks ``target`` every so many seconds, and calls ``arrived`` on its thread after each answer."""

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
        """Ask no more. Does not wait for an answer that is due."""
        self._ended = True
        self._now.set()

    def _run(self) -> None:
        while not self._ended:
            began = self._clock.monotonic()
            self.latest = self._fetch()
            self._arrived()
            self._now.wait(max(0.0, began + self._every - self._clock.monotonic()))
            self._now.clear()

    def _fetch(self) -> Fetched:
        try:
            document = self._target.fetch(self.worker)
        except NoAnswerError as error:
            return Fetched(self._clock.monotonic(), None, str(error))
        return Fetched(self._clock.monotonic(), document, None)
