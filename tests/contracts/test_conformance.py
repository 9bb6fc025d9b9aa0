"""What is made of CPython's own tests where they end otherwise the second time."""

from __future__ import annotations

import pytest

from tests.conformance import run as conformance
from tests.conformance.run import Run

MODULE, TEST = "test_events", "test.test_asyncio.test_events.test_one"
WELL, BADLY = Run({TEST: "ok"}), Run({TEST: "failures"})
HUNG, FAILED = Run({MODULE: "exit status -6"}), Run({TEST: "ok", "the agent": "failed in tasks"})


@pytest.mark.alike
@pytest.mark.parametrize(
    ("bare", "watched", "wrong"),
    [
        ([WELL], [WELL], []),
        ([WELL, WELL], [BADLY, BADLY], [TEST]),
        ([WELL, WELL], [BADLY, WELL], []),
        ([BADLY, WELL], [WELL, WELL], []),
        ([HUNG, WELL], [WELL, WELL], []),
        ([WELL, WELL], [HUNG, WELL], [MODULE]),
        ([WELL, WELL], [FAILED, WELL], ["the agent"]),
    ],
)
def test_what_differs_by_the_agent(
    monkeypatch: pytest.MonkeyPatch, bare: list[Run], watched: list[Run], wrong: list[str]
) -> None:
    runs = {"bare": iter(bare), "watched": iter(watched)}
    monkeypatch.setattr(conformance, "run", lambda module, mode: next(runs[mode]))
    assert conformance.compare(MODULE).differing == wrong
