"""The census: which tasks there are, where each stands, and what became of those of each site."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import CoroutineType
from typing import Any

from loopwatch._agent_records import Waiting
from loopwatch._clock import Clock, nanoseconds
from loopwatch._context.reader import ContextReader
from loopwatch._document import TaskSite
from loopwatch._internals.await_chain import Chain, chain, describe
from loopwatch._internals.dependencies import needs
from loopwatch._internals.futures import coroutine_of, is_done, living, name_of
from loopwatch._internals.interpreter import uncollected
from loopwatch._internals.tasks import function_of, tasks_known, unretrieved
from loopwatch._measures import Distribution, Measure
from loopwatch._places import shape
from loopwatch._records import Task
from loopwatch._store.cells import TopTotals
from loopwatch._store.daemons import is_daemon
from loopwatch._store.jobs import JOBS
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch._store.sites import Site
from loopwatch._store.tasks import LiveTask, oldest
from loopwatch._store.unread import Unread
from loopwatch.facts import OTHER, TASK_BUCKETS, TOP

from .sites import LOOKED_AT, task_sites
from .waits import waits

UNRETRIEVED_AFTER = 1.0
"""Seconds an exception may wait to be retrieved before it shows as unretrieved."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the tasks of one function."""

    created: int = 0
    ok: int = 0
    error: int = 0
    cancelled: int = 0
    seconds: float = 0.0
    buckets: tuple[int, ...] = (0,) * (len(TASK_BUCKETS) + 1)

    def __add__(self, other: Tally) -> Tally:
        return self._zip(other, 1)

    def __sub__(self, other: Tally) -> Tally:
        return self._zip(other, -1)

    def __float__(self) -> float:
        return float(self.created)

    def _zip(self, other: Tally, sign: int) -> Tally:
        return Tally(
            self.created + sign * other.created,
            self.ok + sign * other.ok,
            self.error + sign * other.error,
            self.cancelled + sign * other.cancelled,
            self.seconds + sign * other.seconds,
            # From a list: a tuple made from a generator is shrunk to its length, and once freed is kept for
            # another of that length. CPython keeps up to 2,000 of each length until a full collection.
            tuple([a + sign * b for a, b in zip(self.buckets, other.buckets, strict=True)]),
        )

    @classmethod
    def of(cls, site: Site) -> Tally:
        """Return what is counted at ``site``."""
        ok, error, cancelled = map(tuple, (site.as_ok, site.as_error, site.as_cancelled))
        buckets = (*map(sum, zip(ok, error, cancelled, strict=True)),)
        return cls(site.created, sum(ok), sum(error), sum(cancelled), site.total, buckets)


