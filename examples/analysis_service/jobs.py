"""Background tasks, and their outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

from .settings import Fault

logger = logging.getLogger(__name__)


class Jobs:
    """Starts background tasks, holds them until they end, and logs it when one fails."""

    def __init__(self, faults: frozenset[Fault]) -> None:
        self._faults = faults
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], context: Context | None = None) -> None:
        """Run ``work`` in the background, in ``context`` if given, else in a copy of the caller's."""
        task = asyncio.create_task(work, context=context)
        if Fault.FORGET in self._faults:
            return
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s failed", task.get_name(), exc_info=error)

    async def finish(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds until the running jobs, and those they start, have ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._running:
                    await asyncio.wait(self._running)
