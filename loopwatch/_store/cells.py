"""The cells that keep measurements. Each has one writer thread; any thread may read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from loopwatch._measures import Distribution, Exemplar
from loopwatch.facts import BUCKETS

K = TypeVar("K", bound=Hashable)
A = TypeVar("A", bound="Amount")


class Histogram:
    """Counts observations per bucket. One thread writes it, without a lock; another may write exemplars."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._exemplars: tuple[Exemplar | None, ...] = ()
        """The latest of each bucket; empty until there is one."""

    def observe(self, value: float) -> None:
        """Count ``value``; a value on a bound belongs to that bound's bucket, as in Prometheus."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def exemplify(self, exemplar: Exemplar) -> None:
        """Keep ``exemplar``, whose value has been observed, as the latest one of its bucket."""
        kept = list(self._exemplars or [None] * len(self._counts))
        kept[bisect_left(self._bounds, exemplar.value)] = exemplar
        self._exemplars = tuple(kept)

    def absorb(self, other: Histogram) -> None:
        """Add another histogram of the same bounds to this one."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self._sum += other._sum
        both = [*filter(None, self._exemplars), *filter(None, other._exemplars)]
        for exemplar in sorted(both, key=lambda one: one.at):
            self.exemplify(exemplar)

    def read(self) -> Distribution:
        """Return the counts at this moment; the sum may lack an observation that is being made."""
        return Distribution(self._bounds, tuple(self._counts), self._sum, self._exemplars)


class WindowMax:
    """Largest value of the last minute, in slots that expire by time, so that no reader resets it."""

    SLOT = 5.0  # seconds; 12 slots and the running one make the window 60 to 65 s
    SLOTS = 13

    __slots__ = ("_maxima",)

    def __init__(self) -> None:
        self._maxima: list[tuple[int, float]] = [(-1, 0.0)] * self.SLOTS

    def observe(self, now: float, value: float) -> None:
        """Note ``value`` seen at ``now`` on the monotonic clock."""
        slot = int(now / self.SLOT)
        held, largest = self._maxima[slot % self.SLOTS]
        if held != slot or value > largest:
            self._maxima[slot % self.SLOTS] = (slot, value)

    def read(self, now: float) -> float:
        """Return the largest value of the window that ends at ``now``; 0.0 when there was none."""
        oldest = int(now / self.SLOT) - self.SLOTS
        return max((largest for slot, largest in self._maxima if slot > oldest), default=0.0)


class Amount(Protocol):
    """What totals are made of: plain numbers, or several numbers counted together."""

    def __add__(self, other: Any) -> Any: ...
    def __float__(self) -> float:
        """Return the number by which keys are ranked."""
        ...


class TopTotals(Generic[K, A]):
    """Running totals by key for the ``cap`` largest keys; all others add up to ``other``.

    No exported total ever falls, and each amount increases exactly one total. A newcomer counts in ``other``
    until its own total is twice that of the smallest key shown; then it takes that key's place, starting from
    zero, since its past is in ``other`` already. What the replaced key has shown is dropped: added to
    ``other`` it would count twice, the second time all at once. The factor of two keeps two keys of similar
    size from taking turns. Keys waiting for a place are bounded too: of ``CANDIDATES`` the smallest goes.
    """

    CANDIDATES = 200

    __slots__ = ("_cap", "_shown", "_totals", "_zero", "other")

    def __init__(self, cap: int, zero: A) -> None:
        self._cap = cap
        self._zero = zero
        self._totals: dict[K, float] = {}
        self._shown: dict[K, A] = {}
        self.other = zero

    def add(self, key: K, amount: A) -> None:
        """Add ``amount`` to the total of ``key``."""
        self._totals[key] = total = self._totals.get(key, 0.0) + float(amount)
        if key in self._shown or len(self._shown) < self._cap:
            self._shown[key] = self._shown.get(key, self._zero) + amount
            return
        self.other = self.other + amount
        smallest = min(self._shown, key=lambda shown: self._totals.get(shown, 0.0))
        if total > 2 * self._totals.get(smallest, 0.0):
            del self._shown[smallest]
            self._shown[key] = self._zero
        if len(self._totals) > self.CANDIDATES:
            waiting = (known for known in self._totals if known not in self._shown)
            del self._totals[min(waiting, key=self._totals.__getitem__)]

    def absorb(self, gone: TopTotals[K, A]) -> None:
        """Add all totals of another to these."""
        for key, amount in gone.items():
            self.add(key, amount)
        self.other = self.other + gone.other

    def items(self) -> Iterator[tuple[K, A]]:
        """Iterate over a copy of the totals shown, without ``other``.

        Made by ``copy()``: on Python 3.11 a ``list()`` of the items may be interrupted by a collection.
        """
        return iter(self._shown.copy().items())
