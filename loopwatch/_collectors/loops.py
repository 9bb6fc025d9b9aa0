"""The health of each loop: what its cells hold, and what is in progress right now."""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import Callable, Iterator

from loopwatch._agent_records import Loop
from loopwatch._clock import Clock
from loopwatch._internals.base_loop import ready_count, timer_count
from loopwatch._measures import Measure
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch._version import __version__


class LoopHealth:
    """Reads the cells of all loops, while their threads write to them. Any thread."""

    def __init__(
        self, states: LoopStates, clock: Clock, own_timers: Callable[[asyncio.AbstractEventLoop], int]
    ) -> None:
        self._states = states
        self._clock = clock
        self._own_timers = own_timers

    def records(self, now: float) -> tuple[Loop, ...]:
        """Return the health of each loop seen so far."""
        return tuple(self._record(state, now) for state in self._states.all())

    def measures(self, now: float) -> Iterator[Measure]:
        """Yield the facts about loops."""
        for state in self._states.all():
            yield from self._of_run(state, now)
            yield from self._of_thread(state)

    def _record(self, state: LoopState, now: float) -> Loop:
        delay = state.delay.read()
        times = self.times(state, now)
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
            ready=_ready(state),
            timers=self._timers(state),
        )

    def _of_run(self, state: LoopState, now: float) -> Iterator[Measure]:
        name = (state.name,)
        if not state.free:
            yield "info", (state.name, state.kind, platform.python_version(), __version__), 1.0
        yield "delay", name, state.delay.read()
        yield "delay_max", name, max(state.delay_max.read(now), state.blocked(now))
        times = self.times(state, now)
        if times is not None:
            yield "loop_time", (state.name, "active"), times[0]
            yield "loop_time", (state.name, "idle"), times[1]
        if state.has_selector or state.iterations:
            yield "iterations", name, state.iterations
        yield "blocked", name, state.blocked(now)
        if state.last_tick is not None:
            yield "last_tick", name, self._clock.wall_at(state.last_tick)
        for stem, count in (("ready", _ready(state)), ("timers", self._timers(state))):
            if count is not None:
                yield stem, name, count

    def _of_thread(self, state: LoopState) -> Iterator[Measure]:
        yield "cpu_time", (state.name,), self.cpu_time(state)
        if state.runqueue_time is not None:
            yield "runqueue_time", (state.name,), state.runqueue_time
        for generation, pauses in sorted(state.gc_pause.copy().items()):
            yield "gc_pause", (state.name, str(generation)), pauses.read()

    def times(self, state: LoopState, now: float) -> tuple[float, float] | None:
        """Return the active and the idle seconds; None while nothing is known of them."""
        active, idle = state.active_time, state.idle_time
        entered_at, waiting_since = state.entered_at, state.waiting_since
        if state.has_selector and entered_at is not None:
            if waiting_since:
                idle += max(0.0, min(now, state.busy_since) - waiting_since)
            active += now - entered_at - (idle - state.idle_at_enter)
        elif not active + idle and "active" not in state.shown:
            return None
        return _never_falling(state, "active", active), _never_falling(state, "idle", idle)

    def cpu_time(self, state: LoopState) -> float:
        """Return the CPU seconds of the loop's thread while the loop ran."""
        total, read, clock_id = state.cpu_time, self._clock.of_thread, state.cpu_clock
        if state.running and read is not None and clock_id is not None:
            with contextlib.suppress(OSError):  # the thread has just ended
                total += max(0.0, read(clock_id) - state.cpu_time_at_enter)
        return _never_falling(state, "cpu", total)

    def _timers(self, state: LoopState) -> int | None:
        loop = _loop_of(state)
        count = None if loop is None else timer_count(loop)
        return None if loop is None or count is None else max(0, count - self._own_timers(loop))


def _loop_of(state: LoopState) -> asyncio.AbstractEventLoop | None:
    return state.loop() if state.loop is not None else None


def _ready(state: LoopState) -> int | None:
    loop = _loop_of(state)
    return None if loop is None else ready_count(loop)


def _never_falling(state: LoopState, counter: str, value: float) -> float:
    """Return ``value`` or the larger one returned before.

    The loop's thread may be between two of its writes while we read, so that for an instant a wait counts
    twice, or a run not yet. A counter that falls reads as a restart in Prometheus.
    """
    state.shown[counter] = value = max(value, state.shown.get(counter, 0.0))
    return value
