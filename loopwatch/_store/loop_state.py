"""What is kept of one watched loop, and under which name."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from itertools import count
from types import CodeType
from typing import NamedTuple

from loopwatch._agent_records import Cause, LoopKind, Stall
from loopwatch._places import Place
from loopwatch.facts import NOBODY, TOP

from .cells import Histogram, TopTotals, WindowMax
from .loop_names import base_name
from .pauses import Pauses
from .tasks import LoopTasks

NEVER = float("inf")
"""``busy_since`` of a loop that owes nothing: it is not running."""

ENDED_LIMIT = 64
"""Stalls that the loop may end before the watchdog collects them (every few ticks)."""
THREADS = 64
"""Threads looked at when a loop or the watchdog was kept waiting: looking at more would itself be a stall."""


class Beside(NamedTuple):
    """What the other threads were doing when a loop that had been kept waiting could go on."""

    at: float
    """The end of the stall."""
    stacks: dict[int, tuple[Place, ...]]
    """By thread id, innermost first."""
    native_ids: dict[int, int]
    """Kernel ids by thread id."""
    cpu: dict[int, float]
    """CPU seconds by kernel id."""


class LoopState:
    """The cells of one loop.

    Written by the loop's thread, without a lock, unless a field says otherwise. The most important one is
    ``busy_since``: the watchdog derives an age from it, and its value identifies the step it belongs to.
    """

    __slots__ = (
        "active_time",
        "beat_due",
        "beat_interval",
        "beside",
        "block_duration",
        "block_time",
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
        "idle_at_enter",
        "idle_time",
        "iterations",
        "kind",
        "last_tick",
        "late_beats",
        "leaves_unseen",
        "loop",
        "name",
        "native_id",
        "runqueue_time",
        "shown",
        "tasks",
        "thread_id",
        "wait_until",
        "waiting_since",
    )

    def __init__(self, name: str, pauses: Pauses | None = None) -> None:
        self.name = name
        self.ended: deque[tuple[float, float, bool]] = deque()
        """Stalls that are over, for the watchdog to collect: start and end on the monotonic clock, and
        whether a callback ran (a step) or a wait ended late."""
        self.ended_dropped = 0
        self.late_beats: deque[tuple[float, float]] = deque(maxlen=ENDED_LIMIT)
        """Heartbeats that a stall may have delayed: when, in monotonic time, and how late. Each is put here
        after its stall was put above, so that a reader who reads here first finds the stall there."""
        self.beside: Beside | None = None
        """What the other threads were doing at the end of the last stall."""
        self.delay = Histogram()
        self.delay_max = WindowMax()
        self.gc_pause: dict[int, Histogram] = {}
        """By generation. Written by whichever thread collects; collections never overlap."""
        self.iterations = 0.0
        """A whole number, kept as a float, since adding to one allocates less than adding to an int."""
        self.idle_time = 0.0
        """Seconds spent waiting in select. On loops without a selector, the watchdog's estimate."""
        self.active_time = 0.0
        """Seconds spent running callbacks, in finished runs only. On loops without a selector, the watchdog's
        estimate, which includes the current run."""
        self.cpu_time = 0.0
        """CPU seconds of the thread inside run_forever, in finished runs only."""
        self.runqueue_time: float | None = None
        """Written by the watchdog; None until the OS has offered a number."""
        self.heartbeat_time = 0.0
        """Seconds that our own heartbeat took in this loop."""
        self.last_tick: float | None = None
        """Monotonic time of the last heartbeat."""
        self.block_duration = Histogram()
        """Of its stalls. Written by the watchdog, like ``block_time``."""
        self.block_time: dict[Cause, TopTotals[str, float]] = {}
        """Seconds lost in stalls by the culprit's name, by cause."""
        self.shown: dict[str, float] = {}
        """The largest values read of its counters. Written by whoever reads."""
        self.tasks = LoopTasks(pauses or Pauses())
        self._detach()

    def _detach(self) -> None:
        self.loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self.kind: LoopKind = "other"
        self.has_selector = False
        self.beat_interval = 0.0
        """Seconds between two heartbeats."""
        self.beat_due = 0.0
        """When the next heartbeat is due, on loops with a selector..."""
        self.wait_until = 0.0
        """...and until when the loop may wait for it: longer while nothing happens."""
        self.busy_since = NEVER
        """Since when the loop owes service. In a step: when it began. Waiting in select, or between two
        heartbeats if there is no selector: when the wait has to end, a moment in the future. NEVER while the
        loop does not run."""
        self.waiting_since = 0.0
        """When the running select began; 0.0 outside of one."""
        self.entered_at: float | None = None
        """Monotonic time run_forever was entered; None while the loop does not run. Set last on entering
        and reset first on leaving, so that no reader counts a run twice."""
        self.idle_at_enter = 0.0
        self.leaves_unseen = False
        """Attached in mid-run: nothing will tell when this run of run_forever ends."""
        self.cpu_time_at_enter = 0.0
        self.boundary: CodeType | None = None
        """Code of the frame that runs the loop: from it inwards a stack shows what the loop runs. None if
        unknown."""
        self.thread_id = 0
        self.native_id = 0
        self.cpu_clock: int | None = None

    def leave(self, now: float, cpu_time: float) -> None:
        """Close the accounts at the end of a run of run_forever."""
        entered_at, self.entered_at = self.entered_at, None
        self.busy_since = NEVER
        self.waiting_since = 0.0
        self.leaves_unseen = False
        if entered_at is not None:
            self.cpu_time += cpu_time - self.cpu_time_at_enter
            if self.has_selector:
                self.active_time += now - entered_at - (self.idle_time - self.idle_at_enter)

    def attach(self, loop: asyncio.AbstractEventLoop, kind: LoopKind, has_selector: bool) -> None:
        """Take on ``loop``; counters of an earlier loop of the same name continue from where they stood."""
        self._detach()
        self.loop = weakref.ref(loop)
        self.kind = kind
        self.has_selector = has_selector

    def enter(self, now: float, cpu_time: float) -> None:
        """Begin accounting for a run of run_forever."""
        self.cpu_time_at_enter = cpu_time
        self.idle_at_enter = self.idle_time
        self.last_tick = now
        if self.has_selector:
            self.busy_since = now
        self.entered_at = now

    def end_stall(self, start: float, end: float, in_callback: bool) -> None:
        """Hand a stall that is over to the watchdog."""
        if len(self.ended) < ENDED_LIMIT:
            self.ended.append((start, end, in_callback))
        else:
            self.ended_dropped += 1

    def add_stall(self, stall: Stall) -> None:
        """Add a stall that is over to the totals. Watchdog thread."""
        self.block_duration.observe(stall.duration)
        function = stall.culprit.name if stall.culprit is not None else NOBODY
        self.block_time.setdefault(stall.cause, TopTotals(TOP, 0.0)).add(function, stall.duration)

    @property
    def running(self) -> bool:
        """Whether run_forever is on the stack."""
        return self.entered_at is not None

    def blocked(self, now: float) -> float:
        """Return for how long the loop has owed service; 0.0 while it does not. Any thread."""
        return max(0.0, now - self.busy_since) if self.running else 0.0

    @property
    def free(self) -> bool:
        """Whether its loop is gone, so that a new loop may take over this name."""
        loop = self.loop() if self.loop is not None else None
        return loop is None or loop.is_closed()

    def absorb(self, gone: LoopState) -> None:
        """Add the counters of a state that is being forgotten."""
        self.delay.absorb(gone.delay)
        for generation, pauses in gone.gc_pause.items():
            self.gc_pause.setdefault(generation, Histogram()).absorb(pauses)
        self.iterations += gone.iterations
        self.idle_time += gone.idle_time
        self.active_time += gone.active_time
        self.cpu_time += gone.cpu_time
        self.heartbeat_time += gone.heartbeat_time
        self.ended_dropped += gone.ended_dropped + len(gone.ended)
        self.block_duration.absorb(gone.block_duration)
        self.tasks.absorb(gone.tasks)
        for cause, totals in gone.block_time.items():
            self.block_time.setdefault(cause, TopTotals(TOP, 0.0)).absorb(totals)
        if gone.runqueue_time is not None:
            self.runqueue_time = (self.runqueue_time or 0.0) + gone.runqueue_time


