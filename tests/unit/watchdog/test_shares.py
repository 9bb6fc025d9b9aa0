"""The active and the idle time of a loop without a selector, by what clocks and looks tell of one."""

import pytest

from loopwatch._store.loop_state import LoopState
from loopwatch._watchdog.evidence import Reading
from loopwatch._watchdog.shares import Shares

EVERY = 0.03

IDLE, BUSY = (False, False), (True, False)
TOO_LATE, CAUGHT = (False, True), (True, True)
"""What a look shows, and whether it had to wait for the GIL: until a short step was over, or within a long
one, which had to let go of it."""


class Estimate:
    """A loop that runs from moment 100 on, when its thread had computed 7 s; looked at each 30 ms."""

    def __init__(self) -> None:
        self.state = LoopState("main")
        self.state.enter(100.0, 7.0)
        self.shares = Shares(self.state)
        self.now, self.cpu, self.others = 100.0, 7.0, 500.0
        self.has_clock = True

    def looks(
        self, *seen: tuple[bool, bool], computes: float = 0.0, waits: float = 0.0, others: float = 0.0
    ) -> None:
        """Look as often as there is something ``seen``, at one that computes, or waits for a CPU, for these
        shares of the time, beside other threads that compute."""
        for is_busy, waited in seen:
            self.now += EVERY
            self.cpu += EVERY * computes
            self.others += EVERY * others
            self.shares.see(self.now, is_busy=is_busy, waited=waited)
            self.shares.add(self.reading(), EVERY * waits)

    def reading(self) -> Reading:
        return Reading(
            at=self.now,
            process_cpu=self.cpu + self.others,
            thread_cpu=self.cpu if self.has_clock else None,
            asleep=0.0,
            runqueue=None,
            throttled=None,
            system_at=self.now,
        )

    @property
    def active(self) -> float:
        """The share of the time that it is said to be active; all of it has to be accounted for."""
        active, idle = self.state.active_time, self.state.idle_time
        assert active + idle == pytest.approx(self.now - 100.0)
        return active / (active + idle)


@pytest.fixture
def estimate() -> Estimate:
    return Estimate()


def test_one_that_only_waits_is_idle(estimate: Estimate) -> None:
    estimate.looks(*[IDLE] * 100)
    assert estimate.active == 0.0


def test_steps_that_compute_and_that_no_look_catches_are_active(estimate: Estimate) -> None:
    estimate.looks(*[IDLE, TOO_LATE, TOO_LATE] * 100, computes=0.7)
    assert estimate.active == pytest.approx(0.7)


def test_long_steps_that_looks_wait_for_are_not_counted_as_if_they_filled_the_time(
    estimate: Estimate,
) -> None:
    """Looks may fall into step with a loop, so that each comes within a step."""
    estimate.looks(*[CAUGHT] * 300, computes=0.5, others=0.1)
    assert estimate.active == pytest.approx(0.5)


def test_one_that_blocks_without_computing_is_active_as_often_as_it_is_seen_to(estimate: Estimate) -> None:
    estimate.looks(*[BUSY, IDLE, IDLE] * 200)
    assert estimate.active == pytest.approx(1 / 3, rel=0.05)


def test_a_stall_that_does_not_compute_counts_whole(estimate: Estimate) -> None:
    """It counts for the moments after it, for as much as it did not for its first ones."""
    estimate.looks(*[IDLE] * 100, *[BUSY] * 100, *[IDLE] * 100)
    assert estimate.active == pytest.approx(1 / 3, rel=0.02)


def test_one_that_waits_for_a_cpu_is_not_idle(estimate: Estimate) -> None:
    estimate.looks(*[IDLE, TOO_LATE] * 100, computes=0.4, waits=0.3)
    assert estimate.active == pytest.approx(0.7)


def test_waits_for_a_cpu_that_are_learnt_of_later_count(estimate: Estimate) -> None:
    for _ in range(50):
        estimate.looks(*[IDLE] * 3, computes=0.5)
        estimate.looks(IDLE, computes=0.5, waits=4 * 0.25)
    assert estimate.active == pytest.approx(0.75, abs=0.01)


def test_a_wait_from_before_the_run_is_no_part_of_it(estimate: Estimate) -> None:
    estimate.looks(IDLE, waits=1000.0)
    estimate.looks(*[IDLE] * 200)
    assert estimate.active < 0.05


def test_what_is_seen_while_another_thread_holds_the_gil_counts(estimate: Estimate) -> None:
    """Each look waits, but for nothing that the loop's own thread did, which waits for the GIL as well."""
    estimate.looks(*[CAUGHT] * 300, computes=0.05, others=0.9)
    assert estimate.active > 0.9
    other = Estimate()
    other.looks(*[TOO_LATE] * 300, computes=0.05, others=0.9)
    assert other.active == pytest.approx(0.05)


def test_a_look_after_the_clocks_were_read_is_of_the_time_to_come(estimate: Estimate) -> None:
    """As when the thread that looks waited for the GIL as it read a file: for a step of the loop's own."""
    for _ in range(100):
        estimate.now += EVERY
        estimate.cpu += EVERY * 0.1
        estimate.shares.see(estimate.now + 0.02, is_busy=True, waited=False)
        estimate.shares.add(estimate.reading(), 0.0)
    assert estimate.active == pytest.approx(0.1)


def test_without_a_cpu_clock_it_is_what_looks_show(estimate: Estimate) -> None:
    estimate.has_clock = False
    estimate.looks(*[CAUGHT, IDLE, TOO_LATE, IDLE] * 100, computes=0.9)
    assert estimate.active == pytest.approx(0.25, rel=0.1)


def test_time_that_nobody_looked_at_is_not_shared_out(estimate: Estimate) -> None:
    estimate.now += 1.0
    estimate.shares.add(estimate.reading(), 0.0)
    assert (estimate.state.active_time, estimate.state.idle_time) == (0.0, 0.0)


def test_each_run_begins_with_its_own_clocks(estimate: Estimate) -> None:
    estimate.looks(*[BUSY] * 50, computes=1.0)
    before = estimate.state.active_time
    estimate.state.leave(estimate.now, estimate.cpu)
    estimate.looks(BUSY)
    assert estimate.state.active_time == before
    estimate.now += 1000.0
    estimate.cpu = 3.0  # of another thread
    estimate.state.enter(estimate.now, estimate.cpu)
    estimate.looks(*[IDLE] * 10, computes=0.5)
    assert estimate.state.active_time - before == pytest.approx(10 * EVERY / 2)
    assert estimate.state.idle_time == pytest.approx(10 * EVERY / 2)
