"""What was lost: tasks, exceptions, contexts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from loopwatch._context.handover import LostContexts
from loopwatch._records import LeakReason, Lost, LostReason, Measure
from loopwatch._store.loop_state import LoopStates
from loopwatch._store.lost_log import LostLog

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
        untold = sum((state.tasks.untold for state in self._states.all()), Counter[LostReason]())
        for reason in LOST_REASONS:
            yield "task_lost", (reason,), self._log.reasons[reason] + untold[reason]
        for leak in LEAK_REASONS:
            yield "task_leaked", (leak,), self._log.leaked.get(leak, 0)
        for error, count in list(self._log.unretrieved.items()):
            yield "unretrieved_exceptions", (error,), count
        for function, works in self._lost_contexts.by_function().items():
            yield "task_context_lost", (function,), works
