"""Probe of the garbage collector: a collection on any thread stops every loop of the process."""

from __future__ import annotations

import gc

from loopwatch._clock import Clock
from loopwatch._journal import Journal
from loopwatch._store.cells import Histogram
from loopwatch._store.loop_state import LoopStates
from loopwatch._store.pauses import Pauses
from loopwatch._store.unread import Unread

from .last_look import LastLook

FULL = 2
"""The generation whose collection includes all others."""


class GcProbe:
    """Times collections by ``gc.callbacks``. Collections never overlap, so one start time is enough."""

    def __init__(
        self, states: LoopStates, pauses: Pauses, clock: Clock, journal: Journal, unread: Unread
    ) -> None:
        self._states = states
        self._last_look = LastLook(states, unread)
        self._pauses = pauses
        self._monotonic = clock.monotonic
        self._journal = journal

    def install(self) -> None:
        """Begin listening."""
        gc.callbacks.append(self._on_gc)

    def remove(self) -> None:
        """Stop listening."""
        if self._on_gc in gc.callbacks:
            gc.callbacks.remove(self._on_gc)
        self._pauses.running_since = None

    def check(self) -> None:
        """Check whether the program has removed our callback, maybe in the middle of a collection.

        We would then never see that collection end, and lost tasks wait for its end.
        """
        if self._pauses.running_since is not None and self._on_gc not in gc.callbacks:
            self._pauses.running_since = None

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        try:
            if phase == "start":
                self._pauses.running_since = self._monotonic()
                if info.get("generation") == FULL:
                    self._last_look.take()
            else:
                self._end(info["generation"])
        except Exception as error:  # noqa: BLE001 - set aside, like every probe that fails
            self.remove()
            self._journal.failure("gc", error)

    def _end(self, generation: int) -> None:
        started = self._pauses.running_since
        if started is None:  # installed while this collection ran
            return
        now = self._monotonic()
        self._pauses.end(started, now)
        for state in self._states.all():
            if state.running:
                pauses = state.gc_pause.get(generation)
                if pauses is None:
                    pauses = state.gc_pause[generation] = Histogram()
                pauses.observe(now - started)
