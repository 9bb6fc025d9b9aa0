"""Time that stands still until a test moves it."""

from __future__ import annotations

from collections import defaultdict

from loopwatch._clock import Clock


class FakeClock:
    """All clocks of a process, moved by hand; ``clock`` is what the parts of loopwatch take.

    ::

        fake = FakeClock()
        watchdog = Watchdog(clock=fake.clock)
        fake.advance(0.5)
    """

    def __init__(self, *, monotonic: float = 1_000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._boottime = monotonic
        self._process_cpu = 0.0
        self._thread_cpu = 0.0
        self._cpu_of_thread: defaultdict[int, float] = defaultdict(float)
        self.clock = Clock(
            monotonic=self.monotonic,
            wall=self.wall,
            process_cpu=self.process_cpu,
            thread_cpu=self.thread_cpu,
            boottime=self.boottime,
            of_thread=self.of_thread,
        )

    def advance(self, seconds: float) -> None:
        """Let time pass without this process using any CPU time."""
        self._monotonic += seconds
        self._wall += seconds
        self._boottime += seconds

    def sleep_machine(self, seconds: float) -> None:
        """Put the whole machine to sleep: the monotonic clock stops, wall and boot time go on."""
        self._wall += seconds
        self._boottime += seconds

    def spend(self, seconds: float, clock_id: int | None = None) -> None:
        """Charge CPU time to the thread with that CPU clock, by default the caller's. No time passes."""
        self._process_cpu += seconds
        if clock_id is None:
            self._thread_cpu += seconds
        else:
            self._cpu_of_thread[clock_id] += seconds

    def monotonic(self) -> float:
        """Read the monotonic clock."""
        return self._monotonic

    def wall(self) -> float:
        """Read Unix time."""
        return self._wall

    def process_cpu(self) -> float:
        """Read the CPU time of all threads."""
        return self._process_cpu

    def thread_cpu(self) -> float:
        """Read the CPU time of the calling thread: one value, whichever thread asks."""
        return self._thread_cpu

    def boottime(self) -> float:
        """Read the clock that goes on while the machine sleeps."""
        return self._boottime

    def of_thread(self, clock_id: int) -> float:
        """Read the CPU clock with the given id; zero until something was charged to it."""
        return self._cpu_of_thread[clock_id]
