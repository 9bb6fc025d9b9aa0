"""Pools that are full while callers wait, reported once per spell: a watchdog chore."""

from __future__ import annotations

import math
from dataclasses import dataclass

from loopwatch._clock import Clock
from loopwatch._events import Saturated
from loopwatch._store.outbox import Outbox
from loopwatch._store.pools import Pools

from .census import PoolCensus
from .hub import Hub
from .protocol import Sample

EVERY = 1.0
"""Seconds between two looks."""
LONG = 5.0
"""Seconds for which a pool must be full at every look to be reported: full for a moment is just well used."""
CALM = 30.0
"""Seconds without being full at any look after which a spell is over, so that the next one is reported."""

Key = tuple[str, str]
"""Kind and label."""


@dataclass(slots=True)
class _Spell:
    since: float
    full_at: float
    """When the pool was last seen full."""
    told: bool = False


class Saturation:
    """Looks only while somebody exports what it would report. The watchdog's thread."""

    def __init__(self, pools: Pools, hub: Hub, census: PoolCensus, outbox: Outbox, clock: Clock) -> None:
        self._pools = pools
        self._hub = hub
        self._census = census
        self._outbox = outbox
        self._clock = clock
        self._spells: dict[Key, _Spell] = {}
        self._look_at = -math.inf

    def look(self) -> None:
        """Look at all pools, if it is time."""
        now = self._clock.monotonic()
        if not self._outbox.is_open or now < self._look_at:
            return
        self._look_at = now + EVERY
        full = self._full()
        for key in full:
            self._spells.setdefault(key, _Spell(now, now)).full_at = now
        for key, spell in list(self._spells.items()):
            if now - spell.full_at > (CALM if spell.told else 0.0):
                del self._spells[key]
            elif not spell.told and now - spell.since >= LONG:
                spell.told = True
                self._tell(key, now - spell.since)

    def clear(self) -> None:
        """Start afresh, in a forked child."""
        self._spells.clear()

    def _full(self) -> set[Key]:
        """Return the kinds and labels of the pools that have nothing left to give while callers wait."""
        bound = {binding.reader.kind: binding for binding in self._hub.bindings()}
        full: set[Key] = set()
        for pool in self._pools.live():
            anchor, binding = pool.anchor(), bound.get(pool.kind)
            if anchor is not None and binding is not None:
                sample = binding.sample(anchor)
                if sample is not None and _is_full(sample):
                    full.add((pool.kind, pool.label))
            del anchor  # so that we do not keep it alive
        return full

    def _tell(self, key: Key, lasted: float) -> None:
        for pool in self._census.records(all_people=False):
            if (pool.kind, pool.label) == key:
                self._outbox.put(Saturated(pool, lasted, self._clock.wall()))


def _is_full(sample: Sample) -> bool:
    if not sample.pending or sample.max is None or sample.used is None:
        return False
    return sample.used + (sample.connecting or 0) >= sample.max
