"""The shipped rules, by Prometheus' own tool: each alert fires, stays quiet, and resolves, on made-up series.

Of two instances of a job one falls ill for a while, the other stays well.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dashboards import rule_file
from dashboards.alerts import ALERTS
from dashboards.queries import expand
from loopwatch import facts

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "dashboards" / "rules" / "loopwatch.yml"

STEP = 15
"""Seconds between two scrapes, and two evaluations; a minute in cases of hours."""
KEPT = 5
"""Minutes for which an alert goes on once its condition is gone."""
SLACK = 1
"""Minutes that a rule may take longer: for each of those that wait for another there is one evaluation."""

Values = Mapping[str, float | None]
"""By series: the value of a gauge, by how much a counter grows in a minute; None for what is absent."""


@dataclass(frozen=True)
class Case:
    """An alert, and what series say while all is well and while one instance is ill."""

    alert: str
    severity: str
    well: Values
    ill: Values
    lasting: float
    """Minutes for which the condition has to hold, as the reference has it."""
    window: float = 0
    """Minutes until the condition holds, at most; and until it does no more."""
    before: float = 15
    """Minutes for which all is well at first."""
    during: float = 40
    """Minutes for which one is ill."""

    @property
    def step(self) -> int:
        """Seconds between two scrapes, and two evaluations."""
        return 60 if self.before > 60 else STEP


def beats(late: float) -> Values:
    """A minute's 1,200 heartbeats, of which 2 % are late by the span whose upper bound is ``late``."""
    return observed("@delay_bucket", late, 1200, 24)


def observed(series: str, late: float, of: float, slow: float) -> Values:
    """A minute's observations, of which some are slow: in the bucket whose upper bound is ``late``."""
    bounds = (*facts.BUCKETS, float("inf"))
    own = series.removesuffix("}") + ("," if series.endswith("}") else "{")
    return {
        f'{own}le="{"+Inf" if bound == float("inf") else bound}"}}': of if bound >= late else of - slow
        for bound in bounds
    }


LLM = '{asyncio_pool_name="llm",asyncio_pool_type="httpcore"}'
SHOP = '{db_client_connection_pool_name="db:5432/shop"}'
USED = '{db_client_connection_pool_name="db:5432/shop",db_client_connection_state="used"}'
IDLE = '{db_client_connection_pool_name="db:5432/shop",db_client_connection_state="idle"}'
ACTIVE, WAITING = '{asyncio_eventloop_state="active"}', '{asyncio_eventloop_state="idle"}'

