"""Loops with too much to do, and collections that take too long."""

from __future__ import annotations

from typing import Any

import pytest

from loopwatch._measures import Distribution
from loopwatch._rules.loop import COLLECTING, ENOUGH, LOOP, SATURATED
from loopwatch._rules.rule import Symptom
from tests.looks import NOW, empty, snapshot, waits
from tests.looks import symptoms as symptoms_of

from .test_stalls import stall


def symptoms(points: Any, *, stalls: Any = (), before: Any = None, lived: float = 60.0) -> list[Symptom]:
    earlier = snapshot(at=NOW - lived, points=before) if before else empty(NOW - lived)
    return symptoms_of(snapshot(points=points, stalls=stalls), earlier, rules=LOOP)


def busy(active: float, idle: float, name: str = "main") -> dict[tuple[str, ...], float | Distribution]:
    return {("loop_time", name, "active"): active, ("loop_time", name, "idle"): idle}


@pytest.mark.parametrize(
    ("active", "idle", "rules"),
    [(53.0, 7.0, []), (55.0, 5.0, ["LW103"]), (27.0, 2.0, [])],
    ids=["busy", "saturated", "too young"],
)
def test_a_loop_that_is_busy_for_most_of_a_minute(active: float, idle: float, rules: list[str]) -> None:
    assert SATURATED == 0.9
    assert ENOUGH == 30.0
    assert [one.rule for one in symptoms(busy(active, idle))] == rules


def test_what_was_before_the_last_minute_does_not_count() -> None:
    """A loop that was idle for a day is saturated now."""
    [found] = symptoms(busy(158.8, 80_001.2), before=busy(100.0, 80_000.0))
    assert found.evidence["utilization"] == pytest.approx(58.8 / 60.0, abs=1e-4)
    assert "98% of the time in the last minute" in found.summary


@pytest.mark.parametrize(
    ("active", "delay", "severity"),
    [(59.5, 0.9, "critical"), (59.5, 0.01, "warning"), (55.0, 0.9, "warning")],
)
def test_it_is_critical_when_all_waits_are_long(active: float, delay: float, severity: str) -> None:
    points = {**busy(active, 60.0 - active), ("delay", "main"): waits(*[delay] * 100)}
    assert [one.severity for one in symptoms(points)] == [severity]


def test_stalls_are_the_cause_if_they_take_most_of_the_time() -> None:
    blocked = [stall("blocking", 5.0, ago=6.0 * number) for number in range(8)]
    assert [one.because for one in symptoms(busy(58.0, 2.0), stalls=blocked)] == ["LW102"]
    assert [one.because for one in symptoms(busy(58.0, 2.0), stalls=blocked[:3])] == [None]
    elsewhere = [stall("blocking", 5.0, ago=6.0 * n, loop_name="worker") for n in range(8)]
    assert [one.because for one in symptoms(busy(58.0, 2.0), stalls=elsewhere)] == [None]


def collected(*seconds: float, name: str = "main", generation: str = "2") -> dict[Any, Any]:
    return {("gc_pause", name, generation): waits(*seconds)}


def test_collections_that_take_a_share_of_the_time() -> None:
    assert COLLECTING == 0.05
    assert symptoms(collected(*[0.09] * 30)) == []
    points = collected(*[0.2] * 20) | collected(*[0.01] * 40, generation="0")
    [found] = symptoms(points)
    assert found.rule == "LW105"
    assert found.evidence["gc_s"] == pytest.approx(4.4)
    assert (found.evidence["collections"], found.evidence["full_collections"]) == (60, 20)
    assert found.severity == "warning"
    assert symptoms(collected(*[0.2] * 40))[0].severity == "critical"


def test_the_pauses_are_those_of_the_last_minute() -> None:
    assert symptoms(collected(*[0.2] * 40), before=collected(*[0.2] * 38)) == []


def test_a_pause_that_stops_two_loops_is_told_once() -> None:
    [found] = symptoms(collected(*[0.2] * 40) | collected(*[0.2] * 40, name="worker"))
    assert found.evidence["gc_s"] == pytest.approx(8.0)


@pytest.mark.parametrize("most_stalled", ["main", "worker"])
def test_of_loops_that_lost_as_much_it_is_told_that_which_was_stopped_most(most_stalled: str) -> None:
    names = {"main", "worker"}
    [other] = names - {most_stalled}
    stalls = [*[stall("gc", 0.3, loop_name=most_stalled)] * 3, stall("gc", 0.3, loop_name=other)]
    points = collected(*[0.3] * 3) | collected(*[0.3] * 3, name="worker")
    assert [one.count for one in symptoms(points, stalls=stalls)] == [3]


@pytest.mark.parametrize(("queued", "severity"), [(0.0, ["critical"]), (4.0, ["critical"]), (6.4, [])])
def test_what_a_pause_lasted_for_want_of_a_cpu_is_not_the_collectors(
    queued: float, severity: list[str]
) -> None:
    found = symptoms(collected(*[0.2] * 40) | {("runqueue_time", "main"): queued})
    assert [one.severity for one in found] == severity


def test_nor_is_a_stall_that_was_as_long_for_that_alone() -> None:
    stalls = [stall("gc", 0.5, evidence={"runqueue_s": 0.3})] * 3
    assert symptoms({}, stalls=stalls) == []
    assert [
        one.rule for one in symptoms({}, stalls=[stall("gc", 0.5, evidence={"runqueue_s": 0.2})] * 3)
    ] == ["LW105"]


def test_nor_are_stalls_on_a_machine_on_which_all_is_longer() -> None:
    stalls = [stall("gc", 0.9, evidence={"runqueue_s": 0.4})] * 3
    points = collected(*[0.9] * 3)
    assert [one.rule for one in symptoms(points, stalls=stalls)] == ["LW105"]
    assert symptoms(points | {("runqueue_time", "main"): 7.0}, stalls=stalls) == []


@pytest.mark.parametrize(
    ("active", "queued", "because"), [(58.0, 5.9, None), (58.0, 20.0, "LW107"), (59.9, 7.0, "LW107")]
)
def test_a_loop_that_waits_for_a_cpu_is_busy_for_that(
    active: float, queued: float, because: str | None
) -> None:
    points = busy(active, 60.0 - active) | {("runqueue_time", "main"): queued}
    assert [one.because for one in symptoms(points)] == [because]


def test_collections_that_stall_the_loop_are_told_though_they_are_few() -> None:
    stalls = [stall("gc", 0.5, ago=10.0 * number) for number in range(3)]
    [found] = symptoms(collected(*[0.5] * 3), stalls=stalls)
    assert found.summary.startswith("garbage collection stopped the event loop 3 times, worst 500 ms, and ")
    assert (found.evidence["stalls"], found.count) == (3, 3)
