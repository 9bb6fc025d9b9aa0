"""What a real Prometheus makes of the shipped dashboards and rules: of the demo with its faults and without.

The demo is scraped, and what it sends by OTLP is scraped off a Collector. Rules run 60 times as fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dashboards.alerts import ALERTS
from dashboards.rule_file import RECORDINGS
from tests.demo.conftest import EXAMPLES
from tests.demo.programs import Program
from tests.pools.servers import free_port

from .boards import Asked, asked
from .collector import Collector
from .everything import everything
from .prometheus import Prometheus
from .services import HERE, Service

SCRAPED, BY_OTLP = ROUTES = ("scraped", "by-otlp")
ALL = "everything"
LLM_SCALE, SERVICE_SCALE = "15", "1"
"""By how much the LLM is faster than a real one, and the service less patient: it waits for 5 s for a
connection. Five of them serve six requests per second, and 13 come: callers wait long enough to be seen."""

LIFE = 1800.0
"""Seconds for which the programs may run: the test waits for several things, one after the other."""

SHORT_POOL = {"ConnectionPoolSaturated", "ConnectionPoolWaitHigh"}
"""What 200 jobs in a pool of five connections have to raise. Not ConnectionPoolTimeouts: httpx begins to wait
anew each time that another caller takes the connection, so that here nobody gives up."""
OF_FAULTS = {*SHORT_POOL, "AsyncioTaskExceptionLost"}
"""Alerts that the faults raise on any machine. Those about stalls depend on how fast it is."""
NOT_OF_A_HEALTHY_ONE = {
    "AsyncioTaskExceptionLost",
    "AsyncioTaskLeakDetected",
    "ConnectionPoolSaturated",
    "ConnectionPoolTimeouts",
    "LoopwatchDrainForced",
}
"""On a busy machine there are stalls, and opening a connection takes its time."""

ON_DEMAND = {
    ("instance", "Memory", BY_OTLP),
    ("instance", "Memory", ALL),
    ("instance", "File descriptors", BY_OTLP),
    ("instance", "File descriptors", ALL),
}
"""Panels that a route does not fill: what they show is not ours."""
MAY_BE_EMPTY = {
    ("fleet", "Not watched", "A"),
    ("fleet", "Dropped and withheld", "A"),
    ("fleet", "Dropped and withheld", "B"),
    ("fleet", "Failures of loopwatch", "A"),
    ("fleet", "Findings", "A"),
    ("fleet", "Findings", "B"),
    ("shutdown", "What became of the work", "A"),
    ("shutdown", "What became of the work", "C"),
}
"""Queries for what is wrong elsewhere, or depends on when the shutdown comes; ``everything`` fills them."""

QUIET = {"Leaked tasks", "Lost tasks", "Exceptions nobody asked for", "Context lost", "Failures of loopwatch"}
"""Panels that have to show nothing, or zero, while all is well."""
WELL = {
    "callers give up waiting for a pool",
    "pool full, callers wait",
    "tasks leaked",
    "exceptions nobody asked for",
    "worker does not answer",
}
"""Reasons that a healthy service does not have, on any machine."""


@dataclass
class Demo:
    """The demo's service under load, what watches it, and what was seen."""

    prometheus: Prometheus
    service: Program
    clients: Program
    answered: dict[str, set[Asked]] = field(default_factory=dict)
    """The queries that have found something at some time, by job."""

    def look(self, jobs: Iterable[str]) -> None:
        """Ask what has found nothing so far, and which alerts fire."""
        self.prometheus.firing()
        for job in jobs:
            found = self.answered.setdefault(job, set())
            found |= {each for each in asked() if each not in found and self.prometheus.query(each.of(job))}

    def missing(self, job: str) -> set[str]:
        """Name the queries that should have found something, and have not."""
        without_findings = not self.prometheus.query(f'loopwatch_finding_count{{job="{job}"}}')
        return {
            str(each)
            for each in asked()
            if each not in self.answered[job]
            and each.title != "Restarts"  # seen in passing
            and (job == ALL or (each.board, each.title, each.ref) not in MAY_BE_EMPTY)
            and (each.board, each.title, job) not in ON_DEMAND
            and not (without_findings and "loopwatch_finding_count" in each.text)
        }

    def fired(self, alerts: Iterable[str]) -> bool:
        """Whether each was seen firing by either route."""
        seen = {(name, job) for name, _, job in self.prometheus.fired}
        return all((name, job) in seen for name in alerts for job in ROUTES)

    def calm(self, alerts: Iterable[str]) -> bool:
        """Whether none fires now."""
        now = {(name, job) for name, _, job in self.prometheus.firing()}
        return not any((name, job) in now for name in alerts for job in ROUTES)


