"""Makes losses of the tasks that fell, once the loop's thread has booked them."""

from __future__ import annotations

import logging
from collections import deque

from loopwatch._clock import Clock
from loopwatch._context.handover import LostContext, LostContexts
from loopwatch._context.reader import ContextReader
from loopwatch._journal import Journal
from loopwatch._places import Place, shape
from loopwatch._records import Lost
from loopwatch._store.loop_state import LoopStates
from loopwatch._store.lost_log import LostLog
from loopwatch._store.tasks import Fall, LiveTask
from loopwatch._store.watched import Values

from .code_owner import CodeOwner

SENTENCES = {
    "destroyed_pending": "was garbage-collected while pending, since nothing held a reference to it",
    "unretrieved_exception": "died of {error}, and nobody asked for the exception",
    "never_awaited": "was never awaited",
    "unreferenced": "is held by nothing and may be garbage-collected any time; it waits for {waiting_on}",
    "leaked": "will not finish: it waits for {waiting_on}",
    "deadlock": "waits for itself, through others: {waiting_on}",
    "context_lost": "runs without {missing}, which the code that handed it over had",
}


class LostTasks:
    """Tells of each lost task once. The watchdog's thread."""

    def __init__(
        self,
        states: LoopStates,
        dropped: deque[tuple[str, Place, Values | None]],
        lost_contexts: LostContexts,
        owner: CodeOwner,
        log: LostLog,
        contexts: ContextReader,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self._states = states
        self._dropped = dropped
        self._lost_contexts = lost_contexts
        self._owner = owner
        self._log = log
        self._contexts = contexts
        self._clock = clock
        self._journal = journal

    def collect(self) -> None:
        """Tell of those that fell since the last time."""
        for state in self._states.all():
            fallen = state.tasks.fallen
            if not state.running:
                state.tasks.settle()  # no heartbeat does
            while fallen:
                self.tell(self._of_task(fallen.popleft()))
        while self._dropped:
            self.tell(self._of_coroutine(*self._dropped.popleft()))
        while self._lost_contexts.waiting:
            lost = self._of_context(self._lost_contexts.waiting.popleft())
            if lost is not None:
                self.tell(lost)

    def tell(self, lost: Lost) -> None:
        """Keep and log one loss."""
        self._log.add(lost)
        self._journal.say(
            logging.ERROR if lost.reason == "unretrieved_exception" else logging.WARNING,
            "loopwatch: %s",
            sentence(lost),
        )

    def _of_task(self, record: LiveTask) -> Lost:
        fall, site = record.fall or Fall("destroyed_pending", (), None, record.context, None), record.site
        context = self._contexts.shape(fall.context)
        return Lost(
            reason=fall.reason,
            site=shape((site.code, site.offset, site.module)),
            coroutine=record.coroutine,
            age=self._clock.monotonic() - record.started,
            lost_at=self._clock.wall(),
            exception=fall.error,
            context=context.values,
            trace_id=context.trace_id,
            span_id=context.span_id,
            await_stack=tuple(shape(place) for place in fall.stack),
            waiting_on=fall.waiting_on,
            evidence={},
        )

    def _of_coroutine(self, coroutine: str, place: Place, values: Values | None) -> Lost:
        context = self._contexts.shape(values)
        return Lost(
            reason="never_awaited",
            site=shape(place),
            coroutine=coroutine,
            age=0.0,
            lost_at=self._clock.wall(),
            exception=None,
            context=context.values,
            trace_id=context.trace_id,
            span_id=context.span_id,
            await_stack=(),
            waiting_on=None,
            evidence={},
        )

    def _of_context(self, lost: LostContext) -> Lost | None:
        handed = lost.handed
        site = shape(handed.site)
        if handed.through_queue and self._owner.of(site.file, site.module) != "app":
            return None  # pools keep their connections in queues: what comes out is nobody's work
        context = self._contexts.shape(handed.values)
        return Lost(
            reason="context_lost",
            site=site,
            coroutine=lost.work,
            age=self._clock.monotonic() - handed.time,
            lost_at=self._clock.wall(),
            exception=None,
            context=context.values,
            trace_id=context.trace_id,
            span_id=context.span_id,
            await_stack=(shape(lost.place),),
            waiting_on=None,
            evidence={},
            missing=lost.missing,
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
