"""A real OpenTelemetry Collector on loopback, which a test may suspend, stop and start again."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pytest

from tests.pools.servers import free_port, server

from .received import Received

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds after which what has not arrived is a failure, never waited for otherwise."""

CONFIGURATION = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"{tls}}}
      http: {{endpoint: "127.0.0.1:{http}"{tls}}}
exporters:
  file: {{path: "{file}", append: true, flush_interval: 20ms}}
  prometheus: {{endpoint: "{prometheus}", enable_open_metrics: true}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics: {{receivers: [otlp], exporters: [file, prometheus]}}
    traces: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
"""


@dataclass(frozen=True)
class Certificate:
    """What a Collector shows to those who connect."""

    certificate: Path
    key: Path


def program() -> str:
    """Return the Collector's path; skip the test where there is none."""
    path = os.environ.get("OTELCOL") or shutil.which("otelcol")
    if not path or not os.access(path, os.X_OK):
        pytest.skip("needs: otelcol, as .ci/run stack builds it, in OTELCOL or on the PATH")
    return path


class Collector:
    """One, and the file in which everything is that it receives. Its ports stay the same for its life."""

    def __init__(self, directory: Path, certificate: Certificate | None = None) -> None:
        self._program = program()
        self.certificate = certificate
        """Plain text without one. A change counts from the next start."""
        self.received = Received(directory / "received.jsonl")
        self._grpc, self._http, prometheus = free_port(), free_port(), free_port()
        self.metrics = f"127.0.0.1:{prometheus}"
        """The address where it shows what it received, to be scraped."""
        self._running = ExitStack()
        self._pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        tls = ""
        if self.certificate is not None:
            shown = self.certificate
            tls = f', tls: {{cert_file: "{shown.certificate}", key_file: "{shown.key}"}}'
        configuration = CONFIGURATION.format(
            grpc=self._grpc, http=self._http, tls=tls, file=self.received.path, prometheus=self.metrics
        )
        self._pid = self._running.enter_context(
            server(
                f"exec {shlex.quote(self._program)} --config=file:otelcol.yaml",
                ready="Everything is ready",
                files={"otelcol.yaml": configuration},
            )
        )

    def stop(self) -> None:
        """Kill it: its ports refuse from now on."""
        self._running.close()
        self.received.drop_unfinished()

    def suspend(self) -> None:
        """Let it take connections and answer nothing: the kernel takes them in its place."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._pid, signal.SIGCONT)

    def environ(self, protocol: str) -> dict[str, str]:
        """Return the standard variables that tell an SDK to send here, over ``grpc`` or ``http/protobuf``."""
        port = self._grpc if protocol == "grpc" else self._http
        scheme = "http" if self.certificate is None else "https"
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{scheme}://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        }

    def wait_for(self, condition: Callable[[Received], T]) -> T:
        """Read on until the condition holds of what was received; return what it returned."""
        never = threading.Event()  # its timeout is the pause between two looks
        for _ in range(int(PATIENCE / 0.02)):
            self.received.read()
            if found := condition(self.received):
                return found
            never.wait(0.02)
        got = self.received
        pytest.fail(
            f"it never arrived; what did: points of {sorted({each.name for each in got.points})}"
            f", spans {Counter(each.name for each in got.spans)}"
            f", log records {Counter(each.event_name for each in got.logs)}"
        )
