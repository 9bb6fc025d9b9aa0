"""Probe of every loop: a timer that measures how late the loop runs it, which is the loop's delay.

On a loop without a selector to wrap (uvloop), stalls are recognised by its lateness, too.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable

from loopwatch._clock import Clock
from loopwatch._internals.interpreter import others
from loopwatch._internals.thread_clock import cpu_times
from loopwatch._internals.threads import native_ids
from loopwatch._journal import Journal
from loopwatch._store.loop_state import NEVER, THREADS, Beside, LoopState

INTERVAL = 0.05
"""Seconds, at most, on loops with a selector: a beat of 20 ms alone cost 0.9 % of a slow core."""
INTERVAL_IDLE = 0.2
"""Seconds, at most, on a loop that did nothing but beat since the last beat: waking a sleeping process costs
far more than the beat itself."""
INTERVAL_BLIND = 0.02
"""Seconds, at most, on loops where only the beat can be seen: it bounds the error of a stall's start. At most
a quarter of the threshold, too, so the shortest stall is suspected in time to be sampled before it ends."""


class Heartbeat:
    """The recurring timer of one loop, alive only while the loop runs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        state: LoopState,
        threshold: float,
        clock: Clock,
        journal: Journal,
        check: Callable[[], None],
    ) -> None:
        self._loop = weakref.ref(loop)
        self._state = state
        self._threshold = threshold
        self._clock = clock
        self._monotonic = clock.monotonic
        self._journal = journal
        self._check = check
        self._interval = (
            min(threshold / 2, INTERVAL) if state.has_selector else min(threshold / 4, INTERVAL_BLIND)
        )
        state.beat_interval = self._interval
        self._due = 0.0
        self._iterations = 0.0
        self._beating = False
        self._timer: asyncio.TimerHandle | None = None
        # An empty context of its own: the default, a copy of the current one, would keep the values of
        # whoever started the loop alive. One per loop, since a context cannot be entered twice at a time.
        self._context = contextvars.Context()

    def start(self, now: float) -> None:
        """Begin to beat. In the loop's thread, before its first iteration or within one."""
        self.stop()  # the timer of a run whose end was not seen would go on beside the new one
        self._beating = True
        self._schedule(now)

    def stop(self) -> None:
        """Stop beating, and leave no timer in the loop. In the loop's thread."""
        self._beating = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    @property
    def scheduled(self) -> bool:
        """Whether one of the loop's timers is ours."""
        return self._timer is not None

    def _schedule(self, now: float) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        self._due = now + self._interval
        if self._state.has_selector:
            self._state.beat_due = self._state.wait_until = self._due
        else:
            self._timer = loop.call_later(self._interval, self._beat, context=self._context)
            self._state.busy_since = self._due

    def fall_due(self, now: float, owed_since: float) -> bool:
        """Have the loop beat in this iteration; return whether it will. Called by the ``select`` wrapper."""
        state = self._state
        if now - owed_since > self._threshold - self._interval:
            self._look_beside(now)
        state.beat_due = now + self._interval  # stalls are checked for at this pace, beat or no beat
        idle = state.iterations - self._iterations < 2
        self._iterations = state.iterations
        state.wait_until = now + INTERVAL_IDLE if idle else state.beat_due
        # A beat that waited behind the same blocking step has already counted that part of the delay.
        self._due = max(owed_since, state.last_tick or 0.0)
        loop = self._loop()
        if loop is None or not self._beating:
            return False
        try:
            loop.call_soon(self._beat, context=self._context)
        except Exception as error:  # noqa: BLE001 - a foreign call_soon; the loop waits for us to return
            self._fail(error)
            return False
        return True

    def _beat(self) -> None:
        try:
            self._measure()
        except Exception as error:  # noqa: BLE001 - a probe that fails is set aside, and the loop runs on
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.stop()
        if not self._state.has_selector:
            self._state.busy_since = NEVER
        self._journal.failure("heartbeat", error)

    def _look_beside(self, now: float) -> None:
        """Note what the other threads do, right after a stall: one may just have released the GIL.

        The watchdog does so too, but the hog may run on before its turn comes. Done once per stall.
        """
        try:
            stacks, ids = others(self._state.boundary, THREADS), native_ids()
            cpu = cpu_times([ids[ident] for ident in stacks if ident in ids], self._clock.of_thread)
            self._state.beside = Beside(now, stacks, ids, cpu)
        except Exception as error:  # noqa: BLE001 - the loop waits for us to return
            self._journal.failure("heartbeat", error)

    def _measure(self) -> None:
        if not self._beating:
            return
        now = self._monotonic()
        state = self._state
        late = max(now - self._due, 0.0)
        state.delay.observe(late)
        state.delay_max.observe(now, late)
        state.last_tick = now
        if late > self._threshold - self._interval:
            if not state.has_selector:
                # It may have begun any time since the last beat: the watchdog saw more, and decides how long.
                self._look_beside(now)
                state.end_stall(self._due, now, True)
            state.late_beats.append((now, late))
        state.tasks.settle()
        self._check()
        if not state.has_selector:
            self._schedule(now)
        state.heartbeat_time += self._monotonic() - now
