"""Finds tasks that will not finish: by proof first, then by growth of a pile or a site, then by age.

Asked by the watchdog once a second, and kept to a share of a core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopwatch._agent_records import LeakReason
from loopwatch._clock import Clock
from loopwatch._collectors.await_graph import may_be_stuck
from loopwatch._collectors.references import BY_US
from loopwatch._internals.await_chain import stand_of
from loopwatch._places import Stand
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch._store.tasks import LiveTask
from loopwatch._store.unread import Unread

from .budget import Budget
from .found import Found
from .overage import usual_p99
from .standstill import Standstill
from .suspects import Suspects

SHARE = 0.005
"""Share of a core that the search may use: half of it for deadlocks."""
ROUND = 0.0025
"""Seconds of CPU time after which looking at single tasks stops, to go on in the next round."""
STANDS = 1_000
"""Remembered descriptions of where tasks stand, so that tasks at the same place share one."""


class LeakFinder:
    """Looks for leaked, unreferenced and deadlocked tasks. Watchdog thread."""

    def __init__(self, states: LoopStates, found: Found, clock: Clock, unread: Unread) -> None:
        self._states = states
        self._unread = unread
        self._found = found
        self._clock = clock
        self._for_deadlocks = Budget(SHARE / 2, clock)
        self._for_tasks = Budget(SHARE / 2, clock)
        self._standstill = Standstill(found, unread)
        self._suspects: dict[LoopState, Suspects] = {}
        self._stands: dict[tuple[object, ...], Stand] = {}

    def look(self) -> None:
        """Look for deadlocks, then at some of the live tasks, provided that earlier looks are paid off."""
        running = [state for state in self._states.all() if state.running]
        if self._for_deadlocks.allows:
            with self._for_deadlocks.spending():
                self._standstill.look(_records(running))
        if self._for_tasks.allows:
            with self._for_tasks.spending():
                self._look_at_tasks(running)
        self._found.recount()

    def _look_at_tasks(self, running: Sequence[LoopState]) -> None:
        now, known = self._clock.monotonic(), self._suspects
        self._suspects = {state: known.get(state) or Suspects(state, now, self._unread) for state in running}
        for suspects in self._suspects.values():
            suspects.begin(now)
        proven = list(self._proven())
        if any(self._unread.read(_may_be_in_deadlock, record) for record, _ in proven):
            self._standstill.tell(_records(running))  # first, since a deadlock says more
        for record, leak in proven:
            self._found.tell(record, leak)
        for suspects in self._suspects.values():
            for record, count in suspects.piles.look():
                if not suspects.is_meant_to_last(record):
                    self._found.tell(record, "cancel_only", piled_up=count)
            for record in suspects.piled_up():
                self._found.tell(record, "site_growth")
            for record in suspects.over_age():
                self._found.tell(record, "overage", usual_p99_s=usual_p99(record.site) or 0.0)
            suspects.end()

    def _proven(self) -> Iterator[tuple[LiveTask, LeakReason]]:
        """Yield what can be proven of the tasks whose turn it is, as many as fit into a round."""
        stop = self._clock.thread_cpu() + ROUND
        for suspects, record in self._in_turn():
            if record.lost is None and (leak := self._unread.read(self._look_at, record, suspects)):
                yield record, leak
            if self._clock.thread_cpu() > stop:
                return

    def _in_turn(self) -> Iterator[tuple[Suspects, LiveTask]]:
        """Yield the tasks of all loops, taking one of each loop in turn."""
        waiting = list(self._suspects.values())
        while waiting:
            for suspects in waiting.copy():
                record = suspects.next()
                if record is None:
                    waiting.remove(suspects)
                else:
                    yield suspects, record

    def _look_at(self, record: LiveTask, suspects: Suspects) -> LeakReason | None:
        self._note_stand(record)
        proof = suspects.prover.prove(record)
        if proof.held is False:
            return "unreferenced"  # even if a daemon: it may not live as long as it is meant to
        if proof.held_by is not None and not suspects.is_meant_to_last(record):
            if proof.held_by == BY_US:
                return "never_wakes"
            suspects.piles.put(record, proof.held_by)
        return None

    def _note_stand(self, record: LiveTask) -> None:
        """Note where a task stands: that can no longer be seen once it is being collected."""
        stand = stand_of(record())
        if stand is not None:
            if len(self._stands) >= STANDS:
                self._stands.clear()
            key = (*((id(code), offset) for code, offset, _ in stand.places), stand.waiting_on)
            record.stood = self._stands.setdefault(key, stand)


def _records(running: Sequence[LoopState]) -> list[LiveTask]:
    return [record for state in running for record in state.tasks.records()]


def _may_be_in_deadlock(record: LiveTask) -> bool:
    task = record()
    return task is not None and may_be_stuck(task)
