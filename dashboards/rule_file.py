"""The recording and alerting rules, each with the reason for its numbers: ``alerts.py`` has the alerts.

Rendered for Prometheus 2.42 and later, which is where ``keep_firing_for`` begins. With a scale every duration
is divided by it, so that a test need not last for hours; thresholds stay what they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .queries import (
    POOL_OLDEST_WAIT,
    POOL_UTILIZATION,
    POOL_WAITERS,
    delay,
    expand,
    pool_timeouts,
    pool_wait,
    utilization,
)

INTERVAL = "15s"
"""Between two evaluations. Half of the shortest ``for``, so that this sees the condition more than once."""
KEEP_FIRING = "5m"
"""For how long an alert goes on when its condition is gone: one that comes and goes is one alert."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_IN_QUERY = re.compile(r"(?<=\[)\d+(?:ms|[smh])(?=\])|(?<=\boffset )\d+(?:ms|[smh])\b")


@dataclass(frozen=True)
class Recording:
    """A query whose result is a series of its own."""

    name: str
    query: str
    why: str

    def lines(self, scale: float) -> Iterator[str]:
        """Yield the rule as YAML."""
        yield f"# {self.why}"
        yield f"- record: {self.name}"
        yield from _query(self.query, scale)


@dataclass(frozen=True)
class Alert:
    """A condition, for how long it has to hold, and what to tell whoever is woken by it."""

    name: str
    severity: Literal["critical", "warning", "info"]
    query: str
    lasting: str
    """Prometheus' ``for``."""
    why: str
    """The reason for the threshold and for the duration."""
    summary: str
    description: str
    runbook: str
    """The page that says what to do, below ``docs/``."""
    dashboard: str
    """The uid of the dashboard that shows it."""

    def lines(self, scale: float) -> Iterator[str]:
        """Yield the rule as YAML."""
        yield f"# {self.why}"
        yield f"- alert: {self.name}"
        yield from _query(self.query, scale)
        yield f"  for: {scaled(self.lasting, scale)}"
        yield f"  keep_firing_for: {scaled(KEEP_FIRING, scale)}"
        yield f"  labels: {{severity: {self.severity}}}"
        yield "  annotations:"
        for key, text in self._annotations().items():
            yield f"    {key}: {json.dumps(_scaled_within(expand(text), scale), ensure_ascii=False)}"

    def _annotations(self) -> dict[str, str]:
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{DOCS}/{self.runbook}",
            "dashboard": f"/d/{self.dashboard}?var-job={{{{ $labels.job | urlquery }}}}"
            "&var-instance={{ $labels.instance | urlquery }}",
        }


DOCS = "https://github.com/loopwatch/loopwatch/blob/main/docs"
"""Where the pages are that rules and panels link to."""

DELAY, UTILIZATION = (
    "instance:asyncio_eventloop_delay_seconds:p99_rate5m",
    ("instance:asyncio_eventloop_utilization:ratio_rate5m"),
)
POOL = "pool:connections"

RECORDINGS = (
    Recording(DELAY, delay(0.99, "5m"), "One request in a hundred waits this long for the loop, on top."),
    Recording(UTILIZATION, utilization("5m"), "The share of its time for which a loop is not idle."),
    Recording(
        f"{POOL}:utilization",
        POOL_UTILIZATION,
        "Connections in use, of those there can be. Pools of databases have the type `database` here.",
    ),
    Recording(f"{POOL}:pending", POOL_WAITERS, "Callers that wait for a connection."),
    Recording(f"{POOL}:wait:p95", pool_wait(0.95, "5m"), "One caller in twenty waits longer."),
    Recording(f"{POOL}:oldest_wait", POOL_OLDEST_WAIT, "Of waits that go on: a stuck pool finishes none."),
    Recording(f"{POOL}:timeouts:rate5m", pool_timeouts("5m"), "Callers that the pool gave up, per second."),
)


def scaled(duration: str, scale: float) -> str:
    """Return a duration divided, in the words of Prometheus."""
    number, unit = re.fullmatch(r"(\d+)(ms|[smh])", duration).groups()  # type: ignore[union-attr]  # it is ours
    milliseconds = round(int(number) * _SECONDS[unit] * 1000 / scale)
    for unit in ("h", "m", "s"):
        whole, rest = divmod(milliseconds, round(_SECONDS[unit] * 1000))
        if whole and not rest:
            return f"{whole}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def _scaled_within(query: str, scale: float) -> str:
    return _IN_QUERY.sub(lambda duration: scaled(duration[0], scale), query)


def _query(query: str, scale: float) -> Iterator[str]:
    yield "  expr: |-"
    for line in _scaled_within(expand(query), scale).splitlines():
        yield f"    {line}"


def render(alerts: tuple[tuple[str, tuple[Alert, ...]], ...], scale: float = 1.0) -> str:
    """Return the file of rules: the recordings, then the alerts by group."""
    groups: list[tuple[str, tuple[Recording | Alert, ...]]] = [("loopwatch", RECORDINGS), *alerts]
    lines = [
        "# Generated by dashboards/build.py: edit dashboards/rule_file.py and dashboards/alerts.py.",
        "groups:",
    ]
    for name, rules in groups:
        lines += [f"  - name: {name}", f"    interval: {scaled(INTERVAL, scale)}", "    rules:"]
        for rule in rules:
            lines += [f"      {line}" for line in rule.lines(scale)]
    return "\n".join(lines) + "\n"
