"""The values of facts: numbers and histograms, as they are read."""

from __future__ import annotations

from dataclasses import dataclass


def spelled(text: str) -> str:
    """Escape lone surrogates, which file names can contain and UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation of a histogram, and the span in which it happened."""

    value: float
    at: float
    """Unix time of the observation."""
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram as read: one count per bucket, not cumulative, the last beyond all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    exemplars: tuple[Exemplar | None, ...] = ()
    """The last one of each bucket, in the order of ``counts``; empty if there is none at all."""

    @property
    def count(self) -> int:
        """Number of observations."""
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """Estimate quantile ``q`` (0 to 1) linearly within its bucket, like PromQL's ``histogram_quantile``.

        None without observations; the highest bound if the quantile lies beyond it.
        """
        rank = q * self.count
        if not self.count:
            return None
        seen = 0
        lower = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and seen + count >= rank:
                return lower + (bound - lower) * max(rank - seen, 0.0) / count
            seen += count
            lower = bound
        return self.bounds[-1]

    def since(self, earlier: Distribution | None) -> Distribution:
        """Return what was observed after ``earlier``, a reading of the same; everything if that is None."""
        if earlier is None:
            return self
        counts = tuple([now - was for now, was in zip(self.counts, earlier.counts, strict=True)])
        return Distribution(self.bounds, counts, self.sum - earlier.sum)


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a fact, with the values of its labels in the order the fact declares them."""

    labels: tuple[str, ...]
    value: float | Distribution

    @property
    def texts(self) -> list[str]:
        """The labels, fit to be sent."""
        return list(map(spelled, self.labels))


Measure = tuple[str, tuple[str, ...], float | Distribution]
"""A point on its way to a snapshot: the stem of its fact, the values of its labels, its value."""
