"""Loop states: what they are called, when a name is used again, and that there are never too many."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from loopwatch._agent_records import Cause, Stall
from loopwatch._records import Frame
from loopwatch._store.loop_names import base_name
from loopwatch._store.loop_state import ENDED_LIMIT, NEVER, LoopState, LoopStates
from tests import records


@contextmanager
def new_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def claim(states: LoopStates, loop: asyncio.AbstractEventLoop) -> LoopState:
    state = states.claim(loop, "asyncio", has_selector=True)
    assert state is not None
    return state


def stall(seconds: float, function: str = "work", cause: Cause = "cpu") -> Stall:
    culprit = Frame(function, "shop", "shop.py", 1) if function else None
    return records.stall(seconds, cause=cause, culprit=culprit)


def in_thread(name: str, states: LoopStates, loop: asyncio.AbstractEventLoop) -> LoopState | None:
    claimed: list[LoopState | None] = []
    thread = threading.Thread(
        target=lambda: claimed.append(states.claim(loop, "asyncio", has_selector=True)), name=name
    )
    thread.start()
    thread.join()
    return claimed[0]


@pytest.mark.parametrize(
    ("thread_name", "expected"),
    [
        ("worker", "worker"),
        ("Thread-7 (serve)", "serve"),
        ("Thread-7", "Thread"),
        ("ThreadPoolExecutor-0_3", "ThreadPoolExecutor"),
        ("asyncio_12", "asyncio"),
        ("AnyIO worker thread", "AnyIO worker thread"),
        ("-1", "thread"),
    ],
)
def test_a_loop_is_named_after_its_thread_without_running_numbers(thread_name: str, expected: str) -> None:
    assert base_name(threading.Thread(name=thread_name)) == expected


def test_a_loop_of_the_main_thread_is_main_whatever_the_thread_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threading.main_thread(), "name", "boss")
    assert base_name(threading.main_thread()) == "main"


def test_loops_alive_at_a_time_are_numbered() -> None:
    states = LoopStates()
    with new_loop() as one, new_loop() as two, new_loop() as three:
        assert [claim(states, loop).name for loop in (one, two, three)] == ["main", "main-2", "main-3"]


def test_a_closed_loop_hands_its_name_and_counters_on() -> None:
    states = LoopStates()
    with new_loop() as first:
        state = claim(states, first)
        state.iterations = 7
        state.delay.observe(0.5)
    with new_loop() as second:
        assert claim(states, second) is state
        assert state.loop is not None
        assert state.loop() is second
        assert (state.iterations, state.delay.read().count) == (7, 1)
    assert len(states.all()) == 1


def test_a_collected_loop_hands_its_name_on_though_never_closed() -> None:
    states = LoopStates()
    loops = [asyncio.new_event_loop()]
    state = claim(states, loops[0])

    def forget() -> None:
        loops.clear()  # from here on a collection may come by itself
        gc.collect()

    with pytest.warns(ResourceWarning):
        forget()
    assert state.free
    with new_loop() as second:
        assert claim(states, second) is state


def test_thousands_of_loops_one_after_the_other_are_one_state() -> None:
    states = LoopStates()
    for _ in range(2_000):
        with new_loop() as loop:
            claim(states, loop).iterations += 1
    [state] = states.all()
    assert state.iterations == 2_000


def test_beyond_the_limit_closed_loops_are_added_up_under_other() -> None:
    states = LoopStates()
    for number in range(LoopStates.LIMIT + 10):
        with new_loop() as loop:
            state = in_thread(f"job{number:03}", states, loop)
            assert state is not None
            state.iterations, state.active_time, state.idle_time, state.cpu_time = 3, 2.0, 1.0, 0.5
            state.runqueue_time = 0.25
            state.delay.observe(0.2)
            state.gc_pause.setdefault(2, type(state.delay)()).observe(0.1)
            state.add_stall(stall(0.3))
    names = [state.name for state in states.all()]
    assert len(names) == LoopStates.LIMIT + 1
    assert f"job{LoopStates.LIMIT + 9:03}" in names
    other = next(state for state in states.all() if state.name == LoopStates.OTHER)
    assert (other.iterations, other.active_time, other.idle_time, other.cpu_time) == (30, 20.0, 10.0, 5.0)
    assert other.runqueue_time == 2.5
    for histogram in (other.delay, other.gc_pause[2], other.block_duration):
        assert histogram.read().count == 10
    assert dict(other.block_time["cpu"].items()) == {"shop.work": pytest.approx(3.0)}
    assert other.block_duration.read().sum == pytest.approx(3.0)


def test_stalls_not_collected_before_their_loop_is_forgotten_count_as_dropped() -> None:
    mine, gone = LoopState("mine"), LoopState("gone")
    gone.end_stall(0.0, 1.0, True)
    gone.ended_dropped = 2
    mine.absorb(gone)
    assert mine.ended_dropped == 3


def test_while_all_names_are_in_use_a_further_loop_gets_none() -> None:
    states = LoopStates()
    with ExitStack() as stack:
        for number in range(LoopStates.LIMIT):
            assert in_thread(f"job{number:03}", states, stack.enter_context(new_loop())) is not None
        assert in_thread("one-more", states, stack.enter_context(new_loop())) is None
    assert len(states.all()) == LoopStates.LIMIT
    with new_loop() as loop:
        assert in_thread("one-more", states, loop) is not None


def test_threads_that_race_for_a_name_get_one_each() -> None:
    states = LoopStates()
    start = threading.Barrier(16)
    claimed: list[LoopState] = []

    def run(loop: asyncio.AbstractEventLoop) -> None:
        start.wait(30)
        claimed.append(claim(states, loop))

    with ExitStack() as stack:
        loops = [stack.enter_context(new_loop()) for _ in range(16)]
        threads = [threading.Thread(target=run, args=(loop,), name="worker") for loop in loops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert {state.name for state in claimed} == {"worker", *(f"worker-{n}" for n in range(2, 17))}


def test_the_loops_of_a_forked_child_begin_from_nothing() -> None:
    states = LoopStates()
    with new_loop() as loop:
        claim(states, loop)
        states.clear()
        assert states.all() == []
        assert claim(states, loop).name == "main"


class TestRuns:
    """Entering and leaving run_forever."""

    def test_active_time_is_what_was_not_idle(self) -> None:
        state = LoopState("main")
        state.has_selector = True
        for began in (100.0, 200.0):
            state.enter(began, cpu_time=5.0)
            state.idle_time += 3.0
            state.leave(began + 10.0, cpu_time=7.5)
        assert (state.active_time, state.idle_time, state.cpu_time) == (14.0, 6.0, 5.0)

    def test_a_loop_that_does_not_run_owes_nothing(self) -> None:
        state = LoopState("main")
        state.has_selector = True
        assert state.blocked(1e9) == 0.0
        state.enter(100.0, 0.0)
        assert (state.running, state.blocked(102.0), state.last_tick) == (True, 2.0, 100.0)
        state.leave(103.0, 0.0)
        assert (state.running, state.busy_since, state.blocked(1e9)) == (False, NEVER, 0.0)

    def test_waiting_for_what_is_still_to_come_is_no_debt(self) -> None:
        state = LoopState("main")
        state.enter(99.0, 0.0)
        state.busy_since = 105.0
        assert state.blocked(100.0) == 0.0
        assert state.blocked(106.0) == 1.0

    def test_without_a_selector_time_is_the_watchdogs_to_estimate(self) -> None:
        state = LoopState("main")
        state.enter(100.0, 0.0)
        assert state.busy_since == NEVER
        state.leave(110.0, 0.0)
        assert (state.active_time, state.idle_time) == (0.0, 0.0)

    def test_leaving_without_having_entered_changes_nothing(self) -> None:
        state = LoopState("main")
        state.leave(110.0, 4.0)
        assert (state.active_time, state.cpu_time) == (0.0, 0.0)


def test_stalls_nobody_collects_are_bounded_and_counted() -> None:
    state = LoopState("main")
    for number in range(ENDED_LIMIT + 5):
        state.end_stall(float(number), number + 0.5, True)
    assert (len(state.ended), state.ended_dropped) == (ENDED_LIMIT, 5)
    assert state.ended[0] == (0.0, 0.5, True)


def test_stalls_add_up_by_culprit_and_cause() -> None:
    state = LoopState("main")
    for each in (stall(0.25, "parse"), stall(0.5, "parse"), stall(1.0, "fetch", "blocking"), stall(2.0, "")):
        state.add_stall(each)
    assert dict(state.block_time["cpu"].items()) == {"shop.parse": 0.75, "_unknown": 2.0}
    assert dict(state.block_time["blocking"].items()) == {"shop.fetch": 1.0}
    assert (state.block_duration.read().count, state.block_duration.read().sum) == (4, 3.75)
