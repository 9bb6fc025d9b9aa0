"""The wrapped select: exact steps and waits, with a clock turned by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from loopwatch._probes.iterations import watch_iterations
from loopwatch._store.loop_state import LoopState
from loopwatch.testing import FakeClock

THRESHOLD = 0.1
BEAT = 0.05


class Selector:
    """Returns after as long as it is told to take."""

    def __init__(self, fake: FakeClock) -> None:
        self.fake = fake
        self.takes: float | None = None
        self.asked: list[float | None] = []

    def select(self, timeout: float | None = None) -> list[str]:
        self.asked.append(timeout)
        self.fake.advance(self.takes if self.takes is not None else max(timeout or 0.0, 0.0))
        return ["event"]


class Wrapped:
    """A selector under watch, and the heartbeat that it keeps the time of."""

    def __init__(self) -> None:
        self.fake = FakeClock()
        self.state = LoopState("main")
        self.state.has_selector = True
        self.state.enter(self.fake.monotonic(), 0.0)
        self.state.beat_due = self.state.wait_until = self.fake.monotonic() + BEAT
        self.beats: list[float] = []
        self.owed: list[float] = []
        self.beats_are_run = True
        self.selector = Selector(self.fake)
        self.unwrap = self.watch(self.selector)

    def watch(self, selector: Any) -> Callable[[], None]:
        return watch_iterations(selector, self.state, THRESHOLD, self.fake.clock.monotonic, self.fall_due)

    def fall_due(self, now: float, owed_since: float) -> bool:
        self.beats.append(now)
        self.owed.append(owed_since)
        self.state.beat_due = self.state.wait_until = now + BEAT
        return self.beats_are_run

    def turn(self, timeout: float | None, *, takes: float | None = None, work: float = 0.0) -> object:
        """One turn of the loop: wait, then run callbacks."""
        self.selector.takes = takes
        events = self.selector.select(timeout)
        self.fake.advance(work)
        return events


@pytest.fixture
def wrapped() -> Wrapped:
    return Wrapped()


@pytest.mark.parametrize("timeout", [0, -1, 0.0, 0.01])
def test_events_and_timeouts_pass_through(wrapped: Wrapped, timeout: float) -> None:
    assert wrapped.turn(timeout) == ["event"]
    assert wrapped.selector.asked == [timeout]
    assert wrapped.state.iterations == 1


def test_no_wait_lasts_beyond_the_next_beat(wrapped: Wrapped) -> None:
    wrapped.turn(None, takes=0.0)
    wrapped.fake.advance(BEAT / 2)
    wrapped.turn(3600.0, takes=0.0)
    wrapped.turn(BEAT / 4, takes=0.0)
    assert wrapped.selector.asked == pytest.approx([BEAT, BEAT / 2, BEAT / 4])
    assert wrapped.beats == []


def test_a_beat_is_owed_since_its_time_or_since_the_wait_ended(wrapped: Wrapped) -> None:
    fake, state = wrapped.fake, wrapped.state
    due = state.beat_due
    wrapped.turn(0, work=0.07)  # in a step, when it was due
    wrapped.turn(0)
    assert wrapped.owed == [pytest.approx(due)]
    state.wait_until = fake.monotonic() + 4 * BEAT
    wrapped.turn(None, takes=3 * BEAT)  # in a wait that was allowed to last: nothing was owed before an event
    assert wrapped.owed[1:] == [pytest.approx(fake.monotonic())]
    state.wait_until = until = fake.monotonic() + 4 * BEAT
    wrapped.turn(None, takes=4 * BEAT + 0.03)
    assert wrapped.owed[2:] == [pytest.approx(until)]


def test_the_timeout_may_be_left_out(wrapped: Wrapped) -> None:
    assert wrapped.selector.select() == ["event"]
    assert wrapped.selector.asked == [pytest.approx(BEAT)]


def test_a_beat_falls_due_when_a_wait_ends_or_a_step(wrapped: Wrapped) -> None:
    wrapped.turn(None, work=0.01)
    assert wrapped.beats == [pytest.approx(wrapped.fake.monotonic() - 0.01)]
    wrapped.turn(0, work=BEAT)
    wrapped.turn(None)
    assert len(wrapped.beats) == 2
    assert wrapped.selector.asked[-1] == 0  # the beat is ready to run, so the loop must not wait


def test_where_no_beat_is_to_run_the_loop_waits_as_it_would(wrapped: Wrapped) -> None:
    wrapped.beats_are_run = False
    wrapped.turn(0, work=BEAT)
    wrapped.turn(0.01)
    assert wrapped.selector.asked[-1] == 0.01


def test_waiting_is_idle_and_polling_is_not(wrapped: Wrapped) -> None:
    wrapped.turn(0.02, work=0.01)
    wrapped.turn(None, takes=0.01, work=0.01)
    wrapped.turn(0, takes=0.005, work=0.03)
    wrapped.state.leave(wrapped.fake.monotonic(), 0.0)
    assert wrapped.state.idle_time == pytest.approx(0.03)
    assert wrapped.state.active_time == pytest.approx(0.055)
    assert wrapped.state.iterations == 3


@pytest.mark.parametrize("timeout", [0, 0.05, None])
def test_a_long_step_ends_at_the_next_select(wrapped: Wrapped, timeout: float | None) -> None:
    wrapped.turn(0.01)
    began = wrapped.fake.monotonic()
    wrapped.fake.advance(0.25)
    ended = wrapped.fake.monotonic()
    wrapped.turn(timeout)
    [(start, end, in_callback)] = wrapped.state.ended
    assert (start, end, in_callback) == (began, pytest.approx(ended), True)


def test_a_step_within_the_threshold_is_no_stall(wrapped: Wrapped) -> None:
    wrapped.fake.advance(THRESHOLD - 1e-6)
    wrapped.turn(0)
    assert not wrapped.state.ended


def test_each_stall_is_handed_over_once(wrapped: Wrapped) -> None:
    for _ in range(3):
        wrapped.turn(0, work=0.2)
        wrapped.turn(0.01, work=0.01)
    assert len(wrapped.state.ended) == 3


def test_a_wait_that_returns_long_after_its_timeout_was_a_late_wake_up(wrapped: Wrapped) -> None:
    due = wrapped.fake.monotonic() + 0.02
    wrapped.turn(0.02, takes=0.32)
    [(start, end, in_callback)] = wrapped.state.ended
    assert (start, end, in_callback) == (pytest.approx(due), pytest.approx(due + 0.3), False)
    assert wrapped.state.idle_time == pytest.approx(0.02)


def test_one_that_returns_a_little_late_was_idle_all_along(wrapped: Wrapped) -> None:
    wrapped.turn(0.02, takes=0.1)
    assert not wrapped.state.ended
    assert wrapped.state.idle_time == pytest.approx(0.1)


def test_what_the_loop_owes_is_known_at_every_moment(wrapped: Wrapped) -> None:
    state, fake, seen = wrapped.state, wrapped.fake, []

    def look(timeout: float | None) -> list[str]:
        seen.append((state.blocked(fake.monotonic()), state.waiting_since))
        fake.advance(0.04)
        seen.append((state.blocked(fake.monotonic()), state.waiting_since))
        fake.advance(0.03)
        seen.append((state.blocked(fake.monotonic()), state.waiting_since))
        return []

    selector: Any = Selector(fake)
    selector.select = look
    wrapped.watch(selector)
    began = fake.monotonic()
    selector.select(0.05)
    assert [round(owed, 6) for owed, _ in seen] == [0.0, 0.0, 0.02]
    assert {since for _, since in seen} == {began}
    assert state.waiting_since == 0.0
    fake.advance(0.2)
    assert state.blocked(fake.monotonic()) == pytest.approx(0.2)


def test_an_exception_of_select_passes_through(wrapped: Wrapped) -> None:
    def fails(timeout: float | None) -> list[str]:
        raise InterruptedError

    selector: Any = Selector(wrapped.fake)
    selector.select = fails
    wrapped.watch(selector)
    for timeout in (0, 0.05, None):
        with pytest.raises(InterruptedError):
            selector.select(timeout)


class TestUnwrap:
    """Taking the wrapper off."""

    def test_the_class_method_is_back(self, wrapped: Wrapped) -> None:
        assert "select" in vars(wrapped.selector)
        wrapped.unwrap()
        assert "select" not in vars(wrapped.selector)
        wrapped.unwrap()

    def test_another_on_the_instance_is_back(self, wrapped: Wrapped) -> None:
        selector: Any = Selector(wrapped.fake)
        theirs = selector.select = lambda timeout: ["theirs"]
        unwrap = wrapped.watch(selector)
        assert selector.select(0) == ["theirs"]
        unwrap()
        assert selector.select is theirs

    def test_another_on_top_stays(self, wrapped: Wrapped) -> None:
        ours: Callable[..., object] = wrapped.selector.select
        theirs: Any = lambda timeout: ours(timeout)  # noqa: E731
        wrapped.selector.select = theirs  # type: ignore[method-assign]
        wrapped.unwrap()
        assert wrapped.selector.select is theirs
        assert wrapped.selector.select(0) == ["event"]

    def test_it_holds_no_selector_alive(self, wrapped: Wrapped) -> None:
        unwrap = wrapped.unwrap
        del wrapped.selector
        unwrap()
