"""How much of a stretch of time was garbage collection."""

import pytest

from loopwatch._store.pauses import Pauses


def test_collections_count_with_the_part_that_lies_within() -> None:
    pauses = Pauses()
    pauses.end(10.0, 10.5)
    pauses.end(11.0, 12.0)
    assert pauses.within(10.25, 11.5) == pytest.approx(0.75)
    assert pauses.within(0.0, 100.0) == pytest.approx(1.5)
    assert pauses.within(12.0, 13.0) == 0.0


def test_one_that_runs_counts_up_to_now() -> None:
    pauses = Pauses()
    pauses.running_since = 10.0
    assert pauses.within(9.0, 10.75) == 0.75
    pauses.end(10.0, 11.0)
    assert pauses.within(9.0, 12.0) == 1.0


def test_short_ones_cannot_push_out_a_long_one() -> None:
    pauses = Pauses()
    pauses.end(1.0, 2.0)
    for number in range(10_000):
        pauses.end(3.0 + number, 3.0 + number + Pauses.SHORTEST / 2)
    assert pauses.within(0.0, 10.0) == 1.0


def test_they_are_bounded() -> None:
    pauses = Pauses()
    for number in range(10_000):
        pauses.end(float(number), number + 0.5)
    assert pauses.within(0.0, 10_000.0) == Pauses.KEPT * 0.5
