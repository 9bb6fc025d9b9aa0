"""The SDK with exporters that keep what they are given, and events to tell of."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs: opentelemetry-sdk")

from opentelemetry.sdk._logs import LoggerProvider, export
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from loopwatch._agent_records import Lost, Pool, Stall, Victim
from loopwatch._events import Event
from loopwatch._journal import Journal
from loopwatch._records import Frame, Task
from loopwatch.exporters.otel.events import Events
from loopwatch.exporters.otel.providers import logger_of, tracer_of
from loopwatch.testing import FakeClock

InMemoryLogs: Any = getattr(export, "InMemoryLogRecordExporter", None) or export.InMemoryLogExporter


def ids(number: int) -> dict[str, Any]:
    """Return the ids of a sampled trace, as records have them."""
    return {"trace_id": f"{number:032x}", "span_id": f"{number + 1:016x}", "trace_flags": 1}


SITE = Frame("accept", "shop.orders", "/srv/shop/orders.py", 7)
STOOD = (
    Frame("handle", "shop.orders", "/srv/shop/orders.py", 20),
    Frame("parse", "shop.text", "/srv/t.py", 3),
)

STALL = Stall(
    duration=0.2,
    started_at=1_700_000_000.5,
    cause="cpu",
    culprit=STOOD[-1],
    call="json.loads",
    stack=STOOD,
    task_name="request 1",
    coroutine="handle",
    context={"request_id": "r-1"},
    victims=(
        Victim("request 2", "handle", **ids(0x200)),
        Victim("sweeper", "sweep", None),
    ),
    evidence={"cpu_s": 0.19, "gc_s": 0.0},
    in_progress=False,
    samples=11,
    loop_name="main",
    **ids(0x100),
)

LOST = Lost(
    reason="destroyed_pending",
    site=SITE,
    coroutine="ship",
    age=3.5,
    lost_at=1_700_000_010.25,
    exception=None,
    context={"request_id": "r-1"},
    await_stack=STOOD,
    waiting_on="Event.wait",
    evidence={"live_at_site": 2.0},
    task_name="ship 7",
    **ids(0x100),
)

TASK = Task(
    site=SITE,
    coroutine="send_mail",
    name="mail",
    parent=None,
    state="cancelled",
    unretrieved=False,
    started_at=1_700_000_000.0,
    age=9.0,
    duration=2.5,
    exception=None,
    context={},
    await_stack=STOOD,
    waiting_on="sleep",
    daemon=False,
    loop_name="main",
    **ids(0x100),
)

POOL = Pool(
    kind="redis",
    label="cache:6379/0",
    max=2,
    used=2,
    idle=0,
    connecting=0,
    pending=3,
    oldest_wait=5.5,
    wait_count=10,
    wait_sum=1.0,
    wait_p99=0.5,
    timeouts=0,
    rejected=0,
    cancelled=0,
    instances=1,
    created=1,
    borrowers=(),
    waiters=(),
)


@dataclass
class Told:
    """A log record, whichever version of the SDK made it."""

    record: Any
    scope: Any

    @property
    def name(self) -> str:
        return getattr(self.record, "event_name", None) or self.record.attributes["event.name"]

    @property
    def attributes(self) -> Mapping[str, Any]:
        return {name: value for name, value in self.record.attributes.items() if name != "event.name"}

    @property
    def severity(self) -> tuple[int, str]:
        return self.record.severity_number.value, self.record.severity_text

    @property
    def ids(self) -> dict[str, Any]:
        return {
            "trace_id": f"{self.record.trace_id or 0:032x}",
            "span_id": f"{self.record.span_id or 0:016x}",
            "trace_flags": self.record.trace_flags,
        }


class Desk:
    """Events that wait, and what is told of them by providers of the SDK."""

    def __init__(self) -> None:
        self.waiting: deque[Event] = deque()
        self.fake, self.journal = FakeClock(), Journal()
        self.events = Events(self._take, self.fake.clock, self.journal)
        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogs()
        self.tracers, self.loggers = TracerProvider(shutdown_on_exit=False), LoggerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        processor = getattr(export, "SimpleLogRecordProcessor")  # noqa: B009 - untyped in some versions
        self.loggers.add_log_record_processor(processor(self._logs))

    def _take(self) -> list[Event]:
        taken = list(self.waiting)
        self.waiting.clear()
        return taken

    def tell(self, *events: Event) -> None:
        self.waiting.extend(events)
        tracer, logger = tracer_of(self.tracers), logger_of(self.loggers)
        self.events.tell(lambda make: make(tracer), lambda make: make(logger))

    def spans(self) -> list[ReadableSpan]:
        found = list(self._spans.get_finished_spans())
        self._spans.clear()
        return found

    def logs(self) -> list[Told]:
        found = [
            Told(each.log_record, getattr(each, "instrumentation_scope", None))
            for each in self._logs.get_finished_logs()
        ]
        self._logs.clear()
        return found

    def span(self, event: Event) -> ReadableSpan:
        self.tell(event)
        [span] = self.spans()
        return span

    def log(self, event: Event) -> Told:
        self.tell(event)
        [told] = self.logs()
        return told


@pytest.fixture
def desk() -> Desk:
    return Desk()
