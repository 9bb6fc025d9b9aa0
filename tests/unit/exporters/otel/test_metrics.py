"""What a Collector is sent of a snapshot: the numbers, names, units and attributes that ``/metrics`` has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from loopwatch import facts
from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Distribution, Point

from .collector import Sink, attributes_of, metrics_of, pipeline_of, snapshot_of

DELAYS = Distribution(facts.BUCKETS, (5, 4, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1), 11.5)

BLOCKED = (Point(("main",), 0.25),)


def a_value_of(fact: facts.Fact) -> Point:
    labels = tuple("7" if label in facts.INTEGERS else f"some {label}" for label in fact.labels)
    return Point(labels, DELAYS if fact.kind == "histogram" else 2.5)


@pytest.fixture
def send(sink: Sink) -> Callable[..., dict[str, Any]]:
    """Send a snapshot of these points, and return what arrives."""

    def send(**points: tuple[Point, ...]) -> dict[str, Any]:
        pipeline = pipeline_of(lambda: snapshot_of(points))
        pipeline.round(flush=True)
        pipeline.end()
        (request,) = sink.metrics
        return metrics_of(request)

    return send


def test_every_fact_arrives_under_its_name(send: Callable[..., dict[str, Any]]) -> None:
    metrics = send(**{fact.stem: (a_value_of(fact),) for fact in facts.ALL})
    assert set(metrics) == {fact.name for fact in facts.ALL}
    for fact in facts.ALL:
        metric = metrics[fact.name]
        assert (metric.unit, metric.description) == (fact.unit, fact.help)
        kind = metric.WhichOneof("data")
        (point,) = getattr(metric, kind).data_points
        expected = {label: 7 if label in facts.INTEGERS else f"some {label}" for label in fact.labels}
        assert attributes_of(point) == expected
        if fact.kind == "histogram":
            assert kind == "histogram"
            assert (tuple(point.bucket_counts), point.sum) == (DELAYS.counts, DELAYS.sum)
        else:
            assert kind == ("gauge" if fact.kind == "gauge" else "sum")
            assert point.as_double == 2.5
        if kind == "sum":
            assert metric.sum.is_monotonic == (fact.kind == "counter")


def test_a_histogram_arrives_as_it_was_counted(send: Callable[..., dict[str, Any]]) -> None:
    metric = send(delay=(Point(("main",), DELAYS),), blocked=BLOCKED)["asyncio.eventloop.delay"]
    assert metric.histogram.aggregation_temporality == 2  # cumulative
    (point,) = metric.histogram.data_points
    assert tuple(point.explicit_bounds) == facts.BUCKETS
    assert tuple(point.bucket_counts) == DELAYS.counts
    assert (point.count, point.sum) == (15, 11.5)
    assert (point.start_time_unix_nano, point.time_unix_nano) == (900 * 10**9, 1000 * 10**9)
    assert not point.HasField("min")
    assert not point.HasField("max")


def test_what_is_absent_stays_absent(send: Callable[..., dict[str, Any]]) -> None:
    assert set(send(blocked=BLOCKED, delay=())) == {"asyncio.eventloop.blocked"}


def test_a_label_that_is_no_text_of_utf_8_is_spelled_out(send: Callable[..., dict[str, Any]]) -> None:
    metrics = send(task_site_count=(Point(("jobs.\udcff",), 1.0),))
    (point,) = metrics["asyncio.task.site.count"].sum.data_points
    assert attributes_of(point) == {"code.function.name": "jobs.\\udcff"}


def test_one_snapshot_serves_one_collection(sink: Sink) -> None:
    taken: list[Snapshot] = []

    def snapshot() -> Snapshot:
        points = {
            "blocked": (Point(("main",), float(len(taken))),),
            "iterations": (Point(("main",), len(taken)),),
        }
        taken.append(snapshot_of(points))
        return taken[-1]

    pipeline = pipeline_of(snapshot)
    pipeline.round(flush=True)
    pipeline.round(flush=True)
    pipeline.end()
    assert len(taken) == 2
    for number, request in enumerate(sink.metrics):
        metrics = metrics_of(request)
        (blocked,) = metrics["asyncio.eventloop.blocked"].gauge.data_points
        (iterations,) = metrics["asyncio.eventloop.iterations"].sum.data_points
        assert blocked.as_double == iterations.as_int == number


def test_a_fact_that_cannot_be_told_costs_no_other(sink: Sink) -> None:
    journal = Journal()
    points = {"iterations": (Point(("main",), DELAYS),), "blocked": (Point(("main",), 1.5),)}
    pipeline = pipeline_of(lambda: snapshot_of(points), journal=journal)
    pipeline.round(flush=True)
    pipeline.end()
    assert set(metrics_of(sink.metrics[0])) == {"asyncio.eventloop.blocked"}
    assert journal.failures() == {"otlp": 1}


class TestDelta:
    """What ``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta`` asks for."""

    @pytest.fixture(autouse=True)
    def ask_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")

    def test_each_export_has_what_is_new(self, sink: Sink) -> None:
        counts = [(5, 0, 1), (5, 2, 1), (7, 2, 1)]
        snapshots = iter(
            snapshot_of(
                {
                    "block_duration": (Point(("main",), Distribution((0.1, 1.0), each, float(sum(each)))),),
                    "iterations": (Point(("main",), sum(each)),),
                },
                at=1000.0 + place,
            )
            for place, each in enumerate(counts)
        )
        pipeline = pipeline_of(lambda: next(snapshots))
        for _ in counts:
            pipeline.round(flush=True)
        pipeline.end()
        points = []
        for request in sink.metrics:
            histogram = metrics_of(request)["asyncio.eventloop.block.duration"].histogram
            assert histogram.aggregation_temporality == 1
            points.append(histogram.data_points[0])
        assert [tuple(point.bucket_counts) for point in points] == [(5, 0, 1), (0, 2, 0), (2, 0, 0)]
        assert [point.sum for point in points] == [6.0, 2.0, 2.0]
        starts = [point.start_time_unix_nano // 10**9 for point in points]
        assert starts == [900, 1000, 1001]
        sums = [
            metrics_of(each)["asyncio.eventloop.iterations"].sum.data_points[0].as_int
            for each in sink.metrics
        ]
        assert sums == [6, 2, 2]

    def test_what_did_not_arrive_is_in_the_next_one(self, sink: Sink) -> None:
        snapshots = iter(
            snapshot_of(
                {"delay": (Point(("main",), Distribution((1.0,), (each, 0), each / 2)),), "blocked": BLOCKED}
            )
            for each in (3, 5, 9)
        )
        pipeline = pipeline_of(lambda: next(snapshots))
        pipeline.round(flush=True)
        sink.status = 400
        pipeline.round(flush=True)
        sink.status = 200
        pipeline.round(flush=True)
        pipeline.end()
        points = [
            metrics_of(each)["asyncio.eventloop.delay"].histogram.data_points[0] for each in sink.metrics
        ]
        assert [(point.count, point.sum) for point in points] == [(3, 1.5), (6, 3.0)]


def test_exponential_buckets_are_the_sdks(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"
    monkeypatch.setenv(name, "base2_exponential_bucket_histogram")
    pipeline = pipeline_of(lambda: snapshot_of({"delay": (Point(("main",), DELAYS),)}))
    pipeline.round(flush=True)
    pipeline.end()
    metric = metrics_of(sink.metrics[0])["asyncio.eventloop.delay"]
    assert metric.WhichOneof("data") == "exponential_histogram"
    (point,) = metric.exponential_histogram.data_points
    assert point.count == 15
    assert math.isclose(point.sum, 11.5, rel_tol=1e-6)