class LoopStates:
    """All loop states by name. Bounded: loops come and go by the thousand, names and series must not.

    A name is reused once its loop is gone. Concurrent loops in threads of one name are told apart by ``-2``,
    ``-3``; beyond ``LIMIT`` names the oldest state whose loop is gone is added up under ``_other``, and if
    all are in use a further loop gets none.
    """

    LIMIT = 64
    OTHER = "_other"

    def __init__(self, pauses: Pauses | None = None) -> None:
        self._pauses = pauses or Pauses()
        self._states: dict[str, LoopState] = {}
        self._lock = threading.Lock()  # taken when a loop is first seen, never afterwards

    def claim(self, loop: asyncio.AbstractEventLoop, kind: LoopKind, has_selector: bool) -> LoopState | None:
        """Return a state for a new loop, named after the calling thread; None if there is none left."""
        base = base_name(threading.current_thread())
        with self._lock:
            for number in count(1):
                name = base if number == 1 else f"{base}-{number}"
                state = self._states.get(name)
                if state is None or state.free:
                    break
            if state is None:
                if not self._make_room():
                    return None
                state = self._states[name] = LoopState(name, self._pauses)
            state.attach(loop, kind, has_selector)
            return state

    def _make_room(self) -> bool:
        if len(self._states) < self.LIMIT:
            return True
        for name, state in self._states.items():
            if state.free and name != self.OTHER:
                del self._states[name]
                other = self._states.setdefault(self.OTHER, LoopState(self.OTHER, self._pauses))
                other.absorb(state)
                return True
        return False

    def all(self) -> list[LoopState]:
        """Return the states seen so far, those of closed loops included."""
        return list(self._states.values())

    def of(self, loop: asyncio.AbstractEventLoop) -> LoopState | None:
        """Return the state of ``loop``; None if it has none."""
        for state in self.all():
            if state.loop is not None and state.loop() is loop:
                return state
        return None

    def looked_at(self) -> tuple[asyncio.AbstractEventLoop, int]:
        """Return the running loop that was seen first, and its thread's id. LookupError if none runs."""
        for state in self.all():
            loop = state.loop() if state.running and state.loop is not None else None
            if loop is not None:
                return loop, state.thread_id
        raise LookupError("no event loop runs")

    def clear(self) -> None:
        """Forget everything: in a forked child, where the parent's loops do not run."""
        self._states.clear()
        self._lock = threading.Lock()  # the parent's may have been held at the fork
