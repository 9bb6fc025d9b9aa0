"""Emits log records through OpenTelemetry's API for logs, which has a private name until it is stable.

The API changed twice. Up to 1.34 a record is the SDK's own and takes ids; up to about 1.38 it takes a context
and the event's name; after that ``emit`` itself takes all of these. Checked on 1.30 to 1.45. Deletable when
``opentelemetry.logs`` exists.
"""

from __future__ import annotations

import inspect
from typing import Any


def emit(
    logger: Any,
    *,
    context: Any,
    timestamp: int,
    severity: tuple[int, str],
    body: str,
    attributes: dict[str, Any],
    event_name: str,
) -> None:
    """Emit one record. ``context`` is OpenTelemetry's, and holds the record's span; times are in ns."""
    from opentelemetry._logs import SeverityNumber

    number, text = severity
    fields: dict[str, Any] = {
        "timestamp": timestamp,
        "observed_timestamp": timestamp,
        "context": context,
        "severity_number": SeverityNumber(number),
        "severity_text": text,
        "body": body,
        "attributes": attributes,
        "event_name": event_name,
    }
    if "event_name" in inspect.signature(logger.emit).parameters:
        logger.emit(**fields)
    else:
        logger.emit(_record(logger, fields))


def _record(logger: Any, fields: dict[str, Any]) -> Any:
    """Return a record of the SDK's, for versions whose ``emit`` takes nothing else."""
    from opentelemetry.sdk import _logs
    from opentelemetry.trace import get_current_span

    make: Any = vars(_logs)["LogRecord"]
    parameters = inspect.signature(make).parameters
    if "context" not in parameters:
        span = get_current_span(fields.pop("context")).get_span_context()
        fields |= {"trace_id": span.trace_id, "span_id": span.span_id, "trace_flags": span.trace_flags}
    if "event_name" not in parameters:  # these versions have the name as an attribute
        fields["attributes"] = {**fields["attributes"], "event.name": fields.pop("event_name")}
    return make(**fields, resource=getattr(logger, "resource", None))
