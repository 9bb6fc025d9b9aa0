"""Whom the benchmarks compare: nobody, loopwatch, and the peers, each switched on the way its manual says."""

from __future__ import annotations

import asyncio
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
    requirement: str | None = None
    """What pip installs for it."""


def _loopwatch() -> None:
    import loopwatch

    loopwatch.install(prometheus_port=0)


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


SUBJECTS = {
    "bare": Subject(),
    "loopwatch": Subject(prepare=_loopwatch),
    "asyncio debug": Subject(lambda loop: loop.set_debug(True)),
    "aiodebug": Subject(_aiodebug, requirement="aiodebug==2.3.0"),
    "aiocop": Subject(_aiocop, requirement="aiocop==1.2.1"),
    "aiomonitor hook": Subject(_aiomonitor, requirement="aiomonitor==0.7.1"),
    "livekit monitor": Subject(_livekit, requirement="livekit-agents==1.8.9"),
}
