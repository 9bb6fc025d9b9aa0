"""What died while it was out, of a library that does not hear of that: its place is taken for good.

Who had it is known still: what a pool lost is held by whoever acquired it.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any, NamedTuple

from loopwatch._store.pools import Borrowing

from .protocol import snap

MOST = 1000
"""Of one pool that are remembered: most pools have fewer places, and the others one for each."""


class Lost(NamedTuple):
    """Stands for a thing that is no more."""

    borrowing: Borrowing


def watch_over(pool: Any, thing: Any) -> None:
    """Notice it if ``thing`` dies while it is out. Once for each, in the thread that acquires. May raise.

    It may outlive the agent, and die under the next: whichever knows the pool then is told.
    """
    key, of = id(thing), weakref.ref(pool)

    def died(_: object) -> None:
        if (its_pool := of()) is not None:
            _lose(its_pool, key)

    vars(pool).setdefault("_loopwatch_deaths", {})[key] = weakref.ref(thing, died)


def comes_back(pool: Any, thing: Any) -> None:
    """Note that ``thing`` is no longer out. May raise."""
    _held(pool).pop(id(thing), None)


def lost_by(pool: Any) -> list[Lost]:
    """Return what ``pool`` has lost, and see that it is known who had it. Any thread."""
    found = snap(getattr(pool, "_loopwatch_lost", ()))
    watched = getattr(pool, "_loopwatch_watched", None)
    for one in found:  # somebody may have been asking who has what at the moment it was lost
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
    """Return who has what of a pool; nobody anything, before it is known."""
    watched = getattr(pool, "_loopwatch_watched", None)
    return {} if watched is None else watched.held
