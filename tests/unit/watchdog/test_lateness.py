"""Who is taken for the hog when the watchdog wakes late."""

import dataclasses
import sys
from types import FrameType

import pytest

from loopwatch._clock import SYSTEM
from loopwatch._internals.thread_clock import cpu_clock
from loopwatch._watchdog import lateness
from loopwatch._watchdog.lateness import Lateness

WATCHDOG = 1


def frame_of_a_hog() -> FrameType:
    return sys._getframe()


def frame_of_an_idler() -> FrameType:
    return sys._getframe()


@pytest.mark.skipif(sys.platform != "linux", reason="needs: the CPU clocks of other threads")
def test_a_thread_with_the_id_of_one_that_ended_counts_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_ids = {7: 70, 8: 80}
    spent = {cpu_clock(70): 5.0, cpu_clock(80): 0.01}
    monkeypatch.setattr(lateness, "native_ids", lambda: kernel_ids)
    clock = dataclasses.replace(SYSTEM, of_thread=lambda id_: spent[id_])
    boundary = test_a_thread_with_the_id_of_one_that_ended_counts_from_zero.__code__
    seen = Lateness(clock, boundary, runqueue=lambda native_id: None)
    seen.refresh()
    kernel_ids[7] = 71
    spent[cpu_clock(71)] = 0.3

    seen.look(1.0, 1.4, {7: frame_of_a_hog(), 8: frame_of_an_idler()}, own_id=WATCHDOG)
    seen.settle()

    stack = seen.hog(1.0, 1.4, victim=9)
    assert stack[0][0].co_name == "frame_of_a_hog"
