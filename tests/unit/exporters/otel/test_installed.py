"""The whole agent, exporting from a program of its own to a Collector on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from loopwatch import facts
from tests.loops.provoked import but_stalls

from .collector import Sink, attributes_of, metrics_of, number_of
from .conftest import run_program

PROGRAM = """
import asyncio, logging, sys, threading, time, urllib.request
import loopwatch, loopwatch.exporters.otel.service

loopwatch.exporters.otel.service.FLUSH = 60.0  # on a slow machine, too
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(message)s")
agent = loopwatch.install(prometheus_port=0, hold_dump=False)

async def main():
    while "loopwatch-otel" not in {thread.name for thread in threading.enumerate()}:
        await asyncio.sleep(0.02)
    time.sleep(0.3)
    await asyncio.sleep(0.2)
    while not agent.stalls() or agent.stalls()[-1].in_progress:
        await asyncio.sleep(0.02)

asyncio.run(main())
while not agent._engine._watchdog._resting:  # it has told of the last step, too
    time.sleep(0.02)
with urllib.request.urlopen(agent.prometheus_url) as answer:
    print(answer.read().decode())
loopwatch.uninstall()
"""


def numbers_scraped(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


class Exported(NamedTuple):
    """What came of ``PROGRAM``: what arrived, and what it wrote."""

    sink: Sink
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    with closing(Sink()) as sink:
        to = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        yield Exported(sink, run_program(tmp_path_factory.mktemp("exported"), PROGRAM, **to))


def test_it_exports_what_a_scrape_shows(exported: Exported) -> None:
    sink, done = exported
    scraped = numbers_scraped(done.stdout)
    request = sink.metrics[-1]
    assert attributes_of(request.resource_metrics[0].resource)["service.name"] == "shop"
    metrics = metrics_of(request)
    (stalls,) = metrics["asyncio.eventloop.block.duration"].histogram.data_points
    loop = attributes_of(stalls)["asyncio.eventloop.name"]
    assert loop == "main"
    for fact in (facts.BY_STEM["block_duration"], facts.BY_STEM["delay"]):
        (point,) = metrics[fact.name].histogram.data_points
        assert point.count == scraped[f"{fact.prometheus_name}_count", (loop,)]  # none come any more
        assert point.sum == pytest.approx(scraped[f"{fact.prometheus_name}_sum", (loop,)])
        below = 0
        for bound, count in zip(point.explicit_bounds, point.bucket_counts, strict=False):
            below += count
            assert scraped[f"{fact.prometheus_name}_bucket", tuple(sorted((loop, str(bound))))] == below
    assert stalls.sum > 0.25
    (iterations,) = metrics["asyncio.eventloop.iterations"].sum.data_points
    assert number_of(iterations) == scraped["asyncio_eventloop_iterations_total", (loop,)]


def test_it_says_nothing_of_its_own_export(exported: Exported) -> None:
    sink, done = exported
    metrics = metrics_of(sink.metrics[-1])
    assert not {name for name in metrics if "executor" in name or "pool" in name or "http.client" in name}
    said = [
        line for line in but_stalls(done.stderr) if "connection" in line.lower() or "http" in line.lower()
    ]
    assert said == []
    overhead = {
        attributes_of(point)["loopwatch.component"]: number_of(point)
        for point in metrics["loopwatch.overhead.time"].sum.data_points
    }
    assert overhead["otlp"] >= 0.0


DRAINED = """
import asyncio, os, threading
import loopwatch, loopwatch.exporters.otel.service

loopwatch.exporters.otel.service.SENT = 60.0  # on a slow machine, too
agent = loopwatch.install(prometheus_port=None, hold_dump=False)

async def main():
    while "loopwatch-otel" not in {thread.name for thread in threading.enumerate()}:
        await asyncio.sleep(0.02)
    loopwatch.spawn(asyncio.sleep(0.05))
    await loopwatch.drain()
    os._exit(0)

asyncio.run(main())
"""


def test_a_drain_is_known_before_the_process_ends(sink: Sink, program: Any) -> None:
    program(DRAINED)
    metrics = metrics_of(sink.metrics[-1])
    (finished,) = metrics["loopwatch.drain.finished"].sum.data_points
    assert number_of(finished) == 1
    states = {
        attributes_of(point)["loopwatch.drain.state"]: number_of(point)
        for point in metrics["loopwatch.drain.status"].sum.data_points
    }
    assert states["drained"] == 1


AT_EXIT = """
import asyncio, threading
import loopwatch, loopwatch.exporters.otel.pipeline, loopwatch.exporters.otel.service

