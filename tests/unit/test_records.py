"""What the records say of themselves."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwatch import Distribution, Frame
from loopwatch._store.cells import Histogram
from loopwatch.facts import BUCKETS

BOUNDS = (0.1, 0.5, 1.0)


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((0, 0, 0, 0), 0.5, None),
        ((10, 0, 0, 0), 0.5, 0.05),
        ((10, 0, 0, 0), 1.0, 0.1),
        ((5, 5, 0, 0), 0.5, 0.1),
        ((5, 5, 0, 0), 0.75, 0.3),
        ((0, 0, 4, 0), 0.0, 0.5),
        ((0, 0, 4, 0), 0.25, 0.625),
        ((1, 0, 0, 99), 0.99, 1.0),
        ((0, 0, 0, 3), 0.5, 1.0),
    ],
)
def test_a_quantile_lies_linearly_within_its_bucket(
    counts: tuple[int, ...], q: float, expected: float | None
) -> None:
    assert Distribution(BOUNDS, counts, 0.0).quantile(q) == (
        None if expected is None else pytest.approx(expected)
    )


@given(st.lists(st.floats(0.0, 9.9), min_size=1), st.floats(0.0, 1.0))
def test_a_quantile_is_at_most_a_bucket_off(values: list[float], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    estimate = histogram.read().quantile(q)
    true = sorted(values)[min(int(q * len(values)), len(values) - 1)]
    below = sorted(values)[max(int(q * len(values)) - 1, 0)]
    assert estimate is not None
    upper = next(bound for bound in BUCKETS if bound >= true)
    lower = max((bound for bound in BUCKETS if bound < below), default=0.0)
    assert lower <= estimate <= upper


def test_quantiles_rise_with_q() -> None:
    distribution = Distribution(BOUNDS, (3, 1, 4, 1), 5.0)
    estimates = [distribution.quantile(q / 20) or 0.0 for q in range(21)]
    assert estimates == sorted(estimates)


def test_a_frame_is_named_with_its_module() -> None:
    frame = Frame("Orders.parse", "shop.orders", "/srv/shop/orders.py", 42)
    assert frame.name == "shop.orders.Orders.parse"
    assert str(frame) == "shop.orders.Orders.parse (/srv/shop/orders.py:42)"
    assert Frame("<module>", "", "x.py", 1).name == "<module>"


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Frame("f", "m", "x.py", 1).line = 2  # type: ignore[misc]


def test_what_a_histogram_has_observed_since_an_earlier_reading() -> None:
    earlier = Distribution(BOUNDS, (3, 1, 4, 1), 5.0)
    later = Distribution(BOUNDS, (3, 2, 6, 1), 7.5)
    assert later.since(earlier) == Distribution(BOUNDS, (0, 1, 2, 0), 2.5)
    assert later.since(None) is later
