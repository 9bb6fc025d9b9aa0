"""Turns what was seen of a stall into its record: its extent, its cause, its culprit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from loopwatch._agent_records import Cause, Stall, Victim
from loopwatch._clock import Clock, nanoseconds
from loopwatch._context.reader import ContextReader
from loopwatch._places import Place, shape
from loopwatch._store.loop_state import LoopState
from loopwatch._store.pauses import Pauses

from .cause import Measured, decide
from .code_owner import CodeOwner
from .culprit import call_of, find, theirs
from .evidence import Reading
from .lateness import Lateness
from .samples import Sample, Seen, Suspicion, most_seen

NOBODY = Seen(None, None, None)
"""Stands for the task where none ran, or none was seen."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The extent of a stall; for one in progress, up to now."""

    start: float
    end: float
    in_callback: bool
    """Whether a callback ran, as opposed to a wait that ended late."""
    after: Reading
    """The first reading after the end; for one in progress, the latest."""


class Verdict:
    """Judges the stalls of one loop. Off the loop's thread; reads only, and changes nothing."""

    def __init__(
        self,
        state: LoopState,
        clock: Clock,
        pauses: Pauses,
        lateness: Lateness,
        owner: CodeOwner,
        contexts: ContextReader,
    ) -> None:
        self._state = state
        self._clock = clock
        self._pauses = pauses
        self._lateness = lateness
        self._owner = owner
        self._contexts = contexts
        self._served_until = 0.0

    def on(self, ended: Ended, suspicion: Suspicion, *, in_progress: bool) -> Stall:
        """Return the record of a stall."""
        samples = list(suspicion.samples)
        measured = self._measure(ended, suspicion, samples)
        cause = decide(measured)
        began = self._began(ended, suspicion, measured)
        if not in_progress:
            self._served_until = ended.end
        seen = most_seen(samples, computing=measured.awake)
        stack, culprit = self._blame(ended, cause, seen, measured)
        task = _task_at(seen, samples)
        context = self._contexts.shape(task.values)
        return Stall(
            duration=ended.end - began,
            started_at=self._clock.wall_at(began),
            cause=cause,
            culprit=shape(culprit) if culprit is not None else None,
            call=call_of(culprit),
            stack=tuple(shape(place) for place in reversed(stack)),
            task_name=task.name,
            coroutine=task.coroutine,
            context=context.values,
            trace_id=context.trace_id,
            span_id=context.span_id,
            trace_flags=context.trace_flags,
            victims=tuple(map(self._victim, suspicion.victims)),
            evidence=_evidence(measured, suspicion, stack),
            in_progress=in_progress,
            samples=len(samples),
            loop_name=self._state.name,
            id=nanoseconds(ended.start),
        )

    def _victim(self, task: Seen) -> Victim:
        context = self._contexts.shape(task.values)
        return Victim(task.name, task.coroutine, context.trace_id, context.span_id, context.trace_flags)

    def _measure(self, ended: Ended, suspicion: Suspicion, samples: list[Sample]) -> Measured:
        start, end, after = ended.start, ended.end, ended.after
        before, seen = suspicion.before or after, suspicion.states
        lag = self._lateness.within(start, end)
        in_callback = ended.in_callback
        if not self._state.has_selector and samples:
            in_callback = any(sample.stack for sample in samples)
        inside = (before, *suspicion.inside, after)
        cpu = _spent(inside, start, end, lambda reading: reading.thread_cpu)
        # These readings lie further apart than the stall was long. It cannot have waited while it ran.
        longest_wait = end - start - (cpu or 0.0)
        runqueue = _waited(inside, start, longest_wait, lambda reading: reading.runqueue)
        throttled = _waited(inside, start, longest_wait, lambda reading: reading.throttled)
        return Measured(
            duration=end - start,
            gc=self._pauses.within(start, end),
            cpu=cpu,
            process_cpu=_spent(inside, start, end, lambda reading: reading.process_cpu),
            runqueue=runqueue,
            throttled=_wanted(throttled, runqueue, suspicion.states),
            late=lag.late,
            gil_waits=lag.gil_waits,
            late_queued=lag.queued,
            asleep=max(0.0, after.asleep - before.asleep),
            samples=len(samples),
            callbacks=_changes(samples),
            in_callback=in_callback,
            only_running=seen["R"] > 0 and not (seen["S"] or seen["D"]),
        )

    def _blame(
        self, ended: Ended, cause: Cause, seen: tuple[Place, ...], measured: Measured
    ) -> tuple[tuple[Place, ...], Place | None]:
        """Return the stack to show and the place in it to name."""
        stack = theirs(seen, self._owner)
        if cause == "gil":
            beside = self._state.beside
            if beside is not None and beside.at != ended.end:
                beside = None  # it is of another stall
            found = self._lateness.hog(ended.start, ended.end, self._state.thread_id, beside)
            hog = theirs(found, self._owner)
            return hog or stack, find(hog, self._owner)
        if cause == "suspended" or not measured.in_callback:
            return stack, None  # whatever stands there did not cause it
        return stack, find(stack, self._owner)

    def _began(self, ended: Ended, suspicion: Suspicion, measured: Measured) -> float:
        """Return when the stall began: exact if a step was seen to begin, else the middle of the bounds.

        While the whole process was held, by the GIL or a stop, the watchdog's last tick is a bound too: the
        loop was out of service from when the hold began, not only from when it would have woken. But at the
        end of the previous stall it was certainly in service.
        """
        if suspicion.began_within is None and measured.in_callback:
            return ended.start
        lower, upper = suspicion.began_within or (ended.start, ended.start)
        before = suspicion.before
        if not measured.in_callback and before is not None:
            held_from = self._lateness.held_from(ended.start, ended.end)
            if held_from is not None and held_from <= ended.start:
                served_until = min(self._served_until, ended.start)
                lower, upper = max(before.at, served_until), max(min(held_from, upper), served_until)
        return (min(lower, upper) + upper) / 2