CASES = (
    Case("AsyncioEventLoopStalled", "critical", {"@blocked": 4.9}, {"@blocked": 5.1}, 0.5),
    Case("AsyncioEventLoopDelayHigh", "critical", beats(0.5), beats(1.0), 5, window=5),
    Case("AsyncioEventLoopDelayHigh", "warning", beats(0.1), beats(0.25), 10, window=5),
    Case(
        "AsyncioEventLoopSaturated",
        "warning",
        {f"@loop_time{ACTIVE}": 53, f"@loop_time{WAITING}": 7},
        {f"@loop_time{ACTIVE}": 56, f"@loop_time{WAITING}": 4},
        15,
        window=5,
    ),
    Case(
        "AsyncioEventLoopBlocking",
        "info",
        {"@block_duration_count": 0.9, **beats(0.1)},
        {"@block_duration_count": 1.5, **beats(0.1)},
        10,
        window=10,
    ),
    Case(
        "AsyncioEventLoopBlocking",
        "info",
        {"@block_duration_count": 1.5, **beats(0.05)},
        {"@block_duration_count": 1.5, **beats(0.1)},
        10,
        window=5,
    ),
    Case(
        "AsyncioEventLoopCpuStarved",
        "warning",
        {"@runqueue_time": 5.4},
        {"@runqueue_time": 6.6},
        10,
        window=5,
    ),
    Case(
        "AsyncioTaskLeakDetected",
        "warning",
        {'@task_leaked{asyncio_task_leak_reason="deadlock"}': 0},
        {'@task_leaked{asyncio_task_leak_reason="deadlock"}': 2},
        15,
    ),
    Case(
        "AsyncioTaskCountRatcheting",
        "warning",
        {"@task_count": 300},
        {"@task_count": 451},
        30,
        window=60,
        before=190,
        during=150,
    ),
    Case(
        "AsyncioTaskExceptionLost",
        "warning",
        {'@unretrieved_exceptions{error_type="KeyError"}': 0},
        {'@unretrieved_exceptions{error_type="KeyError"}': 0.5},
        0,
        window=10,
    ),
    Case(  # the first of its class: the series begins with it
        "AsyncioTaskExceptionLost",
        "warning",
        {'@unretrieved_exceptions{error_type="KeyError"}': None},
        {'@unretrieved_exceptions{error_type="KeyError"}': 0},
        0,
        window=5,
        during=8,
    ),
    Case(
        "ConnectionPoolTimeouts",
        "critical",
        {f"@pool_timeouts{LLM}": 0},
        {f"@pool_timeouts{LLM}": 1},
        2,
        window=5,
    ),
    Case(
        "ConnectionPoolTimeouts",
        "critical",
        {f"@database_timeouts{SHOP}": 0},
        {f"@database_timeouts{SHOP}": 1},
        2,
        window=5,
    ),
    Case(  # full alone is fine
        "ConnectionPoolSaturated",
        "warning",
        {f"@pool_usage{LLM}": 5, f"@pool_limit{LLM}": 5, f"@pool_waiters{LLM}": 0},
        {f"@pool_usage{LLM}": 5, f"@pool_limit{LLM}": 5, f"@pool_waiters{LLM}": 3},
        5,
        window=1,
    ),
    Case(  # and so is a caller that waits until a connection is open
        "ConnectionPoolSaturated",
        "warning",
        {
            f"@database_connections{USED}": 18,
            f"@database_connections{IDLE}": 2,
            f"@database_limit{SHOP}": 20,
            f"@database_waiters{SHOP}": 1,
        },
        {
            f"@database_connections{USED}": 19,
            f"@database_connections{IDLE}": 1,
            f"@database_limit{SHOP}": 20,
            f"@database_waiters{SHOP}": 1,
        },
        5,
        window=1,
    ),
    Case(
        "ConnectionPoolWaitHigh",
        "warning",
        observed(f"@pool_wait_bucket{LLM}", 0.1, 100, 10),
        observed(f"@pool_wait_bucket{LLM}", 0.25, 100, 10),
        10,
        window=5,
    ),
    Case(
        "ConnectionPoolWaitHigh",
        "warning",
        observed(f"@database_wait_bucket{SHOP}", 0.1, 100, 10),
        observed(f"@database_wait_bucket{SHOP}", 0.25, 100, 10),
        10,
        window=5,
    ),
    Case(  # stuck: no wait ends, so that there is no quantile
        "ConnectionPoolWaitHigh",
        "warning",
        {f"@pool_oldest_wait{LLM}": 9.9},
        {f"@pool_oldest_wait{LLM}": 11},
        10,
    ),
    Case(
        "AsyncioExecutorStarved",
        "warning",
        {'@executor_queue{asyncio_executor_name="default"}': 0},
        {'@executor_queue{asyncio_executor_name="default"}': 1},
        2,
    ),
    Case(
        "LoopwatchDrainForced",
        "warning",
        {"@drain_cancelled": 0, "@drain_abandoned": 0},
        {"@drain_cancelled": 0, "@drain_abandoned": 4},
        0,
        window=15,
        during=2,
    ),
    Case("LoopwatchWorkerSilent", "warning", {"@worker_up": 1}, {"@worker_up": 0}, 1),
    Case(
        "LoopwatchDegraded",
        "info",
        {'@overhead{loopwatch_component="tasks"}': 0.9},
        {'@overhead{loopwatch_component="tasks"}': 1.5},
        10,
        window=5,
    ),
    Case(
        "LoopwatchDegraded",
        "info",
        {'@dropped{loopwatch_component="outbox"}': 0},
        {'@dropped{loopwatch_component="outbox"}': 1},
        10,
        window=10,
    ),
    Case(
        "LoopwatchDegraded",
        "info",
        {'@internal_errors{loopwatch_component="tasks"}': 0},
        {'@internal_errors{loopwatch_component="tasks"}': 1},
        10,
        window=10,
    ),
    Case(
        "LoopwatchMissing", "info", {"up": 1, "@info": 1}, {"up": 1, "@info": None}, 15, window=5, before=90
    ),
)


