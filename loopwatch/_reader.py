"""Freezes what is kept into a ``Snapshot``. Runs in whichever thread asks, never in a watched loop's."""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

from ._clock import Clock
from ._collectors.tasks import TaskCensus
from ._context.handover import LostContexts
from ._internals.base_loop import ready_count, timer_count
from ._records import (
    Distribution,
    DrainState,
    LeakReason,
    Loop,
    Lost,
    LostReason,
    Point,
    Snapshot,
    Stall,
    Task,
)
from ._store.jobs import JOBS
from ._store.loop_state import LoopState, LoopStates
from ._store.lost_log import LostLog
from ._store.stall_log import StallLog
from ._version import __version__
from ._watchdog.thread import Watchdog
from .facts import OTHER


@dataclass(frozen=True, slots=True)
class Own:
    """What loopwatch counts about itself, by component. Each entry is asked when read."""

    overhead: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    """CPU seconds used."""
    dropped: Mapping[str, Callable[[], int]] = field(default_factory=dict)
    internal_errors: Callable[[], Mapping[str, int]] = dict
    log_suppressed: Callable[[], int] = int
    unwatched: Callable[[], Mapping[str, int]] = dict
    own_timers: Callable[[asyncio.AbstractEventLoop], int] = lambda loop: 0
    """How many of a loop's timers are ours."""


Measure = tuple[str, tuple[str, ...], float | Distribution]
"""Stem of a fact, its label values, its value."""


LEAK_REASONS: tuple[LeakReason, ...] = get_args(LeakReason)
LOST_REASONS: tuple[LostReason, ...] = get_args(LostReason)
DRAIN_STATES: tuple[DrainState, ...] = get_args(DrainState)


