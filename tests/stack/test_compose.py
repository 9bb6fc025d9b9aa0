"""What ``docker-compose.yml`` starts, run natively: each program that is to be had, with the configuration it
gets there, on other addresses.

Tempo and Grafana are not run: their configuration is held to what is documented, in ``tests/contracts``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dashboards.alerts import ALERTS
from dashboards.rule_file import RECORDINGS
from tests.pools.servers import free_port, program, server

from . import collector
from .collector import Collector
from .prometheus import Prometheus

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
PARTS = ROOT / "dashboards" / "compose"
EXAMPLES = ROOT / "examples"
RULES = ROOT / "dashboards" / "rules" / "loopwatch.yml"


def replaced(text: str, places: Mapping[str, object]) -> str:
    """Put our addresses and paths in the place of theirs, each of which has to be there."""
    for theirs, ours in places.items():
        assert theirs in text, theirs
        text = text.replace(theirs, str(ours))
    return text


def part(name: str, places: Mapping[str, object]) -> str:
    """Return a configuration of ``dashboards/compose`` with our addresses and paths in it."""
    return replaced((PARTS / name).read_text(encoding="utf-8"), places)


def command(name: str, places: Mapping[str, object]) -> str:
    """Return the shell command for a program of ours, as the compose file has it, but for addresses."""
    service = YAML(typ="safe").load(COMPOSE.read_text(encoding="utf-8"))["services"][name]
    variables = {key: str(value) for key, value in service.get("environment", {}).items()}
    variables["ANALYSIS_FAULTS"] = "all"  # compose expands it
    words = ["env", *(f"{key}={value}" for key, value in variables.items()), *service["command"]]
    beside = Path(sys.executable).parent
    if not (beside / "opentelemetry-instrument").exists():
        pytest.skip("needs: opentelemetry-instrument, of opentelemetry-distro")
    path = f"{beside}{os.pathsep}{os.environ['PATH']}"
    run = replaced(shlex.join(words), places)
    return f"cd {shlex.quote(str(EXAMPLES))}; PATH={shlex.quote(path)} exec {run}"


class Composed(Prometheus):
    """A Prometheus with the configuration of the compose file, and the rules as they are shipped."""

    def __init__(self, places: Mapping[str, object]) -> None:
        self._prepare(
            {
                "prometheus.yml": part(
                    "prometheus.yml", {"/etc/prometheus/rules/loopwatch.yml": "rules.yml", **places}
                ),
                "rules.yml": RULES.read_text(encoding="utf-8"),
            }
        )


@dataclass(frozen=True)
class Stack:
    """All of it, and where it is asked."""

    metrics: str
    """The service's own."""
    collector: str
    """The Collector's own metrics."""
    behind: Collector
    """Who stands where Tempo would."""
    prometheus: Prometheus


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start what the compose file starts, in its order."""
    web, llm, metrics, otlp, own = (free_port() for _ in range(5))
    with ExitStack() as opened:
        behind = opened.enter_context(Collector(tmp_path_factory.mktemp("behind")))
        tempo = behind.environ("grpc")["OTEL_EXPORTER_OTLP_ENDPOINT"].removeprefix("http://")
        places = {
            "0.0.0.0:4317": f"127.0.0.1:{otlp}",
            "host: 0.0.0.0, port: 8888": f"host: 127.0.0.1, port: {own}",
            "tempo:4317": tempo,
        }
        opened.enter_context(
            server(
                f"exec {shlex.quote(collector.program())} --config=file:collector.yml",
                ready="Everything is ready",
                files={"collector.yml": part("collector.yml", places)},
            )
        )
        opened.enter_context(server(command("llm", {"8001": llm}), ready="http://"))
        database = tmp_path_factory.mktemp("service") / "analysis.db"
        places = {
            "--port 8000": f"--port {web}",
            "ANALYSIS_DATABASE=/tmp/analysis.db": f"ANALYSIS_DATABASE={database}",
            "LOOPWATCH_PROMETHEUS_HOST=0.0.0.0": f"LOOPWATCH_PROMETHEUS_PORT={metrics}",
            "http://collector:4317": f"http://127.0.0.1:{otlp}",
            "ANALYSIS_FAULTS=all": f"ANALYSIS_FAULTS=all ANALYSIS_LLM_URL=http://127.0.0.1:{llm}",
        }
        opened.enter_context(server(command("service", places), ready="Uvicorn running on"))
        opened.enter_context(
            server(command("load", {"127.0.0.1:8000": f"127.0.0.1:{web}"}), ready="accepted")
        )
        scraped = {"service:9464": f"127.0.0.1:{metrics}", "collector:8888": f"127.0.0.1:{own}"}
        prometheus = opened.enter_context(Composed(scraped))
        yield Stack(
            f"http://127.0.0.1:{metrics}/metrics", f"http://127.0.0.1:{own}/metrics", behind, prometheus
        )


def read(url: str) -> str:
    """Read metrics, in the format that has exemplars."""
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def test_the_collector_takes_its_configuration() -> None:
    """As it stands: addresses are looked up when it runs."""
    done = subprocess.run(
        [collector.program(), "validate", f"--config=file:{PARTS / 'collector.yml'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """And the rules it names."""
    file = tmp_path / "prometheus.yml"
    file.write_text(part("prometheus.yml", {"/etc/prometheus/rules/loopwatch.yml": RULES}), encoding="utf-8")
    done = subprocess.run(
        [*shlex.split(program("promtool")), "check", "config", file],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "1 rule files found" in said


def compose() -> list[str]:
    """Find compose, as a plugin of Docker or by itself; skip the test where there is neither."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) is None:
            continue
        asked = subprocess.run([*words, "version", "--short"], capture_output=True, text=True, check=False)
        if asked.returncode == 0 and int(asked.stdout.strip().lstrip("v").partition(".")[0]) >= 2:
            return words
    pytest.skip("no compose plugin here: its schema is held in tests/contracts")


