"""One run of one kind in this process: make the stall, wait for the report, return both."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict, dataclass
from typing import Any

import loopwatch

from ._kind import Kind, LoopFactory, Truth

LEAD = (0.3, 0.4)
"""Bounds of the seconds of healthy service before the stall: random, so that it may fall anywhere between two
of our beats."""
DEADLINE = 2.0
"""Seconds after the stall within which it must have been reported."""
SETTLE = 0.25
"""Seconds to continue after the report, within which a second report would show."""
TICK = 0.005


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent said about one stall."""

    loop_name: str
    started_at: float
    duration: float
    cause: str
    culprit: str | None
    call: str | None
    samples: int
    stack: list[str]
    evidence: dict[str, float]

    def overlaps(self, started_at: float, duration: float) -> bool:
        """Whether this was going on at some time in the given span."""
        return self.started_at < started_at + duration and started_at < self.started_at + self.duration


@dataclass(frozen=True, slots=True)
class Observation:
    """All that one process made, felt and was told."""

    truths: list[Truth]
    reports: list[Report]
    gaps: list[tuple[float, float]]
    """When the service of the loop ``main`` was delayed by more than the threshold, and for how long."""

    @classmethod
    def load(cls, values: dict[str, Any]) -> Observation:
        """Rebuild an observation from the values of ``dump``."""
        return cls(
            [Truth(**truth) for truth in values["truths"]],
            [Report(**report) for report in values["reports"]],
            [(started_at, duration) for started_at, duration in values["gaps"]],
        )

    def dump(self) -> dict[str, Any]:
        """Turn this into values for JSON."""
        return asdict(self)


def observe(kind_class: type[Kind], loop_factory: LoopFactory) -> Observation:
    """Stall a loop once under the agent."""
    kind = kind_class(loop_factory)
    kind.prepare()
    agent = loopwatch.install(prometheus_port=None, stall_threshold=kind.threshold)
    before = time.time(), time.perf_counter()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_serve(kind, agent, before))


async def _serve(kind: Kind, agent: loopwatch.Agent, before: tuple[float, float]) -> Observation:
    gaps: list[tuple[float, float]] = []
    ticking = asyncio.create_task(_tick(kind.threshold, gaps, before))
    await asyncio.sleep(random.uniform(*LEAD))
    await kind.provoke()
    await asyncio.sleep(0)  # ends the step: what follows is not part of the stall
    deadline = time.perf_counter() + DEADLINE
    while len(_reports(agent)) < len(kind.truths) and time.perf_counter() < deadline:
        await asyncio.sleep(0.02)
    await asyncio.sleep(SETTLE)
    ticking.cancel()
    return Observation(kind.truths, _reports(agent), gaps)


async def _tick(threshold: float, gaps: list[tuple[float, float]], before: tuple[float, float]) -> None:
    """Stand for the loop's service, and note by our own clock when it was late, including the first time."""
    started_at, start = before
    while True:
        await asyncio.sleep(TICK)
        gap = time.perf_counter() - start
        if gap > threshold:
            gaps.append((started_at, gap))
        started_at, start = time.time(), time.perf_counter()


def _reports(agent: loopwatch.Agent) -> list[Report]:
    return [
        Report(
            stall.loop_name,
            stall.started_at,
            stall.duration,
            stall.cause,
            stall.culprit.name if stall.culprit else None,
            stall.call,
            stall.samples,
            [f"{frame.name}:{frame.line}" for frame in stall.stack],
            dict(stall.evidence),
        )
        for stall in agent.stalls()
        if not stall.in_progress
    ]
