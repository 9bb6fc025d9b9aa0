"""Collections are timed, and count for the loops that run."""

import gc
from collections.abc import Callable, Iterator

import pytest

from loopwatch._journal import Journal
from loopwatch._probes.gc import GcProbe
from loopwatch._store.loop_state import LoopState, LoopStates
from loopwatch._store.pauses import Pauses
from loopwatch._store.unread import Unread
from loopwatch.testing import FakeClock

Callback = Callable[[str, dict[str, int]], None]


class Rig:
    """The probe, called by hand as CPython would."""

    def __init__(self) -> None:
        self.fake, self.states, self.pauses = FakeClock(), LoopStates(), Pauses()
        self.journal = Journal(self.fake.clock)
        self.probe = GcProbe(self.states, self.pauses, self.fake.clock, self.journal, Unread(self.journal))
        self.running, self.stopped = LoopState("running"), LoopState("stopped")
        self.states._states = {state.name: state for state in (self.running, self.stopped)}
        self.running.enter(self.fake.monotonic(), 0.0)

    def collect(self, seconds: float, generation: int = 2) -> None:
        self.probe._on_gc("start", {"generation": generation})
        self.fake.advance(seconds)
        self.probe._on_gc("stop", {"generation": generation, "collected": 1, "uncollectable": 0})


@pytest.fixture
def rig() -> Iterator[Rig]:
    before = list(gc.callbacks)
    rig = Rig()
    yield rig
    rig.probe.remove()
    assert gc.callbacks == before


def test_each_counts_by_generation_for_the_loops_that_run(rig: Rig) -> None:
    for seconds, generation in ((0.3, 2), (0.1, 2), (0.01, 0)):
        rig.collect(seconds, generation)
    assert {key: pauses.read().count for key, pauses in rig.running.gc_pause.items()} == {2: 2, 0: 1}
    assert rig.running.gc_pause[2].read().sum == pytest.approx(0.4)
    assert rig.stopped.gc_pause == {}


def test_how_long_one_took_is_kept_for_the_stall_it_is_part_of(rig: Rig) -> None:
    began = rig.fake.monotonic()
    rig.collect(0.25)
    assert rig.pauses.within(began, rig.fake.monotonic()) == pytest.approx(0.25)
    assert rig.pauses.running_since is None


def test_an_end_without_a_beginning_is_none_of_ours(rig: Rig) -> None:
    rig.probe._on_gc("stop", {"generation": 2})
    assert rig.running.gc_pause == {}
    assert rig.journal.failures() == {}


def test_it_listens_once_and_stops(rig: Rig) -> None:
    before = list(gc.callbacks)
    rig.probe.install()
    assert len(gc.callbacks) == len(before) + 1
    rig.probe.remove()
    rig.probe.remove()
    assert gc.callbacks == before


def test_one_that_fails_stops_listening_and_is_told_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    before = list(gc.callbacks)
    rig.probe.install()
    for _ in range(3):
        rig.probe._on_gc("start", {})
        rig.probe._on_gc("stop", {})  # without a generation
    assert gc.callbacks == before
    assert rig.journal.failures() == {"gc": 3}
    assert len(caplog.records) == 1


def test_one_that_fails_as_a_collection_begins_sees_none_running(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.probe._last_look, "take", lambda: 1 / 0)
    rig.probe._on_gc("start", {"generation": 2})
    assert rig.pauses.running_since is None
    assert rig.journal.failures() == {"gc": 1}


def test_one_that_is_taken_off_the_list_sees_none_running(rig: Rig) -> None:
    rig.probe.install()
    rig.probe._on_gc("start", {"generation": 0})
    rig.probe.check()
    assert rig.pauses.running_since is not None
    gc.callbacks.remove(rig.probe._on_gc)
    rig.probe.check()
    assert rig.pauses.running_since is None
