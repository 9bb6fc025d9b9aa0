"""How many jobs there are, and how far the shutdown is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from loopwatch._measures import Measure
from loopwatch._records import DrainReport, DrainState
from loopwatch._store.jobs import JOBS

DRAIN_STATES: tuple[DrainState, ...] = get_args(DrainState)


class JobCounts:
    """Reads the jobs and drains of all loops of the process. Any thread."""

    def __init__(self, drains: Sequence[DrainReport]) -> None:
        self._drains = drains

    def records(self) -> tuple[DrainReport, ...]:
        """Return the reports of the last drains, oldest first."""
        return tuple(self._drains)

    def measures(self, now: float) -> Iterator[Measure]:
        """Yield the facts about jobs and drains."""
        for state, count in JOBS.counts().items():
            yield "jobs", (state,), count
        for phase in DRAIN_STATES:
            yield "drain_status", (phase,), float(phase == JOBS.drain_status)
        began = JOBS.drain_began
        duration = JOBS.drain_duration if began is None else now - began
        if duration is not None:
            yield "drain_duration", (), duration
        yield "drain_finished", (), JOBS.drain_finished
        yield "drain_cancelled", (), JOBS.drain_cancelled
        yield "drain_abandoned", (), JOBS.drain_abandoned
