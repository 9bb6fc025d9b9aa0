"""Events that wait to be exported: put by whoever learns of them, taken by the one thread that exports."""

from __future__ import annotations

from collections import deque
from typing import get_args

from loopwatch._events import Event

LIMIT = 256
"""Events of one kind that may wait. Of each kind, so that a flood of stalls costs no drain."""


class Outbox:
    """Any thread may put events, without a lock. Nothing is kept while nobody exports."""

    def __init__(self, *, is_open: bool = False, takes_jobs: bool = False) -> None:
        self._waiting = _nothing()
        self._takes_jobs = takes_jobs
        self.is_open = is_open
        """Whether somebody exports: else there is no need to make an event."""
        self.dropped = 0
        """Events that found no room. Of two that were dropped at one instant one may be counted."""

    @property
    def wants_jobs(self) -> bool:
        """Whether somebody exports, and jobs, too."""
        return self.is_open and self._takes_jobs

    @property
    def waits(self) -> bool:
        """Whether there is an event to take."""
        return any(self._waiting.values())

    def put(self, event: Event) -> None:
        """Have ``event`` exported; drop it when as many of its kind wait as may."""
        if not self.is_open:
            return
        waiting = self._waiting[type(event)]
        if len(waiting) < LIMIT:
            waiting.append(event)
        else:
            self.dropped += 1

    def take(self) -> list[Event]:
        """Return what waits, the oldest of each kind first. One thread at a time."""
        queues = tuple(self._waiting.values())  # which remain ours, should another thread close meanwhile
        return [queue.popleft() for queue in queues for _ in range(len(queue))]

    def close(self) -> None:
        """Take no more, and forget what waits: nobody exports any longer."""
        self.is_open = False
        self._waiting = _nothing()

    def clear(self) -> None:
        """Forget what waits, and count from nothing: in a forked child, whose events they are not."""
        self._waiting = _nothing()
        self.dropped = 0


def _nothing() -> dict[type, deque[Event]]:
    return {kind: deque() for kind in get_args(Event)}
