"""A Collector that is away, refuses or never answers: one line, little lost, an end in time."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from loopwatch._clock import SYSTEM
from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch._settings import Settings
from loopwatch._threads import Imports
from loopwatch.exporters.otel.delivery import LONG, USUAL
from loopwatch.exporters.otel.providers import ATTEMPTS, MOST_WAITING, SOON
from loopwatch.exporters.otel.service import FLUSH, OtelService
from loopwatch.testing import FakeClock

from .collector import TIMEOUT, Sink, metrics_of, pipeline_of, snapshot_of, spans_in, spans_of

BLOCKED = {"blocked": (Point(("main",), 0.25),), "iterations": (Point(("main",), 7),)}
TOLD = ("asyncio.eventloop.blocked", "asyncio.eventloop.iterations")
IN_TIME = 30.0
"""Seconds within which a slow machine does what takes two."""


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


class Spans:
    """Makes as many spans as it is told to."""

    suppressed = 0

    def __init__(self) -> None:
        self.wanted = 0

    def tell(self, spans: Any, records: Any) -> None:
        for number in range(self.wanted):
            spans(lambda tracer, number=number: tracer.start_span(f"span {number}").end())
        self.wanted = 0


def test_one_line_when_it_fails_and_one_when_it_is_over(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sink.status = 400
    pipeline = pipeline_of(lambda: snapshot_of(BLOCKED))
    for _ in range(3):
        pipeline.round(flush=True)
    (line,) = lines(caplog)
    assert line.startswith("loopwatch: the export by OTLP does not arrive (metrics): ")
    assert "400" in line
    sink.status = 200
    pipeline.round(flush=True)
    pipeline.round(flush=True)
    pipeline.end()
    assert len(sink.metrics) == 2
    assert len(lines(caplog)) == 2
    assert "arrives again" in lines(caplog)[1]


@pytest.mark.parametrize(
    ("headers", "credentials", "query"),
    [
        pytest.param("authorization=Bearer%0AHUSH", "", "", id="a line break"),
        pytest.param("api key=HUSH,tenant=1", "", "", id="no name of a header"),
        pytest.param("Authorization: Bearer HUSH==", "", "", id="no header at all"),
        pytest.param("", "user:HUSH@", "?key=HUSH", id="in the endpoint"),
    ],
)
def test_no_key_is_in_the_line(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    headers: str,
    credentials: str,
    query: str,
) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{credentials}127.0.0.1:{port}/{query}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    pipeline = pipeline_of(lambda: snapshot_of(BLOCKED))
    pipeline.round(flush=True)
    pipeline.end()
    *of_settings, line = lines(caplog)
    assert "does not arrive (metrics): " in line
    assert ("refused" in line) == (headers != "authorization=Bearer%0AHUSH")  # which cannot even be tried
    assert "HUSH" not in "".join([*of_settings, line])


def test_a_setting_that_is_wrong_is_told_by_itself_and_once(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where all arrives, and beside the reason where it does not: it is none."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer HUSH==")
    spans = Spans()
    spans.wanted = 1
    pipeline = pipeline_of(lambda: snapshot_of(BLOCKED), spans)
    pipeline.round(flush=True)
    (line,) = lines(caplog)
    assert line.startswith("loopwatch: of the export by OTLP: Header format invalid!")
    sink.status = 401
    pipeline.disconnect()  # so that the exporters are made anew
    pipeline.round(flush=True)
    pipeline.end()
    _, line = lines(caplog)
    assert "does not arrive (metrics): " in line
    assert "401" in line


def test_loggers_of_the_program_say_what_they_did(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = pipeline_of(lambda: snapshot_of(BLOCKED))
    pipeline.round(flush=True)
    name = "opentelemetry.exporter.otlp.proto.http.metric_exporter"
    logging.getLogger(name).warning("of the program's exporter")
    assert lines(caplog) == ["of the program's exporter"]
    assert logging.getLogger(name).filters != []
    pipeline.end()
    assert logging.getLogger(name).filters == []


def test_spans_wait_for_the_collector_to_come_back(sink: Sink) -> None:
    clock, spans = FakeClock(), Spans()
    pipeline = pipeline_of(lambda: snapshot_of({}), spans, clock=clock)
    sink.status = 400
    spans.wanted = 2
    pipeline.round()
    sink.status = 200
    pipeline.round()
    assert spans_in(sink) == []  # too soon after the attempt that failed
    clock.advance(10.0)
    pipeline.round()
    assert spans_in(sink) == ["span 0", "span 1"]
    pipeline.round()
    pipeline.end()
    assert len(sink.received["/v1/traces"]) == 1
    assert pipeline.dropped == 0


def test_no_more_wait_than_may(sink: Sink) -> None:
    clock, spans = FakeClock(), Spans()
    pipeline = pipeline_of(lambda: snapshot_of({}), spans, clock=clock)
    sink.status = 400
    for _ in range(3):
        spans.wanted = MOST_WAITING
        pipeline.round()
    assert pipeline.dropped == 2 * MOST_WAITING
    sink.status = 200
    clock.advance(10.0)
    pipeline.round()
    pipeline.end()
    assert len(spans_in(sink)) == MOST_WAITING


def test_one_that_cannot_be_made_is_counted_and_costs_no_other(sink: Sink) -> None:
    class Fails(Spans):
        def tell(self, spans: Any, records: Any) -> None:
            self.wanted = 1
            super().tell(spans, records)
            spans(lambda tracer: 1 / 0)
            self.wanted = 1
            super().tell(spans, records)

    journal = Journal()
    pipeline = pipeline_of(lambda: snapshot_of({}), Fails(), journal=journal)
    pipeline.round()
    pipeline.end()
    assert spans_in(sink) == ["span 0", "span 0"]
    assert (journal.failures(), pipeline.dropped) == ({"otlp": 1}, 0)


def test_after_an_outage_all_arrive_once_and_in_order_by_batches(sink: Sink) -> None:
    clock, spans = FakeClock(), Spans()
    pipeline = pipeline_of(lambda: snapshot_of({}), spans, clock=clock)
    sink.status = 400
    spans.wanted = 50
    pipeline.round()
    clock.advance(10.0)
    sink.status = 200
    pipeline.round()
    pipeline.end()
    assert spans_in(sink) == [f"span {number}" for number in range(50)]
    assert [len(spans_of(request)) for request in sink.received["/v1/traces"]] == [16, 16, 16, 2]
    assert pipeline.dropped == 0


def test_what_the_collector_refuses_is_given_up(sink: Sink) -> None:
    clock, spans = FakeClock(), Spans()
    pipeline = pipeline_of(lambda: snapshot_of({}), spans, clock=clock)
    sink.status = 400
    spans.wanted = 1
    for _ in range(ATTEMPTS + 10):
        pipeline.round()
        clock.advance(10.0)
    assert pipeline.dropped == 1
    sink.status = 200
    spans.wanted = 2
    pipeline.round()
    pipeline.end()
    assert spans_in(sink) == ["span 0", "span 1"]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Accepts, and never answers."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener


class Service:
    """The service with its thread, and whether a round began."""

    def __init__(self) -> None:
        self.rounds = threading.Semaphore(0)
        self.spans = Spans()
        settings = Settings(otlp=True)
        self.otel = OtelService(
            settings,
            lambda: snapshot_of(BLOCKED),
            lambda: [self],
            lambda: None,
            nullcontext,
            Imports(),
            Journal(),
            SYSTEM,
        )

    suppressed = 0

    def tell(self, spans: Any, records: Any) -> None:
        self.spans.tell(spans, records)
        self.rounds.release()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.otel.stop()


def let_it_end() -> None:
    """Wait for a thread that was given up: before it tries again, old exporters sleep, whatever comes."""
    for thread in threading.enumerate():
        if thread.name == "loopwatch-otel":
            thread.join(2 * TIMEOUT)


PROTOCOLS = pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])


@PROTOCOLS
def test_a_collector_that_never_answers_holds_up_the_end_for_two_seconds(
    silent: socket.socket, service: Service, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
    service.otel.start()
    silent.settimeout(TIMEOUT)
    connection, _ = silent.accept()
    with contextlib.closing(connection):
        began = time.monotonic()
        service.otel.stop()
        assert FLUSH * 0.9 < time.monotonic() - began < IN_TIME
        silent.close()  # or it would try again
    let_it_end()


def test_a_slow_collector_is_waited_for(
    sink: Sink, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a line, without a request beside the one under way, and with all that came meanwhile."""
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(int(TIMEOUT)))
    sink.answers.clear()
    service.otel.start()
    sink.wait(lambda: sink.metrics)
    service.spans.wanted = 3
    service.otel.flush()  # which does not wait for long
    assert (len(sink.metrics), sink.connected) == (1, 1)
    sink.answers.set()
    sink.wait(lambda: spans_in(sink) and len(sink.metrics) > 1)
    service.otel.stop(TIMEOUT)
    assert spans_in(sink) == ["span 0", "span 1", "span 2"]
    assert service.otel.dropped == 0
    assert lines(caplog) == []


