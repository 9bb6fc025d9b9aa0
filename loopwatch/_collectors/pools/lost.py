"""Things that died while they were out, where the library does not notice: their slot is taken for good.

Their holder is still known: whoever acquired a lost thing counts as holding it.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, NamedTuple

from loopwatch._store.pools import Borrowing

from .protocol import snap

MOST = 1000
"""Lost things remembered per pool: most pools have fewer slots, and in the others each loss takes one."""


class Lost(NamedTuple):
    """Stands for a thing that has died."""

    borrowing: Borrowing


def watch_over(pool: Any, thing: Any) -> None:
    """Watch for ``thing`` to die while it is out. Once per thing, in the thread that acquires. May raise.

    It may outlive the agent and die under the next one: whichever knows the pool then is told.
    """
    key, of = id(thing), weakref.ref(pool)

    def died(_: object) -> None:
        if (its_pool := of()) is not None:
            _lose(its_pool, key)

    vars(pool).setdefault("_loopwatch_deaths", {})[key] = weakref.ref(thing, died)


def comes_back(pool: Any, thing: Any) -> None:
    """Record that ``thing`` is no longer out. May raise."""
    _held(pool).pop(id(thing), None)


def lost_by(pool: Any) -> list[Lost]:
    """Return what ``pool`` has lost, and make sure that its holders are on record. Any thread."""
    found = snap(getattr(pool, "_loopwatch_lost", ()))
    watched = getattr(pool, "_loopwatch_watched", None)
    for one in found:  # another thread may have been reading the holders at the moment of the loss
        if watched is not None and one.borrowing[2] >= watched.since:
            watched.held[id(one)] = one.borrowing
    return found


def _lose(pool: Any, key: int) -> None:
    vars(pool)["_loopwatch_deaths"].pop(key, None)
    held = _held(pool)
    borrowing = held.pop(key, None)
    if borrowing is not None:
        vars(pool).setdefault("_loopwatch_lost", deque(maxlen=MOST)).append(lost := Lost(borrowing))
        held[id(lost)] = borrowing


def _held(pool: Any) -> dict[int, Borrowing]:
    """Return who holds what of a pool; empty before the pool is known."""
    watched = getattr(pool, "_loopwatch_watched", None)
    return {} if watched is None else watched.held
