"""What clients ask for at once is answered at once; what they ask for all the time, at a tenth of a core."""

from __future__ import annotations

import pytest

from loopwatch._allowance import AT_ONCE, LONGEST, Allowance
from loopwatch.testing import FakeClock

SHARE = 0.1


def allowance_of(fake: FakeClock) -> Allowance:
    """Return one of which something was asked once."""
    allowance = Allowance(SHARE, fake.clock)
    assert allowance.rest(0.0) == 0.0
    return allowance


def test_what_was_spent_before_anybody_asked_does_not_count() -> None:
    allowance = Allowance(SHARE, FakeClock().clock)
    assert allowance.rest(7.0) == 0.0
    assert allowance.rest(7.0 + AT_ONCE) == 0.0
    assert allowance.rest(7.1 + AT_ONCE) == pytest.approx(0.1 / SHARE)


def test_what_is_asked_for_at_once_is_not_waited_for() -> None:
    fake = FakeClock()
    allowance = allowance_of(fake)
    assert [allowance.rest(AT_ONCE * part) for part in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]
    assert allowance.rest(AT_ONCE + 0.2) == pytest.approx(0.2 / SHARE)


@pytest.mark.parametrize("cost", [0.001, 0.02, 0.3])
def test_in_the_long_run_it_is_a_share(cost: float) -> None:
    fake = FakeClock()
    allowance = allowance_of(fake)
    spent, seconds = 0.0, 600.0
    over = fake.monotonic() + seconds
    while fake.monotonic() < over:
        fake.advance(cost)
        spent += cost
        fake.advance(allowance.rest(spent))
    assert spent == pytest.approx(SHARE * seconds + AT_ONCE, rel=0.02, abs=cost)


def test_nobody_waits_for_long() -> None:
    fake = FakeClock()
    allowance = allowance_of(fake)
    assert allowance.rest(20.0) == pytest.approx(LONGEST)
    fake.advance(LONGEST)
    assert allowance.rest(20.0) == pytest.approx(0.0)
    assert allowance.rest(20.1) == pytest.approx(0.1 / SHARE)


def test_who_has_asked_for_nothing_for_a_while_has_no_more_than_that() -> None:
    fake = FakeClock()
    allowance = allowance_of(fake)
    fake.advance(3600.0)
    assert allowance.rest(AT_ONCE) == 0.0
    assert allowance.rest(AT_ONCE + 0.1) == pytest.approx(0.1 / SHARE)


def test_another_thread_counts_from_nothing() -> None:
    """After a fork another goes on, whose clock says less."""
    fake = FakeClock()
    allowance = allowance_of(fake)
    allowance.rest(0.4)
    assert allowance.rest(0.0) == 0.0
    assert allowance.rest(0.05) == 0.0
    assert allowance.rest(0.15) == pytest.approx(0.05 / SHARE)
