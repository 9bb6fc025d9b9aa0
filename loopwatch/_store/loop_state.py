"""What is kept of one watched loop, and under which name."""

from __future__ import annotations

import asyncio
import re
import threading
import weakref
from collections import deque
from itertools import count
from types import CodeType

from loopwatch._records import LoopKind

from .cells import Histogram, WindowMax

NEVER = float("inf")
"""``busy_since`` of a loop that owes nothing: it is not running."""

ENDED_LIMIT = 64
"""Stalls the loop may end before the watchdog comes to collect them (every few ticks)."""


class LoopState:
    """The cells of one loop.

    Written by the loop's thread, without a lock, unless a field says otherwise. The one that matters most is
    ``busy_since``: the watchdog reads an age from it, and its value names the step it belongs to.
    """

    __slots__ = (
        "beat_interval",
        "boundary",
        "busy_since",
        "cpu_clock",
        "cpu_time",
        "cpu_time_at_enter",
        "delay",
        "delay_max",
        "ended",
        "ended_dropped",
        "entered_at",
        "gc_pause",
        "has_selector",
        "heartbeat_time",
        "idle_time",
        "iterations",
        "kind",
        "last_tick",
        "leaves_unseen",
        "loop",
        "name",
        "native_id",
        "ran_for",
        "runqueue_time",
        "sampled_active",
        "thread_id",
        "waiting_since",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended: deque[tuple[float, float, bool]] = deque()
        """Stalls that are over, for the watchdog to collect: start and end on the monotonic clock, and
        whether a callback ran (a step) or a wait ended late."""
        self.ended_dropped = 0
        self.delay = Histogram()
        self.delay_max = WindowMax()
        self.gc_pause: dict[int, Histogram] = {}
        """By generation. Written by whichever thread collects; collections never overlap."""
        self.iterations = 0
        self.idle_time = 0.0
        """Seconds spent waiting in select. On loops without a selector the watchdog's estimate."""
        self.ran_for = 0.0
        """Seconds inside run_forever, finished runs only."""
        self.cpu_time = 0.0
        """CPU seconds of the thread inside run_forever, finished runs only."""
        self.runqueue_time: float | None = None
        """Written by the watchdog; None until the OS has offered a number."""
        self.sampled_active = 0.0
        """Seconds busy, as estimated by the watchdog on loops without a selector; else unused."""
        self.heartbeat_time = 0.0
        """Seconds our own heartbeat took in this loop."""
        self.last_tick: float | None = None
        """Monotonic time of the last heartbeat."""
        self._detach()

    def _detach(self) -> None:
        self.loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self.kind: LoopKind = "other"
        self.has_selector = False
        self.beat_interval = 0.0
        """Seconds between two heartbeats."""
        self.busy_since = NEVER
        """Since when the loop owes service. In a step: when it began. Waiting in select, or between two
        heartbeats where there is no selector: when the wait has to end, a moment still to come. NEVER while
        the loop does not run."""
        self.waiting_since = 0.0
        """When the running select began; 0.0 outside of one."""
        self.entered_at: float | None = None
        """Monotonic time run_forever was entered; None while the loop does not run."""
        self.leaves_unseen = False
        """Attached in mid-run: nobody will tell when this run of run_forever ends."""
        self.boundary: CodeType | None = None
        """Code of the frame that called into the loop: a stack shows what the loop runs from there inwards.
        None until the first heartbeat of a loop that was attached in mid-run."""
        self.cpu_time_at_enter = 0.0
        self.thread_id = 0
        self.native_id = 0
        self.cpu_clock: int | None = None

    def leave(self, now: float, cpu_time: float) -> None:
        """Settle accounts at the end of a run of run_forever."""
        self.busy_since = NEVER
        self.waiting_since = 0.0
        if self.entered_at is not None:
            self.ran_for += now - self.entered_at
            self.cpu_time += cpu_time - self.cpu_time_at_enter
        self.entered_at = None
        self.leaves_unseen = False

    def attach(self, loop: asyncio.AbstractEventLoop, kind: LoopKind, has_selector: bool) -> None:
        """Take up ``loop``; counters of an earlier loop of the same name go on from where they stood."""
        self._detach()
        self.loop = weakref.ref(loop)
        self.kind = kind
        self.has_selector = has_selector

    def end_stall(self, start: float, end: float, in_callback: bool) -> None:
        """Hand a stall that is over to the watchdog."""
        if len(self.ended) < ENDED_LIMIT:
            self.ended.append((start, end, in_callback))
        else:
            self.ended_dropped += 1

    @property
    def running(self) -> bool:
        """Whether run_forever is on the stack."""
        return self.entered_at is not None

    def blocked(self, now: float) -> float:
        """Return for how long the loop has owed service; 0.0 while it does not. Any thread."""
        return max(0.0, now - self.busy_since)

    @property
    def free(self) -> bool:
        """Whether its loop is gone, so that a new loop may go on under this name."""
        loop = self.loop() if self.loop is not None else None
        return loop is None or loop.is_closed()

    def absorb(self, gone: LoopState) -> None:
        """Add the counters of a state that is being forgotten."""
        self.delay.absorb(gone.delay)
        for generation, pauses in gone.gc_pause.items():
            self.gc_pause.setdefault(generation, Histogram()).absorb(pauses)
        self.iterations += gone.iterations
        self.idle_time += gone.idle_time
        self.sampled_active += gone.sampled_active
        self.ran_for += gone.ran_for
        self.cpu_time += gone.cpu_time
        self.heartbeat_time += gone.heartbeat_time
        self.ended_dropped += gone.ended_dropped
        if gone.runqueue_time is not None:
            self.runqueue_time = (self.runqueue_time or 0.0) + gone.runqueue_time


def base_name(thread: threading.Thread) -> str:
    """Name of the loops that run in ``thread``: without the running numbers the thread libraries add."""
    if thread is threading.main_thread():
        return "main"
    named = re.fullmatch(r"Thread-\d+ \((.+)\)", thread.name)
    return (named[1] if named else re.sub(r"([-_]\d+)+$", "", thread.name)) or "thread"


class LoopStates:
    """All loop states by name. Bounded: loops come and go by the thousand, names and series must not.

    A name is used again once its loop is gone. Two loops at a time in threads of one name are told apart by
    ``-2``, ``-3``; beyond ``LIMIT`` names the oldest state whose loop is gone is added up under ``_other``.
    """

    LIMIT = 64
    OTHER = "_other"

    def __init__(self) -> None:
        self._states: dict[str, LoopState] = {}
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopState] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()  # taken when a loop is first seen, never afterwards

    def of(self, loop: asyncio.AbstractEventLoop) -> LoopState | None:
        """Return the state of ``loop`` if it is watched."""
        return self._by_loop.get(loop)

    def claim(self, loop: asyncio.AbstractEventLoop, kind: LoopKind, has_selector: bool) -> LoopState:
        """Return a state for a loop not seen before, named after the calling thread."""
        base = base_name(threading.current_thread())
        with self._lock:
            for number in count(1):
                name = base if number == 1 else f"{base}-{number}"
                state = self._states.get(name)
                if state is None or state.free:
                    break
            if state is None:
                self._make_room()
                state = self._states[name] = LoopState(name)
            state.attach(loop, kind, has_selector)
            self._by_loop[loop] = state
            return state

    def _make_room(self) -> None:
        if len(self._states) < self.LIMIT:
            return
        for name, state in self._states.items():
            if state.free and name != self.OTHER:
                del self._states[name]
                self._states.setdefault(self.OTHER, LoopState(self.OTHER)).absorb(state)
                return

    def all(self) -> list[LoopState]:
        """Return the states seen so far, those of closed loops included."""
        return list(self._states.values())

    def clear(self) -> None:
        """Forget everything: in a forked child, where the parent's loops do not run."""
        self._states.clear()
        self._by_loop.clear()
        self._lock = threading.Lock()  # the parent's may have been held at the fork
