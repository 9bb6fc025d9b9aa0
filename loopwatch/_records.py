"""What loopwatch says, as frozen records: the vocabulary every layer shares.

Times of day are Unix seconds, spans of time are seconds. ``None`` means "not known here", never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Cause = Literal["cpu", "blocking", "flood", "gc", "gil", "starved", "suspended", "unknown"]
"""Why a loop was not served, in the order of the decision; see ``docs/explanation/causes.md``."""

LoopKind = Literal["asyncio", "uvloop", "other"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One place in code."""

    function: str
    """Qualified name within the module, such as ``Service.handle``."""
    module: str
    """Name of the module as imported; ``__main__`` for the program itself."""
    file: str
    line: int

    @property
    def name(self) -> str:
        """Module and function, dotted: what ``code.function.name`` of the OTel conventions holds."""
        return f"{self.module}.{self.function}" if self.module else self.function

    def __str__(self) -> str:
        return f"{self.name} ({self.file}:{self.line})"


@dataclass(frozen=True, slots=True)
class Stall:
    """One stretch of time in which a loop could not run what was ready."""

    duration: float
    """Seconds; of a stall in progress, seconds so far."""
    started_at: float
    """Unix time."""
    cause: Cause
    culprit: Frame | None
    """The innermost frame of application code in the stack seen most; for cause ``gil`` that of the thread
    that held the GIL. None when no such frame was caught."""
    call: str | None
    """What the culprit was calling, as written there, such as ``json.loads``; None when it was no call."""
    stack: tuple[Frame, ...]
    """Innermost last, from the loop's ``run_forever`` inwards."""
    task_name: str | None
    coroutine: str | None
    """Qualified name of the task's coroutine function; None when a plain callback ran."""
    evidence: Mapping[str, float]
    """The numbers the cause rests on; names ending in ``_s`` are seconds within the stall's window."""
    in_progress: bool
    samples: int
    """How many stacks were taken of it; 0 means that the culprit could not be seen."""
    loop_name: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram as read: one count per bucket, not cumulative, the last one beyond all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """Number of observations."""
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """Estimate quantile ``q`` (0 to 1) linearly within its bucket, as PromQL's ``histogram_quantile``.

        None without observations; the highest bound when the quantile lies beyond it.
        """
        rank = q * self.count
        if not self.count:
            return None
        seen = 0
        lower = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and seen + count >= rank:
                return lower + (bound - lower) * max(rank - seen, 0.0) / count
            seen += count
            lower = bound
        return self.bounds[-1]


@dataclass(frozen=True, slots=True)
class Loop:
    """Health of one watched loop since it was first seen, under the name its series carry."""

    name: str
    """``main``, or the name of the thread it runs in."""
    kind: LoopKind
    running: bool
    delay_p50: float | None
    delay_p99: float | None
    delay_max: float
    """Largest delay of the last 60 seconds."""
    utilization: float | None
    """Share of the running time that the loop was busy, 0 to 1, since it was first seen."""
    iterations: int | None
    """None on loops without a selector (uvloop)."""
    blocked: float
    """How long, in seconds, the loop has owed service right now: the age of the running step."""
    ready: int | None
    timers: int | None


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a fact, with the values of its labels in the order the fact declares them."""

    labels: tuple[str, ...]
    value: float | Distribution


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything loopwatch knows at one moment. Immutable; taken off the loop thread."""

    taken_at: float
    """Unix time."""
    service_name: str
    points: Mapping[str, tuple[Point, ...]]
    """By the stem of the fact (``loopwatch.facts``); a fact that nothing offers here is absent."""
    loops: tuple[Loop, ...]
    stalls: tuple[Stall, ...]
    """The last 256, oldest first; those in progress come last."""
