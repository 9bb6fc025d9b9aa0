"""What rules read from a view: which pool a counter belongs to, and numbers as evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loopwatch._agent_records import Pool

from .libraries import library_of
from .rule import View


def counted(view: View, *stems: str) -> Iterator[tuple[Pool, int]]:
    """Yield the pools for which one of these counters grew in the window, and by how much."""
    for stem in stems:
        for labels, increase in view.increases(stem).items():
            if increase >= 1:
                yield from ((pool, round(increase)) for pool in _with(view, labels, stem)[:1])


def _with(view: View, labels: Sequence[str], stem: str) -> list[Pool]:
    """Return the pools of a series. A database's has only the label: the pool with most timeouts first."""
    if len(labels) > 1:
        return [pool for pool in view.now.pools if (pool.label, pool.kind) == tuple(labels)]
    family = stem.partition("_")[0]
    found = (p for p in view.now.pools if p.label == labels[0] and library_of(p.kind).facts == family)
    return sorted(found, key=lambda pool: -(pool.timeouts or 0))


def known(**numbers: float | None) -> dict[str, float]:
    """Leave out unknown numbers."""
    return {name: number for name, number in numbers.items() if number is not None}