@pytest.fixture(scope="module")
def promtool() -> str:
    """Find Prometheus' tool."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("needs: promtool, of Debian's package prometheus")
    return path


def test_the_rules_are_valid(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", SHIPPED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried() -> None:
    alerts = {(alert.name, alert.severity) for _, group in ALERTS for alert in group}
    assert {(case.alert, case.severity) for case in CASES} == alerts


@pytest.mark.parametrize("case", CASES, ids=[f"{index}-{case.alert}" for index, case in enumerate(CASES)])
def test_it_fires_and_resolves(promtool: str, tmp_path: Path, case: Case) -> None:
    """No earlier than it has lasted, while it lasts, for the one that is ill alone; and then no more."""
    onset, end = case.before, case.before + case.during
    looks = (
        (onset + case.lasting - case.step / 60, False),
        (onset + min(case.window, case.during) + case.lasting + SLACK, True),
        (end, True),
        (end + KEPT - case.step / 60, True),
        (end + case.window + KEPT + SLACK, False),
    )
    which = f'alertname="{case.alert}", severity="{case.severity}"'
    firing = f'count by (instance) (ALERTS{{{which}, alertstate="firing"}})'
    samples = [{"labels": '{instance="ill"}', "value": 1}]
    test = {
        "interval": f"{case.step}s",
        "input_series": [*series(case, "ill"), *series(case, "well")],
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{round(minute * 60)}s", "exp_samples": samples if fires else []}
            for minute, fires in looks
        ],
    }
    file = tmp_path / "test.yml"  # JSON is YAML
    rules = {
        "rule_files": [str(SHIPPED)],
        "evaluation_interval": f"{case.step}s",
        "group_eval_order": ["loopwatch", *(name for name, _ in ALERTS)],
    }
    file.write_text(json.dumps({**rules, "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def series(case: Case, instance: str) -> Iterator[dict[str, Any]]:
    """Yield the series of one instance, in the notation of promtool."""
    after = case.window + KEPT + 10
    for name, well in case.well.items():
        ill = case.ill[name] if instance == "ill" else well
        values = _counted if name.partition("{")[0].removeprefix("@") in COUNTED else _constant
        written = values([(case.before, well), (case.during, ill), (after, well)], case.step)
        yield {"series": _labelled(name, instance), "values": " ".join(map(_notation, written))}


COUNTED = {fact.stem for fact in facts.ALL if fact.kind == "counter"} | {
    f"{fact.stem}_{part}"
    for fact in facts.ALL
    if fact.kind == "histogram"
    for part in ("bucket", "count", "sum")
}


def _constant(phases: list[tuple[float, float | None]], step: int) -> Iterator[float | None]:
    for minutes, value in phases:
        yield from [value] * round(minutes * 60 / step)


def _counted(phases: list[tuple[float, float | None]], step: int) -> Iterator[float | None]:
    count = 0.0 if phases[0][1] is not None else 1.0  # one that begins later begins with its first event
    for minutes, slope in phases:
        for _ in range(round(minutes * 60 / step)):
            yield None if slope is None else count
            count += (slope or 0.0) * step / 60


def _notation(value: float | None) -> str:
    return "_" if value is None else f"{value:.10g}"


def _labelled(name: str, instance: str) -> str:
    """Add the labels that Prometheus and the metric have beside those that are told."""
    stem = name.partition("{")[0]
    fact = facts.BY_STEM.get(stem.removeprefix("@").removesuffix("_bucket").removesuffix("_count")) or (
        facts.BY_STEM.get(stem.removeprefix("@"))
    )
    common = ['job="shop"', f'instance="{instance}"', 'otel_scope_name="loopwatch"']
    if fact is not None and (instance == "well" or "process.pid" in fact.labels):
        common.append('process_pid="12"')  # the other one is by itself
    if fact is not None and facts.LOOP in fact.labels:
        common.append('asyncio_eventloop_name="main"')
    metric, _, own = expand(name).partition("{")
    return f"{metric}{{{','.join([*common, *filter(None, [own.removesuffix('}')])])}}}"


@pytest.mark.parametrize(("scale", "expected"), [(60, "15s"), (900, "1s"), (9000, "100ms")])
def test_every_duration_is_divided(tmp_path: Path, scale: int, expected: str) -> None:
    """In queries, in annotations and beside them; and nothing else is."""
    build = ROOT / "dashboards" / "build.py"
    subprocess.run([sys.executable, build, "--time-scale", str(scale), tmp_path], check=True)
    shipped = SHIPPED.read_text(encoding="utf-8")
    divided = (tmp_path / SHIPPED.name).read_text(encoding="utf-8")
    assert f"for: {expected}\n" in divided  # of the quarter of an hour
    duration = re.compile(
        r"(?<=\[)\d+m?[smh](?=\])|(?<=offset )\d+m?[smh]\b|(?<=(?:for|val): )\d+m?[smh]$", re.MULTILINE
    )
    assert duration.sub("T", shipped) == duration.sub("T", divided)
    before, after = ([seconds(found) for found in duration.findall(text)] for text in (shipped, divided))
    assert after == pytest.approx([each / scale for each in before], abs=0.0006)
    assert len(before) > 60


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|[smh])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}[unit]


def test_the_shipped_rules_are_those_of_the_source() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == rule_file.render(ALERTS)
