"""Pressure by the clock of a test: when it begins, that it does not flap, when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from loopwatch._collectors.loops import LoopHealth
from loopwatch._collectors.pressure import HELD, LOOKS, Pressure
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch.testing import FakeClock

THRESHOLD = 0.1


class Watched:
    """One loop, of which a test says second by second what it did."""

    def __init__(self, loop: asyncio.AbstractEventLoop, has_selector: bool = True) -> None:
        self.fake = FakeClock()
        states = LoopStates()
        state = states.claim(loop, "asyncio", has_selector)
        assert state is not None
        self.state: LoopState = state
        self.state.enter(self.fake.monotonic(), 0.0)
        health = LoopHealth(states, self.fake.clock, lambda loop: 0)
        self.pressure = Pressure(states, health, THRESHOLD, self.fake.clock)
        self.pressure.look()

    def second(self, busy: float, late: float = 0.001) -> bool:
        """Let a second pass, busy for that share of it, its beats late by so much; say what is said then."""
        for _ in range(20):
            self.state.delay.observe(late)
        self.fake.advance(1.0)
        self.state.idle_time += 1.0 - busy
        if not self.state.has_selector:
            self.state.active_time += busy
        self.state.busy_since = self.fake.monotonic()
        self.pressure.look()
        return self.pressure.is_high()

    def seconds(self, number: int, busy: float, late: float = 0.001) -> list[bool]:
        return [self.second(busy, late) for _ in range(number)]


@pytest.fixture
def watched() -> Iterator[Watched]:
    loop = asyncio.new_event_loop()
    yield Watched(loop)
    loop.close()


def test_a_full_loop_is_under_pressure_after_five_seconds(watched: Watched) -> None:
    assert watched.seconds(LOOKS, busy=1.0) == [False] * (LOOKS - 1) + [True]


def test_a_busy_loop_that_keeps_up_is_not(watched: Watched) -> None:
    assert not any(watched.seconds(60, busy=0.95, late=0.02))


def test_of_a_loop_without_a_selector_the_share_is_an_estimate() -> None:
    loop = asyncio.new_event_loop()
    watched = Watched(loop, has_selector=False)
    assert not any(watched.seconds(10, busy=0.93))
    assert watched.seconds(LOOKS, busy=0.95)[-1]
    assert not watched.seconds(LOOKS, busy=0.5)[-1]
    loop.close()


def test_one_long_step_is_no_pressure(watched: Watched) -> None:
    watched.seconds(10, busy=0.1)
    assert not watched.second(busy=1.0, late=0.4)
    assert not any(watched.seconds(10, busy=0.1))


def test_late_callbacks_are_pressure_though_there_is_time_left(watched: Watched) -> None:
    assert watched.seconds(LOOKS, busy=0.5, late=0.15)[-1]


def test_it_ends_below_a_lower_bound_than_it_began_at(watched: Watched) -> None:
    watched.seconds(LOOKS, busy=1.0)
    assert all(watched.seconds(20, busy=0.93))
    assert watched.seconds(LOOKS, busy=0.5)[-1] is False
    assert not any(watched.seconds(20, busy=0.93))


def test_it_lasts_while_callbacks_are_half_as_late(watched: Watched) -> None:
    watched.seconds(LOOKS, busy=0.5, late=0.15)
    assert all(watched.seconds(20, busy=0.5, late=0.06))
    assert watched.seconds(LOOKS, busy=0.5, late=0.01)[-1] is False


def test_a_blocked_loop_is_under_pressure_at_once(watched: Watched) -> None:
    watched.second(busy=0.1)
    watched.fake.advance(HELD - 0.01)
    assert not watched.pressure.is_high()
    watched.fake.advance(0.02)
    assert watched.pressure.is_high()


def test_a_loop_that_has_ended_is_under_none(watched: Watched) -> None:
    watched.seconds(LOOKS, busy=1.0)
    watched.state.leave(watched.fake.monotonic(), 0.0)
    watched.fake.advance(1.0)
    watched.pressure.look()
    assert not watched.pressure.is_high()


def test_it_looks_once_a_second(watched: Watched) -> None:
    watched.seconds(LOOKS - 1, busy=1.0)
    for _ in range(50):
        watched.fake.advance(0.01)
        watched.state.busy_since = watched.fake.monotonic()
        watched.pressure.look()
    assert not watched.pressure.is_high()
