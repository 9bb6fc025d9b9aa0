"""Lost contexts: each pair of functions is told of once, each work is counted."""

from __future__ import annotations

from typing import Any

from loopwatch.facts import OTHER
from tests.looks import NOW, frame, lost, snapshot, symptoms


def hop(ago: float = 5.0, **more: Any) -> Any:
    return lost(
        "context_lost",
        "charge",
        ago=ago,
        **{
            "missing": ("request_id",),
            "await_stack": (frame("charge", 20),),
            "site": frame("handle", 10),
            **more,
        },
    )


def works(count: float, function: str = "app.handle") -> dict[Any, float]:
    return {("task_context_lost", function): count}


def test_it_names_the_variables_and_both_functions() -> None:
    [found] = symptoms(snapshot(lost=(hop(),), points=works(12)))
    assert found.summary == (
        "`charge` (app.py:20) runs without request_id, which `handle` (app.py:10) had as it handed "
        "that over: "
        "12 times in the last minute"
    )
    assert found.evidence == {"works": 12, "variables": 1, "places": 1}
    assert (found.key, found.count) == (("app.handle",), 12)
    assert "contextvars.copy_context().run" in found.fix


def test_it_goes_on_though_it_was_told_long_ago() -> None:
    before = snapshot(at=NOW - 60, points=works(12))
    [found] = symptoms(snapshot(lost=(hop(3_600.0),), points=works(30)), before)
    assert found.count == 18
    assert symptoms(snapshot(lost=(hop(3_600.0),), points=works(12)), before) == []


def test_several_places_from_one_function() -> None:
    other = hop(await_stack=(frame("refund", 50),), missing=("tenant", "trace"))
    [found] = symptoms(snapshot(lost=(hop(), other), points=works(2)))
    assert "runs without request_id and tenant and trace" in found.summary
    assert found.summary.endswith("; so does one other")
    assert found.evidence["places"] == 2


def test_what_was_only_counted_names_no_place() -> None:
    assert symptoms(snapshot(points=works(9, OTHER))) == []
