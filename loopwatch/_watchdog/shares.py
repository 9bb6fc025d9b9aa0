"""How much of its time a loop without a selector is active: an estimate.

A look that has to wait for the GIL gets it when the loop's thread lets go, which is when that thread starts
waiting for events: all short steps would be missed. So the time that the thread computed, or was queued for a
CPU, is taken from its clocks. The rest is divided according to looks that did not have to wait: does the
thread block without computing, or is it idle?
"""

from __future__ import annotations

from loopwatch._store.loop_state import LoopState

from .evidence import Reading

MEMORY = 0.1
"""Seconds, more or less, that are divided by what was seen in them: looks that did not wait can be rare."""


class Shares:
    """Writes the active and the idle time of one loop. Watchdog thread."""

    def __init__(self, state: LoopState) -> None:
        self._state = state
        self._run: float | None = None
        self._seen: tuple[float, bool, bool] | None = None
        self._at = self._cpu = self._process_cpu = self._queued = self._blocks = 0.0

    def see(self, at: float, *, is_busy: bool, waited: bool) -> None:
        """Note a look: whether it shows a callback, and whether it had to wait for the GIL."""
        self._seen = at, is_busy, waited

    def add(self, reading: Reading, queued: float) -> None:
        """Account for the time up to a reading of the clocks that follows a look.

        ``queued`` is how many seconds the thread was queued for a CPU since that was last read, which happens
        less often.
        """
        seen, self._seen = self._seen, None
        state, run = self._state, self._state.entered_at
        if seen is None or run is None:
            return
        looked_at, is_busy, waited = seen
        if run != self._run:
            self._run = self._at = run
            self._cpu, self._process_cpu = state.cpu_time_at_enter, reading.process_cpu
            self._queued = self._blocks = 0.0
        elapsed, self._at = max(0.0, reading.at - self._at), reading.at
        process, self._process_cpu = reading.process_cpu - self._process_cpu, reading.process_cpu
        computed, cpu = 0.0, reading.thread_cpu
        if cpu is not None:
            computed, self._cpu = min(max(0.0, cpu - self._cpu), elapsed), cpu
        rest = elapsed - computed
        # A look that waited, maybe for another thread, counts only if others computed more than this one, or
        # if its clock is unknown. A look taken after the reading, while files were read, belongs to the next.
        if looked_at <= reading.at and (not waited or cpu is None or process - computed > computed):
            self._blocks += (is_busy - self._blocks) * min(1.0, rest / MEMORY)
        self._queued += queued
        in_queue = min(rest, self._queued)
        self._queued = min(self._queued - in_queue, MEMORY)
        active = computed + in_queue + (rest - in_queue) * self._blocks
        state.active_time += active
        state.idle_time += elapsed - active
