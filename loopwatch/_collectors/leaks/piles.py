"""Tasks that only a cancellation would end, and that pile up in one collection.

Whoever iterates over the collection may cancel them: at shutdown all of them do end that way. A leak differs
from tasks that wait for that on purpose in that more and more come and none goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from loopwatch._internals.futures import living
from loopwatch._store.sites import Site
from loopwatch._store.tasks import LiveTask

MANY = 10
"""Tasks of one kind in one collection that make a pile: fewer may have their reasons."""
PATIENCE = 30.0
"""Seconds between the creation of the first and of the last: a start-up or a burst is over sooner."""
MOST = 10_000
"""Tasks that may wait for their pile to grow. Further ones are considered at twice the age."""
KINDS = 1_000
"""Kinds remembered because somebody ends their tasks."""

_Kind = tuple[Site, str]
"""Site and coroutine."""


@dataclass(slots=True)
class _Pile:
    """Tasks of one kind in one collection."""

    untold: dict[int, LiveTask] = field(default_factory=dict)
    """By the id of the record."""
    told: tuple[LiveTask, ...] = ()
    """The first that were reported: as long as these live, tasks that join them are reported at once."""
    count: int = 0

    def stays(self) -> bool:
        """Whether none of its tasks has ended."""
        return all(living(record) is not None for record in chain(self.told, self.untold.values()))

    def grows(self) -> bool:
        """Whether its tasks are known to leak."""
        started = [record.started for record in self.untold.values()]
        return bool(self.told) or (len(started) >= MANY and max(started) - min(started) >= PATIENCE)

    def take(self) -> list[LiveTask]:
        """Return the tasks to report."""
        found = list(self.untold.values())
        self.count += len(found)
        self.told = self.told or tuple(islice(found, MANY))
        self.untold.clear()
        return found


class Piles:
    """The piles of one loop."""

    def __init__(self) -> None:
        self._piles: dict[tuple[_Kind, int], _Pile] = {}
        """By kind and the id of the collection."""
        self._room = MOST
        self._end: set[_Kind] = set()

    def put(self, record: LiveTask, collection: int) -> None:
        """Put a task on its pile. It must be proven that only a cancellation would end the task."""
        kind = (record.site, record.coroutine)
        if self._room > 0 and kind not in self._end:
            self._room -= 1
            self._piles.setdefault((kind, collection), _Pile()).untold[id(record)] = record

    def look(self) -> Iterator[tuple[LiveTask, int]]:
        """Yield the tasks that leak, each once, with the number of tasks on their pile."""
        for (kind, collection), pile in list(self._piles.items()):
            if kind in self._end or not pile.stays():
                if len(self._end) < KINDS:
                    self._end.add(kind)
                del self._piles[kind, collection]
            elif pile.grows():
                for record in pile.take():
                    yield record, pile.count
        self._room = MOST - sum(len(pile.untold) for pile in self._piles.values())
