"""A request's span is found on whatever came of the request: in the agent, and in what it exports."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs: opentelemetry-sdk")
pytest.importorskip("fastapi", reason="needs: fastapi")
pytest.importorskip("httpx", reason="needs: httpx")

import httpx
from fastapi import FastAPI
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as log_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

import loopwatch
from loopwatch import Agent, Distribution, Exemplar
from loopwatch.facts import BUCKETS
from tests.machine import CpuWaits

from .conftest import PATIENCE

Run = Callable[[Coroutine[Any, Any, Any]], Any]

STALL = 0.3
"""Seconds."""


class Telemetry:
    """Providers of the program's own, which keep what they are given."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        in_memory: Any = (
            getattr(log_export, "InMemoryLogRecordExporter", None) or log_export.InMemoryLogExporter
        )
        self._logs = in_memory()
        self._metrics = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.loggers = LoggerProvider()
        self.loggers.add_log_record_processor(log_export.SimpleLogRecordProcessor(self._logs))
        self.meters = MeterProvider([self._metrics], shutdown_on_exit=False)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._spans.get_finished_spans() if span.name == name]

    def exemplars(self) -> list[tuple[str, Any]]:
        """Return all exemplars since the last call, each with the name of its metric."""
        data = self._metrics.get_metrics_data()
        return [
            (metric.name, exemplar)
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            for exemplar in getattr(point, "exemplars", ())
        ]

    def logs(self, event: str) -> list[Any]:
        records = [each.log_record for each in self._logs.get_finished_logs()]
        return [
            one
            for one in records
            if event in (getattr(one, "event_name", ""), one.attributes.get("event.name"))
        ]


@pytest.fixture
def telemetry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    telemetry = Telemetry()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", telemetry.tracers)
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", telemetry.loggers)
    monkeypatch.setattr(metrics._internal, "_METER_PROVIDER", telemetry.meters)
    yield telemetry
    telemetry.meters.shutdown()


class Shop:
    """A service each of whose requests does one thing it should not, within a span of its own."""

    def __init__(self, telemetry: Telemetry, agent: Agent) -> None:
        self.agent = agent
        self._tracer = telemetry.tracers.get_tracer("shop")
        self.spans: dict[str, SpanContext] = {}
        self.waited = 0.0
        """Seconds in which threads waited for a CPU, by which a beat may be later than a stall is long."""
        self.app = FastAPI()
        for what, handle in (("stall", self._stall), ("lose", self._lose), ("spawn", self._spawn)):
            self.app.add_api_route(f"/{what}", self._traced(what, handle))

    def _traced(self, what: str, handle: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Any]:
        async def endpoint() -> str:
            with self._tracer.start_as_current_span(what) as span:
                self.spans[what] = span.get_span_context()
                if sys.version_info < (3, 12):  # where a task's context is what it was created in
                    await asyncio.create_task(handle())
                else:
                    await handle()
            return what

        return endpoint

    async def _stall(self) -> None:
        while not any(stall.call == "time.sleep" for stall in self.agent.stalls()):  # until it is sampled
            time.sleep(STALL)

    async def _lose(self) -> None:
        async def wait_for_nobody() -> None:
            await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(wait_for_nobody(), name="lost")
        task.me = task  # type: ignore[attr-defined]  # so that only the collector can free it

    async def _spawn(self) -> None:
        async def never_ends() -> None:
            await asyncio.Event().wait()

        loopwatch.spawn(never_ends(), name="job")


