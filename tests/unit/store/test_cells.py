"""The cells agree with models too simple to be wrong, and stay bounded."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwatch._measures import Exemplar
from loopwatch._store.cells import Histogram, TopTotals, WindowMax
from loopwatch.facts import BUCKETS

durations = st.floats(0.0, 100.0) | st.sampled_from(BUCKETS)


@given(st.lists(durations))
def test_a_histogram_counts_each_value_in_the_first_bucket_that_takes_it(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    read = histogram.read()
    for index, bound in enumerate(BUCKETS):
        assert sum(read.counts[: index + 1]) == sum(value <= bound for value in values)
    assert read.count == len(values)
    assert read.sum == pytest.approx(sum(values))


@given(st.lists(durations), st.lists(durations))
def test_an_absorbed_histogram_counts_as_if_observed_here(mine: list[float], theirs: list[float]) -> None:
    both, one, other = Histogram(), Histogram(), Histogram()
    for value in mine:
        one.observe(value)
        both.observe(value)
    for value in theirs:
        other.observe(value)
        both.observe(value)
    one.absorb(other)
    assert one.read().counts == both.read().counts
    assert one.read().sum == pytest.approx(both.read().sum)


def exemplar(value: float, at: float) -> Exemplar:
    return Exemplar(value, at, f"{round(at):032x}", f"{round(at):016x}")


@given(st.lists(durations), st.lists(durations))
def test_each_bucket_keeps_the_last_exemplar_that_lies_in_it(mine: list[float], theirs: list[float]) -> None:
    one, other = Histogram(), Histogram()
    assert one.read().exemplars == ()
    made = [exemplar(value, float(at)) for at, value in enumerate([*mine, *theirs])]
    for number, each in enumerate(made):
        histogram = one if number < len(mine) else other
        histogram.observe(each.value)
        histogram.exemplify(each)
    other.absorb(one)  # which holds the older ones
    read = other.read()
    lower = 0.0
    exemplars = read.exemplars or (None,) * len(read.counts)
    for bound, count, kept in zip((*BUCKETS, math.inf), read.counts, exemplars, strict=True):
        within = [each for each in made if (lower < each.value or lower == 0.0) and each.value <= bound]
        assert (count, kept) == (len(within), within[-1] if within else None)
        lower = bound


@given(st.lists(st.tuples(st.floats(0.0, 30.0), durations), min_size=1), st.floats(0.0, 200.0))
def test_a_window_holds_the_last_minute_and_forgets_what_is_older_than_65_seconds(
    steps: list[tuple[float, float]], wait: float
) -> None:
    window, now, seen = WindowMax(), 1_000.0, []
    for pause, value in steps:
        now += pause
        window.observe(now, value)
        seen.append((now, value))
    now += wait
    must = max((value for at, value in seen if now - at <= 60.0), default=0.0)
    may = max((value for at, value in seen if now - at <= 65.0), default=0.0)
    assert must <= window.read(now) <= may


def test_reading_a_window_does_not_reset_it() -> None:
    window = WindowMax()
    window.observe(10.0, 3.0)
    assert [window.read(20.0), window.read(69.9), window.read(69.9)] == [3.0, 3.0, 3.0]
    assert window.read(75.0) == 0.0


additions = st.lists(
    st.tuples(st.integers(0, 40), st.floats(0.0, 10.0) | st.just(1000.0)), min_size=1, max_size=300
)


class TestTopTotals:
    """Totals of the largest keys, and of the others as one."""

    @given(additions)
    def test_each_amount_is_one_increase_and_nothing_falls(self, added: list[tuple[int, float]]) -> None:
        totals: TopTotals[int, float] = TopTotals(3, 0.0)
        before: dict[int, float] = {}
        other = 0.0
        for key, amount in added:
            totals.add(key, amount)
            shown = dict(totals.items())
            assert len(shown) <= 3
            assert totals.other >= other
            assert all(shown[kept] >= before[kept] for kept in shown.keys() & before.keys())
            increases = [shown[kept] - before.get(kept, 0.0) for kept in shown] + [totals.other - other]
            assert sum(increases) == pytest.approx(amount)
            before, other = shown, totals.other

    @given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 10.0))))
    def test_few_keys_are_all_exact(self, added: list[tuple[int, float]]) -> None:
        totals: TopTotals[int, float] = TopTotals(3, 0.0)
        model: Counter[int] = Counter()
        for key, amount in added:
            totals.add(key, amount)
            model[key] += amount  # type: ignore[assignment]
        assert dict(totals.items()) == pytest.approx(dict(model))
        assert totals.other == 0.0

    def test_a_newcomer_needs_twice_the_smallest_total_and_begins_at_zero(self) -> None:
        totals: TopTotals[str, float] = TopTotals(2, 0.0)
        totals.add("large", 10.0)
        totals.add("small", 1.0)
        totals.add("new", 2.0)
        assert (dict(totals.items()), totals.other) == ({"large": 10.0, "small": 1.0}, 2.0)
        totals.add("new", 0.5)
        assert (dict(totals.items()), totals.other) == ({"large": 10.0, "new": 0.0}, 2.5)
        totals.add("new", 4.0)
        assert (dict(totals.items()), totals.other) == ({"large": 10.0, "new": 4.0}, 2.5)

    def test_one_who_lost_its_place_can_win_it_back(self) -> None:
        totals: TopTotals[str, float] = TopTotals(1, 0.0)
        totals.add("first", 1.0)
        totals.add("second", 3.0)
        totals.add("first", 6.0)  # 7 in all, more than twice 3
        totals.add("first", 1.0)
        assert (dict(totals.items()), totals.other) == ({"first": 1.0}, 9.0)

    def test_endless_keys_leave_the_large_ones_in_place_and_the_memory_bounded(self) -> None:
        totals: TopTotals[int, float] = TopTotals(20, 0.0)
        for key in range(20):
            totals.add(-key, 100.0)
        for key in range(1, 10_000):
            totals.add(key, 1.0)
        assert dict(totals.items()) == {-key: 100.0 for key in range(20)}
        assert totals.other == 9_999.0
        assert len(totals._totals) <= TopTotals.CANDIDATES

    def test_absorbing_adds_all_of_another(self) -> None:
        mine: TopTotals[str, float] = TopTotals(2, 0.0)
        theirs: TopTotals[str, float] = TopTotals(2, 0.0)
        mine.add("a", 5.0)
        for key, amount in (("a", 1.0), ("b", 2.0), ("c", 1.5)):
            theirs.add(key, amount)
        mine.absorb(theirs)
        assert (dict(mine.items()), mine.other) == ({"a": 6.0, "b": 2.0}, 1.5)
