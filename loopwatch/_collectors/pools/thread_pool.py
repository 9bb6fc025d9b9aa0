"""``ThreadPoolExecutor``, including the default executors of event loops. CPython 3.11 to 3.15.

The trespass: ``_WorkItem``. A wait begins when an item is created and ends with its ``run``, so neither
``submit`` nor what is submitted is wrapped. An item does not name its executor, but the thread that runs it
does. The queue is written in C; the garbage collector's traversal of it shows the queued items.

A worker is busy unless its innermost frame is ``_worker``, waiting for the queue. ``_idle_semaphore`` would
tell too, but before Python 3.12 it is released after every item.
"""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import thread
from itertools import islice
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._internals.interpreter import current_frames
from loopwatch._internals.patches import hide_caller
from loopwatch._store.pools import Acquire, Family

from .binding import Binding
from .protocol import PoolReader, Sample, Unsupported, snap
from .work_items import asked_of, submits, take

COUNTED = 1000
"""Queued items that are examined. For a longer queue its length is used, cancelled items included."""

_CANCELLED = frozenset(("CANCELLED", "CANCELLED_AND_NOTIFIED"))
_DEFAULT = frozenset(("asyncio", "uvloop"))
"""Prefixes that event loops give to the threads of their default executor."""


class ThreadPoolReader(PoolReader):
    """Reads executors. What is held is a thread."""

    kind = "thread_pool"
    family: ClassVar[Family] = "executor"
    modules = ("concurrent.futures.thread",)

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            pool = binding.cls("ThreadPoolExecutor")
            if not hasattr(module, "_worker"):
                raise Unsupported("its threads do not run a function _worker")
            binding.creates(pool)
            for worker in snap(getattr(module, "_threads_queues", ())):
                if (executor := _executor_of(worker)) is not None:
                    binding.found(executor)
        with binding.feature("waits"):
            item = binding.cls("_WorkItem")
            binding.needs(item, "run")
            submits(binding, item)
            binding.wrap(item, "run", functools.partial(_runs, binding), ("self",))
            executor, drops = binding.cls("ThreadPoolExecutor"), functools.partial(_drops, binding)
            binding.wrap(executor, "shutdown", drops, ("cancel_futures",))
            if hasattr(executor, "_initializer_failed"):
                binding.wrap(executor, "_initializer_failed", drops)
        with binding.feature("holders"):
            binding.cls("_WorkItem")

    def label(self, pool: Any) -> str | None:
        """Return the prefix of its threads' names; ``default`` for the executor of an event loop."""
        prefix = str(pool._thread_name_prefix)  # may be any object: threads are named after its text
        if prefix in _DEFAULT:
            return "default"
        made_up = prefix.startswith("ThreadPoolExecutor-") and prefix.rpartition("-")[2].isdigit()
        return None if made_up else prefix

    def read(self, anchor: Any) -> Sample:
        """See PoolReader."""
        alive = [worker for worker in snap(anchor._threads) if worker.is_alive()]
        busy = len(_busy(alive))
        pending = anchor._work_queue.qsize()
        if pending <= COUNTED:
            pending = len(_waiting(anchor._work_queue))
        return Sample(max=anchor._max_workers, used=busy, idle=len(alive) - busy, pending=pending)

    def holders(self, anchor: Any) -> Iterable[object]:
        """Return the threads that are busy."""
        return _busy(snap(anchor._threads))

    def waiting(self, anchor: Any, known: list[Acquire]) -> list[Acquire]:
        """Return the acquires of the queued items."""
        return [asked for item in _waiting(anchor._work_queue) if (asked := asked_of(item)) is not None]


def _runs(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    """Return the wrapper of ``_WorkItem.run``."""

    @functools.wraps(original)
    def run(self: Any, *args: Any) -> None:
        asked: Any = binding.given(take, self)
        if asked is not None:
            worker = threading.current_thread()
            executor = binding.given(_executor_of, worker)
            if executor is not None and _is_cancelled(self):
                binding.failed(asked, executor, CancelledError())
            elif executor is not None:
                binding.got(asked, executor, worker)
            del executor, worker  # so that a running item does not keep its pool alive
        del asked
        original(self, *args)

    return run


def _drops(binding: Binding, original: Callable[..., None]) -> Callable[..., None]:
    """Return the wrapper of a method that may drop all items that have not begun.

    ``shutdown`` drops them at once and may then wait for long, so their waits end when it is called.
    """
    always = original.__name__ != "shutdown"

    @functools.wraps(original)
    def drop(self: Any, *args: Any, **kwargs: Any) -> None:
        dropped: Any = None
        if always or kwargs.get("cancel_futures"):
            dropped = binding.given(lambda: list(_queued(self._work_queue)))
        begun = binding.monotonic()
        try:
            original(self, *args, **kwargs)
        except BaseException as error:
            hide_caller(error)
            raise
        finally:
            for item in dropped or ():
                binding.given(_end, binding, self, item, begun)

    return drop


def _end(binding: Binding, executor: Any, item: Any, at: float) -> None:
    """End the wait of a dropped item, unless a worker had taken it."""
    error = CancelledError() if _is_cancelled(item) else item.future._exception
    if isinstance(error, CancelledError | thread.BrokenThreadPool) and (asked := take(item)) is not None:
        binding.failed(asked, executor, error, at=at)


def _executor_of(worker: Any) -> Any | None:
    """Return the executor that a thread works for; None if it is gone, or the thread is not a worker.

    Other code may run items in its own threads, with any arguments, so only a weak reference is called.
    """
    args = getattr(worker, "_args", ())
    return args[0]() if args and type(args[0]) is weakref.ref else None


def _busy(workers: list[Any]) -> list[Any]:
    idle = thread._worker.__code__
    frames = current_frames()
    try:
        found = ((worker, frames.get(worker.ident)) for worker in workers)
        return [worker for worker, frame in found if frame is not None and frame.f_code is not idle]
    finally:
        frames.clear()


def _waiting(queue: Any) -> list[Any]:
    """Return the first work items waiting in a queue, without cancelled ones."""
    return list(islice((item for item in _queued(queue) if not _is_cancelled(item)), COUNTED))


def _queued(queue: Any) -> Iterator[Any]:
    """Return the work items in a ``SimpleQueue``, oldest first.

    Up to Python 3.12 the queue keeps them in a list, among entries already taken. The workers go on taking
    from it, so it is copied in one call.
    """
    found: list[Any] = []
    for one in gc.get_referents(queue):
        found += one if type(one) is list else (one,)
    return (item for item in found if hasattr(item, "future"))


def _is_cancelled(item: Any) -> bool:
    """Whether the future of an item is cancelled. Calling its ``cancelled()`` would take its lock."""
    return getattr(item.future, "_state", None) in _CANCELLED
