"""The metrics, through a provider of ours or through the program's."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from opentelemetry.metrics import MeterProvider as AnyMeterProvider
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import Metric, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from loopwatch._agent_records import Snapshot
from loopwatch._clock import Clock
from loopwatch._internals.otel_prometheus import shares_registry
from loopwatch._internals.otel_sdk import left_to_parent
from loopwatch._journal import Journal

from .histograms import Adding, ReadyMade, exponential, temporality
from .instruments import Instruments, Source, instruments_on, meter_of
from .providers import Outlet
from .recorded import Recorder

if TYPE_CHECKING:
    from loopwatch.exporters.kept import KeptCollector


class OurMetrics:
    """A provider of ours, read when its owner says so: the SDK's reader would have a thread for that."""

    def __init__(
        self,
        described: Resource,
        outlet: Outlet,
        source: Source,
        started_at: float,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._ready = None if exponential() else ReadyMade(started_at, temporality()[Histogram])
        reader = PeriodicExportingMetricReader(
            Adding(outlet, self._made, self._told), export_interval_millis=math.inf
        )
        self._provider = left_to_parent(MeterProvider)([reader], described, shutdown_on_exit=False)
        meter = meter_of(self._provider)
        self._reader = reader
        self._source = source
        self._instruments = Instruments(meter)
        self._instruments.connect(source, journal)
        self._arrived: Snapshot | None = None
        self.recorder = Recorder(meter, clock) if self._ready is None else None

    def export(self) -> Snapshot | None:
        """Collect and send; return the snapshot behind the last metrics that arrived."""
        self._reader.collect()
        return self._arrived

    def record(self) -> None:
        """Have the provider count the histograms, if it is the one to do so."""
        if self.recorder is not None:
            self.recorder.record(self._source())

    def shutdown(self) -> None:
        """Stop sending."""
        self._instruments.connect(None, None)
        self._provider.shutdown()

    def _told(self) -> None:
        self._arrived = self._instruments.snapshot
        if self._ready is not None:
            self._ready.told()

    def _made(self) -> Iterable[Metric]:
        snapshot = self._instruments.snapshot
        return self._ready.metrics(snapshot) if self._ready is not None and snapshot is not None else ()


class TheirMetrics:
    """Our instruments on the program's provider, which reads them whenever it likes."""

    def __init__(
        self,
        provider: AnyMeterProvider,
        source: Source,
        collector: Callable[[], KeptCollector | None],
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._source = source
        self._collector = collector
        self._journal = journal
        self._withheld = False
        self._withhold()  # before anything can be read twice
        self._instruments = instruments_on(provider)
        self._instruments.connect(source, journal)
        self.recorder = Recorder(meter_of(provider), clock)

    def record(self) -> None:
        """Have the provider count the histograms."""
        self._withhold()
        self.recorder.record(self._source())

    def skip(self, snapshot: Snapshot) -> None:
        """Treat the contents of ``snapshot`` as exported."""
        self.recorder.skip(snapshot)

    def disconnect(self) -> None:
        """Stop being observed."""
        self._instruments.connect(None, None)
        collector = self._collector()
        if collector is not None:
            collector.withheld = False

    def _withhold(self) -> None:
        """Make sure that no registry gets everything twice, from the provider and from our collector."""
        collector = self._collector()
        if collector is None:
            return
        collector.withheld = shares_registry(self._provider, collector)
        if collector.withheld and not self._withheld:
            self._withheld = True
            self._journal.say(
                logging.WARNING,
                "loopwatch: prometheus_collector() yields nothing, since the PrometheusMetricReader of the "
                "program's MeterProvider puts the same metrics into its registry, so that each would "
                "be there twice. Register one of the two.",
            )
