"""The log record of a drain."""

from __future__ import annotations

import logging

import pytest

from loopwatch import DrainReport, Frame, Task
from loopwatch._jobs.report import LISTED, tell
from loopwatch._journal import Journal


def task(name: str = "mail", **known: object) -> Task:
    fields: dict[str, object] = {
        "site": Frame("order", "shop.api", "/srv/shop/api.py", 12),
        "coroutine": "send",
        "name": name,
        "parent": None,
        "state": "pending",
        "unretrieved": False,
        "started_at": 0.0,
        "age": 9.34,
        "duration": None,
        "exception": None,
        "context": {},
        "trace_id": None,
        "span_id": None,
        "await_stack": (),
        "waiting_on": None,
        "daemon": False,
        "loop_name": "main",
    }
    return Task(**{**fields, **known})  # type: ignore[arg-type]


def told(caplog: pytest.LogCaptureFixture, **lists: tuple[Task, ...]) -> logging.LogRecord:
    caplog.set_level(logging.INFO, "loopwatch")
    report = DrainReport(
        finished=lists.get("finished", ()),
        cancelled=lists.get("cancelled", ()),
        abandoned=lists.get("abandoned", ()),
        duration=2.125,
        timeout=8.0,
    )
    tell(report, Journal())
    (record,) = caplog.records
    return record


def test_a_drain_that_left_nothing(caplog: pytest.LogCaptureFixture) -> None:
    record = told(caplog, finished=(task(), task()))
    assert record.levelno == logging.INFO
    assert record.getMessage() == "loopwatch: drained in 2.12 s: 2 finished"


def test_a_drain_that_left_work_names_it(caplog: pytest.LogCaptureFixture) -> None:
    left = task(
        await_stack=(
            Frame("send", "shop.mail", "/srv/shop/mail.py", 7),
            Frame("Queue.get", "asyncio.queues", "/usr/lib/asyncio/queues.py", 186),
        ),
        waiting_on="Queue.get",
        context={"request_id": "r-1"},
        trace_id="abc",
    )
    record = told(caplog, finished=(task(),), cancelled=(left,), abandoned=(task("poll"),))
    assert record.levelno == logging.WARNING
    summary, cancelled, abandoned = record.getMessage().split("\n")
    assert summary.endswith("drain ended after 2.12 s with work left: 1 finished, 1 cancelled, 1 abandoned")
    assert cancelled == (
        "  cancelled: task 'mail' (send), created by shop.api.order (/srv/shop/api.py:12) 9.3 s ago; "
        "stood in shop.mail.send (/srv/shop/mail.py:7); waiting for Queue.get; request_id=r-1; trace abc"
    )
    assert abandoned.startswith("  abandoned: task 'poll' (send), created by shop.api.order")


def test_a_task_that_stands_in_a_library_alone(caplog: pytest.LogCaptureFixture) -> None:
    left = task(await_stack=(Frame("sleep", "asyncio.tasks", "/usr/lib/asyncio/tasks.py", 718),))
    assert "stood in asyncio.tasks.sleep" in told(caplog, abandoned=(left,)).getMessage()


def test_a_very_long_list_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    lines = told(caplog, abandoned=(task(),) * (LISTED + 7)).getMessage().split("\n")
    assert len(lines) == LISTED + 2
    assert lines[-1] == "  and 7 more"
