"""Short numbers for things that people want to refer to again.

A number stays with its thing from one command to the next, for all clients: an index into a list might denote
another task by then.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

KEPT = 10_000
"""Numbers that are remembered: the ones shown last."""


class Numbers:
    """Gives numbers, from 1, to the keys of things of several kinds. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: OrderedDict[tuple[str, Hashable], int] = OrderedDict()
        self._by_number: dict[tuple[str, int], Hashable] = {}
        self._last: dict[str, int] = {}

    def of(self, kind: str, key: Hashable) -> int:
        """Return the number of ``key``, a new one if it has none yet."""
        with self._lock:
            number = self._by_key.get((kind, key))
            if number is None:
                number = self._last[kind] = self._last.get(kind, 0) + 1
                self._by_key[kind, key] = number
                self._by_number[kind, number] = key
                self._forget_oldest()
            self._by_key.move_to_end((kind, key))
            return number

    def key(self, kind: str, number: int) -> Hashable | None:
        """Return the key with ``number``; None if there is none, or it has not been shown for long."""
        with self._lock:
            return self._by_number.get((kind, number))

    def _forget_oldest(self) -> None:
        while len(self._by_key) > KEPT:
            (kind, _), number = self._by_key.popitem(last=False)
            del self._by_number[kind, number]
