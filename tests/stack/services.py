"""A program of ``service.py``, and what it answers and logs."""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.demo.programs import Program

HERE = Path(__file__).parent
SOON = {"OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_EXPORTER_OTLP_TIMEOUT": "5"}
"""Send the metrics twice a second instead of once a minute, and give up after 5 s instead of 10. No sooner: a
Collector that a busy machine holds up for a moment would be told of as one that does not answer."""


class Service(Program):
    """One under the agent, with the variables given. What it holds up or loses, it does when it is asked."""

    def __init__(self, opened: ExitStack, **environ: str) -> None:
        super().__init__(opened, HERE, "service", LOOPWATCH_PROMETHEUS_PORT="0", **SOON | environ)
        self.said = ""
        """All it has printed so far: its log, and what it answered."""
        self.url = self.until("^serving ").split()[-1]
        """Where to scrape it."""

    def until(self, pattern: str) -> str:
        """Read on until a line has that; return the line."""
        self.said += self.line(pattern)
        return self.said.splitlines()[-1]

    def ask(self, *words: object, span: str = "-") -> dict[str, Any]:
        """Ask for one thing, done under the span ``TRACE:SPAN``; return the answer."""
        self.tell(" ".join([span, *map(str, words)]))
        answer: dict[str, Any] = json.loads(self.until("^answer ").removeprefix("answer "))
        return answer

    def leave(self) -> float:
        """Let it end; return the seconds from the end of its loop to that of the process."""
        self.said += self.end()
        now = time.time()
        assert self.status == 0, self.said
        (ended,) = re.findall(r"^ended (.+)$", self.said, re.MULTILINE)
        return now - float(ended)

    @property
    def of_export(self) -> list[str]:
        """What was logged so far of the export: by the agent, and whatever others say."""
        logged = [line for line in self.said.splitlines() if re.match("(DEBUG|INFO|WARNING|ERROR) ", line)]
        return [line for line in logged if " loopwatch loopwatch: " not in line or "OTLP" in line]
