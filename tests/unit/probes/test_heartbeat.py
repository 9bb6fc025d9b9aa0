"""The recurring timer, in a loop whose time is turned by hand."""

import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loopwatch._journal import Journal
from loopwatch._probes import heartbeat
from loopwatch._probes.heartbeat import INTERVAL, INTERVAL_BLIND, INTERVAL_IDLE, Heartbeat
from loopwatch._store.loop_state import NEVER, LoopState
from loopwatch.testing import FakeClock


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when, self.callback, self.cancelled = when, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Keeps timers and runs them when told."""

    def __init__(self, fake: FakeClock) -> None:
        self.fake = fake
        self.timers: list[Timer] = []
        self.ready: list[Callable[[], None]] = []
        self.contexts: list[contextvars.Context] = []
        self.closed = False

    def call_later(
        self, delay: float, callback: Callable[[], None], *, context: contextvars.Context
    ) -> Timer:
        self.timers.append(Timer(self.fake.monotonic() + delay, callback))
        self.contexts.append(context)
        return self.timers[-1]

    def call_soon(self, callback: Callable[[], None], *, context: contextvars.Context) -> None:
        self.ready.append(callback)
        self.contexts.append(context)

    def is_closed(self) -> bool:
        return self.closed

    @property
    def waiting(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def run_timers(self) -> None:
        due = [timer for timer in self.waiting if timer.when <= self.fake.monotonic() + 1e-9]
        for timer in due:
            self.timers.remove(timer)
            timer.callback()

    def run_ready(self) -> None:
        ready, self.ready = self.ready, []
        for callback in ready:
            callback()


class Beating:
    """A heartbeat in a fake loop."""

    def __init__(self, *, has_selector: bool = True, threshold: float = 0.1) -> None:
        self.fake = FakeClock()
        self.loop = FakeLoop(self.fake)
        self.state = LoopState("main")
        self.state.has_selector = has_selector
        self.journal = Journal(self.fake.clock)
        self.checks: list[float] = []
        loop: Any = self.loop
        self.heartbeat = Heartbeat(
            loop,
            self.state,
            threshold,
            self.fake.clock,
            self.journal,
            lambda: self.checks.append(self.fake.monotonic()),
        )

    def start(self) -> None:
        self.state.enter(self.fake.monotonic(), 0.0)
        self.heartbeat.start(self.fake.monotonic())

    def fall_due(self) -> bool:
        return self.heartbeat.fall_due(self.fake.monotonic(), self.state.beat_due)

    def after(self, seconds: float) -> None:
        """Let time pass, then have the loop turn once."""
        self.fake.advance(seconds)
        if self.state.has_selector and self.fake.monotonic() >= self.state.beat_due - 1e-9:
            self.state.iterations += 2
            self.fall_due()
        self.loop.run_timers()
        self.loop.run_ready()


@pytest.fixture
def beating() -> Beating:
    return Beating()


@pytest.mark.parametrize(
    ("has_selector", "threshold", "interval"),
    [
        (True, 0.1, INTERVAL),
        (True, 60.0, INTERVAL),
        (True, 0.02, 0.01),
        (True, 0.005, 0.0025),
        (False, 0.1, INTERVAL_BLIND),
        (False, 0.06, 0.015),
        (False, 0.02, 0.005),
    ],
)
def test_it_beats_several_times_per_threshold_and_not_too_seldom(
    has_selector: bool, threshold: float, interval: float
) -> None:
    beating = Beating(has_selector=has_selector, threshold=threshold)
    beating.start()
    for _ in range(10):
        beating.after(interval)
    assert beating.state.delay.read().count == 10
    assert beating.state.beat_interval == interval
    assert len(beating.loop.waiting) == (0 if has_selector else 1)


def test_its_lateness_is_the_delay(beating: Beating) -> None:
    beating.start()
    beating.after(INTERVAL + 0.2)
    beating.after(INTERVAL)
    delay = beating.state.delay.read()
    assert (delay.count, delay.sum) == (2, pytest.approx(0.2))
    assert beating.state.delay_max.read(beating.fake.monotonic()) == pytest.approx(0.2)
    assert beating.state.last_tick == beating.fake.monotonic()
    assert len(beating.checks) == 2


def test_one_that_ran_late_does_not_put_off_the_next_look_for_stalls(beating: Beating) -> None:
    """It ran at the end of the step that held it up: ``select`` has yet to look at that step."""
    beating.start()
    beating.after(INTERVAL)
    beating.fake.advance(INTERVAL)
    beating.fall_due()
    beating.fake.advance(0.3)
    beating.loop.run_ready()
    assert beating.fake.monotonic() >= beating.state.beat_due
    beating.after(0.0)
    delay = beating.state.delay.read()
    assert (delay.count, delay.sum) == (3, pytest.approx(0.3))


@pytest.mark.parametrize("has_selector", [True, False])
def test_beats_that_a_stall_may_have_held_up_are_noted(has_selector: bool) -> None:
    beating = Beating(has_selector=has_selector)
    interval = beating.heartbeat._interval
    beating.start()
    for late in (0.0, 0.1 - interval - 0.001, 0.1 - interval + 0.001, 0.4):
        beating.after(interval + late)
    assert [late for _, late in beating.state.late_beats] == [
        pytest.approx(0.1 - interval + 0.001),
        pytest.approx(0.4),
    ]
    assert beating.state.late_beats[-1][0] == beating.fake.monotonic()


def test_a_loop_that_only_beats_is_woken_less_often(beating: Beating) -> None:
    beating.start()
    state, fake = beating.state, beating.fake
    for turns, may_wait in ((9, INTERVAL), (1, INTERVAL_IDLE), (1, INTERVAL_IDLE), (2, INTERVAL)):
        fake.advance(INTERVAL)
        state.iterations += turns
        assert beating.fall_due()
        assert state.beat_due == pytest.approx(fake.monotonic() + INTERVAL)  # stalls are looked for as ever
        assert state.wait_until == pytest.approx(fake.monotonic() + may_wait)


def test_on_a_loop_with_a_selector_it_leaves_no_timer_at_all(beating: Beating) -> None:
    beating.start()
    beating.after(INTERVAL)
    assert beating.loop.timers == []
    assert not beating.heartbeat.scheduled
    assert beating.state.beat_due == pytest.approx(beating.fake.monotonic() + INTERVAL)


def test_a_beat_that_is_ready_when_the_loop_stops_does_nothing(beating: Beating) -> None:
    beating.start()
    beating.fake.advance(INTERVAL)
    assert beating.fall_due()
    beating.heartbeat.stop()
    beating.loop.run_ready()
    assert beating.state.delay.read().count == 0


def test_after_the_stop_none_falls_due(beating: Beating) -> None:
    beating.start()
    beating.heartbeat.stop()
    beating.fake.advance(INTERVAL)
    assert not beating.fall_due()
    assert beating.loop.ready == []


def test_a_call_soon_of_somebody_elses_that_fails_is_no_concern_of_the_loop(
    beating: Beating, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise TypeError

    beating.start()
    beating.loop.call_soon = fails  # type: ignore[method-assign]
    beating.fake.advance(INTERVAL)
    assert not beating.fall_due()
    assert beating.journal.failures() == {"heartbeat": 1}


def test_one_that_fails_stops_and_is_told(beating: Beating, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise ValueError

    beating.heartbeat._check = fails
    beating.start()
    beating.after(INTERVAL)
    beating.after(INTERVAL)
    assert beating.journal.failures() == {"heartbeat": 1}
    assert beating.loop.ready == []
    assert len(caplog.records) == 1


def test_all_beats_share_one_empty_context(beating: Beating) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    def start() -> None:
        variable.set("of whoever started the loop")
        beating.start()
        beating.after(INTERVAL)
        beating.after(INTERVAL)

    contextvars.copy_context().run(start)
    assert len(beating.loop.contexts) == 2
    assert beating.loop.contexts[0] is beating.loop.contexts[1]
    assert len(beating.loop.contexts[0]) == 0


class TestWithoutSelector:
    """Where the beat is all there is, it is a timer, and tells of stalls too."""

    @pytest.fixture
    def beating(self) -> Beating:
        return Beating(has_selector=False)

    def test_a_timer_that_comes_early_is_not_late(self, beating: Beating) -> None:
        beating.start()
        beating.fake.advance(INTERVAL_BLIND - 0.001)
        [timer] = beating.loop.timers
        timer.callback()
        assert beating.state.delay.read().sum == 0.0

    def test_stopping_leaves_no_timer(self, beating: Beating) -> None:
        beating.start()
        assert beating.heartbeat.scheduled
        beating.heartbeat.stop()
        assert not beating.heartbeat.scheduled
        assert beating.loop.waiting == []
        beating.heartbeat.stop()

    def test_a_timer_that_fires_after_the_stop_does_nothing(self, beating: Beating) -> None:
        beating.start()
        [timer] = beating.loop.timers
        beating.heartbeat.stop()
        timer.callback()
        assert beating.state.delay.read().count == 0
        assert beating.loop.waiting == []

    def test_starting_again_leaves_one_timer(self, beating: Beating) -> None:
        beating.start()
        beating.start()
        assert len(beating.loop.waiting) == 1

    def test_a_closed_or_collected_loop_gets_no_timer(self, beating: Beating) -> None:
        beating.loop.closed = True
        beating.start()
        assert beating.loop.timers == []
        gone = weakref.ref(beating.loop)
        del beating.loop
        gc.collect()
        assert gone() is None
        beating.heartbeat.start(1.0)
        assert not beating.heartbeat.scheduled

    def test_the_loop_owes_service_from_when_the_beat_is_due(self, beating: Beating) -> None:
        beating.start()
        due = beating.fake.monotonic() + INTERVAL_BLIND
        assert beating.state.busy_since == due
        beating.after(INTERVAL_BLIND)
        assert beating.state.busy_since == pytest.approx(due + INTERVAL_BLIND)

    def test_a_late_beat_ends_a_stall(self, beating: Beating) -> None:
        beating.start()
        due = beating.state.busy_since
        beating.after(INTERVAL_BLIND + 0.3)
        assert list(beating.state.ended) == [(due, pytest.approx(due + 0.3), True)]

    def test_one_that_may_have_been_long_enough_is_left_to_the_watchdog(self, beating: Beating) -> None:
        beating.start()
        beating.after(INTERVAL_BLIND + 0.085)
        beating.after(INTERVAL_BLIND + 0.075)
        assert len(beating.state.ended) == 1

    def test_one_that_fails_leaves_no_debt(self, beating: Beating) -> None:
        def fails() -> None:
            raise ValueError

        beating.heartbeat._check = fails
        beating.start()
        beating.after(INTERVAL_BLIND)
        assert beating.state.busy_since == NEVER
        assert beating.state.blocked(1e9) == 0.0


def test_with_a_selector_the_debt_is_the_selects_to_tell(beating: Beating) -> None:
    beating.start()
    since = beating.state.busy_since
    beating.after(INTERVAL + 0.5)
    assert beating.state.busy_since == since
    assert not beating.state.ended


class TestWhatStoodBeside:
    """The other threads, as a loop that was kept can go on."""

    @pytest.fixture
    def other(self) -> Iterator[threading.Thread]:
        leave = threading.Event()
        thread = threading.Thread(target=leave.wait)
        thread.start()
        yield thread
        leave.set()
        thread.join()

    @pytest.mark.parametrize("has_selector", [True, False])
    def test_is_noted_after_a_stall(self, has_selector: bool, other: threading.Thread) -> None:
        beating = Beating(has_selector=has_selector)
        beating.start()
        beating.after(INTERVAL + 0.3)
        beside = beating.state.beside
        assert beside is not None
        assert beside.at == beating.fake.monotonic()
        assert other.ident is not None
        functions = [code.co_qualname for code, _, _ in beside.stacks[other.ident]]
        assert functions[-2:] == ["Thread._bootstrap_inner", "Thread._bootstrap"]
        assert beside.native_ids[other.ident] in beside.cpu or sys.platform != "linux"
        assert threading.get_ident() not in beside.stacks

    @pytest.mark.parametrize("has_selector", [True, False])
    def test_is_left_alone_while_all_is_well(self, has_selector: bool) -> None:
        beating = Beating(has_selector=has_selector)
        beating.start()
        for _ in range(10):
            beating.after(INTERVAL + 0.01)
        assert beating.state.beside is None

    def test_that_cannot_be_seen_does_the_loop_no_harm(
        self, beating: Beating, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*args: object) -> None:
            raise ValueError

        monkeypatch.setattr(heartbeat, "others", fails)
        beating.start()
        beating.after(INTERVAL + 0.3)
        beating.after(INTERVAL)
        assert beating.state.delay.read().count == 2
        assert beating.journal.failures() == {"heartbeat": 1}