class Reader:
    """Turns store and watchdog into records."""

    def __init__(
        self,
        service_name: str,
        states: LoopStates,
        stall_log: StallLog,
        lost_log: LostLog,
        lost_contexts: LostContexts,
        census: TaskCensus,
        leaked: Mapping[LeakReason, int],
        watchdog: Watchdog,
        own: Own,
        clock: Clock,
    ) -> None:
        self._service_name = service_name
        self._states = states
        self._stall_log = stall_log
        self._lost_log = lost_log
        self._lost_contexts = lost_contexts
        self._census = census
        self._leaked = leaked
        self._watchdog = watchdog
        self._own = own
        self._clock = clock

    def snapshot(self) -> Snapshot:
        """Return everything known now."""
        now = self._clock.monotonic()
        states = self._states.all()
        points: dict[str, list[Point]] = {}
        of_loops = [self._of_loop(state, now) for state in states]
        of_jobs = _of_jobs(now)
        for measures in (
            *of_loops,
            self._census.measures(),
            self._of_losses(),
            of_jobs,
            self._of_ourselves(),
        ):
            for stem, labels, value in measures:
                points.setdefault(stem, []).append(Point(labels, value))
        return Snapshot(
            taken_at=self._clock.wall(),
            service_name=self._service_name,
            points={stem: tuple(found) for stem, found in points.items()},
            loops=tuple(self._loop(state, now) for state in states),
            stalls=self.stalls(),
            lost=self.lost(),
        )

    def stalls(self) -> tuple[Stall, ...]:
        """Return the stalls kept, oldest first, and after them those going on."""
        over = self._stall_log.last()  # first: one that ends meanwhile must not show twice
        return (*over, *self._watchdog.in_progress())

    def tasks(self, limit: int) -> tuple[Task, ...]:
        """Return the last tasks that ended and up to ``limit`` live ones, newest last."""
        return self._census.tasks(limit)

    def lost(self) -> tuple[Lost, ...]:
        """Return the losses kept, oldest first."""
        return self._lost_log.last()

    def loops(self) -> tuple[Loop, ...]:
        """Return the health of each loop seen so far."""
        now = self._clock.monotonic()
        return tuple(self._loop(state, now) for state in self._states.all())

    def _loop(self, state: LoopState, now: float) -> Loop:
        delay = state.delay.read()
        times = self._loop_time(state, now)
        return Loop(
            name=state.name,
            kind=state.kind,
            running=state.running,
            delay_p50=delay.quantile(0.5),
            delay_p99=delay.quantile(0.99),
            delay_max=max(state.delay_max.read(now), state.blocked(now)),
            utilization=times[0] / sum(times) if times and sum(times) else None,
            iterations=int(state.iterations) if state.has_selector else None,
            blocked=state.blocked(now),
            ready=self._ready(state),
            timers=self._timers(state),
        )

    def _of_loop(self, state: LoopState, now: float) -> Iterator[Measure]:
        name = (state.name,)
        if not state.free:
            yield "info", (state.name, state.kind, platform.python_version(), __version__), 1.0
        yield "delay", name, state.delay.read()
        yield "delay_max", name, max(state.delay_max.read(now), state.blocked(now))
        times = self._loop_time(state, now)
        if times is not None:
            yield "loop_time", (state.name, "active"), times[0]
            yield "loop_time", (state.name, "idle"), times[1]
        if state.has_selector or state.iterations:
            yield "iterations", name, state.iterations
        yield "blocked", name, state.blocked(now)
        if state.last_tick is not None:
            yield "last_tick", name, self._clock.wall() - (now - state.last_tick)
        yield "cpu_time", name, self._cpu_time(state)
        if state.runqueue_time is not None:
            yield "runqueue_time", name, state.runqueue_time
        for generation, pauses in sorted(state.gc_pause.copy().items()):
            yield "gc_pause", (state.name, str(generation)), pauses.read()
        for stem, count in (("ready", self._ready(state)), ("timers", self._timers(state))):
            if count is not None:
                yield stem, name, count
        yield from _of_stalls(state)

    def _of_losses(self) -> Iterator[Measure]:
        untold = sum((state.tasks.untold for state in self._states.all()), Counter[LostReason]())
        for reason in LOST_REASONS:
            yield "task_lost", (reason,), self._lost_log.reasons[reason] + untold[reason]
        for leak in LEAK_REASONS:
            yield "task_leaked", (leak,), self._leaked.get(leak, 0)
        for error, count in list(self._lost_log.unretrieved.items()):
            yield "unretrieved_exceptions", (error,), count
        for function, works in self._lost_contexts.by_function().items():
            yield "task_context_lost", (function,), works

    def _of_ourselves(self) -> Iterator[Measure]:
        for component, seconds in self._own.overhead.items():
            yield "overhead", (component,), seconds()
        for component, events in self._own.dropped.items():
            yield "dropped", (component,), events()
        for component, errors in self._own.internal_errors().items():
            yield "internal_errors", (component,), errors
        for reason, loops in self._own.unwatched().items():
            yield "unwatched", (reason,), loops
        yield "log_suppressed", (), self._own.log_suppressed()

    def _loop_time(self, state: LoopState, now: float) -> tuple[float, float] | None:
        """Return the seconds active and idle; None while nothing is known of them."""
        active, idle = state.active_time, state.idle_time
        entered_at, waiting_since = state.entered_at, state.waiting_since
        if state.has_selector and entered_at is not None:
            if waiting_since:
                idle += max(0.0, min(now, state.busy_since) - waiting_since)
            active += now - entered_at - (idle - state.idle_at_enter)
        elif not active + idle and "active" not in state.shown:
            return None
        return _never_falling(state, "active", active), _never_falling(state, "idle", idle)

    def _cpu_time(self, state: LoopState) -> float:
        total, read, clock_id = state.cpu_time, self._clock.of_thread, state.cpu_clock
        if state.running and read is not None and clock_id is not None:
            with contextlib.suppress(OSError):  # the thread has just ended
                total += max(0.0, read(clock_id) - state.cpu_time_at_enter)
        return _never_falling(state, "cpu", total)

    def _ready(self, state: LoopState) -> int | None:
        loop = state.loop() if state.loop is not None else None
        return None if loop is None else ready_count(loop)

    def _timers(self, state: LoopState) -> int | None:
        loop = state.loop() if state.loop is not None else None
        count = None if loop is None else timer_count(loop)
        return None if loop is None or count is None else max(0, count - self._own.own_timers(loop))


def _of_stalls(state: LoopState) -> Iterator[Measure]:
    yield "block_duration", (state.name,), state.block_duration.read()
    for cause, totals in state.block_time.copy().items():
        for function, seconds in totals.items():
            yield "block_time", (state.name, function, cause), seconds
        if totals.other:
            yield "block_time", (state.name, OTHER, cause), totals.other


def _never_falling(state: LoopState, counter: str, value: float) -> float:
    """Return ``value`` or the larger one returned before.

    The loop's thread may be between two of its writes while we read, so that a wait counts twice for an
    instant, or a run not yet. A counter that falls reads as a restart in Prometheus.
    """
    state.shown[counter] = value = max(value, state.shown.get(counter, 0.0))
    return value


def _of_jobs(now: float) -> Iterator[Measure]:
    """Yield the facts about jobs and drains, of all loops of the process."""
    for state, count in JOBS.counts().items():
        yield "jobs", (state,), count
    for phase in DRAIN_STATES:
        yield "drain_status", (phase,), float(phase == JOBS.drain_status)
    began = JOBS.drain_began
    duration = JOBS.drain_duration if began is None else now - began
    if duration is not None:
        yield "drain_duration", (), duration
    yield "drain_cancelled", (), JOBS.drain_cancelled
