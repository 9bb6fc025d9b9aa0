"""Whose provider is used: the program's, whichever comes first, and never both."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from loopwatch import facts
from loopwatch._internals.otel_logs import emit
from loopwatch._internals.otel_sdk import logger_provider
from loopwatch._measures import Distribution, Exemplar, Point
from loopwatch.exporters.otel.attributes import context_in
from loopwatch.exporters.otel.pipeline import INTERVAL, ROUND
from loopwatch.testing import FakeClock

from .collector import TIMEOUT, Sink, attributes_of, metrics_of, pipeline_of, snapshot_of, spans_in

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class SpanTeller:
    """Makes a span each time it is asked."""

    suppressed = 0

    def __init__(self) -> None:
        self.made = 0

    def tell(self, spans: Any, records: Any) -> None:
        self.made += 1
        spans(lambda tracer, name=f"span {self.made}": tracer.start_span(name).end())


def set_globally(monkeypatch: pytest.MonkeyPatch, module: str, name: str, provider: object) -> None:
    """As the API's setter does, which works once in a process."""
    monkeypatch.setattr(sys.modules[module], name, provider)


def read(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
    return {metric.name: metric for scope in scopes for metric in scope.metrics}


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program's ``MeterProvider``: returns its reader, once the program has set it."""

    def set_it() -> InMemoryMetricReader:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader], shutdown_on_exit=False)
        set_globally(monkeypatch, "opentelemetry.metrics._internal", "_METER_PROVIDER", provider)
        return reader

    return set_it


def counted(*counts: int, total: float, exemplars: tuple[Exemplar | None, ...] = ()) -> Distribution:
    zeros = (0,) * (len(facts.BUCKETS) + 1 - len(counts))
    return Distribution(facts.BUCKETS, counts + zeros, total, exemplars)


