"""Which of several stacks tells the story of a stall."""

from __future__ import annotations

import sys
from types import CodeType

from loopwatch._internals.interpreter import Place, occupy
from loopwatch._watchdog.samples import Sample, most_seen


def handle() -> None:
    """A function of the program."""


def work() -> None:
    """Another one."""


def _place(code: CodeType, offset: int = 0) -> Place:
    return code, offset, __name__


def _sample(stands_for: float, *stack: Place) -> Sample:
    return Sample(stack, next_ready=None, callback=0, stands_for=stands_for)


WORK, HANDLE = _place(work.__code__), _place(handle.__code__)


def test_the_stack_seen_for_most_of_the_time_wins() -> None:
    """One sample at the end of a long hold of the GIL outweighs several of what came after it."""
    samples = [_sample(0.4, WORK, HANDLE), _sample(0.01, HANDLE), _sample(0.01, HANDLE)]
    assert most_seen(samples) == (WORK, HANDLE)


def test_of_equals_the_latest_wins() -> None:
    """Nothing else tells them apart."""
    assert most_seen([_sample(0.01, HANDLE), _sample(0.01, WORK)]) == (WORK,)


def test_a_function_counts_wherever_in_it_the_thread_stood() -> None:
    """A loop that is seen at many places is one function; the place seen most is the one shown."""
    here, there = _place(work.__code__, 2), _place(work.__code__, 4)
    samples = [_sample(0.02, here), _sample(0.03, there), _sample(0.04, HANDLE)]
    assert most_seen(samples) == (there,)


def test_no_stack_no_answer() -> None:
    """Samples in which no Python code ran name nobody."""
    assert most_seen([_sample(0.1)]) == ()
    assert most_seen([]) == ()


def _callback() -> tuple[int, int]:
    frame = sys._getframe()
    return id(frame), sys.getsizeof(frame)


def test_a_new_frame_is_told_from_the_one_before() -> None:
    """With its memory occupied, an ended frame does not lend its identity to the next."""
    first, size = _callback()
    kept = occupy(size)
    second, _ = _callback()
    assert first != second
    assert kept


def test_nothing_is_occupied_for_no_frame() -> None:
    """Before the first sample there is nothing to tell apart."""
    assert occupy(0) == []
