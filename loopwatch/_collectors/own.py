"""What loopwatch counts about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from loopwatch._measures import Measure

COMPONENTS = (
    "attach",
    "console",
    "context",
    "document",
    "drain",
    "endpoint",
    "exceptions",
    "gc",
    "handovers",
    "heartbeat",
    "hold_dump",
    "journal",
    "otlp",
    "pools",
    "prometheus",
    "reader",
    "rules",
    "show",
    "signals",
    "task_reading",
    "tasks",
    "telnet",
    "unawaited",
    "watchdog",
)
"""Parts that may fail. Each shows as zero until it does: otherwise its first failure would be no increase."""


@dataclass(frozen=True, slots=True)
class Own:
    """Functions that return the counts, by component. Called at each reading."""

    overhead: Mapping[str, Callable[[], float]]
    """CPU seconds used."""
    dropped: Mapping[str, Callable[[], int]]
    internal_errors: Callable[[], Mapping[str, int]]
    log_suppressed: Callable[[], int]
    unwatched: Callable[[], Mapping[str, int]]

    def measures(self, now: float) -> Iterator[Measure]:
        """Yield the facts about loopwatch itself."""
        for component, seconds in self.overhead.items():
            yield "overhead", (component,), seconds()
        for component, events in self.dropped.items():
            yield "dropped", (component,), events()
        for component, errors in self.internal_errors().items():
            yield "internal_errors", (component,), errors
        for reason, loops in self.unwatched().items():
            yield "unwatched", (reason,), loops
        yield "log_suppressed", (), self.log_suppressed()
