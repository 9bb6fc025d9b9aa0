"""What is found is a log record with the name of the event, its severity, and the trace of its task."""

from __future__ import annotations

from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from loopwatch._agent_records import Borrower, Finding, LostReason, PoolWaiter, Severity
from loopwatch._events import Drained, FindingChange, Found, HeldTooLong, Saturated
from loopwatch._records import DrainReport

from .conftest import LOST, POOL, SITE, STOOD, TASK, Desk, ids

WARN, ERROR, INFO = (13, "WARN"), (17, "ERROR"), (9, "INFO")
NO_TRACE = {"trace_id": "0" * 32, "span_id": "0" * 16, "trace_flags": 0}

BORROWER = Borrower(
    held=61.5,
    gone=False,
    task_name="report",
    coroutine="make_report",
    site=SITE,
    context={"request_id": "r-9"},
    await_stack=STOOD,
    waiting_on="sleep",
    **ids(0x900),
)
WAITER = PoolWaiter(
    waited=5.5,
    task_name="patient",
    coroutine="handle",
    site=SITE,
    context={},
    await_stack=STOOD,
    waiting_on=None,
    **ids(0x901),
)


@pytest.mark.parametrize(
    ("reason", "name", "severity", "whose"),
    [
        ("destroyed_pending", "asyncio.task.lost", WARN, "task ship, created by"),
        ("never_awaited", "asyncio.task.lost", WARN, "coroutine ship, of"),
        ("unretrieved_exception", "asyncio.task.exception", ERROR, "task ship, created by"),
        ("unreferenced", "asyncio.task.leak", WARN, "task ship, created by"),
        ("leaked", "asyncio.task.leak", WARN, "task ship, created by"),
        ("deadlock", "asyncio.task.leak", WARN, "task ship, created by"),
        ("context_lost", "asyncio.task.context_lost", WARN, "work of ship, handed over by"),
    ],
)
def test_a_loss_is_an_event_by_its_reason(
    desk: Desk, reason: LostReason, name: str, severity: tuple[int, str], whose: str
) -> None:
    told = desk.log(replace(LOST, reason=reason))
    assert (told.name, told.severity) == (name, severity)
    assert told.ids == ids(0x100)
    assert told.record.timestamp == 1_700_000_010_250_000_000
    assert told.record.body.startswith(f"{whose} shop.orders.accept, ")


def test_an_age_that_is_not_known_is_absent(desk: Desk) -> None:
    assert "asyncio.task.age" not in desk.log(replace(LOST, reason="never_awaited", age=0.0)).attributes


def test_a_loss_says_what_is_known_of_the_task(desk: Desk) -> None:
    told = desk.log(replace(LOST, reason="unretrieved_exception", exception="ValueError", leak=None))
    assert told.attributes == {
        "asyncio.task.lost.reason": "unretrieved_exception",
        "asyncio.task.name": "ship 7",
        "asyncio.task.coroutine": "ship",
        "asyncio.task.age": 3.5,
        "asyncio.task.waiting_on": "Event.wait",
        "asyncio.task.evidence.live_at_site": 2.0,
        "error.type": "ValueError",
        "loopwatch.context.request_id": "r-1",
        "code.function.name": "shop.orders.accept",
        "code.file.path": "/srv/shop/orders.py",
        "code.line.number": 7,
        "code.stacktrace": "Stack (most recent call last):\n"
        '  File "/srv/shop/orders.py", line 20, in handle\n'
        '  File "/srv/t.py", line 3, in parse',
    }
    assert told.record.body == (
        "task ship, created by shop.orders.accept, died of ValueError, and nobody asked for the exception"
    )


def test_a_leak_says_how_it_was_found(desk: Desk) -> None:
    told = desk.log(replace(LOST, reason="leaked", leak="site_growth"))
    assert told.attributes["asyncio.task.leak.reason"] == "site_growth"


def test_a_loss_outside_of_any_trace_has_none_whatever_goes_on_in_this_thread(desk: Desk) -> None:
    with trace.use_span(TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("other")):
        told = desk.log(replace(LOST, trace_id=None, span_id=None, trace_flags=None))
    assert told.ids == NO_TRACE


class TestDrain:
    REPORT = DrainReport((TASK,), (TASK,), (replace(TASK, name="stuck", **ids(0x300)),), 8.25, 8.0)

    def test_one_that_left_nothing_is_information(self, desk: Desk) -> None:
        told = desk.log(Drained(DrainReport((TASK,), (), (), 0.5, 8.0), at=1_700_000_100.0, loop_name="main"))
        assert (told.name, told.severity, told.ids) == ("loopwatch.drain", INFO, NO_TRACE)
        assert told.record.timestamp == 1_700_000_100_000_000_000
        assert told.record.body == "drained in 0.50 s: 1 finished, 0 cancelled, 0 abandoned"
        assert told.attributes == {
            "asyncio.eventloop.name": "main",
            "loopwatch.drain.state": "drained",
            "loopwatch.drain.duration": 0.5,
            "loopwatch.drain.timeout": 8.0,
            "loopwatch.drain.finished": 1,
            "loopwatch.drain.cancelled": 0,
            "loopwatch.drain.abandoned": 0,
        }

    def test_each_task_it_cut_short_has_a_record_in_its_own_trace(self, desk: Desk) -> None:
        desk.tell(Drained(self.REPORT, at=1_700_000_100.0, loop_name="main"))
        whole, cancelled, abandoned = desk.logs()
        assert (whole.name, whole.severity) == ("loopwatch.drain", WARN)
        for told, fate, name, of in (
            (cancelled, "cancelled", "mail", 0x100),
            (abandoned, "abandoned", "stuck", 0x300),
        ):
            assert (told.name, told.severity, told.ids) == ("loopwatch.drain.task", WARN, ids(of))
            assert told.attributes["loopwatch.drain.task.state"] == fate
            assert told.attributes["asyncio.task.name"] == name
            assert told.attributes["code.function.name"] == "shop.orders.accept"
            assert told.attributes["asyncio.task.waiting_on"] == "sleep"

    def test_the_tasks_named_are_bounded(self, desk: Desk) -> None:
        many = replace(self.REPORT, cancelled=(TASK,) * 5000)
        desk.tell(Drained(many, at=0.0, loop_name="main"))
        whole, *tasks = desk.logs()
        assert (whole.attributes["loopwatch.drain.cancelled"], len(tasks)) == (5000, 100)