class TaskCensus:
    """Reads the tasks of all loops. Any thread but a loop's."""

    def __init__(self, states: LoopStates, contexts: ContextReader, clock: Clock, unread: Unread) -> None:
        self._states = states
        self._unread = unread
        self._contexts = contexts
        self._clock = clock
        self._strays: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        """When tasks not created through the loop were first seen."""
        self.clear()

    def clear(self) -> None:
        """Forget what was counted: in a forked child, which starts afresh."""
        self._seen: dict[str, Tally] = {}
        self._top: TopTotals[str, Tally] = TopTotals(TOP, Tally())
        self._lock = threading.Lock()  # readers come in many threads, but growth must be added once

    def records(self, limit: int) -> tuple[Task, ...]:
        """Return the last tasks that ended, then the live ones, each oldest first; at most ``limit`` live."""
        now = self._clock.monotonic()
        # Once: two readings of the clocks differ by more than the time between two tasks, which are in order.
        zero = self._clock.wall_at(0.0)
        states = self._states.all()
        ended = [task for state in states for task in self._ended(state, now, zero)]
        live = [
            task
            for state in states
            for task in self._live(state, oldest(state.tasks.live, limit), now, zero, limit)
        ]
        return (*sorted(ended, key=_began), *sorted(live, key=_began)[:limit])

    def sample(self, limit: int, of_each: int) -> tuple[Task, ...]:
        """Return up to ``limit`` live tasks, oldest first, and no more than ``of_each`` of one site."""
        now, zero = self._clock.monotonic(), self._clock.wall_at(0.0)
        found: list[Task] = []
        for state in self._states.all():
            records = list(islice(_few_of_each(oldest(state.tasks.live, LOOKED_AT), of_each), limit))
            found += self._live(state, records, now, zero, limit)
        return tuple(sorted(found, key=_began)[:limit])

    def sites(self, now: float) -> tuple[TaskSite, ...]:
        """Return the places that create tasks, those with most live tasks first."""
        return task_sites(self._states.all(), now)

    def live(self, limit: int) -> list[Any]:
        """Return up to ``limit`` live tasks of each loop, oldest first. Not to be kept."""
        records = [record for state in self._states.all() for record in oldest(state.tasks.live, limit)]
        return [task for record in records if (task := living(record)) is not None]

    def waits(self, limit: int) -> tuple[Waiting, ...]:
        """Return who among those waits for locks and the like, most first."""
        return waits(self.live(limit), self._unread)

    def _ended(self, state: LoopState, now: float, zero: float) -> Iterator[Task]:
        open_errors = {
            (record.started, record.coroutine)
            for record in list(state.tasks.failed.values())
            if (task := record()) is not None and self._unread.read(unretrieved, task)
        }
        rows = {id(row): row for row in (*list(state.tasks.failures), *list(state.tasks.ended))}
        for row in rows.values():
            address, coroutine, parent, name, started, ended, outcome, error, values = row
            is_open = (started, coroutine) in open_errors and now - ended >= UNRETRIEVED_AFTER
            context = self._contexts.shape(values)
            yield Task(
                site=shape(state.tasks.sites.known(address).place),
                coroutine=coroutine,
                name=name,
                parent=parent,
                state=outcome,
                unretrieved=is_open,
                started_at=zero + started,
                age=now - started,
                duration=ended - started,
                exception=error,
                context=context.values,
                trace_id=context.trace_id,
                span_id=context.span_id,
                trace_flags=context.trace_flags,
                await_stack=(),
                waiting_on=None,
                daemon=False,
                loop_name=state.name,
                id=nanoseconds(started),
            )

    def _live(
        self, state: LoopState, records: Sequence[LiveTask], now: float, zero: float, limit: int
    ) -> Iterator[Task]:
        for record in records:
            task = living(record)
            if task is not None and (
                made := self._unread.read(self._of_live, task, state, record, now, zero)
            ):
                yield made
        loop = state.loop() if state.loop is not None else None
        known = {record.key for record in records}
        if loop is not None and len(records) < limit:
            for task in tasks_known(loop):  # those created by asyncio.Task() directly
                if id(task) not in known and id(task) not in state.tasks.live:
                    stray = self._unread.read(self._of_stray, task, state, now, zero)
                    if stray is not None:
                        yield stray

    def _of_stray(self, task: Any, state: LoopState, now: float, zero: float) -> Task | None:
        record = self._stray(task, state, now)
        return None if record is None else self._of_live(task, state, record, now, zero)

    def _of_live(self, task: Any, state: LoopState, record: LiveTask, now: float, zero: float) -> Task:
        found = chain(task)
        context = self._contexts.shape(self._contexts.of_task(task, record.values))
        return Task(
            site=shape(record.site.place),
            coroutine=record.coroutine,
            name=name_of(task),
            parent=record.parent,
            state="pending",
            unretrieved=False,
            started_at=zero + record.started,
            age=max(0.0, now - record.started),  # a task may be created while others are read
            duration=None,
            exception=None,
            context=context.values,
            trace_id=context.trace_id,
            span_id=context.span_id,
            trace_flags=context.trace_flags,
            await_stack=tuple(shape(place) for place in found.places),
            waiting_on=describe(found),
            daemon=is_daemon(task),
            loop_name=state.name,
            id=nanoseconds(record.started),
            awaits=self._awaited(state, found),
            job=_is_job(state, task),
            creator_seen=record.site.creates,
        )

    def _awaited(self, state: LoopState, found: Chain) -> tuple[int, ...]:
        """Return the ids of the tasks waited for by a task that stands at ``found``."""
        needed = needs(found.links, found.awaited) if found.awaited is not None else None
        begun = [
            record.started
            if (record := state.tasks.live.get(id(task)))
            else self._unread.read(self._strays.get, task)
            for task in (() if needed is None else needed.tasks)
        ]
        return tuple(nanoseconds(moment) for moment in begun if moment is not None)

    @uncollected
    def _stray(self, task: Any, state: LoopState, now: float) -> LiveTask | None:
        """Return a record for a task not created through the loop, as of when it was first seen."""
        coro = coroutine_of(task)
        frame = getattr(coro, "cr_frame", None)
        if coro is None or is_done(task) or (frame is None and type(coro) is CoroutineType):
            return None
        record = LiveTask(task)
        record.site = (
            state.tasks.sites.further  # a coroutine's stand-in need not tell where it begins
            if frame is None
            else Site(frame.f_code, 0, frame.f_globals.get("__name__") or "")
        )
        record.key = id(task)
        record.coroutine = function_of(task)
        record.name = record.parent = record.values = record.fall = record.stood = record.lost = None
        record.started = self._strays.setdefault(task, now)
        return record

    def measures(self, now: float) -> Iterator[Measure]:
        """Yield the facts about tasks. The cost depends on the number of sites, not of tasks."""
        with self._lock:
            live, shown = self._count()
        yield "task_count", (), sum(live.values())
        yield from _site_counts(live)
        for name, tally in shown:
            yield "task_created", (name,), tally.created
            for outcome in ("ok", "error", "cancelled"):
                yield "task_finished", (outcome, name), getattr(tally, outcome)
            yield "task_duration", (name,), Distribution(TASK_BUCKETS, tally.buckets, tally.seconds)
        age = self._oldest_age(now)
        if age is not None:
            yield "task_age_max", (), age

    def totals(self, now: float) -> Iterator[Measure]:
        """Yield the facts about all tasks together. Does not settle which functions are told apart."""
        yield "task_count", (), sum(site.live for _, site in _named(self._states.all()))
        oldest = self._oldest_age(now)
        if oldest is not None:
            yield "task_age_max", (), oldest

    def _count(self) -> tuple[dict[str, int], list[tuple[str, Tally]]]:
        """Return how many tasks of each function live, and the outcomes for the largest functions."""
        live: dict[str, int] = {}
        tallies: dict[str, Tally] = {}
        for name, site in _named(self._states.all()):
            live[name] = live.get(name, 0) + site.live
            tallies[name] = tallies.get(name, Tally()) + Tally.of(site)
        other = tallies.pop(OTHER, Tally())
        # Largest first, so that if there are more functions than are shown, the largest are shown at first.
        for name in sorted(tallies, key=lambda name: -tallies[name].created):
            grown = tallies[name] - self._seen.get(name, Tally())
            if grown != Tally():
                self._top.add(name, grown)
                self._seen[name] = tallies[name]
        other += self._top.other
        return live, [*self._top.items(), *([(OTHER, other)] if other != Tally() else [])]

    def _oldest_age(self, now: float) -> float | None:
        """Return the age of the oldest task that is not a daemon; None without tasks."""
        ages = []
        for state in self._states.all():
            for record in oldest(state.tasks.live, 50):
                task = record()
                if task is not None and self._unread.read(is_daemon, task) is False:
                    ages.append(now - record.started)
                    break
        return max(ages, default=None)


def _is_job(state: LoopState, task: Any) -> bool:
    loop = state.loop() if state.loop is not None else None
    return loop is not None and JOBS.holds(loop, task)


def _began(task: Task) -> float:
    return task.started_at


def _few_of_each(records: Iterable[LiveTask], of_each: int) -> Iterator[LiveTask]:
    """Leave out tasks whose site has had ``of_each`` already."""
    seen: Counter[int] = Counter()
    for record in records:
        seen[record.site.address] += 1
        if seen[record.site.address] <= of_each:
            yield record


def _named(states: list[LoopState]) -> Iterator[tuple[str, Site]]:
    """Yield the sites of all loops, each with the name to count it under."""
    for tasks in (state.tasks for state in states):
        yield OTHER, tasks.sites.further
        for site in tasks.sites.all():
            yield site.name, site


def _site_counts(live: dict[str, int]) -> Iterator[Measure]:
    named = ((count, name) for name, count in live.items() if count > 0 and name != OTHER)
    ranked = sorted(named, reverse=True)
    for count, name in ranked[:TOP]:
        yield "task_site_count", (name,), count
    other = live.get(OTHER, 0) + sum(count for count, _ in ranked[TOP:])
    if other:
        yield "task_site_count", (OTHER,), other
