"""What spans and log records have in common: conventional attributes, and references to other spans.

Only what is named here and in the modules that use it leaves the process: names, places in code, counts and
times, and the variables that the program asked to have reported. No arguments, no locals, no error texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from loopwatch._measures import spelled
from loopwatch._records import Frame
from loopwatch.facts import FUNCTION

Value = str | bool | int | float | list[str]
Attributes = dict[str, Value]


def known(attributes: Mapping[str, Value | None]) -> Attributes:
    """Return the attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}


def exportable(attributes: Mapping[str, Value]) -> Attributes:
    """Return attributes that can be sent: one that cannot be would make its whole batch fail."""
    return {spelled(name): _exportable(value) for name, value in attributes.items()}


def _exportable(value: Value) -> Value:
    if isinstance(value, str):
        return spelled(value)
    return list(map(spelled, value)) if isinstance(value, list) else value


def code(frame: Frame | None, stack: Iterable[Frame] = ()) -> Attributes:
    """Describe where in the code something is, and the stack that led there, innermost last."""
    found: Attributes = {}
    if frame is not None:
        found[FUNCTION] = frame.name
        found |= known({"code.file.path": frame.file or None, "code.line.number": frame.line or None})
    lines = [f'  File "{each.file}", line {each.line}, in {each.function}' for each in stack]
    if lines:
        found["code.stacktrace"] = "\n".join(["Stack (most recent call last):", *lines])
    return found


def watched(context: Mapping[str, str]) -> Attributes:
    """Return the variables that the program asked to have reported."""
    return {f"loopwatch.context.{name}": value for name, value in context.items()}


def nanoseconds(seconds: float) -> int:
    """Convert a Unix time, or a duration, to nanoseconds, without the rounding error of a multiplication."""
    whole = int(seconds)
    return whole * 1_000_000_000 + round((seconds - whole) * 1e9)


def span_context(trace_id: str | None, span_id: str | None, flags: int | None) -> SpanContext | None:
    """Return a reference to a span of this process; None without ids."""
    if trace_id is None or span_id is None:
        return None
    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(flags or 0)
    )


def context_in(span: SpanContext | None) -> Context:
    """Return a context in which ``span`` is the current one, or none is: never this thread's context."""
    return set_span_in_context(INVALID_SPAN if span is None else NonRecordingSpan(span), Context())


def link(span: SpanContext | None, role: str, name: str | None, coroutine: str | None) -> list[Link]:
    """Return a link that tells which task took part, and in which ``role``; none without a span."""
    if span is None:
        return []
    attributes = {"loopwatch.link.role": role, "asyncio.task.name": name, "asyncio.task.coroutine": coroutine}
    return [Link(span, exportable(known(attributes)))]
