"""Histograms as they were counted, for a provider of ours: data points made from a snapshot.

They are added to the data that an exporter is given, since OpenTelemetry has no observable histogram, and
recording each observation costs a hundred times what counting it did.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry.sdk.metrics import (
    Counter,
    Exemplar,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.view import Aggregation, ExponentialBucketHistogramAggregation

from loopwatch import facts
from loopwatch._agent_records import Snapshot
from loopwatch._measures import Distribution, Point

from .instruments import attributes
from .providers import SCOPE, Outlet

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA

NANOS = 1_000_000_000


def temporality() -> dict[type, AggregationTemporality]:
    """Return what ``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`` asks for."""
    asked = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().lower()
    delta = {"delta": (Counter, Histogram, ObservableCounter), "lowmemory": (Counter, Histogram)}.get(
        asked, ()
    )
    kinds = (Counter, UpDownCounter, Histogram, ObservableCounter, ObservableUpDownCounter, ObservableGauge)
    return {kind: DELTA if kind in delta else CUMULATIVE for kind in kinds}


def exponential() -> bool:
    """Whether ``OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`` asks for buckets unlike ours."""
    asked = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "")
    return asked.strip().lower() == "base2_exponential_bucket_histogram"


@dataclass(frozen=True, slots=True)
class _Told:
    """What was last exported for one series."""

    distribution: Distribution
    at: int


class ReadyMade:
    """Makes the data points, and remembers what was exported if only differences are wanted."""

    def __init__(self, started_at: float, kind: AggregationTemporality) -> None:
        self._started = int(started_at * NANOS)
        self._kind = kind
        self._told: dict[tuple[str, tuple[str, ...]], _Told] = {}
        self._telling = self._told

    def metrics(self, snapshot: Snapshot) -> Iterator[Metric]:
        """Yield each histogram that ``snapshot`` has."""
        now = int(snapshot.taken_at * NANOS)
        self._telling = {}
        for fact in facts.ALL:
            points = snapshot.points.get(fact.stem, ())
            if fact.kind == "histogram" and points:
                made = [self._point(fact, point, now) for point in points]
                yield Metric(fact.name, fact.help, fact.unit, HistogramData(made, self._kind))

    def told(self) -> None:
        """Remember that the last metrics arrived."""
        self._told = self._telling

    def _point(self, fact: facts.Fact, point: Point, now: int) -> HistogramDataPoint:
        counted = point.value
        if not isinstance(counted, Distribution):
            raise TypeError(f"{fact.stem} is a histogram and takes distributions, got {counted!r}")
        start, key = self._started, (fact.stem, point.labels)
        if self._kind is DELTA:
            self._telling[key] = _Told(counted, now)
            if (before := self._told.get(key)) is not None:
                start, counted = before.at, difference(counted, before.distribution)
        unknown: Any = None  # the encoder leaves it out
        return HistogramDataPoint(
            attributes=attributes(fact, point),
            start_time_unix_nano=start,
            time_unix_nano=now,
            count=counted.count,
            sum=counted.sum,
            bucket_counts=counted.counts,
            explicit_bounds=counted.bounds,
            min=unknown,
            max=unknown,
            exemplars=list(_exemplars(counted, start)),
        )


def difference(now: Distribution, before: Distribution) -> Distribution:
    """Return what was counted between two readings."""
    counts = tuple(later - earlier for later, earlier in zip(now.counts, before.counts, strict=True))
    return replace(now, counts=counts, sum=now.sum - before.sum)


def _exemplars(counted: Distribution, since: int) -> Iterator[Exemplar]:
    for exemplar in counted.exemplars:
        if exemplar is not None and exemplar.at * NANOS >= since:
            yield Exemplar(
                filtered_attributes={},
                value=exemplar.value,
                time_unix_nano=int(exemplar.at * NANOS),
                span_id=int(exemplar.span_id, 16),
                trace_id=int(exemplar.trace_id, 16),
            )


class Adding(MetricExporter):
    """The exporter given to our reader: adds the histograms, and sends everything."""

    def __init__(
        self, outlet: Outlet, histograms: Callable[[], Iterable[Metric]], told: Callable[[], None]
    ) -> None:
        aggregation: dict[type, Aggregation] = {}
        if exponential():
            aggregation[Histogram] = ExponentialBucketHistogramAggregation()
        super().__init__(preferred_temporality=temporality(), preferred_aggregation=aggregation)
        self._outlet = outlet
        self._histograms = histograms
        self._told = told

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Send ``metrics_data`` and the histograms."""
        if not self._outlet.send(added(metrics_data, [*self._histograms()]), timeout_millis=timeout_millis):
            return MetricExportResult.FAILURE
        self._told()
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the connection."""
        self._outlet.close()


def added(metrics_data: MetricsData, histograms: list[Metric]) -> MetricsData:
    """Put ``histograms`` beside the other metrics of our scope."""

    def of_scope(scope: ScopeMetrics) -> ScopeMetrics:
        ours = scope.scope.name == SCOPE
        return replace(scope, metrics=[*scope.metrics, *histograms]) if ours else scope

    return MetricsData(
        [
            replace(of_resource, scope_metrics=[of_scope(scope) for scope in of_resource.scope_metrics])
            for of_resource in metrics_data.resource_metrics
        ]
    )
