"""Observations that are made up have the counts, the sum and the exemplars of those that were counted."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loopwatch import facts
from loopwatch._measures import Distribution, Exemplar
from loopwatch.exporters.otel.recorded import observations

values = st.lists(st.floats(min_value=1e-5, max_value=60.0), max_size=200)


def counted(observed: list[float], exemplars: tuple[Exemplar | None, ...] = ()) -> Distribution:
    counts = [0] * (len(facts.BUCKETS) + 1)
    for value in observed:
        counts[bisect_left(facts.BUCKETS, value)] += 1
    return Distribution(facts.BUCKETS, tuple(counts), sum(observed), exemplars)


@given(values, values)
def test_they_lead_from_one_reading_to_the_next(before: list[float], since: list[float]) -> None:
    made = [value for value, _ in observations(counted(before + since), counted(before))]
    assert counted(made).counts == counted(since).counts
    assert sum(made) == pytest.approx(sum(since), rel=1e-3, abs=1e-3)


@given(values, st.sampled_from([0.002, 0.3, 20.0]))
@example([6.0, 11.0], 0.002)
def test_one_that_an_exemplar_is_of_is_as_it_was(others: list[float], value: float) -> None:
    exemplar = Exemplar(value, 1000.0, "1" * 32, "2" * 16)
    exemplars: list[Exemplar | None] = [None] * (len(facts.BUCKETS) + 1)
    exemplars[bisect_left(facts.BUCKETS, value)] = exemplar
    now = counted([*others, value], tuple(exemplars))
    made = list(observations(now, None))
    assert counted([each for each, _ in made]).counts == now.counts
    assert [each for each in made if each[1] is not None] == [(value, exemplar)]
    assert sum(each for each, _ in made) == pytest.approx(now.sum, rel=1e-2, abs=1e-2)
    assert list(observations(now, now)) == []
