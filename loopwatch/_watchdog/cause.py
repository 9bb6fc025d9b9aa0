"""Why a loop was not served: decides on numbers alone.

The order matters: each cause explains away those after it. A collection computes, so ``gc`` comes before
``cpu``; a thread without a CPU computes slowly, so ``starved`` does too. See docs/explanation/causes.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from loopwatch._agent_records import Cause

MOST = 0.5
"""Share of a stall from which a cause explains it."""
LITTLE = 0.35
"""Share below which a factor cannot have changed the verdict."""
SOME = 0.1
"""Share that threads other than the loop's computed, from which one of them may have held the GIL."""
CLOSE = 0.1
"""Difference up to which two shares are too close for either to be the cause."""
SWITCH_INTERVAL = 0.005
"""Seconds after which a thread that waits for the GIL wakes to ask for it (``sys.getswitchinterval``)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of one stall, in seconds within it. None means unknown."""

    duration: float
    gc: float
    cpu: float | None
    """CPU time of the loop's thread."""
    process_cpu: float | None
    runqueue: float | None
    throttled: float | None
    late: float
    """Time by which the watchdog was late."""
    gil_waits: float | None
    """How often the watchdog, in that time, woke to ask for the GIL."""
    late_queued: float | None
    """Part of ``late`` in which the watchdog was ready to run but had no CPU."""
    asleep: float
    samples: int
    callbacks: int
    """Samples that show a different callback from the sample before."""
    in_callback: bool
    """Whether a callback of the loop was running, as opposed to a wait that ended late."""
    only_running: bool
    """Whether the loop's thread was seen on a CPU, or ready for one, and never asleep."""

    def share(self, seconds: float | None) -> float:
        """Return ``seconds`` as a share of the stall; 0.0 for unknown."""
        return 0.0 if seconds is None else seconds / self.duration

    @property
    def kept_waiting(self) -> float:
        """Share for which the loop's thread was ready to run but had no CPU, for whatever reason."""
        return max(self.share(self.runqueue), self.share(self.throttled))

    @property
    def awake(self) -> bool:
        """Whether the loop's thread ran, or was ready to, for most of it: not so in a call that sleeps."""
        return self.share(self.cpu) + self.kept_waiting >= MOST

    @property
    def waited_for_gil(self) -> bool | None:
        """Whether the watchdog was late because somebody held the GIL; None if that cannot be told."""
        if self.gil_waits is None:
            return None
        return self.gil_waits * SWITCH_INTERVAL >= self.late * LITTLE

    @property
    def held(self) -> float:
        """Time by which the watchdog was late for a reason that concerns the loop too.

        A watchdog without a CPU says nothing about a loop's thread that asked for none.
        """
        starved = self.late_queued is not None and self.late_queued >= self.late * MOST
        return 0.0 if starved and not self.waited_for_gil else self.late

    @property
    def flooded(self) -> bool:
        """Whether many callbacks ran and none for long: nearly every sample shows another one."""
        return self.samples >= 3 and self.callbacks >= 0.75 * (self.samples - 1)


def decide(m: Measured) -> Cause:
    """Return the first cause that explains most of the stall, ``unknown`` if none does."""
    if m.share(m.gc) >= MOST:
        return "gc"
    computed = m.share(m.cpu)
    if max(computed, m.kept_waiting) >= MOST and abs(computed - m.kept_waiting) < CLOSE:
        return "unknown"
    if m.kept_waiting >= MOST:
        return "starved"
    if m.share(m.asleep) >= MOST:
        return "suspended"
    if computed >= MOST:
        return "flood" if m.flooded else "cpu"
    if m.share(m.held) >= MOST:
        return _late(m)
    if m.cpu is None or m.awake:
        return "unknown"
    if max(computed, m.kept_waiting, m.share(m.gc), m.share(m.held)) > LITTLE:
        return "unknown"
    # A call that sleeps lets the watchdog look. If it saw nothing, threads were taking turns at the GIL.
    return "blocking" if m.in_callback and m.samples and not m.only_running else "unknown"


def _late(m: Measured) -> Cause:
    """Tell who kept the watchdog from running, when it was not the loop's own thread computing."""
    if m.process_cpu is None:
        return "unknown"  # no reading from before: a stall right at the start
    if m.waited_for_gil is False:
        return "suspended" if m.share(m.process_cpu) < 1 - MOST else "unknown"
    others = m.share(m.process_cpu - (m.cpu or 0.0))
    if others >= MOST or (m.waited_for_gil and others > LITTLE):
        return "gil"  # a smaller share will do: the thread that held it may have lacked a CPU meanwhile
    if m.waited_for_gil is None:
        return "suspended" if m.share(m.process_cpu) < LITTLE else "unknown"
    if max(m.share(m.process_cpu), m.share(m.runqueue)) > LITTLE:
        return "unknown"
    if not m.in_callback:
        return "gil"
    if not m.samples:
        # Nothing shows that the loop's thread held it; on uvloop not even that a callback ran.
        return "gil" if others >= SOME else "unknown"
    # The GIL was held, yet nobody computed: a C function that sleeps without releasing it.
    # Its thread can be seen only after the call, when it is running again.
    return "unknown" if m.awake or (m.only_running and others >= SOME) else "blocking"
