"""The demo with all its faults, as it arrives at a Collector and as a scrape of the same process shows it."""

from __future__ import annotations

import re
import signal
import time
import typing
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate

import httpx
import pytest

import loopwatch
from loopwatch import facts
from loopwatch._agent_records import Cause
from tests.demo.programs import Program

from .collector import Collector
from .conftest import PROTOCOLS
from .received import Histogram, Log, Point, Received, Series, Span
from .scraped import scrape

Value = float | Histogram

STALL = "asyncio.eventloop.block"
STALLING = {
    "analysis_service.answers.parse",
    "analysis_service.answers.merge",
    "analysis_service.llm.LLM.ask",
}
"""Who stalls the loop. By which cause is for smaller tests: a busy machine starves the loop as well."""
FAILED, CONTEXT_LOST = "asyncio.task.exception", "asyncio.task.context_lost"
FAILING = {"PoolTimeout", "JSONDecodeError"}
"""Of what jobs fail by the faults. A connection that nobody had time for for seconds is a failure as well."""
ORPHANED = {"asyncio.task.leak", "asyncio.task.lost"}
"""What a task is that nobody holds: found while it lives, or once the garbage collector has it."""
HANDING_OVER = {"analysis_service.workflow.Workflow._settle", "analysis_service.index.Index.add"}
"""Who loses the request id."""

NOT_SHOWN = {"iterations", "ready", "timers", "unwatched", "drain_duration", "worker_up"}
"""Facts that uvloop does not offer, one of other loops, of a drain, and of several workers. Nor is there a
database."""
FIXED = {"asyncio.eventloop.info", "asyncio.pool.limit", "loopwatch.reader.up", "loopwatch.drain.status"}
"""Gauges that do not change, so that there is no doubt what they were between two scrapes."""
NUMBERS = {"server.port", "cpython.gc.generation"}
"""Attributes that the conventions have as numbers."""


@dataclass(frozen=True)
class Run:
    """What became of one demo."""

    before: dict[Series, Value]
    """A scrape."""
    arrived: dict[Series, Point]
    """The first export that began after it..."""
    after: dict[Series, Value]
    """...and a scrape after that had arrived."""
    received: Received
    """All, up to the demo's end."""