loopwatch.exporters.otel.pipeline.ROUND = 600.0  # there is none before the end
loopwatch.exporters.otel.service.FLUSH = 60.0  # on a slow machine, too
agent = loopwatch.install(prometheus_port=None, hold_dump=False)
built = threading.Event()

class Pipeline(loopwatch.exporters.otel.pipeline.Pipeline):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        built.set()

loopwatch.exporters.otel.pipeline.Pipeline = Pipeline

async def fail():
    raise ValueError

async def main():
    while not built.is_set():
        await asyncio.sleep(0.02)
    asyncio.create_task(fail())
    await asyncio.sleep(0.02)

asyncio.run(main())
"""


def test_a_program_that_ends_before_the_first_round_sends_all(sink: Sink, program: Any) -> None:
    done = program(AT_EXIT)
    assert "does not arrive" not in done.stderr
    assert len(sink.metrics) == 1
    (request,) = sink.received["/v1/logs"]
    names = [record.event_name for record in request.resource_logs[0].scope_logs[0].log_records]
    assert [name for name in names if name != "loopwatch.finding"] == ["asyncio.task.exception"]


FORKS = """
import asyncio, os, sys, threading
import loopwatch, loopwatch.exporters.otel.service

loopwatch.exporters.otel.service.FLUSH = 60.0  # on a slow machine, too
agent = loopwatch.install(prometheus_port=None, hold_dump=False)

async def main():
    while "loopwatch-otel" not in {thread.name for thread in threading.enumerate()}:
        await asyncio.sleep(0.02)
    await asyncio.to_thread(agent._engine.otel.flush)

asyncio.run(main())
pid = os.fork()
asyncio.run(main())
loopwatch.uninstall()
if pid and os.waitpid(pid, 0)[1]:
    sys.exit("the child failed")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_exports_as_another_instance(sink: Sink, program: Any) -> None:
    done = program(FORKS)
    assert but_stalls(done.stderr) == []
    resources = [attributes_of(request.resource_metrics[0].resource) for request in sink.metrics]
    pids = {found["service.instance.id"]: found["process.pid"] for found in resources}
    assert len(pids) == len(set(pids.values())) == 2
    counted: dict[int, list[tuple[int, int]]] = {}
    for found, request in zip(resources, sink.metrics, strict=True):
        (delay,) = metrics_of(request)["asyncio.eventloop.delay"].histogram.data_points
        counted.setdefault(found["process.pid"], []).append((delay.start_time_unix_nano, delay.count))
    for readings in counted.values():
        assert readings == sorted(readings)
        assert len({start for start, _ in readings}) == 1
    parents, childs = sorted(readings[0][0] for readings in counted.values())
    assert parents < childs  # which counts from the fork on


def test_without_a_variable_nothing_is_exported(sink: Sink, program: Any) -> None:
    program(PROGRAM.replace('while "loopwatch-otel" not in', "while False and"), LOOPWATCH_OTLP="no")
    assert sink.metrics == []


THEIRS_LATER = """
import asyncio, sys, threading, time
import loopwatch, loopwatch.exporters.otel.service
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

loopwatch.exporters.otel.service.SENT = 60.0  # on a slow machine, too
agent = loopwatch.install(prometheus_port=None, hold_dump=False)
provider = TracerProvider()  # which shuts down at exit, before what was registered before it
exporter = ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

async def main():
    agent._engine.otel.start()
    agent._engine.otel.flush()  # it has seen the provider
    loopwatch.exporters.otel.pipeline.ROUND = 600.0  # there is no other before the end
    time.sleep(0.3)
    while not agent.stalls() or agent.stalls()[-1].in_progress:
        await asyncio.sleep(0.02)

asyncio.run(main())
"""


def test_a_provider_set_later_gets_what_is_left_before_it_shuts_down(sink: Sink, program: Any) -> None:
    done = program(THEIRS_LATER)
    assert "asyncio.eventloop.block" in done.stdout.splitlines()
    assert sink.received["/v1/traces"] == []
