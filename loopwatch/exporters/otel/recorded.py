"""Histograms for a provider that counts for itself: the program's, or one with exponential buckets.

Such a provider wants each observation. We keep only counts and a sum, so that the loop's thread has nothing
to do for an export; the observations recorded are made up to have the same counts and the same sum. Those
that have exemplars are recorded with their true value, in the context of their span.
"""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from loopwatch import facts
from loopwatch._agent_records import Snapshot
from loopwatch._clock import Clock
from loopwatch._measures import Distribution, Exemplar

from .histograms import difference
from .instruments import attributes

PER_SECOND = 1000
"""Most observations recorded per second, since each takes some 15 us. The others are counted as dropped."""
LONGEST = 10.0
"""Seconds of observations that may be recorded at once, after a pause."""

LEFT_OUT = frozenset(("task_duration", "pool_wait", "database_wait", "executor_wait"))
"""Histograms of events that may happen thousands of times a second."""

Made = tuple[float, Exemplar | None]


class Recorder:
    """Records what is new since the last call. One thread."""

    def __init__(self, meter: Meter, clock: Clock) -> None:
        self._histograms = {
            fact: meter.create_histogram(
                fact.name, fact.unit, fact.help, explicit_bucket_boundaries_advisory=facts.BUCKETS
            )
            for fact in facts.ALL
            if fact.kind == "histogram" and fact.stem not in LEFT_OUT
        }
        self._clock = clock
        self._recorded: dict[tuple[str, tuple[str, ...]], Distribution] = {}
        self._last = clock.monotonic()
        self._room = PER_SECOND
        """Observations that may still be recorded."""
        self.dropped = 0
        """Observations that exceeded the limit."""

    def skip(self, snapshot: Snapshot) -> None:
        """Treat the contents of ``snapshot`` as recorded: they were exported in another way."""
        self._recorded = {
            (fact.stem, point.labels): point.value
            for fact in self._histograms
            for point in snapshot.points.get(fact.stem, ())
            if isinstance(point.value, Distribution)
        }

    def record(self, snapshot: Snapshot) -> None:
        """Record what is new in ``snapshot``."""
        now = self._clock.monotonic()
        earned = int(PER_SECOND * min(now - self._last, LONGEST))
        room = max(earned, min(self._room + earned, PER_SECOND))  # also right after another call, as to flush
        self._last = now
        before, self._recorded = self._recorded, {}
        for fact, histogram in self._histograms.items():
            for point in snapshot.points.get(fact.stem, ()):
                if not isinstance(point.value, Distribution):
                    continue
                key = (fact.stem, point.labels)
                self._recorded[key] = point.value
                labels = attributes(fact, point)
                for value, exemplar in observations(point.value, before.get(key)):
                    room -= 1
                    if room < 0:
                        self.dropped += 1
                    else:
                        histogram.record(value, labels, context=_context_of(exemplar))
        self._room = max(room, 0)


def observations(counted: Distribution, before: Distribution | None) -> Iterator[Made]:
    """Make up observations that lead from ``before`` to ``counted``: same counts, same sum.

    Within their buckets they all lie at the same relative height, chosen to yield the sum. Beyond the last
    bound they lie where the rest of the sum puts them.
    """
    known = before.exemplars if before is not None else ()
    new = [
        exemplar
        for place, exemplar in enumerate(counted.exemplars)
        if exemplar is not None and (place >= len(known) or exemplar != known[place])
    ]
    if before is not None:
        counted = difference(counted, before)
    counts, rest = list(counted.counts), counted.sum
    for exemplar in new:
        place = counted.exemplars.index(exemplar)
        if counts[place]:
            counts[place] -= 1
            rest -= exemplar.value
            yield exemplar.value, exemplar
    for value, count in zip(_heights(counted.bounds, counts, rest), counts, strict=True):
        for _ in range(count):
            yield value, None


def _heights(bounds: tuple[float, ...], counts: list[int], total: float) -> Iterator[float]:
    """Yield a value for each bucket, such that ``counts`` of them add up to ``total`` as nearly as can be."""
    lower = (0.0, *bounds[:-1])
    least = sum(count * low for count, low in zip(counts, lower, strict=False))
    room = sum(count * (high - low) for count, low, high in zip(counts, lower, bounds, strict=False))
    beyond_least = counts[-1] * bounds[-1]  # the least that those beyond the last bound add to the total
    height = (total - least - beyond_least) / room if room else 0.5
    if counts[-1]:
        height = min(height, 0.5)
    height = min(max(height, 1e-6), 1.0)  # a value on the lower bound is in the bucket below
    for low, high in zip(lower, bounds, strict=True):
        yield low + height * (high - low)
    beyond = (total - least - height * room) / counts[-1] if counts[-1] else 0.0
    yield max(beyond, bounds[-1] * 1.001)


def _context_of(exemplar: Exemplar | None) -> Context:
    if exemplar is None:
        return Context()
    trace_id, span_id = int(exemplar.trace_id, 16), int(exemplar.span_id, 16)
    span = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(span), Context())
