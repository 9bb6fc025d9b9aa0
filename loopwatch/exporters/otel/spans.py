"""Things that have a duration, as spans with their true start and end: stalls, drains, jobs.

The span of a stall is the root of its own trace, with links to the span it happened in and to those it
delayed. It is not their child: a stall belongs to as many requests as it held up, and a child would be
dropped whenever the request that caused it was not sampled, which is no concern of the others.
"""

from __future__ import annotations

from opentelemetry.trace import Link, SpanContext, SpanKind, Tracer

from loopwatch._agent_records import Stall
from loopwatch._events import Drained
from loopwatch._records import Task
from loopwatch.facts import CAUSE, LOOP

from .attributes import (
    Attributes,
    code,
    context_in,
    exportable,
    known,
    link,
    nanoseconds,
    span_context,
    watched,
)

STALL = "asyncio.eventloop.block"
DRAIN = "loopwatch.drain"
JOB = "loopwatch.job"

WITHHELD = "loopwatch.event.withheld"
"""Attribute: how many of the same kind were withheld since the last one, to limit the pace."""
LINKS = 64
"""Interrupted tasks that a drain's span is linked to; the SDK keeps 128 links per span."""


def of_stall(tracer: Tracer, stall: Stall, withheld: int) -> None:
    """Make the span of a stall; ``withheld`` stalls since the last one got none."""
    attributes: Attributes = {
        LOOP: stall.loop_name,
        CAUSE: stall.cause,
        **code(stall.culprit, stall.stack),
        **known(
            {
                "asyncio.block.call": stall.call,
                "asyncio.block.samples": stall.samples,
                "asyncio.block.victims": len(stall.victims),
                "asyncio.task.name": stall.task_name,
                "asyncio.task.coroutine": stall.coroutine,
                WITHHELD: withheld or None,
            }
        ),
        **{f"asyncio.block.evidence.{name}": value for name, value in stall.evidence.items()},
        **watched(stall.context),
    }
    ran = span_context(stall.trace_id, stall.span_id, stall.trace_flags)
    links = link(ran, "cause", stall.task_name, stall.coroutine)
    for victim in stall.victims:
        waited = span_context(victim.trace_id, victim.span_id, victim.trace_flags)
        links += link(waited, "delayed", victim.task_name, victim.coroutine)
    _span(tracer, STALL, stall.started_at, stall.duration, attributes, links)


def of_drain(tracer: Tracer, drained: Drained) -> None:
    """Make the span of a drain."""
    report = drained.report
    attributes: Attributes = {
        LOOP: drained.loop_name,
        "loopwatch.drain.state": "forced" if report.forced else "drained",
        "loopwatch.drain.timeout": report.timeout,
        "loopwatch.drain.finished": len(report.finished),
        "loopwatch.drain.cancelled": len(report.cancelled),
        "loopwatch.drain.abandoned": len(report.abandoned),
    }
    left = [("cancelled", task) for task in report.cancelled]
    left += [("abandoned", task) for task in report.abandoned]
    links = [one for fate, task in left for one in link(span_of(task), fate, task.name, task.coroutine)]
    _span(tracer, DRAIN, drained.at - report.duration, report.duration, attributes, links[:LINKS])


def of_job(tracer: Tracer, job: Task) -> None:
    """Make the span of a job: a child of the span that spawned it, whose request it continues."""
    attributes: Attributes = {
        LOOP: job.loop_name,
        **code(job.site),
        **known(
            {
                "asyncio.task.name": job.name,
                "asyncio.task.coroutine": job.coroutine,
                "asyncio.task.outcome": job.state,
                "error.type": job.exception,
            }
        ),
    }
    _span(tracer, JOB, job.started_at, job.duration or 0.0, attributes, [], parent=span_of(job))


def span_of(task: Task) -> SpanContext | None:
    """Return a reference to the span that a task runs in."""
    return span_context(task.trace_id, task.span_id, task.trace_flags)


def _span(
    tracer: Tracer,
    name: str,
    start: float,
    duration: float,
    attributes: Attributes,
    links: list[Link],
    parent: SpanContext | None = None,
) -> None:
    began = nanoseconds(start)
    span = tracer.start_span(
        name,
        context=context_in(parent),
        kind=SpanKind.INTERNAL,
        attributes=exportable(attributes),
        links=links,
        start_time=began,
    )
    span.end(began + nanoseconds(duration))
