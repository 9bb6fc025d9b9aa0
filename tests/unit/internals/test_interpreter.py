"""Stacks copied out of frames."""

import asyncio
import contextlib
import gc
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from loopwatch._internals.base_loop import RUN_FOREVER
from loopwatch._internals.interpreter import DEPTH, current_frames, places, runner, uncollected


def here() -> FrameType:
    return sys._getframe(1)


def inner() -> FrameType:
    return here()


def outer() -> FrameType:
    return inner()


def deep(levels: int) -> FrameType:
    return deep(levels - 1) if levels else here()


def test_a_stack_is_innermost_first_and_ends_before_the_boundary() -> None:
    found = places(outer(), test_a_stack_is_innermost_first_and_ends_before_the_boundary.__code__)
    assert [(code.co_name, module) for code, _, module in found] == [("inner", __name__), ("outer", __name__)]
    assert [code for code, _, _ in found] == [inner.__code__, outer.__code__]


def test_no_frame_is_no_stack() -> None:
    assert places(None) == ()
    frame = here()
    assert places(frame, frame.f_code) == ()


def test_a_deep_stack_is_cut_at_its_outer_end() -> None:
    found = places(deep(500))
    assert len(found) == DEPTH
    assert {code.co_name for code, _, _ in found} == {"deep"}


def test_code_run_with_odd_globals_has_no_module() -> None:
    space = {"here": here}
    exec("def odd(): return here()\nframe = odd()", space)
    [(_, _, module), *_] = places(space["frame"])  # type: ignore[arg-type]
    assert module == ""


Wait = Callable[[], object]


def waits(wait: Wait) -> None:
    wait()


@contextlib.contextmanager
def another_in(call: Callable[[Wait], None]) -> Iterator[threading.Thread]:
    """Have another thread within ``call``, which is given what waits there until the block ends."""
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        leave.wait(30)

    thread = threading.Thread(target=call, args=[wait])
    thread.start()
    entered.wait(30)
    try:
        yield thread
    finally:
        leave.set()
        thread.join()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="since then none begins as an object is made")
def test_no_collection_begins_as_frames_of_another_thread_are_made() -> None:
    """Its callbacks would let that thread go on, and what it has left by then is no frame any more."""
    begun = []

    def waiting(wait: Wait, levels: int = DEPTH) -> None:
        if levels:
            waiting(wait, levels - 1)
        else:
            wait()

    def note(phase: str, info: dict[str, int]) -> None:
        begun.append(sys._getframe(1).f_code)

    usual = gc.get_threshold()
    with another_in(waiting) as thread:
        gc.callbacks.append(note)
        gc.set_threshold(1)
        try:
            found = places(current_frames()[thread.ident or 0])
            assert gc.get_threshold() == (1, *usual[1:])
        finally:
            gc.set_threshold(*usual)
            gc.callbacks.remove(note)
    assert len(found) == DEPTH
    assert inspect.unwrap(places).__code__ not in begun


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="since then none begins as an object is made")
def test_two_threads_leave_the_threshold_as_it_was() -> None:
    """The second one comes while the first has set it, and ends after it."""
    usual, seen = gc.get_threshold(), []

    @uncollected
    def second() -> None:
        seen.append(gc.get_threshold()[0])
        first.close()
        seen.append(gc.get_threshold()[0])

    with contextlib.ExitStack() as first:
        first.enter_context(another_in(uncollected(waits)))
        second()
    assert seen == [0, usual[0]]
    assert gc.get_threshold() == usual


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="since then none begins as an object is made")
def test_a_threshold_that_the_program_sets_meanwhile_stays() -> None:
    usual = gc.get_threshold()

    @uncollected
    def look() -> None:
        gc.set_threshold(usual[0] + 1)

    try:
        look()
        assert gc.get_threshold() == (usual[0] + 1, *usual[1:])
    finally:
        gc.set_threshold(*usual)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="since then none begins as an object is made")
def test_a_child_forked_meanwhile_collects() -> None:
    """The thread that was to restore the threshold does not exist there."""
    usual = gc.get_threshold()
    with another_in(uncollected(waits)):
        pid = os.fork()
        if pid == 0:
            collects = gc.get_threshold() == usual
            current_frames().clear()
            os._exit(0 if collects and gc.get_threshold() == usual else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert gc.get_threshold() == usual


def test_the_frames_of_all_threads_are_there() -> None:
    with another_in(waits) as thread:
        frames = current_frames()
        stack = [code.co_name for code, _, _ in places(frames[thread.ident or 0])]
        frames.clear()
    assert "waits" in stack


class TestRunner:
    """Which function runs the loop that runs already."""

    def test_asyncios_is_found_by_its_code(self) -> None:
        async def main() -> object:
            return runner(RUN_FOREVER, by_loop=False)

        assert asyncio.run(main()) is RUN_FOREVER

    def test_uvloops_is_what_called_into_it(self) -> None:
        uvloop = pytest.importorskip("uvloop", reason="needs: uvloop")

        async def child() -> object:
            return runner(RUN_FOREVER, by_loop=False)

        async def main() -> object:
            return await child()

        def starts_it() -> object:
            with contextlib.closing(uvloop.new_event_loop()) as loop:
                return loop.run_until_complete(main())

        assert starts_it() is starts_it.__code__

    def test_uvloops_is_what_called_our_caller_when_the_loop_did(self) -> None:
        uvloop = pytest.importorskip("uvloop", reason="needs: uvloop")
        found = []

        def callback() -> None:
            found.append(runner(RUN_FOREVER, by_loop=True))
            loop.stop()

        def starts_it() -> None:
            loop.call_soon(callback)
            loop.run_forever()

        with contextlib.closing(uvloop.new_event_loop()) as loop:
            starts_it()
        assert found == [starts_it.__code__]

    def test_without_a_loop_there_is_none(self) -> None:
        assert runner(RUN_FOREVER, by_loop=False) is None
