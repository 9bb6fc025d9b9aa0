"""The fake clock moves each clock as the real one would."""

from loopwatch.testing import FakeClock


def test_time_passes_on_every_clock_but_those_of_the_cpu() -> None:
    fake = FakeClock(monotonic=10.0, wall=100.0)
    fake.advance(0.5)
    clock = fake.clock
    assert (clock.monotonic(), clock.wall(), clock.boottime()) == (10.5, 100.5, 10.5)
    assert (clock.process_cpu(), clock.thread_cpu()) == (0.0, 0.0)


def test_a_sleeping_machine_stops_the_monotonic_clock_alone() -> None:
    fake = FakeClock(monotonic=10.0, wall=100.0)
    fake.sleep_machine(3600.0)
    assert (fake.monotonic(), fake.wall(), fake.boottime()) == (10.0, 3700.0, 3610.0)


def test_cpu_time_is_charged_to_one_thread_and_to_the_process() -> None:
    fake = FakeClock()
    fake.spend(0.2)
    fake.spend(0.3, clock_id=7)
    assert (fake.thread_cpu(), fake.of_thread(7), fake.of_thread(8)) == (0.2, 0.3, 0.0)
    assert fake.process_cpu() == 0.5
