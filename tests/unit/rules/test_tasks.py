"""Losses, as rules tell of them: by kind, while they lie in the window or live."""

from __future__ import annotations

from typing import Any

import pytest

from loopwatch._rules.rule import WINDOW
from loopwatch._rules.tasks import REMEMBERED, TASKS
from tests.looks import NOW, frame, lost, snapshot, symptoms


def alive(**leaks: float) -> dict[Any, float]:
    return {("task_leaked", leak): count for leak, count in leaks.items()}


def counted(**reasons: float) -> dict[Any, float]:
    return {("task_lost", reason): count for reason, count in reasons.items()}


def test_a_healthy_program() -> None:
    points = counted(destroyed_pending=0, never_awaited=0) | alive(unreferenced=0, deadlock=0, overage=0)
    assert symptoms(snapshot(points=points)) == []
    assert symptoms(snapshot()) == []  # nothing is known yet


@pytest.mark.parametrize(
    ("reason", "rule", "exception"),
    [
        ("destroyed_pending", "LW201", None),
        ("unretrieved_exception", "LW202", "KeyError"),
        ("never_awaited", "LW203", None),
    ],
)
def test_what_is_over_is_told_while_it_lies_in_the_window(
    reason: Any, rule: str, exception: str | None
) -> None:
    recent = [lost(reason, ago=ago, exception=exception) for ago in (50.0, 20.0, 1.0)]
    long_ago = lost(reason, ago=WINDOW + 1, exception=exception)
    [found] = symptoms(snapshot(lost=(long_ago, *recent)))
    assert (found.rule, found.count) == (rule, 3)
    assert found.key == ("app.start", "poll", *([exception] if exception else []))
    assert "`start` (app.py:10)" in found.summary
    assert symptoms(snapshot(lost=(long_ago,))) == []


def test_kinds_are_told_apart() -> None:
    losses = (
        lost("unretrieved_exception", exception="KeyError"),
        lost("unretrieved_exception", exception="OSError"),
        lost("unretrieved_exception", "drain", exception="OSError"),
        lost("unretrieved_exception", exception="OSError", site=frame("other", 3)),
        lost("unretrieved_exception", exception="OSError"),
    )
    found = symptoms(snapshot(lost=losses))
    assert sorted(one.count for one in found) == [1, 1, 1, 2]


def test_more_were_lost_than_are_kept() -> None:
    """Of one kind all of them are counted; of several it is not known which were dropped."""
    kept = tuple(lost("destroyed_pending", ago=1.0) for _ in range(64))
    before = snapshot(at=NOW - 60, points=counted(destroyed_pending=1_000))
    now = snapshot(lost=kept, points=counted(destroyed_pending=6_000))
    [found] = symptoms(now, before)
    assert found.count == found.evidence["destroyed"] == 5_000
    assert found.summary.startswith("5000 tasks of `poll`")
    other = lost("destroyed_pending", "other")
    assert [one.count for one in symptoms(snapshot(lost=(*kept, other), points=now_points()), before)] == [
        64,
        1,
    ]


def now_points() -> dict[Any, float]:
    return counted(destroyed_pending=6_000)


def test_a_destroyed_task_whose_like_are_unreferenced_still() -> None:
    losses = (lost("destroyed_pending"), lost("unreferenced", leak="unreferenced", ago=500.0))
    destroyed, unheld = symptoms(snapshot(lost=losses, points=alive(unreferenced=1)))
    assert (destroyed.rule, destroyed.because, unheld.rule) == ("LW201", "LW204", "LW204")
    assert unheld.evidence["oldest_s"] == 501.0
    [destroyed] = symptoms(snapshot(lost=losses, points=alive(unreferenced=0)))  # that one has ended
    assert destroyed.because is None


