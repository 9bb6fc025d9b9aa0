"""The watchdog's own life: when it sleeps, when it looks, when it does its chores."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loopwatch._journal import Journal
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch._watchdog.lateness import LATE, Lateness
from loopwatch._watchdog.thread import CHORES_EVERY, IDLE, Watchdog
from loopwatch.testing import FakeClock

PATIENCE = 30.0
Make = Callable[..., Watchdog]


class Looker:
    """In the place of a tracker: counts what it is asked."""

    def __init__(self, state: LoopState) -> None:
        self.state = state
        self.suspicious: float | None = None
        self.calls: list[str] = []
        self.curious = False
        self.frames: list[object] = []
        self.settled = threading.Event()

    def note(self) -> None:
        self.calls.append("note")

    def wants_frame(self, now: float) -> bool:
        return self.curious

    def look(self, now: float, frame: object) -> None:
        self.calls.append("look")
        self.frames.append(frame)

    def settle(self) -> None:
        self.calls.append("settle")
        self.settled.set()

    def in_progress(self, now: float) -> None:
        return None


@pytest.fixture
def states() -> LoopStates:
    return LoopStates()


@pytest.fixture
def state(states: LoopStates) -> Iterator[LoopState]:
    loop = asyncio.new_event_loop()
    state = states.claim(loop, "asyncio", has_selector=True)
    assert state is not None
    yield state
    loop.close()


@pytest.fixture
def fake() -> FakeClock:
    return FakeClock()


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def make(states: LoopStates, fake: FakeClock, journal: Journal) -> Iterator[Make]:
    made: list[Watchdog] = []

    def make(*chores: Callable[[], None], tracker: Callable[[LoopState], Any] = Looker) -> Watchdog:
        lateness = Lateness(fake.clock, make.__code__, lambda native_id: None)
        made.append(Watchdog(states, tracker, lateness, 0.025, fake.clock, journal, chores))
        return made[-1]

    yield make
    for watchdog in made:
        watchdog.stop(PATIENCE)


def test_a_step_looks_at_all_loops_before_it_settles_any(
    make: Make, states: LoopStates, state: LoopState
) -> None:
    calls: list[tuple[str, str]] = []

    class Noting(Looker):
        def look(self, now: float, frame: object) -> None:
            calls.append(("look", self.state.name))

        def settle(self) -> None:
            calls.append(("settle", self.state.name))

    other = asyncio.new_event_loop()
    states.claim(other, "asyncio", has_selector=True)
    make(tracker=Noting).step()
    other.close()
    assert calls == [("look", "main"), ("look", "main-2"), ("settle", "main"), ("settle", "main-2")]


@pytest.mark.parametrize(("kept", "looks"), [(LATE * 0.9, 1), (LATE * 1.1, 2)])
def test_one_that_waited_long_for_the_gil_looks_before_it_goes_on(
    make: Make, state: LoopState, fake: FakeClock, kept: float, looks: int
) -> None:
    """Reading a file lets go of the GIL: who held it meanwhile stands where it let go, but not for long."""

    class Kept(Looker):
        def settle(self) -> None:
            fake.advance(kept)
            watchdog.look_again()
            watchdog.look_again()  # nothing has happened since
            super().settle()

    state.thread_id = threading.get_ident()
    watchdog = make(tracker=Kept)
    watchdog.step()
    [tracker] = watchdog._trackers.values()
    assert tracker.calls == [*["note", "look"] * looks, "settle"]
    assert (tracker.frames[-1] is not None) is (looks == 2)
    watchdog.step()
    lag = watchdog._lateness.within(0.0, fake.monotonic())
    assert lag.late == pytest.approx(2 * kept if looks == 2 else 0.0)


def test_it_knows_the_loops_there_are_and_forgets_those_there_were(
    make: Make, states: LoopStates, state: LoopState
) -> None:
    watchdog = make()
    watchdog.step()
    [first] = watchdog._trackers.values()
    watchdog.step()
    assert list(watchdog._trackers.values()) == [first]
    states.clear()
    watchdog.step()
    assert not watchdog._trackers


def test_it_sleeps_a_tick_while_all_is_well_and_less_while_it_is_not(make: Make, state: LoopState) -> None:
    watchdog = make()
    state.enter(0.0, 0.0)
    watchdog.step()
    assert watchdog._pause() == 0.025
    [tracker] = watchdog._trackers.values()
    tracker.suspicious = 0.01
    assert watchdog._pause() == 0.01
    tracker.suspicious = 0.25
    assert watchdog._pause() == 0.025


def test_it_sleeps_longer_while_all_loops_wait(make: Make, states: LoopStates, state: LoopState) -> None:
    watchdog = make()
    state.enter(0.0, 0.0)
    state.waiting_since = 1.0
    watchdog.step()
    assert watchdog._pause() == pytest.approx(0.025 * IDLE)
    other = asyncio.new_event_loop()
    busy = states.claim(other, "asyncio", has_selector=True)
    assert busy is not None
    assert watchdog._pause() == pytest.approx(0.025 * IDLE)  # it does not run
    busy.enter(0.0, 0.0)
    assert watchdog._pause() == 0.025
    other.close()


def test_it_copies_frames_only_when_somebody_wants_one(make: Make, state: LoopState, fake: FakeClock) -> None:
    watchdog = make()
    state.thread_id = threading.get_ident()
    watchdog.step()
    [tracker] = watchdog._trackers.values()
    assert isinstance(tracker, Looker)
    tracker.curious = True
    watchdog.step()
    tracker.curious = False
    watchdog._planned = fake.monotonic() - 2 * LATE  # it is late itself: somebody else may be the reason
    watchdog.step()
    assert [frame is not None for frame in tracker.frames] == [False, True, True]


def test_it_sleeps_until_called_when_no_loop_runs(make: Make, state: LoopState) -> None:
    watchdog = make()
    watchdog.step()
    assert watchdog._pause() is None
    state.end_stall(0.0, 1.0, True)
    assert watchdog._pause() == 0.025


def test_chores_are_done_once_a_second(make: Make, fake: FakeClock) -> None:
    done: list[float] = []
    watchdog = make(lambda: done.append(fake.monotonic()))
    for _ in range(30):
        watchdog.step()
        fake.advance(0.1)
    assert len(done) == pytest.approx(3.0 / CHORES_EVERY, abs=1)


def test_a_chore_that_raises_is_counted_and_the_next_is_done(
    make: Make, fake: FakeClock, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[int] = []

    def fails() -> None:
        raise ValueError

    watchdog = make(fails, lambda: done.append(1))
    for _ in range(3):
        watchdog.step()
        fake.advance(CHORES_EVERY)
    assert (len(done), journal.failures(), len(caplog.records)) == (3, {"watchdog": 3}, 1)


class TestThread:
    """The thread itself."""

    def test_it_does_its_chores_before_it_sleeps_for_long(self, make: Make) -> None:
        done = threading.Event()
        make(done.set).start()
        assert done.wait(PATIENCE)

    def test_a_nudge_wakes_it(self, make: Make, state: LoopState) -> None:
        asleep = threading.Event()
        watchdog = make(asleep.set)
        watchdog.start()
        assert asleep.wait(PATIENCE)
        watchdog.nudge()
        assert self.looker(watchdog).settled.wait(PATIENCE)

    def looker(self, watchdog: Watchdog) -> Looker:
        """Return the tracker that it has made by its first step."""
        deadline = threading.Event()
        for _ in range(3_000):
            for tracker in watchdog._trackers.values():
                assert isinstance(tracker, Looker)
                return tracker
            deadline.wait(0.01)
        raise AssertionError("it never looked")

    def test_stopping_takes_a_last_look(self, make: Make, state: LoopState) -> None:
        watchdog = make()
        watchdog.start()
        thread = watchdog.thread._thread
        assert thread is not None
        watchdog.stop(PATIENCE)
        assert not thread.is_alive()
        [tracker] = watchdog._trackers.values()
        assert tracker.calls[-3:] == ["note", "look", "settle"]  # type: ignore[attr-defined]

    def test_it_is_alive_until_killed(self, make: Make) -> None:
        watchdog = make()
        assert watchdog.alive
        watchdog.start()
        assert watchdog.alive
        thread = watchdog.thread._thread
        assert thread is not None
        watchdog.thread._ask()
        thread.join(PATIENCE)
        assert not watchdog.alive
        watchdog.start()
        assert watchdog.alive

    def test_it_is_a_daemon_and_says_whose(self, make: Make) -> None:
        watchdog = make()
        watchdog.start()
        assert watchdog.thread._thread is not None
        assert (watchdog.thread._thread.daemon, watchdog.thread._thread.name) == (True, "loopwatch-watchdog")
