"""Makes spans and log records of what has just happened, at a pace that no flood of events can drive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.trace import Tracer, TracerProvider

from loopwatch._clock import Clock
from loopwatch._events import Drained, Event, Found, HeldTooLong, JobEnded, Saturated
from loopwatch._internals.otel_logs import emit
from loopwatch._journal import Journal
from loopwatch._measures import spelled
from loopwatch._pace import Pace
from loopwatch._records import Lost, Stall
from loopwatch._version import __version__

from . import logs, spans
from .attributes import context_in, exportable, nanoseconds
from .providers import SCHEMA_URL, SCOPE

COMPONENT = "otlp"
"""What failures to tell of an event are counted under."""
A_MINUTE = 60
"""Spans of stalls, and log records of losses and held connections: a flood of them says no more than that."""


class Events:
    """Tells of each event once, by the providers it is given. The exporting thread."""

    def __init__(self, take: Callable[[], Iterable[Event]], clock: Clock, journal: Journal) -> None:
        self._take = take
        self._journal = journal
        self._stalls, self._findings = Pace(clock, A_MINUTE), Pace(clock, A_MINUTE)

    @property
    def suppressed(self) -> int:
        """Events that became no span or no record because there were too many of their kind. Any thread."""
        return self._stalls.suppressed + self._findings.suppressed

    def tell(self, tracers: TracerProvider | None, loggers: Any | None) -> None:
        """Make spans and log records of what waits; None for a signal that is not to be exported.

        One that cannot be made is counted, and the others are.
        """
        waiting = list(self._take())
        if not waiting:
            return
        tracer = None if tracers is None else tracers.get_tracer(SCOPE, __version__, schema_url=SCHEMA_URL)
        logger = None if loggers is None else loggers.get_logger(SCOPE, __version__, schema_url=SCHEMA_URL)
        for event in waiting:
            try:
                if tracer is not None:
                    self._trace(tracer, event)
                if logger is not None:
                    self._log(logger, event)
            except Exception as error:  # noqa: BLE001 - counted; the program's provider may raise anything
                self._journal.failure(COMPONENT, error)

    def _trace(self, tracer: Tracer, event: Event) -> None:
        if isinstance(event, Drained):
            spans.of_drain(tracer, event)  # whatever the pace: there is mostly one, at the end
        elif isinstance(event, Stall):
            withheld = self._stalls.admit()
            if withheld is not None:
                spans.of_stall(tracer, event, withheld)
        elif isinstance(event, JobEnded):
            spans.of_job(tracer, event)

    def _log(self, logger: Any, event: Event) -> None:
        if isinstance(event, Drained):
            for found in logs.of_drain(event):
                _emit(logger, found)
        elif isinstance(event, Saturated):
            _emit(logger, logs.of_saturation(event))
        elif isinstance(event, Found):
            _emit(logger, logs.of_finding(event))  # whatever the pace: hysteresis and a limit keep it
        elif isinstance(event, Lost | HeldTooLong):
            withheld = self._findings.admit()
            if withheld is not None:
                of = logs.of_loss(event) if isinstance(event, Lost) else logs.of_holding(event)
                _emit(logger, of, withheld)


def _emit(logger: Any, event: logs.Event, withheld: int = 0) -> None:
    """Emit a record; ``withheld`` others were not since the last one."""
    attributes = event.attributes | ({spans.WITHHELD: withheld} if withheld else {})
    emit(
        logger,
        context=context_in(event.span),
        timestamp=nanoseconds(event.at),
        severity=event.severity,
        body=spelled(event.body),
        attributes=exportable(attributes),
        event_name=event.name,
    )
