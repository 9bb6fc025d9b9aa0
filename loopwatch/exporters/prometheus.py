"""A snapshot as Prometheus metric families: one loop over the catalogue of facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, Metric, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from loopwatch import _measures, facts
from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Distribution, Point

COMPONENT = "prometheus"
"""The component under which failures of rendering are counted."""


class SnapshotCollector:
    """Takes a snapshot for each collection and renders it: what loopwatch's own endpoint serves."""

    def __init__(self, source: Callable[[], Snapshot], journal: Journal) -> None:
        self._source = source
        self._journal = journal

    def describe(self) -> list[Metric]:
        """Return the families without taking a snapshot: a registry asks when a collector is registered."""
        return [family(fact, ()) for fact in facts.ALL]

    def collect(self) -> list[Metric]:
        """Render a new snapshot. Raises nothing: other collectors of the registry would be lost with it."""
        try:
            return rendered(self._source(), self._journal)
        except Exception as error:  # noqa: BLE001 - counted; the rest of the registry is still shown
            self._journal.failure(COMPONENT, error)
            return []


def registry_of(collector: Collector) -> CollectorRegistry:
    """Build our endpoint's registry: ``collector``, and prometheus_client's own for process and GC.

    All are registered only there: the default registry belongs to the program.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def rendered(snapshot: Snapshot, journal: Journal) -> list[Metric]:
    """Render each fact that ``snapshot`` has points for; one that fails is counted and left out."""
    families = []
    for fact in facts.ALL:
        points = snapshot.points.get(fact.stem)
        if not points:
            continue
        try:
            families.append(family(fact, points))
        except Exception as error:  # noqa: BLE001 - counted; the other facts are still shown
            journal.failure(COMPONENT, error)
    return families


def family(fact: facts.Fact, points: Iterable[Point]) -> Metric:
    """Render one fact. Raises TypeError for a value that does not fit its kind."""
    name, text, labels = fact.prometheus_name, fact.help, fact.prometheus_labels
    if fact.kind == "histogram":
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for point in points:
            distribution = _distribution(fact, point)
            histogram.add_metric(point.texts, _buckets(distribution), distribution.sum)
        return histogram
    family = (CounterMetricFamily if fact.kind == "counter" else GaugeMetricFamily)(name, text, labels=labels)
    for point in points:
        family.add_metric(point.texts, _number(fact, point))
    return family


def _number(fact: facts.Fact, point: Point) -> float:
    """Check here what would fail later in the exposition, and cost the whole scrape."""
    if isinstance(point.value, int | float):
        return point.value
    raise TypeError(f"{fact.stem} is a {fact.kind} and takes numbers, got {point.value!r}")


def _distribution(fact: facts.Fact, point: Point) -> Distribution:
    if isinstance(point.value, Distribution):
        return point.value
    raise TypeError(f"{fact.stem} is a histogram and takes distributions, got {point.value!r}")


def _buckets(distribution: Distribution) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Accumulate the counts under their upper bounds, the last of which is infinity."""
    bounds = [*map(floatToGoString, distribution.bounds), "+Inf"]
    exemplars = distribution.exemplars or (None,) * len(bounds)
    return [
        (bound, count) if exemplar is None else (bound, count, _exemplar(exemplar))
        for bound, count, exemplar in zip(bounds, accumulate(distribution.counts), exemplars, strict=True)
    ]


def _exemplar(exemplar: _measures.Exemplar) -> Exemplar:
    """Render an exemplar, which OpenMetrics shows and the classic text leaves out.

    Its labels take 63 of the 128 characters allowed. Grafana finds the trace by ``trace_id``.
    """
    labels = {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
    return Exemplar(labels, exemplar.value, exemplar.at)
