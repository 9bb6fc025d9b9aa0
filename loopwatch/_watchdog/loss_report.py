"""Turns what was found of a loss into its record and its log line."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from loopwatch._agent_records import Lost
from loopwatch._clock import Clock
from loopwatch._context.reader import ContextReader
from loopwatch._journal import Journal, PacedLog, work_of
from loopwatch._places import shape
from loopwatch._records import Frame
from loopwatch._store.lost_log import Loss, LostLog
from loopwatch._store.outbox import Outbox
from loopwatch._words import of_whom

from .code_owner import CodeOwner
from .culprit import find

KINDS = 1000
"""Kinds of losses told apart: more than a program has, but code may be generated without end."""
MEMBERS = 5
"""Tasks of a deadlock that its log line names."""

SENTENCES = {
    "destroyed_pending": "was garbage-collected while pending, since nothing held a reference to it",
    "unretrieved_exception": "died of {exception}, and nobody asked for the exception",
    "unreferenced": "is held by nothing and may be garbage-collected any time",
    "deadlock": "is in a deadlock",
    "never_wakes": "will not finish: nothing can wake it",
    "cancel_only": "will not finish: only a cancellation would end it; {piled_up:.0f} such tasks piled up",
    "site_growth": "does not seem to finish: what is created there grows in number and none ends",
    "overage": "does not seem to finish: others created there take no more than {usual_p99_s:.3g} s",
}
"""What a log line says of a task, by reason; of a leak, by how it was found."""


class LossReport(PacedLog):
    """Keeps each loss, has it exported, and logs a line for the first, second, fourth, eighth ... of a kind.

    Watchdog thread.
    """

    def __init__(
        self,
        log: LostLog,
        contexts: ContextReader,
        owner: CodeOwner,
        outbox: Outbox,
        clock: Clock,
        journal: Journal,
    ) -> None:
        super().__init__("losses", clock, journal)
        self._lost_log = log
        self._outbox = outbox
        self._contexts = contexts
        self._owner = owner
        self._clock = clock
        self._told: Counter[tuple[object, ...]] = Counter()

    def clear(self) -> None:
        """Start afresh: in a forked child."""
        super().clear()
        self._told.clear()

    def tell(self, loss: Loss, instead_of: Lost | None = None) -> Lost:
        """Keep and log one loss; ``instead_of`` is an earlier report of the same task, which it replaces."""
        lost = self._shaped(loss)
        self._lost_log.add(lost, instead_of)
        self._outbox.put(lost)
        self._say(lost, self._sentence(loss, lost))
        return lost

    def tell_deadlock(self, losses: Sequence[Loss]) -> list[Lost]:
        """Keep the tasks of a deadlock, each before the one it waits for, and log one line for all."""
        told = [self._shaped(loss) for loss in losses]
        for lost in told:
            self._lost_log.add(lost)
            self._outbox.put(lost)
        sentences = [self._sentence(loss, lost) for loss, lost in zip(losses, told, strict=True)]
        more = f"; and {len(told) - MEMBERS} more tasks" if len(told) > MEMBERS else ""
        self._say(told[0], "; ".join(sentences[:MEMBERS]) + more)
        return told

    def _say(self, lost: Lost, sentence: str) -> None:
        kind = (lost.reason, lost.site, lost.exception)
        number = 1
        if kind in self._told or len(self._told) < KINDS:
            self._told[kind] += 1
            number = self._told[kind]
        if number & (number - 1):  # neither 1 nor 2 nor 4 ...
            self.withhold()
            return
        so_far = f"; it is number {number} from there" if number > 1 else ""
        level = logging.ERROR if lost.reason == "unretrieved_exception" else logging.WARNING
        self.log(level, sentence + so_far, work_of(lost))

    def _sentence(self, loss: Loss, lost: Lost) -> str:
        place = find(reversed(loss.stack), self._owner) or (loss.stack[-1] if loss.stack else None)
        return sentence(lost, None if place is None else shape(place), seen=loss.site[1] > 0)

    def _shaped(self, loss: Loss) -> Lost:
        context = self._contexts.shape(loss.values)
        return Lost(
            reason=loss.reason,
            site=shape(loss.site),
            coroutine=loss.coroutine,
            age=0.0 if loss.since is None else self._clock.monotonic() - loss.since,
            lost_at=self._clock.wall(),
            exception=loss.exception,
            context=context.values,
            trace_id=context.trace_id,
            span_id=context.span_id,
            trace_flags=context.trace_flags,
            await_stack=tuple(shape(place) for place in loss.stack),
            waiting_on=loss.waiting_on,
            evidence=loss.evidence,
            missing=loss.missing,
            task_name=loss.task_name,
            leak=loss.leak,
        )


def sentence(lost: Lost, stood: Frame | None, seen: bool) -> str:
    """Describe a loss in one line: what, who made it (if that was ``seen``), where it stood, for whom."""
    whom = of_whom(lost.context, lost.trace_id)
    if lost.reason == "never_awaited":
        by = "dropped by" if seen else "which begins at"
        return f"coroutine {lost.coroutine}, {by} {lost.site}, was never awaited{whom}"
    if lost.reason == "context_lost":
        missing = " and ".join(lost.missing)
        where = f"{lost.coroutine}, handed over by {lost.site}, seen at {stood}"
        return f"work of {where}, runs without {missing}, which the code that handed it over had{whom}"
    reason = lost.leak if lost.reason == "leaked" and lost.leak else lost.reason
    what = SENTENCES[reason].format(exception=lost.exception, **lost.evidence)
    name = f"{lost.task_name!r} ({lost.coroutine})" if lost.task_name else lost.coroutine
    made = f"created {lost.age:.1f} s ago by" if seen else "which begins at"
    return f"task {name}, {made} {lost.site}, {what}; {_where(lost, stood)}{whom}"


def _where(lost: Lost, stood: Frame | None) -> str:
    if stood is None:
        return "where it stood was not seen"
    if lost.reason == "unretrieved_exception":
        return f"raised at {stood}"
    waiting = f", waiting for {lost.waiting_on}" if lost.waiting_on else ""
    return f"it {'stood' if lost.reason == 'destroyed_pending' else 'stands'} at {stood}{waiting}"