def start(opened: ExitStack, directory: Path, faults: str) -> Demo:
    """Start it all. The service is scraped and sends to a Collector; both are as often as rules need it."""
    collector = opened.enter_context(Collector(directory))
    words = ("analysis_service.standin", "--port=0", f"--scale={LLM_SCALE}")
    llm = Program(opened, EXAMPLES, *words, timeout=LIFE)
    port, metrics = free_port(), free_port()
    service = Program(
        opened,
        HERE,
        "analysis",
        str(port),
        timeout=LIFE,
        LOOPWATCH_PROMETHEUS_PORT=str(metrics),
        LOOPWATCH_SERVICE_NAME=BY_OTLP,
        OTEL_METRIC_EXPORT_INTERVAL="1000",
        ANALYSIS_LLM_URL=llm.line("http://").strip(),
        ANALYSIS_DATABASE=str(directory / "analysis.db"),
        ANALYSIS_SCALE=SERVICE_SCALE,
        ANALYSIS_FAULTS=faults,
        **collector.environ("http/protobuf"),
    )
    service.line("Uvicorn running")
    scraped = {
        SCRAPED: f"127.0.0.1:{metrics}",
        "collector": collector.metrics,
        ALL: opened.enter_context(everything()),
    }
    prometheus = opened.enter_context(Prometheus(directory, scraped))
    clients = Program(opened, HERE, "clients", f"http://127.0.0.1:{port}", timeout=LIFE)
    return Demo(prometheus, service, clients)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo with all its faults, until each of its alerts was seen, and each of its panels filled.

    Then its clients go, and its troubles with them; then it is shut down.
    """
    with ExitStack() as opened:
        demo = start(opened, tmp_path_factory.mktemp("faulty"), "all")
        wait_for = demo.prometheus.wait_for

        def missing() -> dict[str, set[str]]:
            of_drains = {str(each) for each in asked() if "drain" in each.text}
            return {job: demo.missing(job) - of_drains for job in (*ROUTES, ALL)}

        def shown() -> bool:
            demo.look((*ROUTES, ALL))
            return demo.fired(OF_FAULTS) and not any(missing().values())

        wait_for(shown, missing)
        demo.clients.stop()
        wait_for(lambda: demo.calm(OF_FAULTS))
        demo.service.tell("end")
        demo.service.line("^ended$")

        def cut_off() -> bool:
            demo.look(ROUTES)
            return demo.fired({"LoopwatchDrainForced"}) and not any(map(demo.missing, ROUTES))

        wait_for(cut_off, lambda: {job: demo.missing(job) for job in ROUTES})
        wait_for(lambda: demo.calm({"LoopwatchDrainForced"}))
        yield demo


@pytest.mark.parametrize("job", [*ROUTES, ALL])
def test_every_panel_is_filled(faulty: Demo, job: str) -> None:
    """Each query is understood, and finds what there is: by both routes, and where there is everything."""
    assert faulty.missing(job) == set()
    assert len(faulty.answered[job]) > 100


@pytest.mark.parametrize("job", [*ROUTES, ALL])
def test_a_process_that_is_new_is_marked(faulty: Demo, job: str) -> None:
    """At the beginning, and not all the time."""
    for mark in (each.of(job) for each in asked() if each.title == "Restarts"):
        assert faulty.prometheus.query(f"max_over_time(({mark})[10m:1s])")
        assert not faulty.prometheus.query(mark)


def test_every_rule_is_evaluated(faulty: Demo) -> None:
    """Without an error, and with its annotations written."""
    rules = [rule for group in faulty.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(RECORDINGS) + sum(len(group) for _, group in ALERTS)
    assert {(rule["name"], rule["health"], rule.get("lastError")) for rule in rules} == {
        (rule["name"], "ok", None) for rule in rules
    }
    for recording in RECORDINGS:
        assert faulty.prometheus.query(f'{recording.name}{{job="{ALL}"}}'), recording.name
    written = [alert["annotations"] for rule in rules for alert in rule.get("alerts", ())]
    assert written
    for text in (text for texts in written for text in texts.values()):
        assert "<error" not in text
        assert "<no value>" not in text
        assert "{{" not in text


def test_a_pool_that_is_too_small_raises_its_alerts(faulty: Demo) -> None:
    """Of the demo's 200 jobs and five connections, by both routes; they were seen to resolve by then."""
    assert {(name, job) for name, _, job in faulty.prometheus.fired} >= {
        (name, job) for name in (*OF_FAULTS, "LoopwatchDrainForced") for job in ROUTES
    }


