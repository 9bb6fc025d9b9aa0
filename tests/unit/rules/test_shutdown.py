"""What a shutdown cut short, and one that goes on."""

from __future__ import annotations

from typing import Any

import pytest

from loopwatch import DrainReport, Task
from loopwatch._rules.rule import Symptom
from loopwatch._rules.shutdown import SHUTDOWN, SLOW
from tests.looks import NOW, empty, frame, lost, snapshot
from tests.looks import symptoms as symptoms_of

from .test_stalls import stall


def task(
    coroutine: str = "send_mail", site: str = "work", age: float = 3.0, parent: str | None = None
) -> Task:
    given: dict[str, Any] = dict.fromkeys(Task.__dataclass_fields__)
    given |= {
        "coroutine": coroutine,
        "parent": parent,
        "site": frame(site, 12),
        "age": age,
        "await_stack": (),
    }
    return Task(**given)


def report(*, finished: int = 0, cancelled: Any = (), abandoned: Any = ()) -> DrainReport:
    done = tuple(task() for _ in range(finished))
    return DrainReport(done, tuple(cancelled), tuple(abandoned), duration=8.02, timeout=8.0)


def symptoms(*drains: DrainReport, points: Any = None, before: Any = None, **more: Any) -> list[Symptom]:
    counted = {
        ("drain_cancelled",): float(sum(len(one.cancelled) for one in drains)),
        ("drain_abandoned",): float(sum(len(one.abandoned) for one in drains)),
    }
    earlier = snapshot(at=NOW - 60.0, points=before) if before else empty(NOW - 60.0)
    now = snapshot(points=counted | (points or {}), drains=drains, **more)
    return symptoms_of(now, earlier, rules=SHUTDOWN)


def test_a_shutdown_that_leaves_nothing() -> None:
    assert symptoms() == []
    assert symptoms(report(finished=5)) == []


def test_what_was_cut_short_is_named_most_first() -> None:
    left = [task("run", "start"), *[task(age=age) for age in (1.0, 7.5, 2.0)]]
    [found] = symptoms(report(finished=4, cancelled=left[:2], abandoned=left[2:]))
    assert (found.rule, found.severity, found.count) == ("LW501", "critical", 4)
    assert found.key == ("app.work", "app.start")
    assert found.summary == (
        "the shutdown cut work short: after 8.0 s 2 cancelled and 2 abandoned, 4 finished: "
        "3 of `send_mail`, created by `work` (app.py:12), the oldest for 7.5 s; "
        "1 of `run`, created by `start` (app.py:12), the oldest for 3.0 s"
    )
    assert found.evidence == {
        "finished": 4,
        "cancelled": 2,
        "abandoned": 2,
        "duration_s": 8.02,
        "timeout_s": 8.0,
        "oldest_s": 7.5,
    }


@pytest.mark.parametrize(
    ("fate", "advice"), [("cancelled", "give the drain more time"), ("abandoned", "loopwatch.spawn()")]
)
def test_the_advice_depends_on_what_became_of_it(fate: str, advice: str) -> None:
    [found] = symptoms(report(**{fate: [task()]}))  # type: ignore[arg-type]
    assert advice in found.fix


@pytest.mark.parametrize(
    ("reason", "because"),
    [
        ("unreferenced", "LW204"),
        ("destroyed_pending", "LW201"),
        ("unretrieved_exception", "LW202"),
        ("never_awaited", None),
    ],
)
def test_nobody_waits_for_what_nobody_holds(reason: Any, because: str | None) -> None:
    losses = (lost(reason, site=frame("work", 12)),)
    alive = {("task_leaked", "unreferenced"): 1.0}
    mostly, hardly = [task(), task(), task(site="start")], [task(), task(site="start")]
    [found] = symptoms(report(abandoned=mostly), lost=losses, points=alive)
    assert found.because == because
    [found] = symptoms(report(abandoned=hardly), lost=losses, points=alive)
    assert found.because is None


def test_nor_for_what_those_have_made() -> None:
    left = [task("run"), *(task("ask", site="run", parent="run") for _ in range(5))]
    losses = (lost("unretrieved_exception", site=frame("work", 12)),)
    [found] = symptoms(report(abandoned=left), lost=losses)
    assert found.because == "LW202"
    long_ago = (lost("unretrieved_exception", site=frame("work", 12), ago=400.0),)
    [found] = symptoms(report(abandoned=left), lost=long_ago)
    assert found.because is None


def test_what_nobody_held_and_is_gone_may_be_the_cause_too() -> None:
    losses = tuple(lost(reason, site=frame("work", 12)) for reason in ("unreferenced", "destroyed_pending"))
    [found] = symptoms(report(abandoned=[task()]), lost=losses, points={("task_leaked", "unreferenced"): 0.0})
    assert found.because == "LW201"


def test_many_kinds_are_counted() -> None:
    [found] = symptoms(report(cancelled=[task(f"job_{number}") for number in range(9)]))
    assert found.summary.endswith("; and 6 more kinds")


def test_a_drain_of_long_ago_is_over() -> None:
    cut = report(cancelled=[task()])
    assert symptoms(cut, before={("drain_cancelled",): 1.0, ("drain_abandoned",): 0.0}) == []


def draining(seconds: float, state: str = "draining") -> dict[tuple[str, ...], float]:
    return {
        ("drain_status", state): 1.0,
        ("drain_duration",): seconds,
        ("jobs", "running"): 3.0,
        ("task_count",): 9.0,
    }


def test_a_shutdown_that_goes_on_is_told_of() -> None:
    assert symptoms(points=draining(SLOW - 0.1)) == []
    assert symptoms(points=draining(60.0, "forced")) == []
    [found] = symptoms(points=draining(7.0))
    assert (found.rule, found.severity, found.because) == ("LW502", "info", None)
    assert "has waited for 7.0 s, and still does: 3 jobs run, 9 tasks live" in found.summary


def test_and_why_if_the_loop_is_blocked() -> None:
    blocked = stall("blocking", 6.0, ago=0.0, in_progress=True)
    [found] = symptoms(points=draining(7.0), stalls=(blocked,))
    assert found.because == "LW102"
