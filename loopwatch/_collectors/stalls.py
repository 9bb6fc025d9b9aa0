"""The stalls that are over, those in progress, and the time lost in all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from loopwatch._agent_records import Stall
from loopwatch._measures import Measure
from loopwatch._store.loop_state import LoopStates
from loopwatch._store.stall_log import StallLog
from loopwatch.facts import OTHER


class Stalls:
    """Reads the stalls of all loops. Any thread."""

    def __init__(self, states: LoopStates, log: StallLog, in_progress: Callable[[], Iterable[Stall]]) -> None:
        self._states = states
        self._log = log
        self._in_progress = in_progress

    def records(self) -> tuple[Stall, ...]:
        """Return the stalls kept, oldest first, and after them those in progress."""
        over = self._log.last()  # first: one that ends meanwhile must not show twice
        return (*over, *self._in_progress())

    def measures(self, now: float) -> Iterator[Measure]:
        """Yield the facts about stalls that are over."""
        for state in self._states.all():
            yield "block_duration", (state.name,), state.block_duration.read()
            for cause, totals in state.block_time.copy().items():
                for function, seconds in totals.items():
                    yield "block_time", (state.name, function, cause), seconds
                if totals.other:
                    yield "block_time", (state.name, OTHER, cause), totals.other
