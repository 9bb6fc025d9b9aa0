"""Events that wait to be exported: put by whichever thread learns of them, taken by the one that exports."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from loopwatch._events import Event

LIMIT = 256
"""Events that may wait, per kind, so that a flood of stalls does not cost a drain."""


class Outbox:
    """Any thread may put events, without a lock. Nothing is kept while nothing is exported."""

    def __init__(self, *, is_open: bool = False, takes_jobs: bool = False) -> None:
        self._waiting: dict[type, deque[Event]] = {kind: deque() for kind in _kinds()} if is_open else {}
        self._takes_jobs = takes_jobs
        self.is_open = is_open
        """Whether events are exported: if not, none needs to be made."""
        self.dropped = 0
        """Events that found no room. Of two dropped at the same instant, only one may be counted."""

    @property
    def wants_jobs(self) -> bool:
        """Whether events are exported, including those of jobs."""
        return self.is_open and self._takes_jobs

    @property
    def waits(self) -> bool:
        """Whether there is an event to take."""
        return any(self._waiting.values())

    def put(self, event: Event) -> None:
        """Have ``event`` exported; drop it if too many of its kind are waiting."""
        if not self.is_open:
            return
        waiting = self._waiting[type(event)]
        if len(waiting) < LIMIT:
            waiting.append(event)
        else:
            self.dropped += 1

    def take(self) -> list[Event]:
        """Return what waits, for each kind oldest first. One thread at a time."""
        queues = tuple(self._waiting.values())  # stay ours, should another thread close the outbox meanwhile
        return [queue.popleft() for queue in queues for _ in range(len(queue))]

    def close(self) -> None:
        """Take no more events, and forget those that wait: nothing is exported any longer."""
        self.is_open = False
        self._forget()

    def clear(self) -> None:
        """Forget what waits, and reset the count: in a forked child, whose events they are not."""
        self._forget()
        self.dropped = 0

    def _forget(self) -> None:
        self._waiting = {kind: deque() for kind in self._waiting}  # of all kinds: another thread may put one


def _kinds() -> tuple[type, ...]:
    from loopwatch._events import Event  # loads all records: needed only where events are exported

    return get_args(Event)
