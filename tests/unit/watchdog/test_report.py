"""The log line of a stall."""

import dataclasses
import logging
from typing import Any

import pytest

from loopwatch._journal import Journal
from loopwatch._pace import BURST, WINDOW
from loopwatch._records import Frame
from loopwatch._watchdog.report import StallReport, sentence
from loopwatch.testing import FakeClock
from tests.records import stall

WHERE = "shop.orders.Orders.parse (/srv/shop/orders.py:42)"

STALL = stall(
    0.2504,
    started_at=1_700_000_000.0,
    culprit=Frame("Orders.parse", "shop.orders", "/srv/shop/orders.py", 42),
    call="json.loads",
    task_name="invoice 7",
    coroutine="Orders.invoice",
    samples=5,
)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {},
            f"was blocked for 250 ms [cpu] by json.loads in {WHERE}; task 'invoice 7' (Orders.invoice)",
        ),
        (
            {"call": None, "task_name": None, "coroutine": None},
            f"was blocked for 250 ms [cpu] by {WHERE}",
        ),
        (
            {"culprit": None, "call": None, "cause": "suspended", "coroutine": None},
            "was blocked for 250 ms [suspended], by no application code that was seen",
        ),
        (
            {"in_progress": True, "duration": 5.02, "task_name": None, "call": None},
            f"has been blocked for 5020 ms [cpu] by {WHERE}; task (Orders.invoice)",
        ),
        (
            {"task_name": None, "call": None, "context": {"tenant": "a", "id": "r-1"}, "trace_id": "4bf92f"},
            f"was blocked for 250 ms [cpu] by {WHERE}; task (Orders.invoice); tenant=a; id=r-1; trace 4bf92f",
        ),
    ],
    ids=["whole", "callback", "suspended", "in progress, in a task without a name", "of a request"],
)
def test_a_stall_is_one_sentence(changes: dict[str, Any], line: str) -> None:
    assert sentence(dataclasses.replace(STALL, **changes)) == f"event loop 'main' {line}"


def test_a_burst_is_cut_and_the_next_line_says_how_many_were_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = FakeClock()
    report = StallReport(fake.clock, Journal(fake.clock))
    for _ in range(BURST + 7):
        report.tell(STALL)
        fake.advance(0.5)
    assert len(caplog.messages) == BURST
    assert report.log_suppressed == 7
    fake.advance(WINDOW)
    report.tell(STALL)
    report.tell(STALL)
    assert caplog.messages[BURST].endswith(" (7 more stalls not logged)")
    assert not caplog.messages[BURST + 1].endswith("not logged)")
    assert report.log_suppressed == 7
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert all(message.startswith("loopwatch: ") for message in caplog.messages)


def test_the_end_says_how_many_were_left_out_since(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeClock()
    report = StallReport(fake.clock, Journal(fake.clock))
    for _ in range(BURST):
        report.tell(STALL)
    report.end()
    assert len(caplog.messages) == BURST
    for _ in range(3):
        report.tell(STALL)
    report.end()
    report.end()
    assert caplog.messages[BURST:] == ["loopwatch: 3 more stalls not logged"]


def test_a_machine_that_has_just_booted_is_told_of_too(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeClock(monotonic=0.5)
    StallReport(fake.clock, Journal(fake.clock)).tell(STALL)
    assert len(caplog.messages) == 1
