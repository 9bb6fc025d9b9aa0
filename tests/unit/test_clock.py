"""What is told of moments in time."""

from dataclasses import replace

import pytest

from loopwatch.testing import FakeClock


def test_the_unix_time_of_a_moment() -> None:
    fake = FakeClock(monotonic=1000.0, wall=5000.0)
    assert fake.clock.wall_at(990.0) == pytest.approx(4990.0)


def test_it_is_right_though_the_thread_is_held_up_between_two_readings() -> None:
    fake = FakeClock(monotonic=1000.0, wall=5000.0)
    holds = [0.4, 0.4, 0.0]

    def wall() -> float:
        read = fake.wall()
        fake.advance(holds.pop(0))
        return read

    assert replace(fake.clock, wall=wall).wall_at(990.0) == pytest.approx(4990.0)
    assert holds == []
