"""The watchdog's own lateness: when it could not run either, and which thread ran instead.

A watchdog that wakes late was kept from the GIL or from the CPU. At that instant the thread that held the GIL
has just released it, and its frame is still there. So the other threads are sampled first of all, and the one
whose CPU clock advanced most is the hog. If the loop gets the GIL first, and then the hog again, that frame
is gone: so the loop, too, samples the other threads when it was kept waiting for long (``Beside``).
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import CodeType, FrameType

from loopwatch._clock import Clock
from loopwatch._internals.interpreter import places
from loopwatch._internals.thread_clock import cpu_times
from loopwatch._internals.threads import native_ids
from loopwatch._places import Place
from loopwatch._store.loop_state import THREADS, Beside

if sys.platform == "linux":
    from resource import RUSAGE_THREAD, getrusage

LATE = 0.02
"""Seconds from which lateness is examined: four times the interval at which the GIL changes hands."""
PROMPT = 0.0005
"""Seconds up to which a look did not wait for anything: waking takes a fifth of that."""
SHARE = 0.1
"""Share of the lateness that a thread must have computed to be the hog."""


@dataclass(frozen=True, slots=True)
class Other:
    """What one thread was doing when the watchdog woke late."""

    thread_id: int
    stack: tuple[Place, ...]
    cpu: float
    """CPU seconds since the watchdog last looked."""


@dataclass(frozen=True, slots=True)
class Late:
    """One late wake-up."""

    planned: float
    woke: float
    gil_waits: int | None
    """Voluntary context switches meanwhile. While the watchdog waits for the GIL it wakes every 5 ms to ask
    for it; while the process is stopped or has no CPU it does not."""
    others: tuple[Other, ...]
    """Candidates for the hog: two, since one may be the victim. All stacks of 64 wake-ups take 0.3 MiB."""
    before: dict[int, float]
    """CPU seconds of all threads when the watchdog last looked, by kernel id."""
    queued: float | None
    """Seconds in which the watchdog was ready to run but had no CPU; None if the OS does not tell."""

    def within(self, start: float, end: float) -> float:
        """Return the seconds of lateness between two moments."""
        return max(0.0, min(end, self.woke) - max(start, self.planned))

    def part(self, number: float | None, start: float, end: float) -> float | None:
        """Return the part of ``number``, a total over this lateness, that falls between two moments."""
        return None if number is None else number * self.within(start, end) / (self.woke - self.planned)


@dataclass(frozen=True, slots=True)
class Lag:
    """What kept the watchdog from running in a span of time. None means unknown."""

    late: float
    """Seconds by which it was late."""
    gil_waits: float | None
    """How often, in that time, it woke to ask for the GIL."""
    queued: float | None
    """Seconds of that time that it was ready to run but had no CPU."""


class Lateness:
    """Late wake-ups, kept for as long as a stall may need them."""

    KEPT = 64

    def __init__(self, clock: Clock, boundary: CodeType, runqueue: Callable[[int], float | None]) -> None:
        self._clock = clock
        self._boundary = boundary
        self._runqueue = runqueue
        self.begin()

    def begin(self) -> None:
        """Forget everything, as in a forked child."""
        self._late: deque[Late] = deque(maxlen=self.KEPT)
        native_ids()  # in a forked child this reads a file, once: not to be done while a stall is examined
        self._cpu: dict[int, float] = {}
        """By kernel id: a new thread may reuse the Python id of one that has ended."""
        self.go_on()

    def go_on(self) -> None:
        """Forget the counts of the previous watchdog thread: those of a new one begin at zero."""
        self._queued: float | None = None
        self._unsettled: Late | None = None
        self._switches: int | None = None
        self.waited = False
        """Whether the latest look waited for the GIL, or may have."""

    def look(self, planned: float, woke: float, frames: dict[int, FrameType], own_id: int) -> None:
        """Note a wake-up; if it was late, also what all other threads do. First thing after waking."""
        late = woke - planned > LATE
        # Copied first: what follows may release the GIL, and then the hog would run on.
        stacks = {
            ident: places(frame, self._boundary)
            for ident, frame in (list(frames.items())[:THREADS] if late else ())
            if ident != own_id
        }
        switches = _voluntary_switches()
        gil_waits = self._gil_waits(switches)
        self.waited = gil_waits > 0 if gil_waits is not None else woke - planned > PROMPT
        if late:
            before = self._cpu
            self._read_cpu()
            others = _hogs(_others(stacks, native_ids(), before, self._cpu), woke - planned)
            now_late = Late(planned, woke, gil_waits, others, before, None)
            self._unsettled = self._after(self._unsettled, now_late)
        self._switches = switches

    def settle(self) -> None:
        """Complete what ``look`` noted with what must be read from a file, which may release the GIL."""
        if self._unsettled is None:
            return
        before = self._queued
        self._read_queued()
        late, self._unsettled = self._unsettled, None  # it may have grown while that was read
        if before is not None and self._queued is not None:
            late = replace(late, queued=min(self._queued - before, late.woke - late.planned))
        self._late.append(late)

    def refresh(self) -> None:
        """Read the clocks of all threads, so that the next late wake-up shows which have advanced."""
        self._read_cpu()
        self._read_queued()

    def within(self, start: float, end: float) -> Lag:
        """Return what kept the watchdog from running between two moments."""
        spans = self._spans(start, end)
        return Lag(
            late=sum(late.within(start, end) for late in spans),
            gil_waits=_sum(late.part(late.gil_waits, start, end) for late in spans),
            queued=_sum(late.part(late.queued, start, end) for late in spans),
        )

    def held_from(self, start: float, end: float) -> float | None:
        """Return when the first of the watchdog's late wake-ups in a span was due; None without any."""
        return min((late.planned for late in self._spans(start, end)), default=None)

    def hog(self, start: float, end: float, victim: int, beside: Beside | None) -> tuple[Place, ...]:
        """Return the stack of the thread, other than ``victim``, that computed most while we were late.

        The stack is as we saw it, or as the victim did. Empty if no thread did: one that held the GIL without
        computing cannot be told from those that waited.
        """
        others = (
            other
            for late in self._spans(start, end)
            for other in (*late.others, *_hogs(_seen(beside, late.before), late.woke - late.planned))
            if other.thread_id != victim
        )
        return max(others, key=lambda other: other.cpu, default=Other(0, (), 0.0)).stack

    def _spans(self, start: float, end: float) -> list[Late]:
        """Return the late wake-ups that overlap a span, including one in mid-step, not settled yet."""
        unsettled = self._unsettled
        late = [*self._late] if unsettled is None else [*self._late, unsettled]
        return [one for one in late if one.within(start, end) > 0]

    def _after(self, earlier: Late | None, late: Late) -> Late:
        """Return what to settle next: both as one, if only a little work of ours lay between them."""
        if earlier is None:
            return late
        if late.planned - earlier.woke < LATE:
            return _joined(earlier, late)
        self._late.append(earlier)
        return late

    def _gil_waits(self, switches: int | None) -> int | None:
        if switches is None or self._switches is None:
            return None
        return max(0, switches - self._switches - 1)  # one is the sleep itself, if it slept

    def _read_cpu(self) -> None:
        self._cpu = cpu_times(list(native_ids().values())[:THREADS], self._clock.of_thread)

    def _read_queued(self) -> None:
        self._queued = self._runqueue(threading.get_native_id())


