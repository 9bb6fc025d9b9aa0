"""A stall's trace hangs on the duration and on the delay that it caused, in the buckets where these lie."""

from dataclasses import replace

import pytest

from loopwatch._agent_records import Stall
from loopwatch._measures import Exemplar
from loopwatch._store.loop_state import LoopState
from loopwatch._watchdog.exemplars import Exemplars
from loopwatch.facts import BUCKETS
from loopwatch.testing import FakeClock
from tests.records import stall

TRACE, SPAN = f"{0xABC:032x}", f"{0xDEF:016x}"
STALL = stall(trace_id=TRACE, span_id=SPAN, trace_flags=1)


class Scene:
    def __init__(self) -> None:
        self.fake = FakeClock()
        self.state = LoopState("main")
        self.exemplars = Exemplars(self.state, self.fake.clock)

    def stall(self, stall: Stall = STALL) -> None:
        """Let a stall end now."""
        self.fake.advance(stall.duration)
        self.state.add_stall(stall)
        self.exemplars.of_stall(self.fake.monotonic(), stall)

    def beat(self, late: float, *, seen_after: float = 0.0) -> None:
        """Let a late beat run now, and the watchdog come later."""
        beat = (self.fake.monotonic(), late)
        self.state.delay.observe(late)
        self.fake.advance(seen_after)
        self.exemplars.of_beats([beat])

    @property
    def of_durations(self) -> dict[float, Exemplar]:
        return by_bucket(self.state.block_duration.read().exemplars)

    @property
    def of_delays(self) -> dict[float, Exemplar]:
        return by_bucket(self.state.delay.read().exemplars)


def by_bucket(exemplars: tuple[Exemplar | None, ...]) -> dict[float, Exemplar]:
    """Return the exemplars by the upper bounds of their buckets."""
    bounds = (*BUCKETS, float("inf"))
    return {bound: one for bound, one in zip(bounds, exemplars, strict=bool(exemplars)) if one is not None}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_stall_and_the_beat_it_held_up_lead_to_its_span(scene: Scene) -> None:
    scene.stall()
    ended = scene.fake.wall()
    scene.beat(0.24, seen_after=1.5)
    assert scene.of_durations == {0.5: Exemplar(0.3, ended, TRACE, SPAN)}
    [(bound, exemplar)] = scene.of_delays.items()
    assert (bound, exemplar.value, exemplar.trace_id, exemplar.span_id) == (0.25, 0.24, TRACE, SPAN)
    assert exemplar.at == pytest.approx(ended)  # when it happened, not when it was looked at


def test_the_beat_may_come_after_the_watchdog_has_seen_the_stall(scene: Scene) -> None:
    scene.stall()
    scene.exemplars.of_beats([])
    scene.fake.advance(0.05)
    scene.beat(0.3)
    assert scene.of_delays[0.5].value == 0.3


def test_a_beat_is_not_given_to_a_stall_that_makes_up_less_than_half_of_its_delay(scene: Scene) -> None:
    scene.stall()
    scene.fake.advance(2.0)
    scene.beat(1.9)
    scene.beat(2.2)
    assert scene.of_delays == {}


def test_of_two_stalls_each_has_its_beat(scene: Scene) -> None:
    scene.stall()
    scene.beat(0.26)
    scene.fake.advance(0.05)
    other = replace(STALL, duration=2.0, span_id=f"{7:016x}")
    scene.stall(other)
    scene.beat(1.95)
    assert {bound: (one.value, one.span_id) for bound, one in scene.of_delays.items()} == {
        0.5: (0.26, SPAN),
        2.5: (1.95, other.span_id),
    }


@pytest.mark.parametrize("lacking", [{"trace_id": None}, {"trace_flags": 0}, {"trace_flags": None}])
def test_a_trace_that_cannot_be_looked_up_is_no_exemplar(
    scene: Scene, lacking: dict[str, str | int | None]
) -> None:
    scene.stall(replace(STALL, **lacking))  # type: ignore[arg-type]
    scene.beat(0.26)
    assert (scene.of_durations, scene.of_delays) == ({}, {})
    assert scene.state.block_duration.read().count == 1