def test_everything_that_can_fire_does(faulty: Demo) -> None:
    """But what compares hours, and what tells of an agent that is gone."""
    names = {alert.name for _, group in ALERTS for alert in group}
    fired = {name for name, _, job in faulty.prometheus.fired if job == ALL}
    assert names - fired == {"AsyncioEventLoopSaturated", "AsyncioTaskCountRatcheting", "LoopwatchMissing"}


def test_nothing_is_made_up_where_all_is_well(tmp_path: Path) -> None:
    """Without faults, two times 200 jobs later."""
    with ExitStack() as opened:
        demo = start(opened, tmp_path, "none")
        prometheus = demo.prometheus
        jobs = 'sum by (job) (asyncio_task_created_total{code_function_name=~".*Jobs.start"}) >= 800'

        def served() -> bool:
            demo.look(ROUTES)
            return {each["job"] for each in prometheus.query(jobs)} == set(ROUTES)

        prometheus.wait_for(served)
        assert not {(name, job) for name, _, job in prometheus.fired if name in NOT_OF_A_HEALTHY_ONE} & {
            (name, job) for name in NOT_OF_A_HEALTHY_ONE for job in ROUTES
        }
        for job in ROUTES:
            for each in asked():
                found = prometheus.query(each.of(job))
                if each.title in QUIET:
                    assert [sample for sample in found if float(sample[""])] == [], str(each)
                if each.title == "Why":
                    assert not {sample["reason"] for sample in found} & WELL


def test_a_delay_leads_to_its_trace(tmp_path: Path) -> None:
    """Prometheus has the exemplar that the heatmap shows."""
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with ExitStack() as opened:
        service = Service(opened)
        address = service.url.removeprefix("http://").partition("/")[0]
        prometheus = opened.enter_context(Prometheus(tmp_path, {SCRAPED: address}))
        service.ask("stall", 0.2, span=f"{trace}:{span}")
        (heat,) = [each for each in asked() if each.title == "Delay of timers"]

        def exemplars() -> list[dict[str, str]]:
            found = prometheus.ask("query_exemplars", query=heat.of(SCRAPED), start="0", end="4102444800")
            return [exemplar for series in found for exemplar in series["exemplars"]]

        (exemplar,) = prometheus.wait_for(exemplars)
        assert exemplar["labels"] == {"trace_id": trace, "span_id": span}
        assert float(exemplar["value"]) >= 0.15
