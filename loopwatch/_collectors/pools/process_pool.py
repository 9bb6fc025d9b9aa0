"""``ProcessPoolExecutor``. CPython 3.11 to 3.15.

The trespass: ``_WorkItem``, whose creation begins a wait, and the thread that hands items to the processes,
which keeps all items that are neither done nor dropped, oldest first. It puts more items into the processes'
queue than there are processes, and marks all of them as running. The processes take them in order, so the
items that really run are the first, one per process: these are looked up each time the queue was filled.
"""

from __future__ import annotations

import functools
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._store.pools import Acquire, Family

from .binding import Binding
from .protocol import PoolReader, Sample, snap
from .work_items import asked_of, submits, take

COUNTED = 1000
"""Pending items that are examined. If there are more, their number is used, cancelled items included."""


MEANWHILE = 50
"""Items that processes may take while their queue is filled. If they take more, cancelled items behind those
are not counted."""


class ProcessPoolReader(PoolReader):
    """Reads executors. What is held is a process, identified by the item it works on."""

    kind = "process_pool"
    family: ClassVar[Family] = "executor"
    modules = ("concurrent.futures.process",)

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            binding.creates(binding.cls("ProcessPoolExecutor"))
            for manager in snap(getattr(module, "_threads_wakeups", ())):
                if (executor := manager.executor_reference()) is not None:
                    binding.found(executor)
        with binding.feature("waits"):
            manager = binding.cls("_ExecutorManagerThread")
            submits(binding, binding.cls("_WorkItem"))
            binding.wrap(manager, "add_call_item_to_queue", functools.partial(_fills, binding), ("self",))
            executor = binding.cls("ProcessPoolExecutor")
            binding.wrap(executor, "_spawn_process", functools.partial(_spawns, binding))
            binding.wrap(manager, "flag_executor_shutting_down", functools.partial(_drops, binding))
            binding.wrap(manager, "terminate_broken", functools.partial(_drops, binding))
        with binding.feature("holders"):
            binding.cls("_ExecutorManagerThread")

    def read(self, anchor: Any) -> Sample:
        """See PoolReader. The processes of a broken executor have ended."""
        processes, items = 0 if anchor._broken else len(anchor._processes or ()), _items(anchor)
        used = len(_executing(items, processes))
        pending = len(items) - used
        if pending <= COUNTED:
            pending = len(_queued(items, processes))
        return Sample(max=anchor._max_workers, used=used, idle=processes - used, pending=pending)

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return the items that processes work on."""
        return _executing(_items(anchor), len(anchor._processes or ()))

    def waiting(self, anchor: Any, known: list[Acquire]) -> list[Acquire]:
        """Return the acquires of the items that no process works on yet."""
        manager = anchor._executor_manager_thread
        if manager is None:
            return []
        queued = _queued(manager.pending_work_items, len(manager.processes))
        return [asked for item in queued if (asked := asked_of(item)) is not None]


def _fills(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    """Return the wrapper of ``add_call_item_to_queue``, which drops cancelled items."""

    @functools.wraps(original)
    def add_call_item_to_queue(self: Any) -> None:
        binding.given(_end, binding, self, _next)
        original(self)
        binding.given(_begin, binding, self.executor_reference(), self)

    return add_call_item_to_queue


def _spawns(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    """Return the wrapper of ``_spawn_process``: the new process's item may already be in the queue."""

    @functools.wraps(original)
    def spawn_process(self: Any) -> None:
        original(self)
        binding.given(_begin, binding, self, self._executor_manager_thread)

    return spawn_process


def _drops(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    """Return the wrapper of a method that may drop all items that have not begun."""

    @functools.wraps(original)
    def drop(self: Any, *args: Any, **kwargs: Any) -> None:
        items: Any = binding.given(_pending, self)
        original(self, *args, **kwargs)
        if items is not None:
            binding.given(_end, binding, self, lambda _manager, _executor: items)

    return drop


def _pending(manager: Any) -> list[Any]:
    return snap(manager.pending_work_items.values())


def _begin(binding: Binding, executor: Any, manager: Any) -> None:
    """End the waits of the items that now run."""
    if executor is not None and manager is not None:
        for item in _executing(manager.pending_work_items, len(manager.processes)):
            if (asked := take(item)) is not None:
                binding.got(asked, executor, item)


def _end(binding: Binding, manager: Any, dropped: Callable[[Any, Any], list[Any]]) -> None:
    """End the waits of those items ``dropped`` returns that are done although they never began."""
    executor = manager.executor_reference()
    if executor is not None:
        for item in dropped(manager, executor):
            if _is_done(item) and (asked := take(item)) is not None:
                binding.failed(asked, executor, item.future._exception or CancelledError())


def _next(manager: Any, executor: Any) -> list[Any]:
    """Return the items that may go into the queue now, and all cancelled ones before them.

    These can be more than the queue has room for, since the processes take items from it meanwhile.
    """
    room = executor._max_workers + 1 + MEANWHILE
    count = 2 * room
    while True:
        items = snap(manager.pending_work_items.values(), count)
        if len(items) < count or sum(item.future._state == "PENDING" for item in items) >= room:
            return items
        count *= 2


def _executing(pending: dict[int, Any], processes: int) -> list[Any]:
    """Return the items that processes work on: the first of those marked as running, one per process."""
    return [item for item in snap(pending.values(), processes) if item.future._state == "RUNNING"]


def _queued(pending: dict[int, Any], processes: int) -> list[Any]:
    """Return the first items that no process works on, without cancelled ones."""
    executing = set(map(id, _executing(pending, processes)))
    items = snap(pending.values(), COUNTED + len(executing))
    return [item for item in items if id(item) not in executing and not _is_done(item)]


def _items(executor: Any) -> dict[int, Any]:
    """Return the items neither done nor dropped; none if the executor is shut down, or was never used."""
    manager = executor._executor_manager_thread
    return {} if manager is None else manager.pending_work_items


def _is_done(item: Any) -> bool:
    """Whether the future of an item is done or cancelled. Calling its ``done()`` would take its lock."""
    return item.future._state not in ("PENDING", "RUNNING")
