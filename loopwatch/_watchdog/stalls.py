"""Follows one loop: suspects a step that takes long, samples it, and records it once it is over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType

from loopwatch._agent_records import Stall
from loopwatch._clock import Clock
from loopwatch._context.reader import ContextReader
from loopwatch._store.loop_state import LoopState
from loopwatch._store.pauses import Pauses

from .code_owner import CodeOwner
from .evidence import Evidence, Reading
from .exemplars import Exemplars
from .lateness import Lateness
from .samples import Suspicion, busy, take
from .shares import Shares
from .verdict import Ended, Verdict


@dataclass(frozen=True, slots=True)
class Witness:
    """What the trackers share: sources of evidence, and how to tell whose code a frame is."""

    clock: Clock
    threshold: float
    pauses: Pauses
    lateness: Lateness
    evidence: Evidence
    owner: CodeOwner
    contexts: ContextReader
    tell: Callable[[Stall], None]
    """Takes each stall once when it is over, and one that lasts for STILL seconds also once at that point."""


STILL = 5.0
"""Seconds after which a stall is reported although it is not over: it may never be."""


class Tracker:
    """The watchdog's view of one loop. Used only by the watchdog's thread, except for ``in_progress``.

    A tick goes ``note`` - (frames are frozen) - ``look`` - ``settle``, in this order for all loops: what may
    release the GIL, such as opening a file, comes only in ``settle``. If that had to wait to get it back,
    ``note`` and ``look`` run once more, in the middle of ``settle``.
    """

    def __init__(self, state: LoopState, witness: Witness) -> None:
        self.state = state
        self._w = witness
        self._verdict = Verdict(
            state, witness.clock, witness.pauses, witness.lateness, witness.owner, witness.contexts
        )
        self._exemplars = Exemplars(state, witness.clock)
        self._readings: deque[Reading] = deque(maxlen=16)
        self._suspicion: Suspicion | None = None
        self._past: dict[float, Suspicion] = {}
        self._since = 0.0
        self._run: float | None = None
        self._shares = Shares(state)
        self._seen_idle = 0.0
        self._first_busy: float | None = None

    @property
    def suspicious(self) -> float | None:
        """Seconds until the next sample is due while a step is suspected; None while all is well."""
        return None if self._suspicion is None else self._suspicion.pace

    def note(self) -> None:
        """Note which step the frames about to be frozen belong to."""
        self._since = self.state.busy_since
        if self._suspicion is not None and not self.state.has_selector:
            self._suspicion.tell_frames_apart()

    def wants_frame(self, now: float) -> bool:
        """Whether ``look`` has a use for the frame: not while a selector already tells everything."""
        return not self.state.has_selector or now - self._since > self._w.threshold / 2

    def look(self, now: float, frame: FrameType | None) -> None:
        """Sample the step if it takes long."""
        state, since = self.state, self._since
        if not state.has_selector and state.running and state.boundary is not None:
            self._look_blind(now, busy(frame, state.boundary))
        if self._suspicion is not None and self._suspicion.since != since:
            self._past[self._suspicion.since] = self._suspicion
            self._suspicion = None
        if now - self._earliest(since) <= self._w.threshold / 2 or (state.leaves_unseen and not self._runs()):
            return
        suspicion = self._suspicion or self._suspect(since)
        if now < suspicion.next_at:
            return
        cpu = self._w.evidence.thread_cpu(state)
        if take(state, suspicion, now, cpu, frame, self._w.contexts):
            suspicion.next_at = now + suspicion.pace
            self._suspicion = suspicion

    def settle(self) -> None:
        """Read the clocks, and record the stalls that are over."""
        state = self.state
        beats = [state.late_beats.popleft() for _ in range(len(state.late_beats))]
        over = [state.ended.popleft() for _ in range(len(state.ended))]
        past, self._past = self._past, {}  # what a look finds to be over from now on is for the next call
        if state.entered_at != self._run:
            self._run = state.entered_at
            if not over:
                self._readings.clear()  # maybe another thread, whose clocks do not continue these
        if self._run is not None or over:
            self._read(fresh=bool(over))  # after the end of all that is over, so that everything is booked
        for start, end, in_callback in over:
            suspicion = self._suspected(start, past)
            ended = Ended(start, end, in_callback, self._readings[-1])
            stall = self._verdict.on(ended, suspicion, in_progress=False)
            if stall.duration >= self._w.threshold:  # without a selector, only a suspicion until now
                state.add_stall(stall)
                self._exemplars.of_stall(end, stall)
                self._w.tell(stall)
        self._exemplars.of_beats(beats)
        self._tell_still()

    def _tell_still(self) -> None:
        suspicion = self._suspicion
        if suspicion is None or suspicion.told or len(suspicion.samples) < 2:
            return  # seen only once, it may just be ending: a hold of the GIL
        now = self._w.clock.monotonic()
        if now - suspicion.since >= STILL and (stall := self.in_progress(now)) is not None:
            suspicion.told = True
            self._w.tell(stall)

    def _suspected(self, start: float, past: dict[float, Suspicion]) -> Suspicion:
        """Return and forget what was seen of the step that began at ``start``."""
        if self._suspicion is not None and self._suspicion.since == start:
            suspicion, self._suspicion = self._suspicion, None  # it ended since the last look
            return suspicion
        return past.get(start) or self._past.get(start) or self._suspect(start)

    def _suspect(self, start: float) -> Suspicion:
        return Suspicion(start, self._before(start), self._bounds(start))

    def in_progress(self, now: float) -> Stall | None:
        """Return the stall in progress, if there is one. Any thread."""
        suspicion = self._suspicion
        if suspicion is None or self.state.busy_since != suspicion.since:
            return None
        latest = suspicion.inside[-1] if suspicion.inside else None
        if latest is None or now - suspicion.since <= self._w.threshold:
            return None
        # Judged only as far as the evidence reaches: up to now, the time not yet accounted for (the watchdog
        # may be waiting for the GIL) would look like time spent asleep.
        known = Ended(suspicion.since, latest.at, not self.state.waiting_since, latest)
        stall = self._verdict.on(known, suspicion, in_progress=True)
        return replace(stall, duration=stall.duration + now - latest.at)

    def _runs(self) -> bool:
        """Whether a loop that was attached in mid-run still runs; if not, close its accounts for it."""
        loop = self.state.loop() if self.state.loop is not None else None
        if loop is not None and loop.is_running():
            return True
        self.state.leave(self._w.clock.monotonic(), self.state.cpu_time_at_enter)
        return False

    def _look_blind(self, now: float, is_busy: bool) -> None:
        """Without a selector, only looks tell busy from idle, and when a callback began."""
        self._shares.see(now, is_busy=is_busy, waited=self._w.lateness.waited)
        if is_busy:
            self._first_busy = self._first_busy or now
        else:
            self._seen_idle, self._first_busy = now, None

    def _read(self, fresh: bool) -> None:
        state, suspicion = self.state, self._suspicion
        before = self._readings[-1] if self._readings else None
        reading = self._w.evidence.read(state, before, fresh=fresh or suspicion is not None)
        queued = 0.0
        if before is not None and before.runqueue is not None and reading.runqueue is not None:
            queued = max(0.0, reading.runqueue - before.runqueue)
            state.runqueue_time = (state.runqueue_time or 0.0) + queued
        self._shares.add(reading, queued)
        if suspicion is not None:
            suspicion.states[self._w.evidence.system.state(state.native_id)] += 1
            suspicion.inside = (*suspicion.inside[:1], reading)
        self._readings.append(reading)

    def _before(self, start: float) -> Reading | None:
        """Return the last reading before ``start``, else the first there is."""
        readings = list(self._readings)
        earlier = [reading for reading in readings if reading.at <= start]
        return earlier[-1] if earlier else readings[0] if readings else None

    def _earliest(self, since: float) -> float:
        """Return the earliest moment at which a step noticed at ``since`` may have begun."""
        bounds = self._bounds(since)
        return since if bounds is None else bounds[0]

    def _bounds(self, start: float) -> tuple[float, float] | None:
        """Return the bounds within which a stall known from a late beat began; None if that is exact.

        Without a selector a callback may have begun at any time after the previous beat and after the last
        tick that saw the loop idle, and before the first tick that saw it busy.
        """
        if self.state.has_selector:
            return None
        lower, upper = start - self.state.beat_interval, start
        if self._first_busy is not None and self._first_busy > lower:
            upper = min(self._first_busy, start)
        if lower < self._seen_idle <= start:
            lower = self._seen_idle
        return min(lower, upper), upper