async def serve(shop: Shop, agent: Agent) -> None:
    """Run each request in a task of its own, as a server does, and shut down."""
    transport = httpx.ASGITransport(app=shop.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        for what in ("stall", "lose", "spawn"):
            response = await asyncio.create_task(client.get(f"/{what}"))
            assert response.json() == what
        async with asyncio.timeout(PATIENCE):
            while not any(one.task_name == "lost" for one in agent.lost()):
                await asyncio.sleep(0.01)
                gc.collect()  # which does nothing while another thread collects
    await loopwatch.drain(0.05)


def ids(span: SpanContext) -> tuple[str, str]:
    return format_trace_id(span.trace_id), format_span_id(span.span_id)


def exemplar_in(distribution: object, bound: float) -> Exemplar | None:
    """Return the exemplar of the bucket up to ``bound``."""
    assert isinstance(distribution, Distribution)
    return distribution.exemplars[BUCKETS.index(bound)] if distribution.exemplars else None


@pytest.fixture
def shop(telemetry: Telemetry, install: Callable[..., Agent], run: Run, cpu_waits: CpuWaits) -> Shop:
    """The service after it has run, and the agent after it has reported all."""
    agent = install(otlp=True, job_spans=True)
    shop = Shop(telemetry, agent)
    run(serve(shop, agent))
    shop.waited = cpu_waits.seconds()
    loopwatch.uninstall()
    return shop


def test_the_span_of_a_request_is_found_on_what_came_of_it(shop: Shop, telemetry: Telemetry) -> None:
    agent = shop.agent
    snapshot = agent.snapshot()
    stalled = ids(shop.spans["stall"])

    [stall] = [one for one in agent.stalls() if one.call == "time.sleep"]
    assert (stall.trace_id, stall.span_id, stall.trace_flags) == (*stalled, shop.spans["stall"].trace_flags)
    [lost] = [one for one in agent.lost() if one.task_name == "lost"]
    assert (lost.trace_id, lost.span_id) == ids(shop.spans["lose"])
    [report] = snapshot.drains
    [job] = report.cancelled
    assert (job.name, job.trace_id, job.span_id) == ("job", *ids(shop.spans["spawn"]))

    [delay], [duration] = snapshot.points["delay"], snapshot.points["block_duration"]
    for point in (delay, duration):
        assert isinstance(point.value, Distribution)
        found = [
            one for one in point.value.exemplars if one is not None and (one.trace_id, one.span_id) == stalled
        ]
        if point is delay and not found and shop.waited > 0.1:
            continue  # of a busy machine: the beat came after two stalls, and is of neither
        assert len(found) == 1, point
        assert STALL - 0.1 < found[0].value <= stall.duration + shop.waited
        bucket = point.value.exemplars.index(found[0])
        assert point.value.counts[bucket] >= 1
        assert (0.0, *BUCKETS)[bucket] < found[0].value <= (*BUCKETS, float("inf"))[bucket]
        assert stall.started_at < found[0].at < time.time()


def test_what_is_exported_of_it_leads_there(shop: Shop, telemetry: Telemetry) -> None:
    [span] = [
        one
        for one in telemetry.spans("asyncio.eventloop.block")
        if (one.attributes or {}).get("asyncio.block.call") == "time.sleep"
    ]
    assert span.start_time is not None
    assert span.end_time is not None
    [stall] = [one for one in shop.agent.stalls() if one.call == "time.sleep"]
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(stall.duration, abs=1e-6)
    assert span.start_time / 1e9 == pytest.approx(stall.started_at, abs=1e-6)
    assert span.end_time - span.start_time > (STALL - 0.03) * 1e9
    cause = next(link for link in span.links if (link.attributes or {})["loopwatch.link.role"] == "cause")
    assert cause.context == shop.spans["stall"]
    assert span.parent is None

    [lost] = [
        one for one in telemetry.logs("asyncio.task.lost") if one.attributes["asyncio.task.name"] == "lost"
    ]
    assert (lost.trace_id, lost.span_id) == (shop.spans["lose"].trace_id, shop.spans["lose"].span_id)
    [left] = telemetry.logs("loopwatch.drain.task")
    assert (left.trace_id, left.span_id) == (shop.spans["spawn"].trace_id, shop.spans["spawn"].span_id)
    [job] = telemetry.spans("loopwatch.job")
    assert job.parent is not None
    assert (job.parent.trace_id, job.parent.span_id) == (left.trace_id, left.span_id)
    assert (job.attributes or {})["asyncio.task.outcome"] == "cancelled"
    [drain] = telemetry.spans("loopwatch.drain")
    assert [link.context for link in drain.links] == [shop.spans["spawn"]]
    [whole] = telemetry.logs("loopwatch.drain")
    assert whole.attributes["loopwatch.drain.cancelled"] == 1

    exemplars = {
        name: exemplar.value
        for name, exemplar in telemetry.exemplars()
        if exemplar.trace_id == shop.spans["stall"].trace_id and name.startswith("asyncio.")
    }
    expected = {"asyncio.eventloop.delay", "asyncio.eventloop.block.duration"}
    if shop.waited > 0.1 and "asyncio.eventloop.delay" not in exemplars:
        expected -= {"asyncio.eventloop.delay"}  # as above
    assert exemplars.keys() == expected
    assert all(STALL - 0.1 < value <= stall.duration + shop.waited for value in exemplars.values())