@pytest.mark.parametrize(
    ("leak", "rule", "evidence", "words"),
    [
        (
            "cancel_only",
            "LW206",
            {"piled_up": 12.0},
            "more and more live, and only a cancellation would end them",
        ),
        ("site_growth", "LW206", {}, "more and more live, and none of them ends"),
        ("never_wakes", "LW207", {}, "nothing can wake it"),
        ("overage", "LW207", {"usual_p99_s": 0.25}, "others of its site take no more than 250 ms"),
    ],
)
def test_a_leak_is_told_while_it_lives(leak: Any, rule: str, evidence: dict[str, float], words: str) -> None:
    losses = tuple(
        lost("leaked", leak=leak, ago=3_600.0 - number, evidence=evidence, waiting_on="Queue.get")
        for number in range(5)
    )
    [found] = symptoms(snapshot(lost=losses, points=alive(**{leak: 5})))
    assert (found.rule, found.count) == (rule, 5)
    assert words in found.summary
    assert "stands at `poll` (app.py:20), waiting for Queue.get" in found.summary
    assert found.evidence.items() >= {"tasks": 5, "oldest_s": 3_601.0, **evidence}.items()
    assert found.fix.startswith("put something into the queue")
    assert "loopwatch.daemon()" in found.fix
    assert symptoms(snapshot(lost=losses, points=alive(**{leak: 0}))) == []
    assert symptoms(snapshot(lost=losses)) == []  # absent is not zero, and is no proof either


def test_of_leaked_tasks_those_found_first_are_taken_to_have_ended() -> None:
    losses = (
        *(lost("leaked", "first", leak="overage") for _ in range(10)),
        *(lost("leaked", "second", leak="overage") for _ in range(10)),
    )
    [found] = symptoms(snapshot(lost=losses, points=alive(overage=4)))
    assert (found.key, found.count) == (("app.start", "second"), 4)


def test_more_leak_than_are_kept() -> None:
    losses = tuple(lost("leaked", leak="cancel_only") for _ in range(64))
    [found] = symptoms(snapshot(lost=losses, points=alive(cancel_only=900)))
    assert found.count == 900
    assert found.summary.startswith("900 tasks of `poll`")


def deadlocked(coroutine: str, name: str, size: int = 2, ago: float = 5.0) -> Any:
    evidence = {"tasks_in_cycle": float(size), "tasks_behind": 3.0}
    return lost(
        "deadlock",
        coroutine,
        leak="deadlock",
        ago=ago,
        evidence=evidence,
        task_name=name,
        waiting_on="Lock.acquire",
    )


def test_deadlocks_are_divided_as_they_were_told() -> None:
    losses = (
        deadlocked("left", "a"),
        deadlocked("right", "b"),
        deadlocked("left", "c", ago=4.9),
        deadlocked("right", "d", ago=4.9),
        *(deadlocked(f"philosopher_{number}", f"p{number}", size=6, ago=2.0) for number in range(6)),
    )
    two, many = symptoms(snapshot(lost=losses, points=alive(deadlock=10)))
    assert two.count == two.evidence["deadlocks"] == 2
    assert two.key == ("app.start", "left", "right")
    assert "task 'c' (`left`) stands at `left` (app.py:20), waiting for Lock.acquire; task 'd'" in two.summary
    assert two.summary.endswith("; 3 further tasks wait behind them")
    assert many.evidence["tasks_in_cycle"] == 6
    assert "'p3'" in many.summary
    assert "; and 2 more tasks" in many.summary
    assert symptoms(snapshot(lost=losses, points=alive(deadlock=0))) == []


def test_a_deadlock_of_which_a_part_was_told_before() -> None:
    found = symptoms(snapshot(lost=(deadlocked("left", "a", size=3),), points=alive(deadlock=1)))
    assert [one.count for one in found] == [1]


def test_where_it_stood_was_not_seen() -> None:
    [found] = symptoms(snapshot(lost=(lost("destroyed_pending", await_stack=()),)))
    assert found.summary.endswith("the last one stood at a place that was not seen")


def test_what_is_over_is_remembered_longer_than_it_lies_in_the_window() -> None:
    calm = {rule.id: rule.calm for rule in TASKS}
    assert calm["LW201"] == calm["LW202"] == calm["LW203"] == REMEMBERED > WINDOW
    assert {rule.looks for rule in TASKS} == {1}


@pytest.mark.parametrize(
    ("waiting_on", "remedy"),
    [
        ("Event.wait", "call set() on the event; or "),
        ("BoundedSemaphore.acquire", "release the semaphore"),
        ("Lock.acquire, held by task 'x' (y)", "release the lock"),
        ("task 'Event' (locks)", "bound the wait"),
        (None, "bound the wait"),
    ],
)
def test_what_would_wake_it(waiting_on: str | None, remedy: str) -> None:
    stuck = lost("leaked", leak="never_wakes", waiting_on=waiting_on, task_name=None)
    [found] = symptoms(snapshot(lost=(stuck,), points=alive(never_wakes=1)))
    assert found.fix.startswith(remedy)
    assert "one of them stands at `poll`" in found.summary
