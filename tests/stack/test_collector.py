"""The Collector of these tests, by the SDK alone: what is sent is read back, also after it was away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .collector import Collector
from .received import Received

SENDER = """
import time
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link

if PROTOCOL == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

resource = Resource({"service.name": "sender"})
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource)
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
loggers = LoggerProvider(resource)
loggers.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter()))

meter = meters.get_meter("scope", "1.2", "https://schema.example/1")
meter.create_counter("bytes", "By", "Bytes sent.").add(7, {"name": "a", "number": 3, "list": ["x", "y"]})
meter.create_up_down_counter("items", "{item}").add(-4)
meter.create_gauge("level", "s").set(0.0)
histogram = meter.create_histogram("took", "s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
tracer = tracers.get_tracer("scope")
linked = tracer.start_span("linked")
linked.end()
with tracer.start_as_current_span("outer") as outer:
    for seconds in (0.05, 0.5, 0.6, 5.0):
        histogram.record(seconds)
    link = Link(linked.get_span_context(), {"why": "test"})
    span = tracer.start_span("inner", links=[link], start_time=10**18, attributes={"share": 0.5, "yes": True})
    span.end(10**18 + 200_000_000)
    loggers.get_logger("scope").emit(
        LogRecord(
            timestamp=10**18,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            body="it was lost",
            attributes={"age": 1.5},
            event_name="thing.lost",
        )
    )
outer = outer.get_span_context()
print(format(outer.trace_id, "032x"), format(outer.span_id, "016x"), flush=True)
for provider in (meters, tracers, loggers):
    provider.shutdown()
"""


def send(collector: Collector, protocol: str) -> tuple[str, str]:
    """Send one of each; return the ids of the outer span and its trace."""
    pytest.importorskip("opentelemetry.sdk", reason="needs: opentelemetry-sdk")
    done = subprocess.run(
        [sys.executable, "-c", f"PROTOCOL = {protocol!r}{SENDER}"],
        env=collector.environ(protocol),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    trace_id, span_id = done.stdout.split()
    return trace_id, span_id


def test_what_is_sent_is_read_back(collector: Collector, protocol: str) -> None:
    trace_id, span_id = send(collector, protocol)
    received = collector.wait_for(lambda got: got if got.points and got.spans[2:] and got.logs else None)
    points = {point.name: point for point in received.points}
    assert {(p.name, p.unit, p.kind, p.value) for p in received.points if p.name != "took"} == {
        ("bytes", "By", "counter", 7.0),
        ("items", "{item}", "updowncounter", -4.0),
        ("level", "s", "gauge", 0.0),
    }
    assert points["bytes"].attributes == {"name": "a", "number": 3, "list": ("x", "y")}
    assert points["bytes"].description == "Bytes sent."
    assert points["bytes"].began <= points["bytes"].time
    origin = points["bytes"].origin
    assert (origin.scope, origin.scope_version, origin.schema_url) == (
        "scope",
        "1.2",
        "https://schema.example/1",
    )
    assert origin.resource["service.name"] == "sender"
    took = points["took"].value
    assert not isinstance(took, float)
    assert (points["took"].kind, took.bounds, took.counts, took.count) == (
        "histogram",
        (0.1, 1.0),
        (1, 2, 1),
        4,
    )
    assert took.sum == pytest.approx(6.15)
    assert {(each.trace_id, each.span_id) for each in took.exemplars} == {(trace_id, span_id)}

    spans = {span.name: span for span in received.spans}
    inner, linked = spans["inner"], spans["linked"]
    assert (inner.trace_id, inner.parent_id, inner.attributes) == (
        trace_id,
        span_id,
        {"share": 0.5, "yes": True},
    )
    assert inner.seconds == pytest.approx(0.2)
    (link,) = inner.links
    assert (link.trace_id, link.span_id, link.attributes) == (
        linked.trace_id,
        linked.span_id,
        {"why": "test"},
    )

    (log,) = received.logs
    assert (log.event_name, log.severity, log.severity_number) == ("thing.lost", "WARN", 13)
    assert (log.body, log.attributes, log.time) == ("it was lost", {"age": 1.5}, 1e9)
    assert (log.trace_id, log.span_id) == (trace_id, span_id)


def test_it_receives_after_it_was_away(collector: Collector, protocol: str) -> None:
    """On the same ports, into the same file."""
    first, _ = send(collector, protocol)
    collector.wait_for(lambda got: got.spans)
    collector.stop()
    collector.start()
    second, _ = send(collector, protocol)
    collector.wait_for(lambda got: {first, second} <= {span.trace_id for span in got.spans})


def test_a_line_is_taken_once_it_is_whole(tmp_path: Path) -> None:
    received = Received(tmp_path / "file")
    received.read()
    log = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": "thing.lost"}]}]}]}
    line = json.dumps(log) + "\n"
    with received.path.open("w") as file:
        for written, taken in ((line + line[:20], 1), (line[20:], 2)):
            file.write(written)
            file.flush()
            received.read()
            assert len(received.logs) == taken


def test_a_line_that_was_cut_off_is_not_gone_on_with(tmp_path: Path) -> None:
    received = Received(tmp_path / "file")
    received.drop_unfinished()
    line = '{"resourceLogs": []}\n'
    received.path.write_text(line + line[:9])
    received.drop_unfinished()
    with received.path.open("a") as file:
        file.write(line)
    received.read()
    assert received.requests == 2
