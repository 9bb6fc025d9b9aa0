"""The parts of OpenTelemetry for Python that its packages use of each other under private names.

The logs half of the SDK, which works and is used, but stays in ``opentelemetry.sdk._logs`` until it is
declared stable; the mark by which instrumentations recognise telemetry's own requests; and what a provider
does in a forked child. Checked on 1.30 to 1.45. Deletable when these have public names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def left_to_parent(provider: type[T]) -> type[T]:
    """Return a subclass of ``provider`` that does nothing in a forked child, where ours are no longer used.

    The SDK's providers describe the process anew in a child, each in a thread that it starts for that.
    """
    return type(provider.__name__, (provider,), {"_handle_fork": lambda self: None})


def import_logs() -> None:
    """Import what ``logger_provider`` and the gRPC exporters need: importing it creates an executor.

    None can be created once the interpreter ends, which is when a short program first sends anything.
    """
    import opentelemetry.sdk._logs.export  # noqa: F401


def logger_provider(resource: Any, exporter: Any) -> Any:
    """Build a provider of the SDK's that gives ``exporter`` records one by one, in the emitting thread."""
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

    provider = left_to_parent(LoggerProvider)(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    return provider


@contextmanager
def uninstrumented() -> Iterator[None]:
    """Keep the instrumentations of HTTP clients and of gRPC from reporting what this thread does."""
    from opentelemetry import context

    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
    token = context.attach(context.set_value(key, True))
    try:
        yield
    finally:
        context.detach(token)
