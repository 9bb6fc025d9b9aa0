"""``aio_pika.pool.Pool``, of connections, channels or anything else. 9.0 to 10.2.

The trespass: ``Pool._get``, and a pool's queue of free items, set of all items, and lock. The pool itself
cannot be weakly referenced: its queue is the anchor, and we attach to it what else is to be read.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._store.pools import Family

from .binding import Binding
from .protocol import PoolReader, Sample, live, snap


class AioPikaReader(PoolReader):
    """Reads pools of aio-pika. What is held is an item that the pool's constructor function returned."""

    kind = "aio_pika"
    family: ClassVar[Family] = "other"
    modules = ("aio_pika.pool",)

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            binding.creates(binding.cls("Pool"))
        with binding.feature("waits"):
            binding.acquires(binding.cls("Pool"), "_get", parameters=("self",))
        with binding.feature("holders"):
            binding.cls("Pool")

    def anchor(self, pool: Any) -> Any:
        """Return the queue of free items. What we attach to it refers to neither the pool nor the queue."""
        free = pool._Pool__items
        if getattr(free, "_loopwatch_pool", None) is None:
            names = ("_Pool__max_size", "_Pool__item_set", "_Pool__lock")
            free._loopwatch_pool = [getattr(pool, name, None) for name in names]
        return free

    def label(self, pool: Any) -> str | None:
        """Return the name of the function that makes the pool's items."""
        constructor = inspect.unwrap(pool._Pool__constructor)
        name = getattr(constructor, "__qualname__", "").rpartition("<locals>.")[2]
        return f"{constructor.__module__}.{name}" if name else None

    def read(self, anchor: Any) -> Sample:
        """See PoolReader. A closed pool keeps its items, but gives out none of them."""
        limit, items, lock = anchor._loopwatch_pool
        free, is_closed = _free(anchor)
        return Sample(
            max=limit or None,
            used=len(items) - len(free),
            idle=0 if is_closed else len(free),
            pending=live(anchor._getters, lock._waiters),
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """See PoolReader."""
        _, items, _ = anchor._loopwatch_pool
        free = set(map(id, _free(anchor)[0]))
        return [item for item in snap(items) if id(item) not in free]


def _free(queue: Any) -> tuple[list[Any], bool]:
    """Return the free items, and whether the pool was closed: aio-pika 9 does not tell, later ones do."""
    listed = snap(queue._queue)
    free = [item for item in listed if item is not None]
    return free, len(free) < len(listed)
