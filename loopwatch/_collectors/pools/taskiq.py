"""The receivers of taskiq: so many tasks run at once, and some more are at hand. 0.11 to 0.13.

The trespass: what a receiver's two semaphores are at, and who waits for them. ``sem`` has a place for each
task that runs; its limit is what it is at before the receiver listens. ``sem_prefetch`` has one for each
message that was fetched, and the fetcher holds one unless it waits for it. Up to 0.11, a place to run in is
held for the next message even where there is none yet.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, ClassVar

from loopwatch._store.pools import Family

from .binding import Binding
from .protocol import PoolReader, Sample, live


class TaskiqReader(PoolReader):
    """Reads receivers."""

    kind = "taskiq"
    family: ClassVar[Family] = "executor"
    modules = ("taskiq.receiver.receiver",)

    def __init__(self) -> None:
        self._takes_place_first = False

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            receiver = binding.cls("Receiver")
            self._takes_place_first = not hasattr(receiver, "_start_callback")
            binding.creates(receiver)
            binding.uses(receiver, "listen")

    def anchor(self, pool: Any) -> Any:
        """Return the receiver, which is given what its semaphores are at before it listens."""
        if getattr(pool, "_loopwatch_limits", None) is None:
            running = getattr(getattr(pool, "sem", None), "_value", None)
            pool._loopwatch_limits = running, getattr(getattr(pool, "sem_prefetch", None), "_value", None)
        return pool

    def label(self, pool: Any) -> str | None:
        """Return the name of the broker's queue, or of its class."""
        name = getattr(pool.broker, "queue_name", None)
        return name if isinstance(name, str) else type(pool.broker).__qualname__

    def read(self, anchor: Any) -> Sample:
        """See PoolReader."""
        limit, fetchable = anchor._loopwatch_limits
        if anchor.sem is None:
            return Sample()
        taken, fetched = limit - anchor.sem._value, fetchable - anchor.sem_prefetch._value
        full = live(anchor.sem._waiters) > 0
        fetching = not live(anchor.sem_prefetch._waiters)
        if self._takes_place_first:
            used = taken if full else taken - 1
            pending = fetched - fetching if full else 0
        else:
            used = taken
            pending = fetched - taken - fetching
        return Sample(max=limit, used=max(0, used), idle=limit - max(0, used), pending=max(0, pending))