class TestPool:
    def test_one_that_is_full_names_who_has_and_who_waits(self, desk: Desk) -> None:
        pool = replace(POOL, borrowers=(BORROWER,), waiters=(WAITER,))
        told = desk.log(Saturated(pool, lasted=6.0, at=1_700_000_200.0))
        assert (told.name, told.severity) == ("loopwatch.pool.saturated", WARN)
        assert told.ids == ids(0x900)
        assert told.record.timestamp == 1_700_000_200_000_000_000
        assert told.attributes == {
            "asyncio.pool.name": "cache:6379/0",
            "asyncio.pool.type": "redis",
            "asyncio.pool.usage": 2,
            "asyncio.pool.limit": 2,
            "asyncio.pool.waiter.count": 3,
            "asyncio.pool.oldest_wait": 5.5,
            "loopwatch.pool.saturated.duration": 6.0,
            "loopwatch.pool.borrowers": ("task make_report for 61.5 s",),
            "loopwatch.pool.waiters": ("task handle for 5.5 s",),
        }

    def test_one_whose_users_are_not_known_names_none(self, desk: Desk) -> None:
        told = desk.log(Saturated(replace(POOL, borrowers=None, waiters=None), lasted=6.0, at=0.0))
        assert told.ids == NO_TRACE
        assert "loopwatch.pool.borrowers" not in told.attributes

    def test_a_connection_held_too_long_is_told_in_the_trace_of_who_has_it(self, desk: Desk) -> None:
        told = desk.log(HeldTooLong("redis", "cache:6379/0", BORROWER, at=1_700_000_300.0))
        assert (told.name, told.severity) == ("loopwatch.pool.connection_held", WARN)
        assert told.ids == ids(0x900)
        assert told.attributes["loopwatch.pool.held"] == 61.5
        assert told.attributes["loopwatch.pool.holder_gone"] is False
        assert told.attributes["asyncio.task.name"] == "report"
        assert told.record.body == (
            "a connection of the redis pool cache:6379/0 has been held for 62 s by task make_report"
        )


class TestFinding:
    FINDING = Finding(
        rule="LW101",
        severity="critical",
        summary="`json.loads` in `parse` (answers.py:42) blocked the event loop 14 times",
        evidence={"stalls": 14, "worst_s": 0.612},
        fix="move it to a process pool",
        first_seen=1_700_000_000.0,
        last_seen=1_700_000_100.0,
        count=14,
        docs_url="docs/rules/LW101.md",
        key=("shop.answers.parse", "json.loads"),
    )

    def test_it_says_what_is_wrong_and_what_to_do(self, desk: Desk) -> None:
        told = desk.log(Found(self.FINDING, "began", at=1_700_000_100.5))
        assert (told.name, told.severity, told.ids) == ("loopwatch.finding", ERROR, NO_TRACE)
        assert told.record.timestamp == 1_700_000_100_500_000_000
        assert told.record.body == self.FINDING.summary
        assert told.attributes == {
            "loopwatch.rule": "LW101",
            "loopwatch.severity": "critical",
            "loopwatch.finding.change": "began",
            "loopwatch.finding.fix": "move it to a process pool",
            "loopwatch.finding.count": 14,
            "loopwatch.finding.first_seen": 1_700_000_000.0,
            "loopwatch.finding.docs": "docs/rules/LW101.md",
            "loopwatch.finding.key": ("shop.answers.parse", "json.loads"),
            "loopwatch.finding.evidence.stalls": 14,
            "loopwatch.finding.evidence.worst_s": 0.612,
        }

    def test_it_names_its_cause_and_how_many_more_there_are(self, desk: Desk) -> None:
        told = desk.log(Found(replace(self.FINDING, because="LW107", more=3), "rose", at=0.0))
        assert told.attributes["loopwatch.finding.because"] == "LW107"
        assert told.attributes["loopwatch.finding.more"] == 3

    @pytest.mark.parametrize(
        ("severity", "change", "told_as"),
        [
            ("info", "began", INFO),
            ("warning", "fell", WARN),
            ("critical", "rose", ERROR),
            ("critical", "over", INFO),
        ],
    )
    def test_the_record_is_as_severe_as_it_is(
        self, desk: Desk, severity: Severity, change: FindingChange, told_as: tuple[int, str]
    ) -> None:
        told = desk.log(Found(replace(self.FINDING, severity=severity), change, at=0.0))
        assert told.severity == told_as
