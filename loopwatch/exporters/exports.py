"""All the ways out of the process: what is scraped, and what is sent by OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from loopwatch._agent_records import Snapshot
from loopwatch._clock import Clock
from loopwatch._document import Document
from loopwatch._events import Event
from loopwatch._journal import Journal
from loopwatch._settings import Settings
from loopwatch._threads import Imports, OwnThread

from .otel.service import OtelService
from .service import MetricsService

if TYPE_CHECKING:
    from .otel.pipeline import Teller


class Source(Protocol):
    """Where everything exported comes from. Any thread but a watched loop's."""

    def snapshot(self) -> Snapshot:
        """Return everything known now."""

    def document(self, *, brief: bool = False) -> Document:
        """Return everything known now, with tasks and waits; a brief one has only loops and stalls."""


class Exports:
    """Exports snapshots and documents, and the events that ``take_events`` returns.

    ``unwatched`` keeps whatever a thread creates meanwhile from counting as the program's.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        take_events: Callable[[], Iterable[Event]],
        unwatched: Callable[[], AbstractContextManager[object]],
        imports: Imports,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._take_events = take_events
        self._journal = journal
        self._clock = clock
        self.metrics = MetricsService(
            settings, source.snapshot, lambda brief: source.document(brief=brief), imports, journal, clock
        )
        self.otel = OtelService(
            settings,
            source.snapshot,
            self._tellers,
            lambda: self.metrics.collector,
            unwatched,
            imports,
            journal,
            clock,
        )

    def prepare(self) -> None:
        """Import what takes long, while nothing runs yet. Raises whatever an import may."""
        self.otel.prepare()

    def refresh(self, *, loops_run: bool) -> None:
        """Keep renderings ready, and start what waits for a loop to run. A chore of the watchdog."""
        if loops_run:  # not earlier: a server may import its application in its loop
            self.metrics.prepare()
            self.otel.start()
        self.metrics.refresh()

    def threads(self) -> dict[str, OwnThread]:
        """The threads that exist, by the component that counts their failures."""
        endpoint = self.metrics.thread
        return {"otlp": self.otel.thread} | ({} if endpoint is None else {"endpoint": endpoint})

    def forget(self) -> None:
        """Return to the state before the first start: in a forked child."""
        self.metrics.forget()
        self.otel.forget()

    def _tellers(self) -> list[Teller]:
        """Build what produces spans and log records. In the exporting thread."""
        from .otel.events import Events

        return [Events(self._take_events, self._clock, self._journal)]
