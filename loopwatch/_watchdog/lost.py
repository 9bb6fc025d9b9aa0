"""Collects the losses that the probes noticed: lost tasks, dropped coroutines, lost contexts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from loopwatch._context.lost_contexts import LostContext, LostContexts
from loopwatch._places import Place, Stand, shape
from loopwatch._store.loop_state import LoopStates
from loopwatch._store.lost_log import Loss
from loopwatch._store.tasks import Fall
from loopwatch._store.watched import Values

from .code_owner import CodeOwner


class LostTasks:
    """Reports each loss once. Watchdog thread."""

    def __init__(
        self,
        states: LoopStates,
        dropped: deque[tuple[str, Place, Values | None]],
        lost_contexts: LostContexts,
        owner: CodeOwner,
        tell: Callable[..., object],
    ) -> None:
        self._states = states
        self._dropped = dropped
        self._lost_contexts = lost_contexts
        self._owner = owner
        self._tell = tell

    def collect(self) -> None:
        """Report what was lost since the last call."""
        for state in self._states.all():
            if not state.running:
                state.tasks.settle()  # no heartbeat does it
            for fall in state.tasks.take_fallen():
                self._tell_task(fall)
        while self._dropped:
            coroutine, place, values = self._dropped.popleft()
            self._tell(Loss("never_awaited", place, coroutine, None, values))
        while self._lost_contexts.waiting:
            lost = self._lost_contexts.waiting.popleft()
            if not self._is_nobodys(lost):
                self._tell(_of_context(lost))

    def _tell_task(self, fall: Fall) -> None:
        """Report a lost task, unless it has already been reported, and in more detail."""
        loss, before = _of_task(fall), None if fall.record is None else fall.record.lost
        if loss.reason != "destroyed_pending" or before is None:
            self._tell(loss)
        elif before.reason == "unreferenced":  # the predicted collection has happened
            self._tell(loss, before)

    def _is_nobodys(self, lost: LostContext) -> bool:
        """Whether it is no loss: pools keep their connections in queues, and connections are not work."""
        site = shape(lost.handed.site)
        return lost.handed.through_queue and self._owner.of(site.file, site.module) != "app"


def _of_task(fall: Fall) -> Loss:
    places, waiting_on = fall.stood or Stand((), None)
    return Loss(
        reason=fall.reason,
        site=fall.site,
        coroutine=fall.coroutine,
        since=fall.started,
        values=fall.values,
        exception=fall.error,
        stack=places,
        waiting_on=waiting_on,
        task_name=fall.name,
    )


def _of_context(lost: LostContext) -> Loss:
    return Loss(
        reason="context_lost",
        site=lost.handed.site,
        coroutine=lost.work,
        since=lost.handed.time,
        values=lost.handed.values,
        stack=(lost.place,),
        missing=lost.missing,
    )
