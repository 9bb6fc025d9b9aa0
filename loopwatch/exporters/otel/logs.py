"""What is found at one moment, as log records that are events: each has a name, and its task's trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from opentelemetry.trace import SpanContext

from loopwatch._agent_records import Lost, LostReason, PoolUser
from loopwatch._events import Drained, Found, HeldTooLong, Saturated
from loopwatch._records import Task
from loopwatch.facts import LOOP, POOL, POOL_TYPE

from .attributes import Attributes, code, known, span_context, watched
from .spans import DRAIN, span_of

INFO, WARN, ERROR = (9, "INFO"), (13, "WARN"), (17, "ERROR")
"""Severity number and text, as specified."""

_SEVERITIES = {"info": INFO, "warning": WARN, "critical": ERROR}

LISTED = 100
"""Interrupted tasks of a drain that get a record each; others are only counted in the drain's record."""

_LOSSES: dict[LostReason, tuple[str, tuple[int, str], str]] = {
    "destroyed_pending": ("asyncio.task.lost", WARN, "was garbage-collected while pending"),
    "never_awaited": ("asyncio.task.lost", WARN, "was never awaited"),
    "unretrieved_exception": ("asyncio.task.exception", ERROR, "died, and nobody asked for the exception"),
    "unreferenced": ("asyncio.task.leak", WARN, "is held by nothing, and may be garbage-collected any time"),
    "leaked": ("asyncio.task.leak", WARN, "will not finish"),
    "deadlock": ("asyncio.task.leak", WARN, "is in a deadlock"),
    "context_lost": ("asyncio.task.context_lost", WARN, "runs without the context it was handed over with"),
}
"""By reason: the event's name, its severity, and the text."""

_NO_TASKS: dict[LostReason, str] = {
    "never_awaited": "coroutine {}, of",
    "context_lost": "work of {}, handed over by",
}
"""What was lost, if it is not a task."""


@dataclass(frozen=True, slots=True)
class Event:
    """A log record to be emitted."""

    name: str
    severity: tuple[int, str]
    at: float
    """Unix time."""
    body: str
    attributes: Attributes
    span: SpanContext | None = None
    """The span whose trace it belongs to."""


def of_loss(lost: Lost) -> Event:
    """Report a task that was lost or will never finish."""
    name, severity, what = _LOSSES[lost.reason]
    attributes: Attributes = {
        **code(lost.site, lost.await_stack),
        **known(
            {
                "asyncio.task.lost.reason": lost.reason,
                "asyncio.task.leak.reason": lost.leak,
                "asyncio.task.name": lost.task_name,
                "asyncio.task.coroutine": lost.coroutine,
                "asyncio.task.age": lost.age or None,  # 0 if unknown
                "asyncio.task.waiting_on": lost.waiting_on,
                "error.type": lost.exception,
                "loopwatch.context.missing": list(lost.missing) or None,
            }
        ),
        **{f"asyncio.task.evidence.{number}": value for number, value in lost.evidence.items()},
        **watched(lost.context),
    }
    died_of = f" of {lost.exception}" if lost.reason == "unretrieved_exception" else ""
    whose = _NO_TASKS.get(lost.reason, "task {}, created by").format(lost.coroutine)
    body = f"{whose} {lost.site.name}, {what.replace('died', 'died' + died_of)}"
    return Event(
        name,
        severity,
        lost.lost_at,
        body,
        attributes,
        span_context(lost.trace_id, lost.span_id, lost.trace_flags),
    )


def of_drain(drained: Drained) -> Iterator[Event]:
    """Report a drain, and each task that it interrupted or left, in that task's trace."""
    report = drained.report
    counts = {
        "finished": len(report.finished),
        "cancelled": len(report.cancelled),
        "abandoned": len(report.abandoned),
    }
    attributes: Attributes = {
        LOOP: drained.loop_name,
        "loopwatch.drain.state": "forced" if report.forced else "drained",
        "loopwatch.drain.duration": report.duration,
        "loopwatch.drain.timeout": report.timeout,
        **{f"loopwatch.drain.{fate}": count for fate, count in counts.items()},
    }
    body = f"drained in {report.duration:.2f} s: " + ", ".join(f"{n} {fate}" for fate, n in counts.items())
    yield Event(DRAIN, WARN if report.forced else INFO, drained.at, body, attributes)
    left = [("cancelled", task) for task in report.cancelled]
    left += [("abandoned", task) for task in report.abandoned]
    for fate, task in left[:LISTED]:
        yield _of_task_left(drained, fate, task)


