"""The session: turns fetched documents and pressed keys into what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.text import Text

from loopwatch._clock import SYSTEM, Clock
from loopwatch._document import Document

from .fetching import Fetched
from .history import History
from .keys import keys
from .sight import Sight
from .state import State, press
from .view import draw, page_height

AGAIN = 1.0
"""Seconds until the screen is redrawn although nothing arrived, since ages rise meanwhile."""


class Screen(Protocol):
    """Where the session draws, and where the keys come from."""

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""

    def show(self, lines: Sequence[Text]) -> None:
        """Draw a screen."""

    def wait(self, seconds: float) -> str:
        """Wait for keys or for something new to draw; return what the keys sent."""


class Supply(Protocol):
    """Where documents come from."""

    worker: int | None

    @property
    def latest(self) -> Fetched | None:
        """Return the last result."""

    def at_once(self) -> None:
        """Fetch now."""


class Session:
    """One person at one terminal, looking at one target."""

    def __init__(self, target: str, supply: Supply, screen: Screen, clock: Clock = SYSTEM) -> None:
        self._target = target
        self._supply = supply
        self._screen = screen
        self._clock = clock
        self._state = State()
        self._history = History()
        self._taken: Fetched | None = None
        self._document: Document | None = None
        self._came_at = clock.monotonic()
        self._problem: str | None = None

    def run(self) -> None:
        """Draw, and act on keys, until one of them quits."""
        while True:
            self._take()
            width, height = self._screen.size
            self._screen.show(draw(self._state, self._sight(), width, height))
            for key in keys(self._screen.wait(AGAIN)):
                if self._press(key, page_height(height)) == "quit":
                    return

    def _take(self) -> None:
        """Take over the last result, unless the view is frozen."""
        fetched = self._supply.latest
        if fetched is None or fetched is self._taken or self._state.frozen:
            return
        self._taken, self._problem = fetched, fetched.problem
        if fetched.document is not None:
            self._document, self._came_at = fetched.document, fetched.at
            self._history.add(fetched.document)

    def _sight(self) -> Sight:
        age = self._clock.monotonic() - self._came_at
        return Sight(self._target, self._document, self._history, age, self._problem)

    def _press(self, key: str, height: int) -> str | None:
        self._state, wish = press(self._state, key, self._document, height)
        if wish == "worker":
            self._next_worker()
        if wish in ("worker", "fetch"):
            self._supply.at_once()
        return wish

    def _next_worker(self) -> None:
        """Switch to the worker after the one shown, or after the last to the first."""
        if self._document is None or len(self._document.workers) < 2:
            self._supply.worker = None
            return
        workers, shown = self._document.workers, self._document.process.pid
        self._supply.worker = next((pid for pid in workers if pid > shown), workers[0])
