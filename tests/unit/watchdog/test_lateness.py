"""When the watchdog could not run, and who ran instead."""

import dataclasses
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from loopwatch._clock import SYSTEM
from loopwatch._internals import thread_clock
from loopwatch._internals.interpreter import places
from loopwatch._internals.thread_clock import cpu_clock
from loopwatch._store.loop_state import Beside
from loopwatch._watchdog import lateness
from loopwatch._watchdog.lateness import LATE, Lateness

WATCHDOG = 1
VICTIM = 9


def hog() -> FrameType:
    return sys._getframe()


def idler() -> FrameType:
    return sys._getframe()


class Machine:
    """Threads by their ids in Python, with kernel ids and CPU seconds; what the system counts of ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel_ids: dict[int, int] = {}
        self.cpu: dict[int, float] = {}
        self.switches: int | None = 0
        self.queued: float | None = 0.0
        monkeypatch.setattr(lateness, "native_ids", self.kernel_ids.copy)
        monkeypatch.setattr(lateness, "_voluntary_switches", lambda: self.switches)
        monkeypatch.setattr(thread_clock, "cpu_clock", lambda native_id: native_id)
        clock = dataclasses.replace(SYSTEM, of_thread=self.cpu.__getitem__)
        self.seen = Lateness(clock, Machine.__init__.__code__, runqueue=lambda native_id: self.queued)

    def thread(self, ident: int, cpu: float, *, native_id: int | None = None) -> None:
        self.kernel_ids[ident] = native_id or ident * 10
        self.cpu[self.kernel_ids[ident]] = cpu

    def wake(self, planned: float, woke: float, **threads: Callable[[], FrameType]) -> None:
        frames = {int(name.removeprefix("t")): doing() for name, doing in threads.items()}
        self.seen.look(planned, woke, frames, own_id=WATCHDOG)
        self.seen.settle()

    def hog(self, start: float, end: float, beside: Beside | None = None) -> str | None:
        stack = self.seen.hog(start, end, VICTIM, beside)
        return stack[0][0].co_name if stack else None


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(monkeypatch)
    machine.thread(WATCHDOG, 0.0)
    machine.thread(7, 5.0)
    machine.thread(8, 100.0)
    machine.seen.refresh()
    return machine


def test_a_wake_up_in_time_is_none_of_interest(machine: Machine) -> None:
    machine.wake(1.0, 1.0 + LATE / 2, t7=hog)
    lag = machine.seen.within(0.0, 10.0)
    assert (lag.late, lag.gil_waits, lag.queued) == (0.0, 0.0, 0.0)
    assert machine.seen.held_from(0.0, 10.0) is None


def test_lateness_counts_with_the_part_that_lies_within(machine: Machine) -> None:
    machine.wake(1.0, 1.5)
    machine.wake(2.0, 3.0)
    assert machine.seen.within(1.25, 2.5).late == pytest.approx(0.75)
    assert machine.seen.within(1.5, 2.0).late == 0.0
    assert machine.seen.held_from(1.25, 2.5) == 1.0
    assert machine.seen.held_from(1.6, 2.5) == 2.0


def test_waits_for_the_gil_are_the_switches_but_for_the_sleep_itself(machine: Machine) -> None:
    machine.wake(0.9, 0.9)
    machine.switches = 61
    machine.wake(1.0, 1.3)
    assert machine.seen.within(1.0, 1.3).gil_waits == 60


def test_whether_the_latest_look_waited_is_told_by_the_same_count(machine: Machine) -> None:
    """One that was late for want of a CPU did not: nobody held the GIL."""
    machine.wake(0.0, 0.0)
    for switches, woke, waited in ((1, 1.02, False), (3, 1.001, True), (4, 1.0, False)):
        machine.switches = switches
        machine.wake(1.0, woke)
        assert machine.seen.waited is waited


@pytest.mark.parametrize(("woke", "waited"), [(1.0001, False), (1.001, True)])
def test_where_nothing_is_counted_a_late_look_may_have_waited(
    machine: Machine, woke: float, waited: bool
) -> None:
    machine.switches = None
    machine.wake(1.0, woke)
    assert machine.seen.waited is waited


def test_what_the_system_does_not_tell_is_unknown(machine: Machine) -> None:
    machine.switches = machine.queued = None
    machine.seen.refresh()
    machine.wake(1.0, 1.3)
    lag = machine.seen.within(1.0, 1.3)
    assert (lag.late, lag.gil_waits, lag.queued) == (pytest.approx(0.3), None, None)


@pytest.mark.parametrize(("queued", "told"), [(0.2, 0.2), (0.7, 0.3)])
def test_time_without_a_cpu_is_told_up_to_the_lateness(machine: Machine, queued: float, told: float) -> None:
    machine.queued = queued
    machine.wake(1.0, 1.3)
    assert machine.seen.within(1.0, 1.3).queued == pytest.approx(told)


class TestTwice:
    """A second late look in the midst of the work that follows the first, before the system is asked."""

    def test_is_known_at_once(self, machine: Machine) -> None:
        """Verdicts come in the midst of that work, too."""
        machine.thread(5, cpu=0.0)
        machine.wake(0.0, 0.0)
        machine.thread(5, cpu=0.3)
        machine.seen.look(1.0, 1.3, {5: hog()}, WATCHDOG)
        lag = machine.seen.within(0.9, 1.4)
        assert (lag.late, lag.queued) == (pytest.approx(0.3), None)
        assert machine.seen.held_from(0.9, 1.4) == 1.0
        assert machine.hog(0.9, 1.4) == "hog"

    def test_counts_as_one_with_the_first(self, machine: Machine) -> None:
        machine.seen.look(1.0, 1.3, {}, WATCHDOG)
        machine.switches = 21
        machine.seen.look(1.305, 1.4, {}, WATCHDOG)
        machine.queued = 0.2
        machine.seen.settle()
        lag = machine.seen.within(0.0, 10.0)
        assert (lag.late, lag.gil_waits, lag.queued) == (pytest.approx(0.4), None, pytest.approx(0.2))
        assert machine.seen.within(1.0, 1.3).queued == pytest.approx(0.15)

    def test_a_sleep_between_them_is_not_late(self, machine: Machine) -> None:
        machine.seen.look(1.0, 1.3, {}, WATCHDOG)
        machine.seen.look(1.35, 1.45, {}, WATCHDOG)
        machine.seen.settle()
        assert machine.seen.within(0.0, 10.0).late == pytest.approx(0.4)

    def test_many_take_the_place_of_one(self, machine: Machine) -> None:
        """As while other threads take turns at the GIL, which is asked for again after each file."""
        for number in range(1000):
            at = 1.0 + number * 0.03
            machine.seen.look(at, at + 0.03, {}, WATCHDOG)
            if number % 5 == 4:
                machine.seen.settle()
        assert machine.seen.within(1.0 + 900 * 0.03, 1.0 + 1000 * 0.03).late == pytest.approx(3.0)


def test_a_thread_that_begins_to_look_goes_by_no_counts_of_an_earlier_one(machine: Machine) -> None:
    """As after a fork: the child's watchdog has waited for a CPU for less than the parent's had."""
    machine.queued, machine.switches = 5.0, 1000
    machine.wake(1.0, 1.3)
    machine.seen.begin()
    machine.queued, machine.switches = 0.2, 3
    machine.wake(2.0, 2.3)
    lag = machine.seen.within(0.0, 10.0)
    assert (lag.late, lag.gil_waits, lag.queued) == (pytest.approx(0.3), None, None)


class TestHog:
    """The thread that let go of the GIL as we woke."""

    def test_it_is_the_one_whose_cpu_clock_moved_most(self, machine: Machine) -> None:
        machine.thread(7, 5.3)
        machine.thread(8, 100.01)
        machine.wake(1.0, 1.4, t7=hog, t8=idler)
        assert machine.hog(1.0, 1.4) == "hog"
        assert machine.hog(2.0, 3.0) is None

    def test_it_is_not_the_loops_own_thread(self, machine: Machine) -> None:
        machine.thread(VICTIM, 0.4)
        machine.thread(7, 5.1)
        machine.wake(1.0, 1.4, t9=idler, t7=hog)
        assert machine.hog(1.0, 1.4) == "hog"

    def test_it_is_nobody_who_did_not_compute(self, machine: Machine) -> None:
        machine.thread(7, 5.01)
        machine.wake(1.0, 1.4, t7=idler, t8=idler)
        assert machine.hog(1.0, 1.4) is None

    def test_a_thread_with_the_id_of_one_that_ended_counts_from_zero(self, machine: Machine) -> None:
        machine.thread(7, 0.3, native_id=71)
        machine.thread(8, 100.1)
        machine.wake(1.0, 1.4, t7=hog, t8=idler)
        assert machine.hog(1.0, 1.4) == "hog"

    def test_a_thread_that_has_just_ended_is_no_obstacle(self, machine: Machine) -> None:
        def read(native_id: int) -> float:
            if native_id == 80:
                raise OSError
            return machine.cpu[native_id]

        machine.seen._clock = dataclasses.replace(SYSTEM, of_thread=read)
        machine.thread(7, 5.3)
        machine.wake(1.0, 1.4, t7=hog, t8=idler)
        assert machine.hog(1.0, 1.4) == "hog"

    def test_who_had_run_on_when_we_woke_is_named_if_the_loop_saw_it(self, machine: Machine) -> None:
        machine.wake(1.0, 1.4, t8=idler)
        beside = Beside(1.4, {7: places(hog()), 8: places(idler())}, {7: 70, 8: 80}, {70: 5.3, 80: 100.01})
        assert machine.hog(1.0, 1.4) is None
        assert machine.hog(1.0, 1.4, beside) == "hog"
        assert machine.hog(2.0, 3.0, beside) is None

    def test_what_the_loop_saw_of_those_who_did_not_compute_names_nobody(self, machine: Machine) -> None:
        machine.wake(1.0, 1.4, t8=idler)
        beside = Beside(1.4, {7: places(hog()), 8: places(idler())}, {7: 70, 8: 80}, {70: 5.01, 80: 100.0})
        assert machine.hog(1.0, 1.4, beside) is None

    def test_where_threads_have_no_clocks_nobody_is_named(self, machine: Machine) -> None:
        machine.seen._clock = dataclasses.replace(SYSTEM, of_thread=None)
        machine.wake(1.0, 1.4, t7=hog)
        assert machine.hog(1.0, 1.4) is None


def test_all_that_is_kept_is_bounded(machine: Machine) -> None:
    for number in range(200):
        for ident in range(20, 60):
            machine.thread(ident, number * (0.1 if ident < 50 else 0.01))
        frames = dict.fromkeys(range(20, 200), hog())
        machine.seen.look(float(number), number + 0.5, frames, own_id=WATCHDOG)
        machine.seen.settle()
    assert machine.seen.within(0.0, 1e9).late == Lateness.KEPT * 0.5
    assert machine.hog(0.0, 1e9) == "hog"
    assert all(len(late.others) == 2 for late in machine.seen._late)


def test_of_two_threads_that_computed_each_is_the_hog_of_the_other(machine: Machine) -> None:
    machine.thread(VICTIM, 0.0)
    machine.seen.refresh()
    machine.thread(VICTIM, 0.4)
    machine.thread(7, 5.3)
    machine.thread(8, 100.2)
    machine.wake(1.0, 1.4, **{f"t{VICTIM}": idler, "t7": hog, "t8": idler})
    assert machine.hog(1.0, 1.4) == "hog"


def test_what_those_were_doing_who_did_not_compute_is_not_kept(machine: Machine) -> None:
    machine.thread(7, 5.3)
    machine.wake(1.0, 1.4, t7=hog, t8=idler)
    (late,) = machine.seen._late
    assert [other.thread_id for other in late.others] == [7]


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux counts")
def test_the_real_clocks_and_counts_are_there() -> None:
    assert cpu_clock(42) is not None
    switches = lateness._voluntary_switches()
    assert switches is not None
    assert switches >= 0