@PROTOCOLS
def test_where_nobody_listens_it_ends_in_time(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    service.otel.start()
    assert service.rounds.acquire(timeout=TIMEOUT)
    began = time.monotonic()
    service.otel.stop()
    assert time.monotonic() - began < IN_TIME
    let_it_end()


def test_what_is_left_is_sent_at_the_end(sink: Sink, service: Service) -> None:
    service.otel.start()
    assert service.rounds.acquire(timeout=TIMEOUT)
    service.otel.stop(TIMEOUT)
    (request,) = sink.metrics
    assert set(metrics_of(request)) == set(TOLD)


def test_a_flush_waits_until_all_is_sent(
    sink: Sink, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopwatch.exporters.otel.service.SENT", TIMEOUT)
    service.otel.start()
    service.otel.flush()
    (request,) = sink.metrics
    assert set(metrics_of(request)) == set(TOLD)
    service.otel.flush()
    assert len(sink.metrics) == 2


def test_a_fork_finds_no_thread_and_no_connection_and_the_parent_goes_on(
    sink: Sink, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    service.otel.start()
    sink.wait(lambda: sink.metrics)
    fork(service)
    assert "loopwatch-otel" not in {thread.name for thread in threading.enumerate()}
    sink.wait(lambda: not sink.connected)
    sent = len(sink.metrics)
    service.otel.thread.resume()
    sink.wait(lambda: len(sink.metrics) > sent)
    starts = {
        metrics_of(request)["asyncio.eventloop.iterations"].sum.data_points[0].start_time_unix_nano
        for request in sink.metrics
    }
    assert len(starts) == 1  # it is the same provider


def test_a_child_begins_afresh(sink: Sink, service: Service) -> None:
    service.otel.start()
    assert service.rounds.acquire(timeout=TIMEOUT)
    fork(service)
    service.otel.forget()
    service.otel.start()
    service.otel.stop(TIMEOUT)
    (request,) = sink.metrics
    assert set(metrics_of(request)) == set(TOLD)


def fork(service: Service) -> None:
    """As the engine does it, but for the patience."""
    ending = service.otel.thread.pause()
    service.otel.interrupt()
    assert ending is not None
    ending.join(TIMEOUT)


class InThread:
    """A round in a thread of its own, which hangs at the Collector."""

    def __init__(self, pipeline: Any) -> None:
        self._thread = threading.Thread(target=pipeline.round, kwargs={"flush": True}, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._thread.join(IN_TIME)
        assert not self._thread.is_alive()


def test_what_a_fork_interrupts_is_sent_again_soon_and_told_of_by_no_line(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither spans nor metrics wait for their next turn, and no attempt is taken as failed."""
    clock, spans = FakeClock(), Spans()
    pipeline = pipeline_of(lambda: snapshot_of(BLOCKED), spans, clock=clock)
    sink.answers.clear()
    spans.wanted = 2
    hanging = InThread(pipeline)
    sink.wait(lambda: sink.received["/v1/traces"])
    pipeline.interrupt()  # the answer may come any moment
    assert sink.connected == 1
    clock.advance(USUAL + 0.1)
    pipeline.interrupt()
    hanging.end()
    assert (len(sink.received["/v1/traces"]), sink.metrics) == (1, [])
    sink.answers.set()
    pipeline.round()
    assert len(sink.received["/v1/traces"]) == 1  # there may be another fork
    clock.advance(SOON)
    pipeline.round()
    assert [len(spans_of(request)) for request in sink.received["/v1/traces"]] == [2, 2]
    pipeline.end()
    assert pipeline.dropped == 0
    assert lines(caplog) == []


def test_metrics_that_a_fork_interrupts_are_sent_again_soon(sink: Sink) -> None:
    clock = FakeClock()
    pipeline = pipeline_of(lambda: snapshot_of(BLOCKED), clock=clock)
    sink.answers.clear()
    hanging = InThread(pipeline)
    sink.wait(lambda: sink.metrics)
    clock.advance(USUAL + 0.1)
    pipeline.interrupt()
    hanging.end()
    sink.answers.set()
    clock.advance(SOON)
    pipeline.round()
    pipeline.end()
    assert len(sink.metrics) == 2


def test_an_outage_is_told_of_though_forks_interrupt_each_attempt(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(int(TIMEOUT)))
    clock = FakeClock()
    pipeline = pipeline_of(lambda: snapshot_of(BLOCKED), clock=clock)
    silent.settimeout(TIMEOUT)
    for _ in range(3):
        assert lines(caplog) == []
        hanging = InThread(pipeline)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)
            clock.advance(LONG * 0.4)
            pipeline.interrupt()
            hanging.end()
    pipeline.end()
    (line,) = lines(caplog)
    assert "does not arrive (metrics): no answer in 12 s" in line


def test_an_export_over_grpc_is_not_interrupted_and_its_failure_told(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    clock = FakeClock()
    pipeline = pipeline_of(lambda: snapshot_of(BLOCKED), clock=clock)
    hanging = InThread(pipeline)
    silent.settimeout(TIMEOUT)
    connection, _ = silent.accept()
    with connection:
        clock.advance(USUAL + 0.1)
        pipeline.interrupt()
        hanging.end()
    pipeline.end()
    (line,) = lines(caplog)
    assert "does not arrive (metrics)" in line
