"""Makes spans and log records of what has just happened, at a limited pace, whatever the flood of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from loopwatch._agent_records import Lost, Stall
from loopwatch._clock import Clock
from loopwatch._events import Drained, Event, Found, HeldTooLong, JobEnded, Saturated
from loopwatch._internals.otel_logs import emit
from loopwatch._journal import Journal
from loopwatch._measures import spelled
from loopwatch._pace import Pace

from . import logs, spans
from .attributes import context_in, exportable, nanoseconds
from .providers import COMPONENT, Make

Put = Callable[[Make], None]

A_MINUTE = 60
"""Spans of stalls, and log records of losses and held connections, per minute: more would say no more."""


class Events:
    """Exports each event once. The exporting thread."""

    def __init__(self, take: Callable[[], Iterable[Event]], clock: Clock, journal: Journal) -> None:
        self._take = take
        self._journal = journal
        self._stalls, self._findings = Pace(clock, A_MINUTE), Pace(clock, A_MINUTE)

    @property
    def suppressed(self) -> int:
        """Events that became no span or record because there were too many of their kind. Any thread."""
        return self._stalls.suppressed + self._findings.suppressed

    def tell(self, spans: Put, records: Put) -> None:
        """Pass on functions that make spans and log records of the waiting events."""
        for event in self._take():
            try:
                self._trace(spans, event)
                self._log(records, event)
            except Exception as error:  # noqa: BLE001 - counted; a job's ``show`` is the program's code
                self._journal.failure(COMPONENT, error)

    def _trace(self, put: Put, event: Event) -> None:
        if isinstance(event, Drained):
            put(partial(spans.of_drain, drained=event))  # at any pace: there is usually one, at the end
        elif isinstance(event, Stall):
            withheld = self._stalls.admit()
            if withheld is not None:
                put(partial(spans.of_stall, stall=event, withheld=withheld))
        elif isinstance(event, JobEnded):
            put(partial(spans.of_job, job=event.record()))  # now: what builds the record holds the job

    def _log(self, put: Put, event: Event) -> None:
        if isinstance(event, Lost | HeldTooLong):
            withheld = self._findings.admit()
            if withheld is not None:
                put(partial(_emit, event=event, withheld=withheld))
        elif isinstance(event, Drained | Saturated | Found):  # at any pace: these are limited elsewhere
            put(partial(_emit, event=event))


def _emit(logger: Any, event: Drained | Saturated | Found | Lost | HeldTooLong, withheld: int = 0) -> None:
    """Emit the records of an event; ``withheld`` others since the last one were not emitted."""
    for told in _told(event):
        attributes = told.attributes | ({spans.WITHHELD: withheld} if withheld else {})
        emit(
            logger,
            context=context_in(told.span),
            timestamp=nanoseconds(told.at),
            severity=told.severity,
            body=spelled(told.body),
            attributes=exportable(attributes),
            event_name=told.name,
        )


def _told(event: Drained | Saturated | Found | Lost | HeldTooLong) -> Iterable[logs.Event]:
    if isinstance(event, Drained):
        return logs.of_drain(event)
    if isinstance(event, Saturated):
        return [logs.of_saturation(event)]
    if isinstance(event, Found):
        return [logs.of_finding(event)]
    return [logs.of_loss(event) if isinstance(event, Lost) else logs.of_holding(event)]
