"""Stacks sampled from a loop's thread while it owes service, and which of them is representative."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from operator import attrgetter
from types import CodeType, FrameType
from typing import Any, NamedTuple

from loopwatch._context.reader import ContextReader
from loopwatch._internals.base_loop import next_ready, ready_count, ready_tasks
from loopwatch._internals.futures import name_of
from loopwatch._internals.interpreter import occupy, places, uncollected
from loopwatch._internals.tasks import function_of
from loopwatch._places import Place
from loopwatch._store.loop_state import LoopState
from loopwatch._store.watched import Values

from .evidence import Reading

VICTIMS = 10
"""Delayed tasks that are named with each stall."""
EVERY = 0.01
"""Seconds between samples of one stall, at first."""
DENSE = 50
"""Samples taken at that pace; from then on the interval doubles with each, up to SLOWEST."""
SLOWEST = 0.25
LIMIT = 200
"""Samples kept of one stall: with the pace above, those of its first half minute."""

_stands_for, _computed = attrgetter("stands_for"), attrgetter("computed")


class Seen(NamedTuple):
    """A task that ran, or that was ready to run but could not."""

    name: str | None
    coroutine: str | None
    values: Values | None


@dataclass(slots=True)
class Sample:
    """One look at a loop's thread."""

    stack: tuple[Place, ...]
    """Innermost first; empty when the loop was running no Python code."""
    next_ready: int | None
    """Identity of the callback at the head of the ready queue."""
    callback: int
    """Identity of the callback's outermost frame; 0 when none ran."""
    stands_for: float
    """Seconds since the previous sample, or since the step began. A sample at the end of a call that held the
    GIL stands for all of that call; one taken 10 ms later, of what came after it, for those 10 ms."""
    computed: float = 0.0
    """How many of those seconds the thread computed; 0.0 if unknown."""
    task: Seen | None = None
    """The task that ran, noted once the sample is stored; None outside of tasks."""


@dataclass(slots=True)
class Suspicion:
    """A step, or a wait, that lasts longer than half the threshold. Written by the watchdog."""

    since: float
    """``busy_since`` when it was first seen, which thereby identifies the step."""
    before: Reading | None
    """The last reading before it began."""
    began_within: tuple[float, float] | None
    """Bounds of its true beginning if ``since`` is only when it was noticed; None if that is exact."""
    samples: list[Sample] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    """How often the thread was seen in each of the scheduler's states."""
    inside: tuple[Reading, ...] = ()
    """The first and the latest reading within the step."""
    ready: int | None = None
    """Callbacks that were ready to run; None if that cannot be seen."""
    victims: tuple[Seen, ...] = ()
    """Tasks among those callbacks."""
    sampled_at: float = 0.0
    """When the latest sample was taken; 0.0 before the first."""
    sampled_cpu: float | None = None
    """What the thread's CPU clock showed at that sample."""
    next_at: float = 0.0
    frame_size: int = 0
    """Bytes of the outermost frame in the latest sample."""
    occupied: list[bytes] = field(default_factory=list)
    """Memory that keeps the next sample's outermost frame from reusing that frame's address."""
    told: bool = False
    """Whether it has been reported already, while in progress."""

    @property
    def pace(self) -> float:
        """Seconds until the next sample."""
        return min(EVERY * 2.0 ** max(0, len(self.samples) - DENSE), SLOWEST)

    def cpu_before(self, unknown: float) -> float:
        """Return what the thread's CPU clock showed at the latest sample, or before the step began."""
        before = self.before.thread_cpu if self.before is not None else None
        return next((cpu for cpu in (self.sampled_cpu, before) if cpu is not None), unknown)

    def tell_frames_apart(self) -> None:
        """Have the next sample show another callback under another identity. Before its frames are made."""
        self.occupied = occupy(self.frame_size)


