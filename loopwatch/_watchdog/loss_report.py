"""From what was found of a loss to its record and its log line."""

from __future__ import annotations

import logging

from loopwatch._clock import Clock
from loopwatch._context.reader import ContextReader
from loopwatch._journal import Journal
from loopwatch._places import shape
from loopwatch._records import Lost
from loopwatch._store.lost_log import Loss, LostLog

SENTENCES = {
    "destroyed_pending": "was garbage-collected while pending, since nothing held a reference to it",
    "unretrieved_exception": "died of {error}, and nobody asked for the exception",
    "never_awaited": "was never awaited",
    "unreferenced": "is held by nothing and may be garbage-collected any time; it waits for {waiting_on}",
    "leaked": "will not finish: it waits for {waiting_on}",
    "deadlock": "waits for itself, through others: {waiting_on}",
    "context_lost": "runs without {missing}, which the code that handed it over had",
}


class LossReport:
    """Keeps each loss, and logs one line for it. The watchdog's thread."""

    def __init__(self, log: LostLog, contexts: ContextReader, clock: Clock, journal: Journal) -> None:
        self._log = log
        self._contexts = contexts
        self._clock = clock
        self._journal = journal

    def tell(self, loss: Loss) -> None:
        """Keep and log one loss."""
        lost = self._shaped(loss)
        self._log.add(lost)
        level = logging.ERROR if lost.reason == "unretrieved_exception" else logging.WARNING
        self._journal.say(level, "loopwatch: %s", sentence(lost))

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
            await_stack=tuple(shape(place) for place in loss.stack),
            waiting_on=loss.waiting_on,
            evidence=loss.evidence,
            missing=loss.missing,
        )


def sentence(lost: Lost) -> str:
    """Say a loss in one line: what, who made it, for whom."""
    what = SENTENCES[lost.reason].format(
        error=lost.exception,
        waiting_on=lost.waiting_on or "nothing known",
        missing=" and ".join(lost.missing),
    )
    context = "".join(f"; {name}={value}" for name, value in lost.context.items())
    trace = f"; trace {lost.trace_id}" if lost.trace_id else ""
    if lost.reason == "never_awaited":
        return f"coroutine {lost.coroutine}, dropped by {lost.site}, {what}{context}{trace}"
    if lost.reason == "context_lost":
        where = f"{lost.coroutine}, handed over by {lost.site}, seen at {lost.await_stack[0]}"
        return f"work of {where}, {what}{context}{trace}"
    return f"task {lost.coroutine}, created {lost.age:.1f} s ago by {lost.site}, {what}{context}{trace}"