def _of_task_left(drained: Drained, fate: str, task: Task) -> Event:
    attributes: Attributes = {
        LOOP: drained.loop_name,
        "loopwatch.drain.task.state": fate,
        **code(task.site, task.await_stack),
        **known(
            {
                "asyncio.task.name": task.name,
                "asyncio.task.coroutine": task.coroutine,
                "asyncio.task.age": task.age,
                "asyncio.task.waiting_on": task.waiting_on,
            }
        ),
        **watched(task.context),
    }
    body = f"task {task.coroutine}, created by {task.site.name}, was {fate} by the drain"
    return Event(DRAIN + ".task", WARN, drained.at, body, attributes, span_of(task))


def of_saturation(saturated: Saturated) -> Event:
    """Report a full pool, in the trace of whoever has held one of its connections longest."""
    pool = saturated.pool
    attributes: Attributes = {
        POOL: pool.label,
        POOL_TYPE: pool.kind,
        **known(
            {
                "asyncio.pool.usage": pool.used,
                "asyncio.pool.limit": pool.max,
                "asyncio.pool.waiter.count": pool.pending,
                "asyncio.pool.oldest_wait": pool.oldest_wait,
                "loopwatch.pool.saturated.duration": saturated.lasted,
                "loopwatch.pool.borrowers": [
                    f"{_name(one)} for {one.held:.1f} s" for one in (pool.borrowers or ())[:SHOWN]
                ]
                or None,
                "loopwatch.pool.waiters": [
                    f"{_name(one)} for {one.waited:.1f} s" for one in (pool.waiters or ())[:SHOWN]
                ]
                or None,
            }
        ),
    }
    body = f"the {pool.kind} pool {pool.label} is full ({pool.used} of {pool.max}), and {pool.pending} wait"
    holder = next(iter(pool.borrowers or ()), None)
    span = None if holder is None else _span_of_user(holder)
    return Event("loopwatch.pool.saturated", WARN, saturated.at, body, attributes, span)


SHOWN = 10
"""Borrowers named with a full pool, and as many waiters."""


def of_holding(holding: HeldTooLong) -> Event:
    """Report a connection that has not been given back, in its holder's trace."""
    who = holding.borrower
    attributes: Attributes = {
        POOL: holding.label,
        POOL_TYPE: holding.kind,
        **code(who.site, who.await_stack),
        **known(
            {
                "loopwatch.pool.held": who.held,
                "loopwatch.pool.holder_gone": who.gone,
                "asyncio.task.name": who.task_name,
                "asyncio.task.coroutine": who.coroutine,
                "asyncio.task.waiting_on": who.waiting_on,
            }
        ),
        **watched(who.context),
    }
    gone = ", which has ended" if who.gone else ""
    body = (
        f"a connection of the {holding.kind} pool {holding.label} has been held for {who.held:.0f} s "
        f"by {_name(who)}{gone}"
    )
    return Event("loopwatch.pool.connection_held", WARN, holding.at, body, attributes, _span_of_user(who))


def of_finding(found: Found) -> Event:
    """Report what is wrong, and what to do, when it begins, changes, or is over."""
    finding = found.finding
    attributes: Attributes = {
        "loopwatch.rule": finding.rule,
        "loopwatch.severity": finding.severity,
        "loopwatch.finding.change": found.change,
        "loopwatch.finding.fix": finding.fix,
        "loopwatch.finding.count": finding.count,
        "loopwatch.finding.first_seen": finding.first_seen,
        "loopwatch.finding.docs": finding.docs_url,
        **known(
            {
                "loopwatch.finding.key": list(finding.key) or None,
                "loopwatch.finding.because": finding.because,
                "loopwatch.finding.more": finding.more or None,
            }
        ),
        **{f"loopwatch.finding.evidence.{number}": value for number, value in finding.evidence.items()},
    }
    severity = INFO if found.change == "over" else _SEVERITIES[finding.severity]
    return Event("loopwatch.finding", severity, found.at, finding.summary, attributes)


def _name(user: PoolUser) -> str:
    return "code outside of tasks" if user.coroutine is None else f"task {user.coroutine}"


def _span_of_user(user: PoolUser) -> SpanContext | None:
    return span_context(user.trace_id, user.span_id, user.trace_flags)
