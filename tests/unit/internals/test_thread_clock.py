"""CPU clocks of threads, by their kernel ids."""

import sys
import threading
import time

import pytest

from loopwatch._clock import SYSTEM
from loopwatch._internals.thread_clock import cpu_clock, own_cpu_clock
from loopwatch._internals.threads import native_ids

linux = pytest.mark.skipif(sys.platform != "linux", reason="the formula is that of Linux")


@linux
def test_the_clock_of_a_thread_can_be_read_from_another() -> None:
    worked, leave = threading.Event(), threading.Event()
    spent: list[float] = []

    def work() -> None:
        while time.thread_time() < 0.05:
            sum(range(1_000))
        spent.append(time.thread_time())
        worked.set()
        leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    worked.wait(30)
    clock = cpu_clock(thread.native_id or 0)
    assert clock is not None
    assert SYSTEM.of_thread is not None
    assert SYSTEM.of_thread(clock) == pytest.approx(spent[0], abs=0.01)
    assert native_ids()[thread.ident or 0] == thread.native_id
    leave.set()
    thread.join()
    assert thread.ident not in native_ids()


@linux
def test_a_thread_that_does_not_exist_is_an_error_and_no_crash() -> None:
    clock = cpu_clock(5_000_000)  # Linux has none above 4,194,304
    assert clock is not None
    assert SYSTEM.of_thread is not None
    with pytest.raises(OSError, match="Invalid argument"):
        SYSTEM.of_thread(clock)


@linux
def test_ones_own_clock_is_thread_time() -> None:
    clock = own_cpu_clock()
    assert clock is not None
    assert SYSTEM.of_thread is not None
    assert SYSTEM.of_thread(clock) == pytest.approx(time.thread_time(), abs=0.005)


def test_elsewhere_only_a_threads_own_clock_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert cpu_clock(42) is None
    assert (own_cpu_clock() is None) == (not hasattr(time, "pthread_getcpuclockid"))