def test_compose_takes_the_file() -> None:
    done = subprocess.run(
        [*compose(), "-f", COMPOSE, "config", "--format", "json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 2
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert services["service"]["environment"]["ANALYSIS_FAULTS"] == "all"


def test_prometheus_scrapes_both_and_has_the_rules(stack: Stack) -> None:
    up = {"analysis", "collector"}
    stack.prometheus.wait_for(lambda: {each["job"] for each in stack.prometheus.query("up == 1")} == up)
    groups = stack.prometheus.ask("rules")["groups"]
    names = [rule["name"] for group in groups for rule in group["rules"]]
    assert len(names) == sum(len(group) for _, group in ALERTS) + len(RECORDINGS)
    stack.prometheus.wait_for(
        lambda: all(
            rule["health"] == "ok"
            for group in stack.prometheus.ask("rules")["groups"]
            for rule in group["rules"]
        )
    )
    found = stack.prometheus.query('asyncio_eventloop_info{job="analysis"}')
    assert [each["asyncio_eventloop_name"] for each in found] == ["main"]


def test_spans_reach_who_stands_for_tempo(stack: Stack) -> None:
    """Those of the service's own instrumentation, and ours."""
    names = {"POST /documents", "asyncio.eventloop.block"}
    stack.behind.wait_for(lambda got: names <= {span.name for span in got.spans})
    assert {span.origin.resource["service.name"] for span in stack.behind.received.spans} == {"analysis"}


def test_log_records_reach_the_collector(stack: Stack) -> None:
    """It shows them, which is where they end."""
    sent = re.compile(
        r'^otelcol_exporter_sent_log_records\S*\{[^}]*exporter="debug"[^}]*\} (\S+)', re.MULTILINE
    )
    shown = stack.prometheus.wait_for(lambda: sent.search(read(stack.collector)))
    assert float(shown[1]) >= 1


def test_exemplars_lead_to_spans(stack: Stack) -> None:
    """Prometheus has kept one whose trace arrived."""

    def kept() -> set[str]:
        found = stack.prometheus.ask(
            "query_exemplars",
            query="asyncio_eventloop_delay_seconds_bucket",
            start="2000-01-01T00:00:00Z",
            end="2100-01-01T00:00:00Z",
        )
        return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}

    assert "trace_id" in stack.prometheus.wait_for(lambda: re.search(r" # \{.*", read(stack.metrics)))[0]
    traces = stack.prometheus.wait_for(kept)
    stack.behind.wait_for(lambda got: traces & {span.trace_id for span in got.spans})
