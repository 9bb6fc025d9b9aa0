"""Attaches the trace of a stall to what was observed of it: its duration, and the delay of a late beat."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from loopwatch._agent_records import Stall
from loopwatch._clock import Clock
from loopwatch._measures import Exemplar
from loopwatch._store.loop_state import ENDED_LIMIT, LoopState

SAMPLED = 1
"""The trace flag without which a trace was not recorded, so that its id would lead nowhere."""


class Exemplars:
    """Makes the exemplars of one loop. Watchdog thread."""

    def __init__(self, state: LoopState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._traced: deque[tuple[float, float, Stall]] = deque(maxlen=ENDED_LIMIT)
        """The last stalls with a trace, each with its start and end in monotonic time. A beat that one of
        them delayed may run only after the watchdog has looked."""

    def of_stall(self, end: float, stall: Stall) -> None:
        """Note a stall that is over, once its duration has been observed."""
        exemplar = self._exemplar(stall, stall.duration, end)
        if exemplar is not None:
            self._traced.append((end - stall.duration, end, stall))
            self._state.block_duration.exemplify(exemplar)

    def of_beats(self, beats: Iterable[tuple[float, float]]) -> None:
        """Attribute each late beat to the stall that makes up most of its delay. The exemplar's value is the
        observed delay, which is shorter than the stall, since the beat fell due within it."""
        for at, late in beats:
            for began, ended, stall in self._traced:
                if min(ended, at) - max(began, at - late) > late / 2:
                    exemplar = self._exemplar(stall, late, at)
                    if exemplar is not None:
                        self._state.delay.exemplify(exemplar)

    def _exemplar(self, stall: Stall, value: float, at: float) -> Exemplar | None:
        if stall.trace_id is None or stall.span_id is None or not (stall.trace_flags or 0) & SAMPLED:
            return None
        return Exemplar(value, self._clock.wall_at(at), stall.trace_id, stall.span_id)
