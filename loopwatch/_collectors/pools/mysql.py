"""The pools of aiomysql, 0.2 and 0.3, and of asyncmy, which is derived from it, 0.2.

The trespass: ``Pool._acquire``, which every acquire passes, ``_used``, ``_acquiring`` and the waiters of the
``_cond`` or its lock. Both libraries open connections while holding that lock: callers that arrive meanwhile
wait for it, even if a connection is free. A release takes it briefly too, and may then count as a waiter.

Neither has a timeout of its own. asyncmy saves a coroutine while ``_acquire`` is its own: under our wrapper
it needs that again, as its earlier versions did.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, ClassVar

from loopwatch._store.pools import Family

from .binding import Binding
from .protocol import PoolReader, Sample, live, place_of, snap


class MysqlReader(PoolReader):
    """Reads pools of MySQL connections. What is held is a connection."""

    family: ClassVar[Family] = "database"

    def __init__(self, package: str) -> None:
        self.kind = package
        self.modules = (f"{package}.pool",)

    def bind(self, module: ModuleType, binding: Binding) -> None:
        """See PoolReader."""
        with binding.feature("gauges"):
            pool = binding.cls("Pool")
            binding.needs(pool, "maxsize", "freesize")
            binding.creates(pool)
        with binding.feature("waits"):
            binding.acquires(binding.cls("Pool"), "_acquire", parameters=("self",))
        with binding.feature("holders"):
            binding.cls("Pool")

    def label(self, pool: Any) -> str | None:
        """Return the server, or its socket, and the database."""
        settings = pool._conn_kwargs
        socket, host = settings.get("unix_socket"), settings.get("host")
        port = None if socket else settings.get("port", 3306)
        return place_of(socket or host, port, settings.get("db") or settings.get("database"))

    def read(self, anchor: Any) -> Sample:
        """See PoolReader."""
        condition = anchor._cond
        return Sample(
            max=anchor.maxsize,
            used=len(anchor._used),
            idle=anchor.freesize,
            connecting=anchor._acquiring,
            pending=live(condition._waiters, condition._lock._waiters),
        )

    def holders(self, anchor: Any) -> Iterable[object]:
        """See PoolReader."""
        return snap(anchor._used)