class TestMetricsOfTheProgram:
    def test_theirs_first(self, sink: Sink, theirs: Any) -> None:
        reader = theirs()
        points = {
            "blocked": (Point(("main",), 0.25),),
            "delay": (Point(("main",), counted(3, 1, total=0.004)),),
        }
        pipeline = pipeline_of(lambda: snapshot_of(points))
        pipeline.round()
        metrics = read(reader)
        (blocked,) = metrics["asyncio.eventloop.blocked"].data.data_points
        assert (blocked.value, dict(blocked.attributes)) == (0.25, {"asyncio.eventloop.name": "main"})
        (delay,) = metrics["asyncio.eventloop.delay"].data.data_points
        assert tuple(delay.explicit_bounds) == facts.BUCKETS
        assert tuple(delay.bucket_counts)[:3] == (3, 1, 0)
        assert delay.sum == pytest.approx(0.004)
        pipeline.round(flush=True)
        pipeline.end()
        assert sink.metrics == []
        assert "asyncio.eventloop.blocked" not in read(reader)

    def test_ours_first(self, sink: Sink, theirs: Any) -> None:
        points = {
            "iterations": (Point(("main",), 10),),
            "delay": (Point(("main",), counted(3, total=0.001)),),
        }
        pipeline = pipeline_of(lambda: snapshot_of(dict(points)))
        pipeline.round(flush=True)
        assert len(sink.metrics) == 1
        reader = theirs()
        points["delay"] = (Point(("main",), counted(3, 0, 2, total=0.009)),)
        pipeline.round(flush=True)
        pipeline.round(flush=True)
        pipeline.end()
        assert len(sink.metrics) == 1
        (delay,) = read(reader)["asyncio.eventloop.delay"].data.data_points
        assert tuple(delay.bucket_counts)[:3] == (0, 0, 2)  # the other three were exported before
        assert delay.sum == pytest.approx(0.008)

    def test_what_never_arrived_is_recorded_when_they_move(self, sink: Sink, theirs: Any) -> None:
        points = {
            "iterations": (Point(("main",), 10),),
            "delay": (Point(("main",), counted(3, total=0.001)),),
        }
        pipeline = pipeline_of(lambda: snapshot_of(dict(points)))
        pipeline.round(flush=True)
        sink.status = 400
        points["delay"] = (Point(("main",), counted(3, 0, 2, total=0.009)),)
        pipeline.round(flush=True)
        reader = theirs()
        pipeline.round()
        pipeline.end()
        (delay,) = read(reader)["asyncio.eventloop.delay"].data.data_points
        assert tuple(delay.bucket_counts)[:3] == (0, 0, 2)

    def test_installed_anew_there_is_one_of_each(self, sink: Sink, theirs: Any) -> None:
        reader = theirs()
        for value in (1.0, 2.0):
            points = {
                "blocked": (Point(("main",), value),),
                "delay": (Point(("main",), counted(1, total=0.0)),),
            }
            pipeline = pipeline_of(lambda points=points: snapshot_of(points))
            pipeline.round()
            metrics = read(reader)
            (blocked,) = metrics["asyncio.eventloop.blocked"].data.data_points
            assert blocked.value == value
            pipeline.end()
        (delay,) = metrics["asyncio.eventloop.delay"].data.data_points
        assert delay.count == 2

    def test_an_exemplar_carries_the_span_it_is_of(self, sink: Sink, theirs: Any) -> None:
        reader = theirs()
        exemplar = Exemplar(0.3, 1000.0, TRACE_ID, SPAN_ID)
        exemplars = tuple(exemplar if place == 8 else None for place in range(14))
        stalls = counted(0, 0, 0, 0, 0, 0, 0, 0, 2, total=0.75, exemplars=exemplars)
        pipeline = pipeline_of(lambda: snapshot_of({"block_duration": (Point(("main",), stalls),)}))
        pipeline.round()
        pipeline.end()
        (point,) = read(reader)["asyncio.eventloop.block.duration"].data.data_points
        assert (point.count, point.sum) == (2, pytest.approx(0.75))
        (found,) = point.exemplars
        assert (found.value, found.trace_id, found.span_id) == (0.3, int(TRACE_ID, 16), int(SPAN_ID, 16))

    def test_a_round_a_second_whatever_the_interval(self, sink: Sink, theirs: Any) -> None:
        clock = FakeClock()
        pipeline = pipeline_of(lambda: snapshot_of({}), clock=clock)
        theirs()
        for _ in range(3):
            clock.advance(INTERVAL)
            pipeline.round()
            assert pipeline.pause == ROUND
        pipeline.end()

    def test_what_comes_too_fast_is_dropped_and_counted(self, sink: Sink, theirs: Any) -> None:
        reader = theirs()
        pipeline = pipeline_of(
            lambda: snapshot_of({"gc_pause": (Point(("main", "0"), counted(100_000, total=1.0)),)})
        )
        pipeline.round()
        pipeline.end()
        (point,) = read(reader)["asyncio.eventloop.gc.pause.duration"].data.data_points
        assert 1_000 <= point.count < 10_001
        assert point.count + pipeline.dropped == 100_000

    def test_what_comes_just_after_a_round_is_recorded_by_a_flush(self, sink: Sink, theirs: Any) -> None:
        reader, clock = theirs(), FakeClock()
        pauses = [counted(600, total=0.1)]
        pipeline = pipeline_of(
            lambda: snapshot_of({"gc_pause": (Point(("main", "0"), pauses[-1]),)}), clock=clock
        )
        pipeline.round()
        pauses.append(counted(1_100, total=0.2))
        pipeline.round(flush=True)
        (point,) = read(reader)["asyncio.eventloop.gc.pause.duration"].data.data_points
        assert (point.count, pipeline.dropped) == (1_000, 100)  # as many as in a second
        clock.advance(0.5)
        pauses.append(counted(1_700, total=0.3))
        pipeline.round()
        pipeline.end()
        (point,) = read(reader)["asyncio.eventloop.gc.pause.duration"].data.data_points
        assert (point.count, pipeline.dropped) == (1_500, 200)


