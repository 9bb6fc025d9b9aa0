"""The watchdog: one thread that wakes a few times a second and looks at every loop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from loopwatch._agent_records import Stall
from loopwatch._clock import Clock
from loopwatch._internals.interpreter import current_frames
from loopwatch._journal import Journal
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch._threads import IsToEnd, OwnThread

from .lateness import LATE, Lateness
from .stalls import Tracker

T = TypeVar("T")

IDLE = 1.35
"""Factor by which the tick is longer while all loops wait. If one of them stalls from then on, the look after
the next is early enough."""
SLOW = 0.5
"""Seconds between two readings of the CPU clocks of all threads."""
LOOKS = 3
"""How often the watchdog looks within the length of the shortest stall, of which it suspects the second half:
so each is sampled at least once before it counts. One more look costs an idle process 0.1 % of a core."""
SHORTEST_TICK = 0.005
"""Shortest time between two looks, in seconds, however low the threshold: a look costs some 20 us."""
CHORES_EVERY = 1.0
"""Seconds between two rounds of chores: work that is not urgent."""


def tick_for(threshold: float) -> float:
    """Return the seconds between two looks needed to see stalls of ``threshold`` seconds and more."""
    return max(threshold / LOOKS, SHORTEST_TICK)


class Watchdog:
    """Looks about every ``tick`` seconds while all is well, and as often as samples are due while it is not.

    Never takes a lock that user code may hold, and never calls user code: no repr, no log handler.
    """

    def __init__(
        self,
        states: LoopStates,
        make_tracker: Callable[..., Tracker],
        lateness: Lateness,
        tick: float,
        clock: Clock,
        journal: Journal,
        chores: Iterable[Callable[[], None]],
    ) -> None:
        self._states = states
        self._make_tracker = make_tracker
        self._lateness = lateness
        self._tick = tick
        self._clock = clock
        self._journal = journal
        self._chores = tuple(chores)
        self._trackers: dict[LoopState, Tracker] = {}
        self._sleeping = _held_lock()
        self._resting = False
        self.thread = OwnThread("loopwatch-watchdog", self._run, self._wake)
        self._planned = float("inf")
        self._slow_at = self._chores_at = 0.0
        self._had_gil_at = float("inf")
        self.cpu_time = 0.0
        """CPU seconds of our threads so far."""

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self, timeout: float = 1.0) -> None:
        """End the thread and take one last look, so that every stall that is over is reported."""
        self.thread.end(timeout)
        self._guarded(self.step)

    def forget_thread(self) -> None:
        """Return to the state before the first start: in a forked child, which lacks the parent's thread."""
        self.thread.forget()
        self._sleeping = _held_lock()
        self._trackers = {}
        self._lateness.begin()
        self.cpu_time = 0.0

    @property
    def alive(self) -> bool:
        """Whether the thread runs, or was asked to stop."""
        return self.thread.alive

    def in_progress(self) -> list[Stall]:
        """Return the stalls in progress. Any thread."""
        now = self._clock.monotonic()
        stalls = [self._guarded(tracker.in_progress, now) for tracker in list(self._trackers.values())]
        return [stall for stall in stalls if stall is not None]

    def nudge(self) -> None:
        """Wake the watchdog from a long sleep: a loop has begun to run, a task was lost. Any thread."""
        if self._resting:
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has been woken already
            self._sleeping.release()

    def _run(self, is_to_end: IsToEnd) -> None:
        """Continue where an earlier thread left off: keep all that is known of the loops, not its clocks."""
        earlier_cpu = self.cpu_time
        self._planned = float("inf")
        self._lateness.go_on()
        while not is_to_end():
            self._resting = True  # before the decision, or a loop that starts meanwhile would not wake us
            pause = self._pause()
            self._resting = pause is None
            if pause is None:
                self._do_chores()  # nothing may wake us for long, and the dump's timer is still armed
            if self._sleeping.acquire(timeout=-1 if pause is None else pause):
                self._planned = float("inf")  # woken early: not late
            self._guarded(self.step)
            self.cpu_time = earlier_cpu + self._clock.thread_cpu()

    def _pause(self) -> float | None:
        """Return how long to sleep, None for until nudged, and remember when the sleep should be over."""
        paces = [pace for tracker in self._trackers.values() if (pace := tracker.suspicious) is not None]
        states = [state for state in self._states.all() if state.running or state.ended]
        if not paces and not states:
            self._planned = float("inf")
            return None
        tick = self._tick * IDLE if all(state.waiting_since for state in states) else self._tick
        pause = min([tick, *paces])
        self._planned = self._clock.monotonic() + pause
        return pause

    def _guarded(self, work: Callable[..., T], *args: object) -> T | None:
        try:
            return work(*args)
        except Exception as error:  # noqa: BLE001 - whatever fails here, the watchdog goes on looking
            self._journal.failure("watchdog", error)
            return None

    def step(self) -> None:
        """Look once. Whatever may release the GIL comes after all frames have been copied."""
        trackers = self._all_trackers()
        now = self._look(trackers, self._planned)
        self._guarded(self._lateness.settle)
        for tracker in trackers:
            self._guarded(tracker.settle)
        self._guarded(self._lateness.settle)  # for lateness noted meanwhile
        if now >= self._slow_at:
            self._slow_at = now + SLOW
            self._lateness.refresh()
        if now >= self._chores_at:
            self._do_chores()

    def look_again(self) -> None:
        """Look at once if this thread has just waited for long to get the GIL back, in the middle of a step.

        The thread that held it has just released it, and its frame is still there; by the next step the frame
        will be gone, and what ran afterwards would pass for the culprit. Our own work since the GIL last came
        back counts as part of the wait: it takes a millisecond or two.
        """
        before, now = self._had_gil_at, self._clock.monotonic()
        if now - before > LATE:
            now = self._look(self._all_trackers(), before)
        self._had_gil_at = now

    def _look(self, trackers: list[Tracker], planned: float) -> float:
        """Freeze all frames and let everyone look at them; return the moment at which they were frozen."""
        for tracker in trackers:
            tracker.note()
        self._had_gil_at = now = self._clock.monotonic()
        late = now - planned > LATE
        frames = current_frames() if late or any(tracker.wants_frame(now) for tracker in trackers) else {}
        try:
            self._guarded(self._lateness.look, planned, now, frames, threading.get_ident())
            for tracker in trackers:
                self._guarded(tracker.look, now, frames.get(tracker.state.thread_id))
        finally:
            frames.clear()
        return now

    def _do_chores(self) -> None:
        self._chores_at = self._clock.monotonic() + CHORES_EVERY
        for chore in self._chores:
            self._guarded(chore)

    def _all_trackers(self) -> list[Tracker]:
        known, states = self._trackers, self._states.all()
        if states != list(known):
            self._trackers = {state: known.get(state) or self._make_tracker(state) for state in states}
        return list(self._trackers.values())


def _held_lock() -> threading.Lock:
    """Return a lock to sleep on: acquiring it again blocks until somebody releases it.

    An Event does the same with a Condition, a deque and a new lock for each wait: half as much CPU again, for
    a process that does nothing but wait.
    """
    lock = threading.Lock()
    lock.acquire()
    return lock
