"""Stalls, drains and jobs are spans as long as they were, linked to the spans they concern."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind

from loopwatch._events import Drained, JobEnded
from loopwatch._records import DrainReport

from .conftest import STALL, TASK, Desk, ids

SECOND = 1_000_000_000


def linked(span: ReadableSpan) -> list[tuple[dict[str, object], dict[str, object]]]:
    """Return what a span is linked to, and what is said of each."""
    return [
        (
            {
                "trace_id": f"{link.context.trace_id:032x}",
                "span_id": f"{link.context.span_id:016x}",
                "trace_flags": link.context.trace_flags,
            },
            dict(link.attributes or {}),
        )
        for link in span.links
    ]


class TestStall:
    def test_it_began_and_ended_when_the_stall_did(self, desk: Desk) -> None:
        span = desk.span(STALL)
        assert span.start_time == 1_700_000_000 * SECOND + SECOND // 2
        assert span.end_time is not None
        assert span.end_time - span.start_time == SECOND // 5

    def test_it_says_who_and_why_by_the_conventions(self, desk: Desk) -> None:
        span = desk.span(STALL)
        assert (span.name, span.kind) == ("asyncio.eventloop.block", SpanKind.INTERNAL)
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.name == "loopwatch"
        assert dict(span.attributes or {}) == {
            "asyncio.eventloop.name": "main",
            "asyncio.block.cause": "cpu",
            "asyncio.block.call": "json.loads",
            "asyncio.block.samples": 11,
            "asyncio.block.victims": 2,
            "asyncio.block.evidence.cpu_s": 0.19,
            "asyncio.block.evidence.gc_s": 0.0,
            "asyncio.task.name": "request 1",
            "asyncio.task.coroutine": "handle",
            "loopwatch.context.request_id": "r-1",
            "code.function.name": "shop.text.parse",
            "code.file.path": "/srv/t.py",
            "code.line.number": 3,
            "code.stacktrace": "Stack (most recent call last):\n"
            '  File "/srv/shop/orders.py", line 20, in handle\n'
            '  File "/srv/t.py", line 3, in parse',
        }

    def test_it_is_linked_to_the_span_it_happened_in_and_to_those_it_delayed(self, desk: Desk) -> None:
        assert linked(desk.span(STALL)) == [
            (
                ids(0x100),
                {
                    "loopwatch.link.role": "cause",
                    "asyncio.task.name": "request 1",
                    "asyncio.task.coroutine": "handle",
                },
            ),
            (
                ids(0x200),
                {
                    "loopwatch.link.role": "delayed",
                    "asyncio.task.name": "request 2",
                    "asyncio.task.coroutine": "handle",
                },
            ),
        ]

    def test_it_is_the_root_of_its_own_trace_whatever_goes_on_in_this_thread(self, desk: Desk) -> None:
        with trace.use_span(TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("other")):
            span = desk.span(STALL)
        assert span.parent is None
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" != STALL.trace_id

    def test_one_that_an_unsampled_request_caused_is_told_all_the_same(self, desk: Desk) -> None:
        [(context, _), *_] = linked(desk.span(replace(STALL, trace_flags=0)))
        assert context == ids(0x100) | {"trace_flags": 0}

    def test_what_is_not_known_is_absent(self, desk: Desk) -> None:
        bare = replace(
            STALL,
            culprit=None,
            call=None,
            stack=(),
            task_name=None,
            coroutine=None,
            context={},
            trace_id=None,
            span_id=None,
            victims=(),
            evidence={},
        )
        span = desk.span(bare)
        assert dict(span.attributes or {}) == {
            "asyncio.eventloop.name": "main",
            "asyncio.block.cause": "cpu",
            "asyncio.block.samples": 11,
            "asyncio.block.victims": 0,
        }
        assert span.links == ()


class TestDrain:
    REPORT = DrainReport(
        finished=(TASK, TASK),
        cancelled=(TASK,),
        abandoned=(replace(TASK, name="stuck", **ids(0x300)),),
        duration=8.25,
        timeout=8.0,
    )

    def test_it_is_as_long_as_the_drain_and_counts_its_tasks(self, desk: Desk) -> None:
        span = desk.span(Drained(self.REPORT, at=1_700_000_100.25, loop_name="main"))
        assert (span.name, span.parent) == ("loopwatch.drain", None)
        assert (span.start_time, span.end_time) == (
            1_700_000_092 * SECOND,
            1_700_000_100 * SECOND + SECOND // 4,
        )
        assert dict(span.attributes or {}) == {
            "asyncio.eventloop.name": "main",
            "loopwatch.drain.state": "forced",
            "loopwatch.drain.timeout": 8.0,
            "loopwatch.drain.finished": 2,
            "loopwatch.drain.cancelled": 1,
            "loopwatch.drain.abandoned": 1,
        }

    def test_it_is_linked_to_the_spans_of_what_it_cut_short(self, desk: Desk) -> None:
        found = linked(desk.span(Drained(self.REPORT, at=1_700_000_100.25, loop_name="main")))
        assert [
            (context, said["loopwatch.link.role"], said["asyncio.task.name"]) for context, said in found
        ] == [
            (ids(0x100), "cancelled", "mail"),
            (ids(0x300), "abandoned", "stuck"),
        ]

    def test_links_are_bounded(self, desk: Desk) -> None:
        many = replace(self.REPORT, cancelled=(TASK,) * 1000)
        assert len(desk.span(Drained(many, at=0.0, loop_name="main")).links) == 64

    def test_one_that_left_nothing_says_so(self, desk: Desk) -> None:
        well = replace(self.REPORT, cancelled=(), abandoned=())
        span = desk.span(Drained(well, at=1_700_000_100.25, loop_name="main"))
        assert (span.attributes or {})["loopwatch.drain.state"] == "drained"


def job(**changes: Any) -> JobEnded:
    return JobEnded(lambda: replace(TASK, **changes))


class TestJob:
    def test_it_is_a_child_of_the_span_that_spawned_it(self, desk: Desk) -> None:
        span = desk.span(job(state="error", exception="ValueError"))
        assert span.parent is not None
        assert f"{span.parent.trace_id:032x}" == TASK.trace_id
        assert f"{span.parent.span_id:016x}" == TASK.span_id
        assert not span.parent.is_remote
        assert (span.name, span.start_time) == ("loopwatch.job", 1_700_000_000 * SECOND)
        assert (span.end_time or 0) - (span.start_time or 0) == 2_500_000_000
        attributes = dict(span.attributes or {})
        assert attributes["code.function.name"] == "shop.orders.accept"
        assert (attributes["asyncio.task.outcome"], attributes["error.type"]) == ("error", "ValueError")

    def test_one_outside_of_any_trace_is_a_root(self, desk: Desk) -> None:
        span = desk.span(job(trace_id=None, span_id=None))
        assert span.parent is None

    @pytest.mark.parametrize(("flags", "told"), [(1, 1), (0, 0)])
    def test_it_is_sampled_as_its_request_is(self, flags: int, told: int) -> None:
        desk = Desk()
        desk.tracers.sampler = ParentBased(ALWAYS_OFF)
        desk.tell(job(trace_flags=flags))
        assert len(desk.spans()) == told
