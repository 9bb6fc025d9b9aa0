"""A real Prometheus on loopback, with the rules that are shipped, every duration of theirs divided."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest

from tests.pools.servers import free_port, program, server

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SCALE = 60
"""Minutes become seconds."""
PATIENCE = 400.0
"""Seconds after which what has not come about is a failure."""

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
rule_files: [rules.yml]
scrape_configs:
{scrapes}
"""
SCRAPE = """\
  - job_name: {job}
    honor_labels: true
    static_configs: [{{targets: ["{address}"]}}]
"""

Sample = Mapping[str, str]
"""The labels of one series that a query has found; its value is under the key ``""``."""


class Prometheus:
    """One, and what it scrapes: addresses by the name of their job."""

    def __init__(self, directory: Path, scraped: Mapping[str, str]) -> None:
        build = ROOT / "dashboards" / "build.py"
        subprocess.run([sys.executable, build, "--time-scale", str(SCALE), directory], check=True)
        scrapes = [SCRAPE.format(job=job, address=address) for job, address in scraped.items()]
        self._prepare(
            {
                "prometheus.yml": CONFIGURATION.format(scrapes="".join(scrapes)),
                "rules.yml": (directory / "loopwatch.yml").read_text(encoding="utf-8"),
            }
        )

    def _prepare(self, files: Mapping[str, str]) -> None:
        """Note what it is to start with: ``prometheus.yml``, and what that names."""
        self._files = dict(files)
        self._port = free_port()
        self._running = ExitStack()
        self.fired: set[tuple[str, str, str]] = set()
        """Name, severity and job of the alerts that were seen firing by ``firing()``."""

    def __enter__(self) -> Self:
        self._running.enter_context(
            server(
                f"exec {program('prometheus')} --config.file=prometheus.yml --storage.tsdb.path=data"
                f" --web.listen-address=127.0.0.1:{self._port} --enable-feature=exemplar-storage",
                ready="Server is ready to receive web requests",
                files=self._files,
            )
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._running.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """Ask its API; fail the test with what it says of a query that it does not understand."""
        data = urllib.parse.urlencode(parameters).encode()
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}"
        request = urllib.request.Request(url, data or None)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{error.read().decode()} {parameters}")

    def query(self, query: str) -> list[Sample]:
        """Return what a query finds now, but for what is not a number."""
        found = self.ask("query", query=query)["result"]
        return [each["metric"] | {"": each["value"][1]} for each in found if each["value"][1] != "NaN"]

    def firing(self) -> set[tuple[str, str, str]]:
        """Return the name, severity and job of each alert that fires."""
        alerts = self.ask("alerts")["alerts"]
        firing = {
            (each["labels"]["alertname"], each["labels"]["severity"], each["labels"]["job"])
            for each in alerts
            if each["state"] == "firing"
        }
        self.fired |= firing
        return firing

    def wait_for(self, condition: Callable[[], T], lacking: Callable[[], object] = lambda: "") -> T:
        """Look again and again until the condition holds; return what it returned, or fail."""
        never = threading.Event()  # its timeout is the pause between two looks
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if found := condition():
                return found
            never.wait(0.5)
        seen = f"fired: {sorted(self.fired)}, now: {sorted(self.firing())}"
        pytest.fail(f"it never came about; lacking: {lacking()}; {seen}")
