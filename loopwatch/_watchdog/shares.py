"""How much of its time a loop without a selector is active: an estimate.

A look that has to wait for the GIL gets it when the loop's thread lets go, which is when it goes to wait for
events: short steps would all be missed. So the time that the thread computed, or was queued for a CPU, is
known from its clocks. The rest is shared out by looks that did not have to wait: does it block without
computing, or is it idle?
"""

from __future__ import annotations

from loopwatch._store.loop_state import LoopState

WAITED = 0.0005
"""Seconds of lateness from which a look may have waited for the GIL: to wake takes a fifth of it."""
MEMORY = 0.1
"""Seconds that are shared out by what was seen in them, more or less: looks that did not wait can be rare."""


class Shares:
    """Writes the active and the idle time of one loop. The watchdog's thread."""

    def __init__(self, state: LoopState) -> None:
        self._state = state
        self._run: float | None = None
        self._seen: tuple[float, bool, float] | None = None
        self._at = self._cpu = self._queued = self._blocks = 0.0

    def see(self, at: float, *, is_busy: bool, late: float) -> None:
        """Take note of a look, which came ``late`` by so many seconds."""
        self._seen = at, is_busy, late

    def add(self, at: float, cpu: float | None, queued: float) -> None:
        """After a look, account for the time up to ``at``, when the thread had computed ``cpu`` seconds.

        None if that is unknown. It was ``queued`` for a CPU for so many since that was last asked, which is
        more seldom.
        """
        seen, self._seen = self._seen, None
        state, run = self._state, self._state.entered_at
        if seen is None or run is None:
            return
        looked_at, is_busy, late = seen
        if run != self._run:
            self._run = self._at = run
            self._cpu, self._queued, self._blocks = state.cpu_time_at_enter, 0.0, 0.0
        elapsed, self._at = max(0.0, at - self._at), at
        computed = 0.0
        if cpu is not None:
            computed, self._cpu = min(max(0.0, cpu - self._cpu), elapsed), cpu
        rest = elapsed - computed
        waited = WAITED < late <= computed  # for the loop's own thread, or maybe so
        if not waited and looked_at <= at:  # else another look, while the clocks were read
            self._blocks += (is_busy - self._blocks) * min(1.0, rest / MEMORY)
        self._queued += queued
        in_queue = min(rest, self._queued)
        self._queued = min(self._queued - in_queue, MEMORY)
        active = computed + in_queue + (rest - in_queue) * self._blocks
        state.active_time += active
        state.idle_time += elapsed - active
