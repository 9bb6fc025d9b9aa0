"""What was lost: tasks, exceptions, contexts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from loopwatch._agent_records import LeakReason, Lost, LostReason
from loopwatch._context.lost_contexts import LostContexts
from loopwatch._measures import Measure
from loopwatch._store.loop_state import LoopStates
from loopwatch._store.lost_log import LostLog
from loopwatch.facts import OTHER, TOP

LOST_REASONS: tuple[LostReason, ...] = get_args(LostReason)
LEAK_REASONS: tuple[LeakReason, ...] = get_args(LeakReason)


class Losses:
    """Reads what was lost in all loops. Any thread."""

    def __init__(self, states: LoopStates, log: LostLog, lost_contexts: LostContexts) -> None:
        self._states = states
        self._log = log
        self._lost_contexts = lost_contexts

    def records(self) -> tuple[Lost, ...]:
        """Return the losses kept, oldest first."""
        return self._log.last()

    def measures(self, now: float) -> Iterator[Measure]:
        """Yield the facts about losses."""
        untold = self._untold()
        for reason in LOST_REASONS:
            further = sum(count for (other, _), count in untold.items() if other == reason)
            yield "task_lost", (reason,), self._log.reasons[reason] + further
        for leak in LEAK_REASONS:
            yield "task_leaked", (leak,), self._log.leaked.get(leak, 0)
        for error, count in self._unretrieved(untold).items():
            yield "unretrieved_exceptions", (error,), count
        for function, works in self._lost_contexts.by_function().items():
            yield "task_context_lost", (function,), works

    def _untold(self) -> Counter[tuple[LostReason, str | None]]:
        """Return how many lost tasks were counted but never reported."""
        untold: Counter[tuple[LostReason, str | None]] = Counter()
        for state in self._states.all():
            untold.update(state.tasks.untold.copy())  # any thread may count meanwhile
        return untold

    def _unretrieved(self, untold: Counter[tuple[LostReason, str | None]]) -> Counter[str]:
        """Count exceptions by type. If a type is yet to be reported, its first exception is in the queue."""
        told = self._log.unretrieved.copy()
        known = set(told)
        for (reason, error), count in untold.items():
            if reason == "unretrieved_exception" and (error in known or len(known) >= TOP):
                told[error if error is not None and error in known else OTHER] += count
        return told
