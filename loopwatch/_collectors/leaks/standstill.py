"""Finds deadlocks without asking every task for everything it holds.

A task in a deadlock waits for a task or a lock, and for the same one at each look. Checking that a task waits
for the same future as at the last look costs next to nothing; only then are its frames read, and only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from loopwatch._collectors.await_graph import await_graph, may_be_stuck
from loopwatch._collectors.references import Prover
from loopwatch._internals.futures import is_future, waiter_of
from loopwatch._store.tasks import LiveTask, OwnRef, tasks_of
from loopwatch._store.unread import Unread

from .found import Found

MOST = 5_000
"""Live tasks of all loops up to which deadlocks are looked for: a graph needs all of them at once."""


class Standstill:
    """Compares each look with the previous one."""

    def __init__(self, found: Found, unread: Unread) -> None:
        self._found = found
        self._unread = unread
        self._seen: set[int] = set()
        """Ids of the futures that were waited for at the last look. Another may have such an id by now: then
        a task that has moved is read, which does no harm."""
        self._harmless: dict[int, OwnRef] = {}
        """Those, by id, that were found to belong to neither a task nor a lock."""

    def look(self, live: Sequence[LiveTask]) -> None:
        """Report the deadlocks among these tasks, at the second look that sees them."""
        if len(live) > MOST:
            return
        untold = (record for record in live if record.lost is None or record.lost.reason != "deadlock")
        stuck = self._standing(tasks_of(untold))
        if stuck and await_graph(stuck, self._unread, beyond=False).deadlocks:
            self.tell(live)

    def tell(self, live: Sequence[LiveTask]) -> None:
        """Report the deadlocks among these tasks at once, whatever that costs."""
        if len(live) > MOST:
            return
        graph = await_graph(tasks_of(live), self._unread)
        records = {record.key: record for record in live}
        behind = len(graph.stuck) - sum(map(len, graph.deadlocks))
        prover = Prover()
        for cycle in graph.deadlocks:
            members = [(records[waiter.key], waiter) for waiter in cycle if waiter.key in records]
            if any(map(prover.is_behind_timer, tasks_of(record for record, _ in members))):
                continue  # a timer may yet cancel one, and free the others
            self._found.tell_deadlock(members, tasks_in_cycle=len(cycle), tasks_behind=behind)

    def _standing(self, tasks: Iterable[Any]) -> list[Any]:
        """Return the tasks that wait for a task or a lock, and did so at the last look."""
        seen, harmless = self._seen, self._harmless
        self._seen, self._harmless = set(), {}
        stuck: list[Any] = []
        for task in tasks:
            waiter = waiter_of(task)
            if not is_future(waiter):
                continue
            key = id(waiter)
            self._seen.add(key)
            known = harmless.get(key)
            if known is not None and known() is waiter:
                self._harmless[key] = known
            elif key in seen:
                if self._unread.read(may_be_stuck, task):
                    stuck.append(task)
                else:
                    self._harmless[key] = OwnRef(waiter)
        return stuck
