"""What one process did, as spans and log records: how long, where, why, and in whose trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import loopwatch

from .collector import Collector
from .received import Histogram, Log, Point, Received
from .services import HERE, Service

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def service(collector: Collector, protocol: str) -> Iterator[Service]:
    """A service that exports to the Collector."""
    with ExitStack() as opened:
        yield Service(opened, OTEL_SERVICE_NAME="tested", **collector.environ(protocol))


def test_a_stall_is_a_span(collector: Collector, service: Service) -> None:
    """As long as it was, named after its function, linked to the request it came of."""
    held = service.ask("stall", 0.2, span=f"{TRACE}:{SPAN}")
    span = collector.wait_for(lambda got: got.stall(held))
    assert held["seconds"] - 0.02 < span.seconds < held["seconds"] + 0.02 + held["waited"]
    starved = held["waited"] > 0.1 * held["seconds"]
    assert span.attributes["asyncio.block.cause"] in {
        "blocking",
        *({"starved", "unknown"} if starved else ()),
    }
    assert span.attributes["asyncio.eventloop.name"] == "main"
    assert span.attributes["code.function.name"] == "__main__.hold_up"
    assert span.attributes["code.file.path"] == str(HERE / "service.py")
    assert span.attributes["asyncio.block.call"] == "time.sleep"
    line, stack = span.attributes["code.line.number"], span.attributes["code.stacktrace"]
    assert f"line {line}, in hold_up" in stack
    assert stack.index("in stall") < stack.index("in hold_up")
    (link,) = [link for link in span.links if link.attributes["loopwatch.link.role"] == "cause"]
    assert (link.trace_id, link.span_id) == (TRACE, SPAN)
    assert span.origin.scope == "loopwatch"
    assert span.origin.scope_version == loopwatch.__version__
    assert span.origin.resource["service.name"] == "tested"


def test_a_stall_outside_of_requests_is_linked_to_none(collector: Collector, service: Service) -> None:
    held = service.ask("stall", 0.2)
    assert not collector.wait_for(lambda got: got.stall(held)).links


@pytest.mark.parametrize("metric", ["asyncio.eventloop.delay", "asyncio.eventloop.block.duration"])
def test_a_stall_is_an_exemplar(collector: Collector, service: Service, metric: str) -> None:
    """Of the request's trace, at the bucket of its length."""
    held = service.ask("stall", 0.2, span=f"{TRACE}:{SPAN}")

    def with_trace(received: Received) -> list[Point]:
        return [point for point in received.points if point.name == metric and traces(point)]

    def traces(point: Point) -> list[float]:
        assert isinstance(point.value, Histogram)
        return [
            each.value for each in point.value.exemplars if (each.trace_id, each.span_id) == (TRACE, SPAN)
        ]

    (value,) = traces(collector.wait_for(with_trace)[0])
    assert value <= held["seconds"] + 0.02 + held["waited"]
    assert value >= held["seconds"] - 0.05  # the delay counts from when the beat was due


@pytest.mark.parametrize(
    ("kind", "event", "severity", "reason", "coroutine"),
    [
        ("fail", "asyncio.task.exception", (17, "ERROR"), "unretrieved_exception", "fail"),
        ("wait", "asyncio.task.lost", (13, "WARN"), "destroyed_pending", "wait_for_nobody"),
    ],
)
def test_a_lost_task_is_a_log_record(
    collector: Collector,
    service: Service,
    kind: str,
    event: str,
    severity: tuple[int, str],
    reason: str,
    coroutine: str,
) -> None:
    """In the trace of the request that started it."""
    service.ask("lose", kind, 1, span=f"{TRACE}:{SPAN}")

    def told(received: Received) -> list[Log]:
        return [log for log in received.logs if log.event_name == event]

    (log,) = collector.wait_for(told)
    assert (log.severity_number, log.severity) == severity
    assert (log.trace_id, log.span_id) == (TRACE, SPAN)
    assert log.attributes["asyncio.task.lost.reason"] == reason
    assert log.attributes["asyncio.task.coroutine"] == coroutine
    assert log.attributes["code.function.name"] == "__main__.lose"
    assert log.attributes.get("error.type") == ("LookupError" if kind == "fail" else None)
    assert "nobody asks" not in f"{log.body}{log.attributes}"  # the texts of exceptions stay here
    assert coroutine in log.body
    assert log.origin.resource["service.name"] == "tested"
    assert log.origin.scope == "loopwatch"


def test_a_full_pool_is_a_log_record(collector: Collector, service: Service) -> None:
    """Once it has been full for some seconds, with callers that wait."""
    service.ask("fill")
    (log,) = collector.wait_for(
        lambda got: [log for log in got.logs if log.event_name == "loopwatch.pool.saturated"]
    )
    service.ask("empty")
    assert log.severity == "WARN"
    assert log.attributes["asyncio.pool.name"] == "narrow"
    assert log.attributes["asyncio.pool.type"] == "thread_pool"
    sizes = [log.attributes[f"asyncio.pool.{size}"] for size in ("usage", "limit", "waiter.count")]
    assert sizes == [1, 1, 2]
    assert log.attributes["asyncio.pool.oldest_wait"] >= 5