def _joined(earlier: Late, later: Late) -> Late:
    """Merge two late looks of one step: each takes one of the few places that are kept."""
    others: dict[int, Other] = {}
    for other in sorted((*earlier.others, *later.others), key=lambda other: other.cpu, reverse=True):
        others.setdefault(other.thread_id, other)
    known = earlier.gil_waits is not None and later.gil_waits is not None
    return replace(
        earlier,
        woke=later.woke,
        gil_waits=(earlier.gil_waits or 0) + (later.gil_waits or 0) if known else None,
        others=tuple(others.values())[:2],
    )


def _hogs(others: list[Other], late: float) -> tuple[Other, ...]:
    """Return the two threads that computed most in the ``late`` seconds, among those that computed enough."""
    hogs = [other for other in others if other.stack and other.cpu > SHARE * late]
    return tuple(sorted(hogs, key=lambda other: other.cpu, reverse=True)[:2])


def _others(
    stacks: dict[int, tuple[Place, ...]],
    native: dict[int, int],
    before: dict[int, float],
    now: dict[int, float],
) -> list[Other]:
    return [
        Other(ident, stack, now.get(native.get(ident, 0), 0.0) - before.get(native.get(ident, 0), 0.0))
        for ident, stack in stacks.items()
    ]


def _seen(beside: Beside | None, before: dict[int, float]) -> list[Other]:
    return [] if beside is None else _others(beside.stacks, beside.native_ids, before, beside.cpu)


def _sum(numbers: Iterable[float | None]) -> float | None:
    """Return the sum; None if any is unknown."""
    total = 0.0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def _voluntary_switches() -> int | None:
    """Return how often the calling thread has given up the CPU voluntarily (Linux)."""
    return getrusage(RUSAGE_THREAD).ru_nvcsw if sys.platform == "linux" else None
