"""Sites whose number of live tasks only rises: the minimum of each five minutes, compared over half an hour.

The minimum, since a burst raises the number only while it lasts; a leak raises what remains after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import pairwise

from loopwatch._store.sites import Site

WINDOW = 300.0
"""Seconds."""
WINDOWS = 7
SPAN = WINDOW * (WINDOWS - 1)
GROWTH = 10
"""Tasks by which a floor has to rise."""


class Floors:
    """The floors of the sites of one loop."""

    def __init__(self, now: float) -> None:
        self._ends = now + WINDOW
        self._lowest: dict[Site, int] = {}
        self._floors: dict[Site, deque[int]] = {}

    def look(self, sites: Iterable[Site], now: float) -> list[Site]:
        """Count live tasks; at the end of a window return the sites whose floor keeps rising."""
        lowest = self._lowest
        for site in sites:
            live = site.live
            lowest[site] = min(lowest.get(site, live), live)
        if now < self._ends:
            return []
        self._ends, self._lowest = now + WINDOW, {}
        before = self._floors
        self._floors = {}
        for site, floor in lowest.items():
            if floor > 0:  # a site whose floor falls to zero does not leak, and need not be remembered
                floors = self._floors[site] = before.get(site) or deque(maxlen=WINDOWS)
                floors.append(floor)
        return [site for site, floors in self._floors.items() if _rises(floors)]


def _rises(floors: deque[int]) -> bool:
    """Whether the floor never fell, and is still rising.

    A rise that slows to half its pace is that of a program filling up, such as with a task for each client.
    """
    rises = [after - before for before, after in pairwise(floors)]
    half = len(rises) // 2
    steady = len(floors) == WINDOWS and min(rises) >= 0 and sum(rises[half:]) * 2 >= sum(rises[:half])
    return steady and sum(rises) >= GROWTH
