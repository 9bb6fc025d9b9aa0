"""Finds tasks that will never finish: by proof first, then by the measure of their own site's past.

Asked by the watchdog once a second, and kept to a share of a core: what a round costs, the next waits off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from loopwatch._clock import Clock
from loopwatch._context.reader import ContextReader
from loopwatch._internals.await_chain import chain, describe
from loopwatch._records import Distribution, LeakReason, LostReason
from loopwatch._store.daemons import is_daemon
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch._store.lost_log import Loss, LostLog
from loopwatch._store.tasks import LiveTask, Site
from loopwatch.facts import TASK_BUCKETS

from .await_graph import await_graph
from .references import Prover

SHARE = 0.005
"""Of a core, that the search may use."""
ROUND = 0.005
"""Seconds of a round after which it stops and goes on in the next."""
SUSPECT = 1.0
"""Seconds of age from which a task is looked at: most are long gone by then."""
START_UP = 10.0
"""Seconds after the start of its loop in which a task that is alone at its site counts as a daemon."""
GRAPH = 5_000
"""Live tasks of all loops up to which deadlocks are looked for: the graph needs all of them at once."""
GRAPH_EVERY = 2.0
PAST = 100
"""Ended tasks of a site from which its durations say what is usual there."""
OVERAGE = 3.0
"""Times the 99th percentile of its site's durations at which a task is over age."""
MANY = 10
"""Tasks of one site that must be over age: one may have a reason."""


class LeakFinder:
    """Looks for leaked, unreferenced and deadlocked tasks. The watchdog's thread."""

    def __init__(
        self,
        states: LoopStates,
        contexts: ContextReader,
        clock: Clock,
        log: LostLog,
        tell: Callable[[Loss], None],
    ) -> None:
        self._states = states
        self._contexts = contexts
        self._clock = clock
        self._log = log
        self._tell = tell
        self._resume_at = 0.0
        self._graph_at = 0.0
        self._next: dict[str, int] = {}
        self._leaked: dict[LeakReason, list[LiveTask]] = {}
        """Tasks found, that live still as far as is known."""

    def look(self) -> None:
        """Look at some of the live tasks, unless the last look is still being paid for."""
        now = self._clock.monotonic()
        if now < self._resume_at:
            return
        began = self._clock.thread_cpu()
        self._look(now)
        self._recount()
        self._resume_at = now + (self._clock.thread_cpu() - began) / SHARE

    def _look(self, now: float) -> None:
        for state in self._states.all():
            self._prove(state, now)
            self._compare(state, now)
        if now >= self._graph_at and self._live_tasks() <= GRAPH:
            self._graph_at = now + GRAPH_EVERY
            self._find_deadlocks()

    def _prove(self, state: LoopState, now: float) -> None:
        """Prove what can be proven of the next suspects, as many as fit into a round."""
        live = state.tasks.live
        stop = self._clock.thread_cpu() + ROUND
        prover = Prover(lambda: _tasks(live))
        start = self._next.get(state.name, 0)
        records = list(live.values())
        for index, record in enumerate(islice(records, start, None), start):
            if now - record.started < SUSPECT or self._clock.thread_cpu() > stop:
                self._next[state.name] = 0 if now - record.started < SUSPECT else index
                return
            if record.lost is None:
                proof = prover.prove(record)
                if proof.held is False:  # also a daemon: it will not live as long as it should
                    self._report(record, "unreferenced", "unreferenced", {})
                elif proof.wakeable is False and not self._exempt(state, record, now):
                    self._report(record, "leaked", "never_wakes", {})
        self._next[state.name] = 0

    def _compare(self, state: LoopState, now: float) -> None:
        """Compare the age of live tasks with the durations of those of their site that ended."""
        over: dict[int, list[LiveTask]] = {}
        limits: dict[int, float | None] = {}
        for record in list(islice(list(state.tasks.live.values()), MANY * 100)):  # the oldest
            site = record.site
            if id(site) not in limits:
                limits[id(site)] = _usual(site)
            limit = limits[id(site)]
            if limit is not None and now - record.started > OVERAGE * limit and record.lost is None:
                over.setdefault(id(site), []).append(record)
        for records in over.values():
            if len(records) >= MANY:
                usual = limits[id(records[0].site)] or 0.0
                for record in records:
                    if not self._exempt(state, record, now):
                        self._report(record, "leaked", "overage", {"usual_p99_s": usual})

    def _find_deadlocks(self) -> None:
        records = {
            record.key: record for state in self._states.all() for record in list(state.tasks.live.values())
        }
        tasks = [task for record in records.values() if (task := record()) is not None]
        graph = await_graph(tasks)
        del tasks
        for cycle in graph.deadlocks:
            for waiter in cycle:
                record = records.get(waiter.key)
                if record is not None and record.lost in (None, "leaked"):
                    self._report(record, "deadlock", "deadlock", {"tasks_in_cycle": float(len(cycle))})

    def _exempt(self, state: LoopState, record: LiveTask, now: float) -> bool:
        """Whether a task is a daemon: declared, or alone at its site since the loop's start."""
        task = record()
        if task is None or is_daemon(task):
            return True
        entered = state.entered_at
        alone = record.site.created == 1
        return alone and entered is not None and record.started - entered < START_UP

    def _report(
        self,
        record: LiveTask,
        reason: LostReason,
        leak: LeakReason,
        evidence: Mapping[str, float],
    ) -> None:
        task = record()
        if task is None or task.done():
            return
        record.lost = reason
        self._leaked.setdefault(leak, []).append(record)
        found = chain(task)
        self._tell(
            Loss(
                reason=reason,
                site=record.site.place,
                coroutine=record.coroutine,
                since=record.started,
                values=self._contexts.of_task(task, record.context),
                stack=found.places,
                waiting_on=describe(found),
                evidence={**evidence, "live_at_site": float(record.site.live)},
            )
        )

    def _recount(self) -> None:
        """Forget those that ended after all, and count the others."""
        for leak, records in self._leaked.items():
            records[:] = [record for record in records if (task := record()) is not None and not task.done()]
            self._log.leaked[leak] = len(records)

    def _live_tasks(self) -> int:
        return sum(len(state.tasks.live) for state in self._states.all())


def _tasks(live: dict[int, LiveTask]) -> Iterator[Any]:
    return (task for record in list(live.values()) if (task := record()) is not None)


def _usual(site: Site) -> float | None:
    """Return the 99th percentile of the durations at ``site``; None when few ended or it is off the scale."""
    durations = Distribution(TASK_BUCKETS, tuple(site.buckets), site.total)
    if durations.count < PAST or durations.counts[-1] > durations.count * 0.01:
        return None
    return durations.quantile(0.99)
