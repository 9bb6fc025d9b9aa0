"""The receivers of taskiq: some tasks run at once, and some messages are prefetched. 0.11 to 0.13.

The trespass: the values of a receiver's two semaphores, and their waiters. ``sem`` has a slot per running
task; its limit is its value before the receiver starts to listen. ``sem_prefetch`` has a slot per fetched
message, and the fetcher itself holds one unless it waits for one. Up to 0.11, a slot of ``sem`` is held for
the next message even if none has arrived yet.
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
        """Return the receiver, after storing in it the values of its semaphores before it listens."""
        if getattr(pool, "_loopwatch_limits", None) is None:
            running = getattr(getattr(pool, "sem", None), "_value", None)
            pool._loopwatch_limits = running, getattr(getattr(pool, "sem_prefetch", None), "_value", None)
        return pool

    def label(self, pool: Any) -> str | None:
        """Return the name of the broker's queue, or of the broker's class."""
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
