"""Who waits, directly or through others, for those that a drain does not wait for."""

from __future__ import annotations

from typing import Any

import pytest

from loopwatch._internals.dependencies import Needs
from loopwatch._jobs.bystanders import waiting_for

EVERY: dict[str, tuple[dict[str, tuple[str, ...]], set[str]]] = {
    "nobody": ({}, set()),
    "one": ({"a": ("drain",)}, {"a"}),
    "a chain": ({"c": ("b",), "b": ("a",), "a": ("drain",)}, {"a", "b", "c"}),
    "not those beside it": ({"a": ("drain",), "b": ("other",)}, {"a"}),
    "one of several is enough": ({"a": ("other", "drain")}, {"a"}),
    "a cycle": ({"a": ("b",), "b": ("a",)}, set()),
    "a cycle that waits": ({"a": ("b",), "b": ("a", "drain")}, {"a", "b"}),
}


@pytest.mark.parametrize(("edges", "expected"), EVERY.values(), ids=EVERY)
def test_who_needs_all_of_them_waits(edges: dict[str, tuple[str, ...]], expected: set[str]) -> None:
    needs: Any = {task: Needs(others, any_of=False) for task, others in edges.items()}
    assert waiting_for({"drain"}, needs) == expected  # type: ignore[arg-type,comparison-overlap]


def test_who_needs_one_of_them_waits_if_all_do() -> None:
    needs: Any = {
        "goes on": Needs(("drain", "other"), any_of=True),
        "waits": Needs(("drain", "chained"), any_of=True),
        "chained": Needs(("drain",), any_of=False),
    }
    assert waiting_for({"drain"}, needs) == {"waits", "chained"}  # type: ignore[arg-type,comparison-overlap]
