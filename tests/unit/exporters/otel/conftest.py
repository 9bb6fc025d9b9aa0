"""Skips what needs the SDK where it is not installed; a Collector on loopback."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk.metrics", reason="needs: opentelemetry-sdk")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs: opentelemetry-exporter-otlp")

from .collector import TIMEOUT, Sink


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    with contextlib.closing(Sink()) as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        yield sink


def run_program(place: Path, source: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program against a Collector, and return what it writes."""
    path = place / "program.py"
    path.write_text(source, encoding="utf-8")
    environ = {**os.environ, "OTEL_SERVICE_NAME": "shop", **variables}
    words = [sys.executable, "-W", "error", path]
    done = subprocess.run(words, env=environ, timeout=TIMEOUT * 2, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def program(tmp_path: Path) -> Any:
    """Run a program in a directory of its own."""
    return partial(run_program, tmp_path)
