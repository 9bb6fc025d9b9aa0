"""A registry gets our metrics once: from OpenTelemetry's reader or from our collector."""

from __future__ import annotations

import sys
from typing import Any

import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider

from loopwatch._journal import Journal
from loopwatch._measures import Point
from loopwatch.exporters.kept import KeptCollector

from .collector import pipeline_of, snapshot_of

prometheus = pytest.importorskip(
    "opentelemetry.exporter.prometheus", reason="needs: opentelemetry-exporter-prometheus"
)

NAME = "asyncio_eventloop_blocked_seconds"
POINTS = {"blocked": (Point(("main",), 0.25),)}


def values(registry: prometheus_client.CollectorRegistry) -> list[float]:
    return [sample.value for family in registry.collect() for sample in family.samples if sample.name == NAME]


@pytest.mark.parametrize("shared", [True, False], ids=["the same registry", "another registry"])
def test_each_series_is_there_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, shared: bool
) -> None:
    theirs = prometheus_client.CollectorRegistry()
    ours = theirs if shared else prometheus_client.CollectorRegistry()
    reader = reader_in(theirs, monkeypatch)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(sys.modules["opentelemetry.metrics._internal"], "_METER_PROVIDER", provider)
    collector = KeptCollector(lambda: snapshot_of(POINTS), Journal())
    ours.register(collector)
    assert values(ours) == [0.25]
    pipeline = pipeline_of(lambda: snapshot_of(POINTS), collector=lambda: collector)
    pipeline.round()
    pipeline.round()
    assert values(theirs) == values(ours) == [0.25]
    assert [record.getMessage()[:50] for record in caplog.records] == (
        ["loopwatch: prometheus_collector() yields nothing, "] if shared else []
    )
    pipeline.end()
    assert values(ours) == [0.25]
    provider.shutdown()


def reader_in(registry: prometheus_client.CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a reader that registers there; older ones know the default registry alone."""
    monkeypatch.setattr(prometheus_client, "REGISTRY", registry)
    monkeypatch.setattr(prometheus, "REGISTRY", registry)
    try:
        return prometheus.PrometheusMetricReader(registry=registry)
    except TypeError:
        return prometheus.PrometheusMetricReader()