def take(
    state: LoopState,
    suspicion: Suspicion,
    now: float,
    cpu: float | None,
    frame: FrameType | None,
    contexts: ContextReader,
) -> bool:
    """Add a sample to ``suspicion``; False if its step is over, so that the frame belongs to another step.

    ``cpu`` is what the thread's CPU clock shows, None if unknown.
    To be called right after the frames were frozen and before anything that can release the GIL: otherwise
    the loop runs on and ends the stall, and a call that holds the GIL to its end would show no sample at all.
    """
    if state.busy_since != suspicion.since:
        return False
    stack, outermost = places(frame, state.boundary), _outermost(frame, state.boundary)
    loop = state.loop() if state.loop is not None else None
    if loop is None:
        return False
    sample = None
    if len(suspicion.samples) < LIMIT:
        stands_for = now - (suspicion.sampled_at or suspicion.since)
        computed = 0.0 if cpu is None else min(max(0.0, cpu - suspicion.cpu_before(cpu)), stands_for)
        callback, size = (0, 0) if outermost is None else (id(outermost), sys.getsizeof(outermost))
        sample = Sample(stack, next_ready(loop), callback, stands_for, computed)
        suspicion.samples.append(sample)
        suspicion.sampled_at, suspicion.sampled_cpu, suspicion.frame_size = now, cpu, size
    task = asyncio.current_task(loop)
    if sample is not None and task is not None:
        sample.task = _seen(task, state, contexts)
    suspicion.ready = ready_count(loop)
    suspicion.victims = tuple(_seen(ready, state, contexts) for ready in ready_tasks(loop, VICTIMS))
    return True


def _seen(task: asyncio.Task[Any], state: LoopState, contexts: ContextReader) -> Seen:
    record = state.tasks.live.get(id(task))
    values = contexts.of_task(task, None if record is None else record.values)
    return Seen(name_of(task), function_of(task), values)


@uncollected
def _outermost(frame: FrameType | None, boundary: CodeType | None) -> FrameType | None:
    """Return the frame called by ``boundary``: the callback's."""
    outermost = None
    while frame is not None and frame.f_code is not boundary:
        outermost, frame = frame, frame.f_back
    return outermost


def busy(frame: FrameType | None, boundary: CodeType) -> bool:
    """Whether a loop without a selector runs Python code: if so, a frame stands above ``run_forever``."""
    return frame is not None and frame.f_code is not boundary


def most_seen(samples: list[Sample], *, computing: bool = False) -> tuple[Place, ...]:
    """Return the stack seen for the most time, ties to the latest; innermost first; empty without samples.

    If ``computing``, the stack seen for the most CPU time: a thread that had no CPU for two seconds stood
    somewhere, but what matters is where it computed, which is what it wanted a CPU for.

    Stacks count as the same if they have the same functions, wherever in those they stood: a long loop shows
    another line each time. Of the stack seen most, the variant seen most is returned.
    """
    seen = [sample for sample in samples if sample.stack]
    if not seen:
        return ()
    weight = _computed if computing and any(sample.computed > 0 for sample in seen) else _stands_for
    # By identity: hashing a code object takes microseconds, and equal ones may be of different files.
    found = _heaviest(seen, weight, lambda stack: tuple([id(code) for code, _, _ in stack]))
    found = _heaviest(found, weight, lambda stack: tuple([(id(code), at) for code, at, _ in stack]))
    return found[-1].stack


def _heaviest(
    samples: list[Sample],
    weight: Callable[[Sample], float],
    kind: Callable[[tuple[Place, ...]], Hashable],
) -> list[Sample]:
    """Return the samples of the heaviest kind; of equally heavy ones, the kind seen last."""
    kinds: dict[Hashable, list[Sample]] = {}
    for sample in samples:
        key = kind(sample.stack)
        kinds[key] = group = kinds.pop(key, [])  # popped, so that kinds are ordered by when last seen
        group.append(sample)
    return max(reversed(kinds.values()), key=lambda group: sum(map(weight, group)))
