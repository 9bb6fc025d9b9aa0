"""The wrapped select: exact steps and waits, with a clock turned by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from loopwatch._probes.iterations import watch_iterations
from loopwatch._store.loop_state import LoopState
from loopwatch.testing import FakeClock

THRESHOLD = 0.1


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
    """A selector under watch."""

    def __init__(self) -> None:
        self.fake = FakeClock()
        self.state = LoopState("main")
        self.state.has_selector = True
        self.state.enter(self.fake.monotonic(), 0.0)
        self.selector = Selector(self.fake)
        watched: Any = self.selector
        self.unwrap = watch_iterations(watched, self.state, THRESHOLD, self.fake.clock.monotonic)

    def turn(self, timeout: float | None, *, takes: float | None = None, work: float = 0.0) -> object:
        """One turn of the loop: wait, then run callbacks."""
        self.selector.takes = takes
        events = self.selector.select(timeout)
        self.fake.advance(work)
        return events


@pytest.fixture
def wrapped() -> Wrapped:
    return Wrapped()


@pytest.mark.parametrize("timeout", [None, 0, -1, 0.0, 0.05])
def test_events_and_timeouts_pass_through(wrapped: Wrapped, timeout: float | None) -> None:
    assert wrapped.turn(timeout) == ["event"]
    assert wrapped.selector.asked == [timeout]
    assert wrapped.state.iterations == 1


def test_the_timeout_may_be_left_out(wrapped: Wrapped) -> None:
    assert wrapped.selector.select() == ["event"]
    assert wrapped.selector.asked == [None]


def test_waiting_is_idle_and_polling_is_not(wrapped: Wrapped) -> None:
    wrapped.turn(0.05, work=0.02)
    wrapped.turn(None, takes=0.5, work=0.01)
    wrapped.turn(0, takes=0.005, work=0.03)
    wrapped.state.leave(wrapped.fake.monotonic(), 0.0)
    assert wrapped.state.idle_time == pytest.approx(0.55)
    assert wrapped.state.active_time == pytest.approx(0.065)
    assert wrapped.state.iterations == 3


@pytest.mark.parametrize("timeout", [0, 0.05, None])
def test_a_long_step_ends_at_the_next_select(wrapped: Wrapped, timeout: float | None) -> None:
    wrapped.turn(0.05, work=0.0)
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
    due = wrapped.fake.monotonic() + 0.05
    wrapped.turn(0.05, takes=0.35)
    [(start, end, in_callback)] = wrapped.state.ended
    assert (start, end, in_callback) == (pytest.approx(due), pytest.approx(due + 0.3), False)
    assert wrapped.state.idle_time == pytest.approx(0.05)


def test_a_long_wait_for_nothing_in_particular_is_just_that(wrapped: Wrapped) -> None:
    wrapped.turn(None, takes=3600.0)
    assert not wrapped.state.ended
    assert wrapped.state.idle_time == pytest.approx(3600.0)


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
    watch_iterations(selector, state, THRESHOLD, fake.clock.monotonic)
    began = fake.monotonic()
    selector.select(0.05)
    assert [round(owed, 6) for owed, _ in seen] == [0.0, 0.0, 0.02]
    assert {since for _, since in seen} == {began}
    assert state.waiting_since == 0.0
    fake.advance(0.2)
    assert state.blocked(fake.monotonic()) == pytest.approx(0.2)


def test_waiting_without_end_owes_nothing(wrapped: Wrapped) -> None:
    owed: list[float] = []
    selector: Any = Selector(wrapped.fake)
    selector.select = lambda timeout: owed.append(wrapped.state.blocked(1e12))
    watch_iterations(selector, wrapped.state, THRESHOLD, wrapped.fake.clock.monotonic)
    selector.select(None)
    assert owed == [0.0]
    assert math.isfinite(wrapped.state.busy_since)


def test_an_exception_of_select_passes_through(wrapped: Wrapped) -> None:
    def fails(timeout: float | None) -> list[str]:
        raise InterruptedError

    selector: Any = Selector(wrapped.fake)
    selector.select = fails
    watch_iterations(selector, wrapped.state, THRESHOLD, wrapped.fake.clock.monotonic)
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

    def test_another_on_the_instance_is_back(self) -> None:
        selector: Any = Selector(FakeClock())
        theirs = selector.select = lambda timeout: ["theirs"]
        unwrap = watch_iterations(selector, LoopState("main"), THRESHOLD, FakeClock().clock.monotonic)
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
