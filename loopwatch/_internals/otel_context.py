"""Where opentelemetry-api keeps the current span in a ``contextvars.Context``: its private variable and key.

Needed because its public functions read only the calling thread's own context. Checked on opentelemetry-api
1.30 to 1.45; None when another implementation of its runtime context is in use. Deletable when the API can
read a span out of a given ``contextvars.Context``.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any


def current_span_variable() -> tuple[ContextVar[Any], str] | None:
    """Return the variable that holds OTel's context and the key of the span in it; None if not in use.

    Imports nothing: a program that has not imported OpenTelemetry has no spans.
    """
    context = sys.modules.get("opentelemetry.context")
    propagation = sys.modules.get("opentelemetry.trace.propagation")
    variable = getattr(getattr(context, "_RUNTIME_CONTEXT", None), "_current_context", None)
    key = getattr(propagation, "_SPAN_KEY", None)
    return (variable, key) if isinstance(variable, ContextVar) and isinstance(key, str) else None


def ids_of(otel_context: Any, key: str) -> tuple[int, int, int] | None:
    """Return trace id, span id and trace flags of the span in a context of OTel's; None without one."""
    span = otel_context.get(key) if otel_context else None
    if span is None:
        return None
    context = span.get_span_context()
    return (context.trace_id, context.span_id, context.trace_flags) if context.is_valid else None
