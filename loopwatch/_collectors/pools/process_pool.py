"""``ProcessPoolExecutor``. CPython 3.11 to 3.15.

The trespass: ``_WorkItem``, whose creation is the asking, and the thread that hands items to the processes,
which has all that are neither done nor dropped, oldest first. It puts more into their queue than there are
processes, and calls all of that running. They take it in turn, so what runs in truth is the first of it, one
item for each process: that is looked at whenever the thread has filled the queue.
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
"""Items looked at of those that are pending. Of more the number counts, with those that were cancelled."""


MEANWHILE = 50
"""Items that processes take while their queue is filled: if more, what is cancelled behind is not counted."""


class ProcessPoolReader(PoolReader):
    """Reads executors. What is held of one is a process, and known by the item it works at."""

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
        """See PoolReader. The processes of one that broke have ended."""
        processes, items = 0 if anchor._broken else len(anchor._processes or ()), _items(anchor)
        used = len(_executing(items, processes))
        pending = len(items) - used
        if pending <= COUNTED:
            pending = len(_queued(items, processes))
        return Sample(max=anchor._max_workers, used=used, idle=processes - used, pending=pending)

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return the items that processes work at."""
        return _executing(_items(anchor), len(anchor._processes or ()))

    def waiting(self, anchor: Any, known: list[Acquire]) -> list[Acquire]:
        """Return those that no process works at yet."""
        manager = anchor._executor_manager_thread
        if manager is None:
            return []
        queued = _queued(manager.pending_work_items, len(manager.processes))
        return [asked for item in queued if (asked := asked_of(item)) is not None]


def _fills(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    """Return what stands in place of ``add_call_item_to_queue``, which drops what is cancelled."""

    @functools.wraps(original)
    def add_call_item_to_queue(self: Any) -> None:
        binding.given(_end, binding, self, _next)
        original(self)
        binding.given(_begin, binding, self.executor_reference(), self)

    return add_call_item_to_queue


def _spawns(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    """Return what stands in place of ``_spawn_process``: the next item may have been in the queue already."""

    @functools.wraps(original)
    def spawn_process(self: Any) -> None:
        original(self)
        binding.given(_begin, binding, self, self._executor_manager_thread)

    return spawn_process


def _drops(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    """Return what stands in place of a method that drops all that has not begun, if it has to."""

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
    """End the waits of the items that run by now."""
    if executor is not None and manager is not None:
        for item in _executing(manager.pending_work_items, len(manager.processes)):
            if (asked := take(item)) is not None:
                binding.got(asked, executor, item)


def _end(binding: Binding, manager: Any, dropped: Callable[[Any, Any], list[Any]]) -> None:
    """End the waits of those among some items that are done, though they never began."""
    executor = manager.executor_reference()
    if executor is not None:
        for item in dropped(manager, executor):
            if _is_done(item) and (asked := take(item)) is not None:
                binding.failed(asked, executor, item.future._exception or CancelledError())


def _next(manager: Any, executor: Any) -> list[Any]:
    """Return the items that the queue may take now, and all cancelled ones before them.

    It may take more than it has room for: the processes take from it meanwhile.
    """
    room = executor._max_workers + 1 + MEANWHILE
    count = 2 * room
    while True:
        items = snap(manager.pending_work_items.values(), count)
        if len(items) < count or sum(item.future._state == "PENDING" for item in items) >= room:
            return items
        count *= 2


def _executing(pending: dict[int, Any], processes: int) -> list[Any]:
    """Return the items that processes work at: of those called running the first, one for each."""
    return [item for item in snap(pending.values(), processes) if item.future._state == "RUNNING"]


def _queued(pending: dict[int, Any], processes: int) -> list[Any]:
    """Return the first items that no process works at, without those cancelled."""
    executing = set(map(id, _executing(pending, processes)))
    items = snap(pending.values(), COUNTED + len(executing))
    return [item for item in items if id(item) not in executing and not _is_done(item)]


def _items(executor: Any) -> dict[int, Any]:
    """Return the items that are neither done nor dropped: of one that is shut down, or never used, none."""
    manager = executor._executor_manager_thread
    return {} if manager is None else manager.pending_work_items


def _is_done(item: Any) -> bool:
    """Whether the future of an item is done or cancelled. To ask it would take its lock."""
    return item.future._state not in ("PENDING", "RUNNING")
