"""What the benchmarks compare: no agent, loopwatch, and the peers, each enabled the way its manual says."""

from __future__ import annotations

import asyncio
import inspect
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Subject:
    """One column of the tables."""

    attach: Callable[[asyncio.AbstractEventLoop], Any] = lambda loop: None
    """Called inside the running loop."""
    prepare: Callable[[], Any] = lambda: None
    """Called before there is a loop."""
    requirements: tuple[str, ...] = ()
    """What pip installs for it."""


def _loopwatch() -> None:
    # What happens once, in a thread of its own, is not to be measured: imports, and a connection.
    import loopwatch.exporters.exposition
    import loopwatch.exporters.prometheus

    agent = loopwatch.install(prometheus_port=0)
    if agent.settings.otlp:
        agent._engine.otel.start()
        agent._engine.otel.flush()


def _loopwatch_core() -> None:
    _loopwatch()
    asyncio.BaseEventLoop.create_task = inspect.unwrap(asyncio.BaseEventLoop.create_task)  # type: ignore[method-assign]


class _Statsd:
    def timing(self, metric: str, value: float) -> None:
        """Drop the measurement: the client's own cost is not the peer's."""


def _aiodebug(loop: asyncio.AbstractEventLoop) -> None:
    from aiodebug import hang_inspection, log_slow_callbacks, monitor_loop_lag

    log_slow_callbacks.enable(0.1)
    monitor_loop_lag.enable(_Statsd(), loop=loop)
    hang_inspection.start(tempfile.mkdtemp(prefix="aiodebug-"), loop=loop)


def _aiocop(loop: asyncio.AbstractEventLoop) -> None:
    import aiocop

    aiocop.patch_audit_functions()
    aiocop.start_blocking_io_detection(trace_depth=20)
    aiocop.detect_slow_tasks(threshold_ms=100, on_slow_task=lambda event: None)
    aiocop.activate()


def _aiomonitor(loop: asyncio.AbstractEventLoop) -> None:
    import aiomonitor

    aiomonitor.start_monitor(loop, port=0, webui_port=0, console_enabled=False, hook_task_factory=True)


def _livekit(loop: asyncio.AbstractEventLoop) -> None:
    from livekit.agents.telemetry.loop_monitor import EventLoopMonitor

    EventLoopMonitor(loop).start()


def _sentry(loop: asyncio.AbstractEventLoop) -> None:
    import sentry_sdk
    from sentry_sdk.integrations.asyncio import AsyncioIntegration
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):
        def capture_envelope(self, envelope: object) -> None:
            """Drop the envelope: sending is not the integration's cost."""

    sentry_sdk.init(
        dsn="http://key@localhost/1",
        transport=Nowhere,
        traces_sample_rate=1.0,
        integrations=[AsyncioIntegration()],
    )


def _otel() -> None:
    # Coroutines not named here get only measurements. These are the ones of the units.
    os.environ["OTEL_PYTHON_ASYNCIO_COROUTINE_NAMES_TO_TRACE"] = "nothing,child"
    from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor
    from opentelemetry.sdk.trace import TracerProvider

    AsyncioInstrumentor().instrument(tracer_provider=TracerProvider())


CORE = "loopwatch without task records"
"""Not a setting of the product: the benchmark removes its wrapper around ``create_task``."""

SUBJECTS = {
    "bare": Subject(),
    "loopwatch": Subject(prepare=_loopwatch),
    CORE: Subject(prepare=_loopwatch_core),
    "asyncio debug": Subject(lambda loop: loop.set_debug(True)),
    "aiodebug": Subject(_aiodebug, requirements=("aiodebug==2.3.0",)),
    "aiocop": Subject(_aiocop, requirements=("aiocop==1.2.1",)),
    "aiomonitor hook": Subject(_aiomonitor, requirements=("aiomonitor==0.7.1",)),
    "sentry-sdk": Subject(_sentry, requirements=("sentry-sdk==2.75.0",)),
    "OTel asyncio": Subject(
        prepare=_otel,
        requirements=("opentelemetry-instrumentation-asyncio==0.66b1", "opentelemetry-sdk==1.45.1"),
    ),
    "livekit monitor": Subject(_livekit, requirements=("livekit-agents==1.8.9",)),
}