@pytest.fixture(scope="module", params=PROTOCOLS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the demo until all that it is to show has arrived, and end it as Ctrl-C does."""
    directory = tmp_path_factory.mktemp("demo")
    with ExitStack() as opened:
        collector = opened.enter_context(Collector(directory))
        words = ("loopwatch", "demo", "--seconds=900")
        wanted = {"OTEL_METRIC_EXPORT_INTERVAL": "1000", **collector.environ(request.param)}
        demo = Program(opened, directory, *words, **wanted)
        (url,) = re.findall("metrics at (.+)", demo.line("metrics at http://"))
        collector.wait_for(shows_everything)
        before = scrape(url)
        began = time.time()
        arrived = collector.wait_for(lambda got: got.metrics(after=began))
        after = scrape(url)
        demo.end(signal.SIGINT)
        assert demo.status == 0
        collector.received.read()
        return Run(before, arrived, after, collector.received)


def shows_everything(received: Received) -> bool:
    stalling = {span.attributes.get("code.function.name") for span in received.spans if span.name == STALL}
    events = {log.event_name for log in received.logs}
    handing_over = {
        log.attributes["code.function.name"] for log in received.logs if log.event_name == CONTEXT_LOST
    }
    failed = {log.attributes["error.type"] for log in received.logs if log.event_name == FAILED}
    lost = bool(failed & FAILING) and bool(ORPHANED & events)
    return stalling >= STALLING and handing_over >= HANDING_OVER and lost


def spans(run: Run, name: str) -> Iterator[Span]:
    return (span for span in run.received.spans if span.name == name)


def logs(run: Run, event_name: str) -> Iterator[Log]:
    return (log for log in run.received.logs if log.event_name == event_name)


def test_the_same_series_are_in_the_file_and_in_the_scrape(run: Run) -> None:
    """But those that came or went between the two scrapes."""
    assert run.before.keys() & run.after.keys() <= run.arrived.keys() <= run.before.keys() | run.after.keys()
    names = {name for name, _ in run.arrived}
    missing = {fact.stem for fact in facts.ALL if fact.name not in names}
    assert {stem for stem in missing if not stem.startswith("database_")} <= NOT_SHOWN


def test_each_metric_is_as_declared(run: Run) -> None:
    known = {fact.name: fact for fact in facts.ALL}
    for point in run.arrived.values():
        fact = known[point.name]
        assert (point.kind, point.unit, point.description) == (fact.kind, fact.unit, fact.help)
        assert point.attributes.keys() == set(fact.labels)
        for key, value in point.attributes.items():
            assert isinstance(value, int if key in NUMBERS else str)
        if isinstance(point.value, Histogram):
            assert point.value.bounds in (facts.BUCKETS, facts.TASK_BUCKETS)
            assert point.value.count == sum(point.value.counts)
        if fact.kind in ("counter", "histogram"):
            assert point.began < point.time


def test_who_sends_is_told(run: Run) -> None:
    received = run.received
    origins = [item.origin for item in (*received.points, *received.spans, *received.logs)]
    assert {(origin.scope, origin.scope_version) for origin in origins} == {
        ("loopwatch", loopwatch.__version__)
    }
    assert {origin.resource["service.name"] for origin in origins} == {"analysis-service"}
    (instance,) = {origin.resource["service.instance.id"] for origin in origins}
    assert instance


def test_counters_lie_between_the_scrapes(run: Run) -> None:
    """Of histograms each bucket, cumulated, and the sum."""
    compared = 0
    for series, point in run.arrived.items():
        if point.kind in ("counter", "histogram") and series in run.before and series in run.after:
            earlier, value, later = map(numbers, (run.before[series], point.value, run.after[series]))
            assert all(map(in_order, earlier, value, later)), (series, earlier, value, later)
            compared += 1
    assert compared > 50


def numbers(value: Value) -> list[float]:
    return [*accumulate(value.counts), value.sum] if isinstance(value, Histogram) else [value]


def in_order(earlier: float, value: float, later: float) -> bool:
    rounding = 1e-9 * abs(value)
    return earlier - rounding <= value <= later + rounding


def test_gauges_are_the_same(run: Run) -> None:
    """Those that nothing changes; and the last heartbeat came between the others."""
    fixed = [series for series in run.arrived if series[0] in FIXED]
    assert {name for name, _ in fixed} == FIXED
    for series in fixed:
        assert run.before[series] == run.arrived[series].value == run.after[series]
    for series, point in run.arrived.items():
        if series[0] == "asyncio.eventloop.last_tick.timestamp":
            assert in_order(
                *(numbers(each)[0] for each in (run.before[series], point.value, run.after[series]))
            )


def test_stalls_are_spans(run: Run) -> None:
    """As long as the threshold at least, with what was called where, and the stack that led there."""
    found = [span for span in spans(run, STALL) if span.attributes.get("code.function.name") in STALLING]
    for span in found:
        assert span.seconds >= 0.1
        assert span.attributes["asyncio.eventloop.name"] == "main"
        assert span.attributes["asyncio.block.cause"] in typing.get_args(Cause)
        assert re.search(r"/analysis_service/(answers|llm)\.py$", span.attributes["code.file.path"])
        where = f'File "{span.attributes["code.file.path"]}", line {span.attributes["code.line.number"]}, in '
        assert where in span.attributes["code.stacktrace"]
    in_all = sum(span.seconds for span in spans(run, STALL))
    counted = [point for point in run.received.points if point.name == "asyncio.eventloop.block.duration"]
    last = max(counted, key=lambda point: point.time).value
    assert isinstance(last, Histogram)
    assert in_all <= last.sum + 1e-6


def test_losses_are_log_records(run: Run) -> None:
    """Each with its severity, whose request it was, and who started it."""
    for log in logs(run, FAILED):
        assert (log.severity_number, log.severity) == (17, "ERROR")
        assert log.attributes["code.function.name"] == "analysis_service.jobs.Jobs.start"
        assert log.attributes["asyncio.task.coroutine"] == "Workflow._run"
        assert re.fullmatch(r"\w{32}", log.attributes["loopwatch.context.request_id"])
        error = log.attributes["error.type"]
        assert error in FAILING or issubclass(getattr(httpx, error), httpx.TransportError)
    for log in logs(run, CONTEXT_LOST):
        assert (log.severity_number, log.severity) == (13, "WARN")
        assert log.attributes["loopwatch.context.missing"] == ("request_id",)
    for log in [log for name in ORPHANED for log in logs(run, name)]:
        assert log.severity == "WARN"
        assert log.attributes["asyncio.task.coroutine"] == "Workflow._index_once_settled"


def test_the_drain_is_a_span_and_log_records(run: Run) -> None:
    """One for each job that the deploy kills; they arrive before the process ends."""
    (span,) = spans(run, "loopwatch.drain")
    (summary,) = logs(run, "loopwatch.drain")
    left = list(logs(run, "loopwatch.drain.task"))
    abandoned = span.attributes["loopwatch.drain.abandoned"]
    assert span.attributes["loopwatch.drain.state"] == "forced"
    assert summary.severity == "WARN"
    assert summary.attributes["loopwatch.drain.abandoned"] == abandoned >= 1
    assert span.seconds == pytest.approx(summary.attributes["loopwatch.drain.duration"], abs=1e-8)
    assert len(left) == min(100, abandoned + span.attributes["loopwatch.drain.cancelled"])
    for log in left:
        assert log.severity == "WARN"
        assert log.attributes["loopwatch.drain.task.state"] in {"abandoned", "cancelled"}
        assert log.attributes["asyncio.task.age"] > 0
        assert re.match(r"analysis_service\.", log.attributes["code.function.name"])
    last = max(point.request for point in run.received.points)
    (forced,) = [
        point.value
        for point in run.received.points
        if point.request == last
        and point.name == "loopwatch.drain.status"
        and point.attributes["loopwatch.drain.state"] == "forced"
    ]
    assert forced == 1.0
