"""A Collector on loopback, and a pipeline that sends to it."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from loopwatch._agent_records import Snapshot
from loopwatch._clock import SYSTEM, Clock
from loopwatch._journal import Journal
from loopwatch._settings import Settings

TIMEOUT = 60.0
"""Seconds after which something is wrong, never waited for otherwise."""

REQUESTS = {
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Sink:
    """Takes OTLP over HTTP, and keeps what it is sent, decoded."""

    def __init__(self) -> None:
        self.received: dict[str, list[Any]] = {path: [] for path in REQUESTS}
        self.status = 200
        self.answers = threading.Event()
        """Cleared, it takes what it is sent and does not answer yet."""
        self.answers.set()
        self.connected = 0
        """Clients that have a connection."""
        self._changed = threading.Condition()
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                sink.count(1)
                super().handle()
                sink.count(-1)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.take(self.path, body)
                sink.answers.wait(TIMEOUT)
                self.send_response(sink.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # It looks that often whether it is to end: by default twice a second, for which each test waited.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="sink", daemon=True
        )
        self._thread.start()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def take(self, path: str, body: bytes) -> None:
        with self._changed:
            if self.status == 200:
                self.received[path].append(REQUESTS[path].FromString(body))
            self._changed.notify_all()

    def count(self, change: int) -> None:
        with self._changed:
            self.connected += change
            self._changed.notify_all()

    def wait(self, condition: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, TIMEOUT), "it never arrived"

    @property
    def metrics(self) -> list[Any]:
        return self.received["/v1/metrics"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT)


def metrics_of(request: Any) -> dict[str, Any]:
    """Return the metrics of loopwatch's scope in a request, by name."""
    scopes = [scope for resource in request.resource_metrics for scope in resource.scope_metrics]
    return {
        metric.name: metric for scope in scopes if scope.scope.name == "loopwatch" for metric in scope.metrics
    }


def spans_of(request: Any) -> list[str]:
    """Return the names of the spans in a request."""
    return [
        span.name
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def spans_in(sink: Sink) -> list[str]:
    """Return the names of the spans that arrived."""
    return [name for request in sink.received["/v1/traces"] for name in spans_of(request)]


def number_of(point: Any) -> float:
    """Return the value of a point of a sum or a gauge, whichever kind of number it is."""
    return float(getattr(point, point.WhichOneof("value")))


def attributes_of(thing: Any) -> dict[str, Any]:
    """Return the attributes of a point, a span or a resource."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in thing.attributes}


def snapshot_of(points: Any, at: float = 1000.0) -> Snapshot:
    return Snapshot(taken_at=at, service_name="test", points=points, loops=(), stalls=(), lost=())


def pipeline_of(
    source: Callable[[], Snapshot],
    *tellers: Any,
    collector: Callable[[], Any] = lambda: None,
    journal: Journal | None = None,
    clock: Clock = SYSTEM,
) -> Any:
    """Build a pipeline as the service does."""
    from loopwatch.exporters.otel.pipeline import Pipeline

    settings = Settings(service_name="shop", otlp=True)
    return Pipeline(
        settings, source, tellers, collector, 900.0, contextlib.nullcontext, journal or Journal(), clock
    )