class TestTracesOfTheProgram:
    def test_they_move_when_the_program_sets_a_provider(
        self, sink: Sink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pipeline = pipeline_of(lambda: snapshot_of({}), SpanTeller())
        pipeline.round()
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        set_globally(monkeypatch, "opentelemetry.trace", "_TRACER_PROVIDER", provider)
        pipeline.round()
        pipeline.round()
        pipeline.end()
        assert spans_in(sink) == ["span 1"]
        assert [span.name for span in exporter.get_finished_spans()] == ["span 2", "span 3"]

    def test_what_waits_moves_too(self, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        pipeline = pipeline_of(lambda: snapshot_of({}), SpanTeller())
        sink.status = 400
        pipeline.round()
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        set_globally(monkeypatch, "opentelemetry.trace", "_TRACER_PROVIDER", provider)
        sink.status = 200
        pipeline.round()
        pipeline.round()
        pipeline.end()
        assert spans_in(sink) == []
        assert [span.name for span in exporter.get_finished_spans()] == ["span 1", "span 2", "span 3"]
        sink.wait(lambda: not sink.connected)


class RecordTeller:
    """Emits a log record each time it is asked."""

    suppressed = 0

    def __init__(self) -> None:
        self.made = 0

    def tell(self, spans: Any, records: Any) -> None:
        self.made += 1
        records(
            partial(
                emit,
                context=context_in(None),
                timestamp=1_000,
                severity=(9, "INFO"),
                body=f"record {self.made}",
                attributes={},
                event_name="loopwatch.test",
            )
        )


class RecordsOfTheProgram:
    """An exporter of the program's: keeps what the records say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def export(self, batch: Any) -> None:
        self.said += [getattr(data, "log_record", data).body for data in batch]

    def shutdown(self) -> None:
        """Nothing is open."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


def test_log_records_move_when_the_program_sets_a_provider(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipeline_of(lambda: snapshot_of({}), RecordTeller())
    pipeline.round()
    theirs = RecordsOfTheProgram()
    provider = logger_provider(Resource({}), theirs)
    set_globally(monkeypatch, "opentelemetry._logs._internal", "_LOGGER_PROVIDER", provider)
    pipeline.round()
    pipeline.round()
    pipeline.end()
    said = [
        record.body.string_value
        for request in sink.received["/v1/logs"]
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]
    assert said == ["record 1"]
    assert theirs.said == ["record 2", "record 3"]


def test_the_resource_tells_processes_apart(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other")
    found = []
    for _ in range(2):
        pipeline = pipeline_of(lambda: snapshot_of({"blocked": (Point(("main",), 0.25),)}))
        pipeline.round(flush=True)
        pipeline.end()
        found.append(attributes_of(sink.metrics[-1].resource_metrics[0].resource))
    first, second = found
    assert first["service.instance.id"] != second["service.instance.id"]
    assert first["process.pid"] == os.getpid()
    assert first["service.name"] == "shop"  # which the settings had from there, had nothing else been said
    assert first["deployment.environment.name"] == "test"
    assert first["telemetry.sdk.name"] == "opentelemetry"


@pytest.mark.parametrize("signal", ["METRICS", "TRACES", "LOGS"])
def test_a_signal_can_be_left_out(sink: Sink, monkeypatch: pytest.MonkeyPatch, signal: str) -> None:
    monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "none")
    tellers = SpanTeller(), RecordTeller()
    pipeline = pipeline_of(lambda: snapshot_of({"blocked": (Point(("main",), 0.25),)}), *tellers)
    pipeline.round(flush=True)
    pipeline.end()
    arrived = {path.removeprefix("/v1/").upper(): len(sent) for path, sent in sink.received.items()}
    assert arrived == {"METRICS": 1, "TRACES": 1, "LOGS": 1} | {signal: 0}
    assert pipeline.dropped == 0


PROGRAM = """
import asyncio, sys
import loopwatch

loopwatch.install(prometheus_port=None)
asyncio.run(asyncio.to_thread(sys.stdin.read))
loopwatch.uninstall()
"""


def test_under_opentelemetry_instrument_its_providers_are_used(sink: Sink, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("opentelemetry-instrument")
    if not command.exists():
        pytest.skip("needs: opentelemetry-instrument")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    environ = {
        **os.environ,
        "OTEL_SERVICE_NAME": "instrumented",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    words = [command, sys.executable, program]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environ, stdin=pipe, stderr=pipe, text=True) as process:
        try:
            sink.wait(lambda: any(metrics_of(request) for request in sink.metrics))
            _, errors = process.communicate(timeout=TIMEOUT)  # which ends what it reads
        finally:
            process.kill()
    assert process.returncode == 0, errors
    for request in filter(metrics_of, sink.metrics):
        assert "telemetry.distro.version" not in attributes_of(request.resource_metrics[0].resource)
        assert "telemetry.auto.version" in attributes_of(request.resource_metrics[0].resource)
