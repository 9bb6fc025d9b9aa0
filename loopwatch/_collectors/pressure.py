"""Whether a loop has more to do than it can do: for a readiness probe, or to shed load."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from loopwatch._clock import Clock
from loopwatch._store.loop_state import LoopState, LoopStates

from .loops import LoopHealth

EVERY = 1.0
"""Seconds between two looks."""
LOOKS = 5
"""Looks that must have passed before there is a verdict: 5 s, so that one long step is no pressure yet."""
FULL = 0.98
"""Busy share of the time from which a loop counts as full: beyond it, queues only grow."""
FULL_UNSEEN = 0.94
"""The same for a loop without a selector, whose share is an estimate."""
RELIEVED = 0.9
"""Busy share below which a full loop counts as relieved."""
HELD = 1.0
"""Seconds of owed service from which a loop is under pressure, whatever came before."""


class _Look(NamedTuple):
    """Totals of one loop at one moment."""

    active: float
    idle: float
    delays: int
    delay_sum: float


class Pressure:
    """Looks once a second, on the watchdog's thread; any thread may ask for the result.

    A loop is under pressure once it has been busy for 98 % of the last 5 seconds (on uvloop, where that is
    less exact, 94 %), or its callbacks were late by ``threshold`` on average; it remains so until it is below
    90 %, and below half of ``threshold``. So load that goes away when shed, and then returns, does not flap.
    """

    def __init__(self, states: LoopStates, health: LoopHealth, threshold: float, clock: Clock) -> None:
        self._states = states
        self._health = health
        self._threshold = threshold
        self._monotonic = clock.monotonic
        self.clear()

    def clear(self) -> None:
        """Start afresh: in a forked child."""
        self._looks: dict[LoopState, deque[_Look]] = {}
        self._pressed: frozenset[LoopState] = frozenset()
        self._look_at = -math.inf

    def look(self) -> None:
        """Look at all loops, if it is time."""
        now = self._monotonic()
        if now < self._look_at:
            return
        self._look_at = now + EVERY
        running = [state for state in self._states.all() if state.running]
        self._looks = {state: self._looks.get(state) or deque(maxlen=LOOKS + 1) for state in running}
        self._pressed = frozenset(state for state in running if self._is_pressed(state, now))

    def is_high(self) -> bool:
        """Whether any loop is under pressure. Any thread, at the cost of a few loads per loop."""
        now = self._monotonic()
        return bool(self._pressed) or any(state.blocked(now) >= HELD for state in self._states.all())

    def _is_pressed(self, state: LoopState, now: float) -> bool:
        times, delay = self._health.times(state, now) or (0.0, 0.0), state.delay.read()
        looks = self._looks[state]
        looks.append(_Look(*times, delay.count, delay.sum))
        if len(looks) <= LOOKS:
            return False
        earlier, latest = looks[0], looks[-1]
        passed = latest.active - earlier.active + latest.idle - earlier.idle
        share = (latest.active - earlier.active) / passed if passed else 0.0
        beats = latest.delays - earlier.delays
        late = (latest.delay_sum - earlier.delay_sum) / beats if beats else 0.0
        if state in self._pressed:
            return share >= RELIEVED or late >= self._threshold / 2
        full = FULL if state.has_selector else FULL_UNSEEN
        return share >= full or late >= self._threshold
