"""The definition of a kind of stall: work that blocks a loop, and the script's own truth about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

COMPUTING = ("cpu", "flood")
"""Causes where the loop's thread computes, as long as the machine lets it."""
MOSTLY = 0.6
"""Share of the time from which one thing is the cause of a stall; below it, two things share the blame."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def full_name(function: Callable[..., object]) -> str:
    """Return a function's name as in a report: module and qualified name."""
    return f"{function.__module__}.{function.__qualname__}"


@dataclass(frozen=True, slots=True)
class Truth:
    """One stall as the script made it, by the script's own clocks."""

    started_at: float
    """Unix time."""
    duration: float
    cpu_share: float
    """CPU time of the blocked thread over the duration: shows whether the work was what it claims to be."""
    causes: tuple[str, ...]
    """The right cause; two if two weigh about the same."""
    culprit: str | None
    """Module and qualified name; None if no application code is at fault."""
    call: str | None
    """The call as written in the culprit; None if there is more than one right answer."""
    loop_name: str = "main"


class Kind:
    """One way to stall a loop. A subclass blocks in ``work``, or in the function it names in ``culprit``."""

    title: str
    cause: str
    call: str | None = None
    culprit: str | None = "work"
    """Qualified name within the class; None if no application code is at fault."""
    seconds = 0.3
    fits = (0.2, 0.8)
    """The true duration must lie within these bounds, or the script has sized its own work badly."""
    threshold = 0.1

    def __init__(self, loop_factory: LoopFactory) -> None:
        self.loop_factory = loop_factory
        self.truths: list[Truth] = []

    def prepare(self) -> None:
        """Size the work and open what it needs, before the loop runs."""

    def work(self) -> None:
        """Block the calling thread for about ``seconds``."""
        raise NotImplementedError

    def set_off(self) -> None:
        """Start what the work waits for, in a step of its own."""

    async def provoke(self) -> None:
        """Stall the running loop once; return when the stall is over and its truth recorded."""
        self.set_off()
        await asyncio.sleep(0)
        self.run()

    def run(self) -> None:
        """Do the work, and record its truth by the clock."""
        with self.timed():
            self.work()

    @contextmanager
    def timed(self, **differing: Any) -> Iterator[None]:
        """Record the truth about the block, with the values that differ from the kind's own."""
        started_at, cpu, start = time.time(), time.thread_time(), time.perf_counter()
        yield
        duration = time.perf_counter() - start
        self.keep(started_at, duration, (time.thread_time() - cpu) / duration, **differing)

    def keep(self, started_at: float, duration: float, cpu_share: float, **differing: Any) -> None:
        """Record one truth. Work that computes, but had no CPU for most of its time, was starved."""
        truth = Truth(started_at, duration, cpu_share, (self.cause,), self.culprit_name(), self.call)
        truth = replace(truth, **differing)
        if truth.causes[0] in COMPUTING and cpu_share < MOSTLY:
            split = cpu_share > 1 - MOSTLY
            truth = replace(truth, causes=(*truth.causes, "starved") if split else ("starved",))
        self.truths.append(truth)

    def culprit_name(self) -> str | None:
        """Full name of the function at fault."""
        return None if self.culprit is None else full_name(attrgetter(self.culprit)(type(self)))


class Short:
    """Mixin for a kind: a stall just over a low threshold."""

    seconds = 0.03
    tries = 5
    fits = (0.022, 0.06)
    threshold = 0.02


class Sized(Kind):
    """Work whose duration depends on an amount, which is found by trial."""

    amount: int
    """Where the search starts; also the least amount to work on."""
    tries = 1
    """How often to try each amount: the shorter the work, the less certain its duration."""
    clock = staticmethod(time.thread_time)
    """The clock to size the work by: CPU time is the same however busy the machine is."""

    def build(self, amount: int) -> None:
        """Make ``work`` as long as ``amount`` says."""
        raise NotImplementedError

    def prepare(self) -> None:
        amount = self.amount
        while (took := min(self.tried(amount) for _ in range(self.tries))) < self.seconds / 6:
            amount *= 3
        self.build(max(self.amount, round(amount * self.seconds / took)))

    def tried(self, amount: int) -> float:
        """Return how long ``amount`` takes."""
        self.build(amount)
        start = self.clock()
        self.work()
        return self.clock() - start
