"""From what loopwatch knows to whoever receives it: rounds of all three signals, in our thread."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from opentelemetry.sdk.resources import Resource

from loopwatch import _otlp
from loopwatch._agent_records import Snapshot
from loopwatch._clock import Clock
from loopwatch._internals.otel_sdk import import_logs, logger_provider
from loopwatch._journal import Journal
from loopwatch._settings import Settings

from .delivery import Delivery
from .metrics import OurMetrics, TheirMetrics
from .providers import (
    SOON,
    Choice,
    Make,
    Outlet,
    Waiting,
    logger_of,
    resource,
    tracer_of,
    tracer_provider,
)
from .providers import prepare as prepare_signal

if TYPE_CHECKING:
    from loopwatch.exporters.kept import KeptCollector

ROUND = 1.0
"""Seconds between two rounds: the longest an event may have to wait."""
BREATH = 0.05
"""Shortest pause, in seconds: after a fork, the forking thread must go on before ours, just started, does."""
INTERVAL = 60.0
"""Seconds between two exports of metrics, unless ``OTEL_METRIC_EXPORT_INTERVAL`` says otherwise."""


def prepare() -> None:
    """Import what an export needs beyond this module."""
    import_logs()
    for signal in _otlp.SIGNALS:
        prepare_signal(signal)


class Teller(Protocol):
    """Makes spans and log records of events."""

    @property
    def suppressed(self) -> int:
        """Number of events left out because there were too many. Any thread."""

    def tell(self, spans: Callable[[Make], None], records: Callable[[Make], None]) -> None:
        """Pass on functions that make spans and log records of what is new since the last call."""


class Pipeline:
    """Takes what is pending and sends it on. Used by one thread, unless stated otherwise."""

    def __init__(
        self,
        settings: Settings,
        snapshot: Callable[[], Snapshot],
        tellers: Sequence[Teller],
        collector: Callable[[], KeptCollector | None],
        started_at: float,
        imports: Callable[[], AbstractContextManager[object]],
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._snapshot = snapshot
        self._tellers = tellers
        self._collector = collector
        self._started_at = started_at
        self._journal = journal
        self._clock = clock
        self._delivery = Delivery(journal, clock)
        self._outlets = {signal: Outlet(signal, self._delivery, imports) for signal in _otlp.SIGNALS}
        self._spans = Waiting(self._outlets[_otlp.TRACES], tracer_of, journal, clock)
        self._records = Waiting(self._outlets[_otlp.LOGS], logger_of, journal, clock)
        described = resource(settings.service_name)
        self._traces = Choice(_otlp.TRACES, lambda: tracer_provider(described, self._spans), journal)
        self._logs = Choice(_otlp.LOGS, lambda: logger_provider(described, self._records), journal)
        self._metrics = Choice(_otlp.METRICS, lambda: self._our_metrics(described), journal)
        self._theirs: TheirMetrics | None = None
        self._exported: Snapshot | None = None
        self._interval = _interval(os.environ)
        self._due = clock.monotonic() + self._interval

    @property
    def dropped(self) -> int:
        """Spans and log records not made or not arrived, and observations not recorded. Any thread."""
        metrics = self._theirs or self._metrics.ours
        recorder = metrics.recorder if metrics is not None else None
        unrecorded = recorder.dropped if recorder is not None else 0
        unmade = sum(teller.suppressed for teller in self._tellers)
        return self._spans.dropped + self._records.dropped + unrecorded + unmade

    @property
    def theirs(self) -> frozenset[str]:
        """Signals that go through a provider of the program's."""
        choices = {_otlp.TRACES: self._traces, _otlp.LOGS: self._logs, _otlp.METRICS: self._metrics}
        return frozenset(signal for signal, choice in choices.items() if choice.theirs is not None)

    @property
    def pause(self) -> float:
        """Seconds until the next round. Any thread."""
        if self._theirs is not None:  # the program's provider exports whenever it likes
            return ROUND
        return max(BREATH, min(ROUND, self._due - self._clock.monotonic()))

    def round(self, *, flush: bool = False) -> None:
        """Send what is pending, including the metrics if they are due or ``flush`` is set."""
        self._delivery.interrupted = False
        for choice in (self._traces, self._logs, self._metrics):
            choice.look()
        for teller in self._tellers:
            teller.tell(self._spans.put, self._records.put)
        self._spans.deliver(self._traces, at_once=flush)
        self._records.deliver(self._logs, at_once=flush)
        if self._metrics.theirs is not None:
            self._give_metrics()
        elif flush or self._clock.monotonic() >= self._due:
            self._send_metrics()

    def disconnect(self) -> None:
        """Close all connections, whatever is in progress on them; a next batch opens new ones. Any thread."""
        for outlet in self._outlets.values():
            outlet.close()

    def interrupt(self) -> None:
        """Break off whatever hangs, where possible; a later round sends it again. Any thread."""
        outlets = [outlet for outlet in self._outlets.values() if outlet.interruptible]
        if outlets and self._delivery.hangs:
            self._delivery.interrupted = True
            for outlet in outlets:
                outlet.close()

    def give_up(self) -> None:
        """Break off for good. Any thread."""
        self._delivery.given_up = True
        self.disconnect()

    def end(self) -> None:
        """Stop sending, and remove what is ours from what is not."""
        for choice in (self._traces, self._logs, self._metrics):
            choice.end()
        if self._theirs is not None:
            self._theirs.disconnect()
        self.disconnect()  # what waited for a Collector may have been sent after ours was shut down
        self._delivery.end()

    def _our_metrics(self, described: Resource) -> OurMetrics:
        outlet = self._outlets[_otlp.METRICS]
        return OurMetrics(described, outlet, self._snapshot, self._started_at, self._journal, self._clock)

    def _send_metrics(self) -> None:
        self._due = max(self._due, self._clock.monotonic() - self._interval) + self._interval
        ours = self._metrics.provider()
        if ours is not None:
            ours.record()
            self._exported = ours.export()
            if self._delivery.interrupted:
                self._due = min(self._due, self._clock.monotonic() + SOON)

    def _give_metrics(self) -> None:
        if self._theirs is None:
            theirs = self._theirs = TheirMetrics(
                self._metrics.theirs, self._snapshot, self._collector, self._journal, self._clock
            )
            if self._exported is not None:
                theirs.skip(self._exported)
        self._theirs.record()


def _interval(environ: Mapping[str, str]) -> float:
    try:
        seconds = float(environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")) / 1000
    except ValueError:
        return INTERVAL
    return seconds if 0 < seconds < math.inf else INTERVAL