def _task_at(stack: tuple[Place, ...], samples: list[Sample]) -> Seen:
    """Return the task that ran at ``stack``: one step may run several tasks, as with eager ones."""
    tasks = (sample.task for sample in reversed(samples) if _same(sample.stack, stack))
    return next((task for task in tasks if task is not None), NOBODY)


def _same(one: tuple[Place, ...], other: tuple[Place, ...]) -> bool:
    """Whether two stacks are the same, by identity: code objects of different files may be equal."""
    return len(one) == len(other) and all(
        a is b and at == where for (a, at, _), (b, where, _) in zip(one, other, strict=True)
    )


def _spent(
    readings: tuple[Reading, ...], start: float, end: float, clock: Callable[[Reading], float | None]
) -> float | None:
    """Return how far a CPU clock advanced between ``start`` and ``end``.

    The result is exact if readings within the stall span half of it. Otherwise it is taken from the last
    reading before the stall to the first one after, and what may have been spent outside counts half.
    """
    inside = [reading for reading in readings if start <= reading.at <= end]
    if inside and inside[-1].at - inside[0].at >= (end - start) / 2:
        first, last = inside[0], inside[-1]
    else:
        first, last = readings[0], readings[-1]
    began, stopped = clock(first), clock(last)
    if began is None or stopped is None or last.at <= first.at:
        return None
    spent = stopped - began
    if first.at >= start and last.at <= end:
        return spent * (end - start) / (last.at - first.at)
    outside = max(0.0, start - first.at) + max(0.0, last.at - end)
    return (max(0.0, spent - outside) + min(spent, end - start)) / 2


def _waited(
    readings: tuple[Reading, ...], start: float, most: float, clock: Callable[[Reading], float | None]
) -> float | None:
    """Return how far a clock of waiting advanced from ``start`` on, at most by ``most``.

    While all is well the files are read four times a second, so the first reading may precede a stall by more
    than its length. Of what was booked between it and the first look within the stall, the part that may have
    been before the stall counts half.
    """
    first, last = readings[0], readings[-1]
    within = next((reading for reading in readings[1:-1] if reading.system_at > start), first)
    earlier, then, now = clock(first), clock(within), clock(last)
    if earlier is None or then is None or now is None:
        return None
    until_then = max(0.0, then - earlier)
    outside = max(0.0, start - first.system_at)
    until_then = (max(0.0, until_then - outside) + min(until_then, max(0.0, within.system_at - start))) / 2
    return max(0.0, min(until_then + now - then, most))


def _wanted(throttled: float | None, runqueue: float | None, states: Counter[str]) -> float | None:
    """Return for how much of the time its cgroup was throttled the loop's thread wanted the CPU.

    Other threads may use up the quota while this one sleeps. Linux books its wait as run-queue time, too.
    """
    if throttled is None:
        return None
    if runqueue is not None:
        return min(throttled, runqueue)
    return throttled if states["R"] >= states["S"] + states["D"] else 0.0


def _changes(samples: list[Sample]) -> int:
    """Count the samples that show a different callback from the one before."""
    return sum(
        a.next_ready != b.next_ready
        if a.next_ready is not None
        else a.callback != b.callback or not b.callback
        for a, b in pairwise(samples)
    )


def _evidence(measured: Measured, suspicion: Suspicion, stack: tuple[Place, ...]) -> dict[str, float]:
    """Return the numbers of ``measured`` that are known, under the names the docs explain."""
    known: dict[str, float | None] = {
        "cpu_s": measured.cpu,
        "process_cpu_s": measured.process_cpu,
        "gc_s": measured.gc,
        "runqueue_s": measured.runqueue,
        "throttled_s": measured.throttled,
        "asleep_s": measured.asleep,
        "watchdog_late_s": measured.late,
        "watchdog_gil_waits": measured.gil_waits,
        "watchdog_runqueue_s": measured.late_queued,
        "samples_of_new_callbacks": measured.callbacks,
        "samples_running": suspicion.states["R"],
        "samples_sleeping": suspicion.states["S"],
        "samples_in_disk_wait": suspicion.states["D"],
        "ready_callbacks": suspicion.ready,
        "importing": any(code.co_name == "_find_and_load" for code, _, _ in stack),
    }
    return {name: round(float(value), 6) for name, value in known.items() if value is not None}
